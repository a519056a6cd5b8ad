"""Which terminal a command runs on: one of the settings, or one made up on the command line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import ValidationError

from events.settings.model import Settings
from events.settings.problems import BadSettings
from events.settings.terminals import TerminalKind, TerminalSettings

RECORDED_CLOCK = "UTC"
"""Without --clock, times in tick files are taken as they are: server time is UTC."""
_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class TerminalChoice:
    """The options `--terminal --ticks --speed --clock --file-clock --symbols` of a command."""

    terminal: str | None = None
    ticks: tuple[str, ...] = ()
    """`FILE` or `SYMBOL=FILE`."""
    speed: str | None = None
    clock: str | None = None
    file_clock: str | None = None
    symbols: str | None = None

    def arguments(self, terminal: TerminalSettings) -> tuple[str, ...]:
        """The same choice as command-line words, for a child that runs one of its terminals."""
        recorded = terminal.kind is TerminalKind.RECORDED and bool(self.ticks)
        words: list[str] = ["--terminal", "recorded" if recorded else terminal.name]
        for option, value in (
            ("--speed", self.speed), ("--clock", self.clock),
            ("--file-clock", self.file_clock), ("--symbols", self.symbols),
        ):  # fmt: skip
            words += [option, value] if value is not None else []
        for file in self.ticks:
            words += ["--ticks", file]
        return tuple(words)


def terminal_options(command: _Command) -> _Command:
    """The click options of a choice; collect them with `TerminalChoice(...)`."""
    for option in reversed(
        (
            click.option(
                "--terminal", metavar="NAME",
                help="simulated, recorded, or a terminal of the settings.",
            ),
            click.option(
                "--ticks", multiple=True, metavar="[SYMBOL=]FILE",
                help="Tick file of a recorded terminal (MT5 export, CSV, Parquet; gzip); repeat.",
            ),
            click.option("--speed", metavar="1|10x|max", help="Pace of a recorded terminal."),
            click.option(
                "--clock", metavar="RULE",
                help="The broker's clock, such as America/New_York+7h.",
            ),
            click.option(
                "--file-clock", metavar="server|RULE",
                help="What the times in tick files are: the broker's clock, or a rule (UTC).",
            ),
            click.option("--symbols", metavar="A,B,...", help="Symbols to follow."),
        )
    ):  # fmt: skip
        command = option(command)
    return command


def chosen_terminals(settings: Settings, choice: TerminalChoice) -> tuple[TerminalSettings, ...]:
    """The terminals to run: every one of the settings, or the one that was asked for.

    Tick files without `--terminal` mean a recorded terminal. Raises BadSettings.
    """
    name = choice.terminal or (TerminalKind.RECORDED.value if choice.ticks else None)
    if name is None:
        terminals = settings.terminals()
    elif name == TerminalKind.RECORDED and name not in _names(settings):
        terminals = (_recorded(settings, choice),)
    else:
        terminals = (settings.terminal(name),)
    _check_fit(terminals, choice)
    return tuple(_changed(terminal, choice) for terminal in terminals)


def _names(settings: Settings) -> set[str]:
    return {terminal.name for terminal in settings.terminals()}


def _recorded(settings: Settings, choice: TerminalChoice) -> TerminalSettings:
    """A terminal that plays files. What was played once is known by the files' names, sizes and
    clocks: the same files are the same terminal, other files are another one."""
    if not choice.ticks:
        raise BadSettings(["a recorded terminal needs tick files: add --ticks FILE"])
    clock = choice.clock or settings.mt5_clock or RECORDED_CLOCK
    facts: list[Any] = [clock, choice.file_clock]
    files = []
    for given in choice.ticks:
        symbol, equals, path = given.rpartition("=")
        file = Path(path).expanduser()
        if not file.is_file():
            raise BadSettings([f"--ticks {given}: there is no file {path}"])
        files.append(f"{symbol}{equals}{file.absolute()}")
        facts.append([symbol, file.name, file.stat().st_size])
    mark = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]
    options: dict[str, Any] = {"files": files, "clock": clock}
    if choice.file_clock is not None:
        options["file_clock"] = choice.file_clock
    return TerminalSettings(
        name=f"recorded-{mark}", kind=TerminalKind.RECORDED, clock=clock, options=options
    )


def _check_fit(terminals: tuple[TerminalSettings, ...], choice: TerminalChoice) -> None:
    """Options that none of the terminals can follow are refused, not ignored."""
    recorded = all(terminal.kind is TerminalKind.RECORDED for terminal in terminals)
    made_up = recorded or all(terminal.kind is TerminalKind.SIMULATED for terminal in terminals)
    problems = [
        f"{option} is only for a recorded terminal: add --terminal recorded --ticks FILE"
        for option, given in (("--ticks", choice.ticks), ("--file-clock", choice.file_clock))
        if given and not recorded
    ]
    if choice.speed is not None and not made_up:
        problems.append("--speed is only for recorded and simulated terminals")
    if problems:
        raise BadSettings(problems)


def _changed(terminal: TerminalSettings, choice: TerminalChoice) -> TerminalSettings:
    fields = terminal.model_dump(exclude={"password", "token"})
    fields |= {"password": terminal.password, "token": terminal.token}
    options = dict(terminal.options)
    if choice.speed is not None:
        options["speed"] = choice.speed
    if choice.clock is not None:
        fields["clock"] = choice.clock
        if terminal.kind in (TerminalKind.SIMULATED, TerminalKind.RECORDED):
            options["clock"] = choice.clock
    if choice.symbols is not None:
        fields["symbols"] = choice.symbols
    try:
        return TerminalSettings.model_validate({**fields, "options": options})
    except ValidationError as error:
        place = ", ".join(str(detail["loc"][0]) for detail in error.errors(include_input=False))
        raise BadSettings(
            [f"--{place} is {choice.symbols!r}: allowed is names with commas between"]
        ) from error
