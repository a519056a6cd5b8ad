"""Commands that set the bridge up: init, probe, autostart."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from events.settings import (
    BadSettings,
    TerminalChoice,
    TerminalKind,
    TerminalSettings,
    chosen_terminals,
    load,
    terminal_options,
)
from producers.setup import autostart as logon
from producers.setup.calibration import calibration, write_calibration
from producers.setup.discovery import installed_terminals
from producers.setup.files import Draft, env_draft, terminals_draft, write
from producers.setup.inspection import Inspected, inspect
from producers.setup.interview import Interview, settings_of, table_of


@click.command()
@click.option("--path", "paths", multiple=True, metavar="EXE", help="terminal64.exe; repeat.")
@click.option("--host", metavar="HOST:PORT", help="A terminal served on another machine.")
@click.option("--token", help="Its token (asked for when missing).", envvar="MT5_TOKEN")
@click.option("--simulated", is_flag=True, help="Set up the simulated terminal.")
@click.option("--symbols", metavar="A,B,...", help="Symbols to follow.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where .env and terminals.toml are (default: here).",
)
@click.option("--yes", is_flag=True, help="Ask nothing; take what is found.")
@click.option("--overwrite", is_flag=True, help="With --yes: change settings that are there.")
@click.option("--print", "only_print", is_flag=True, help="Show what would be written.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout; asks nothing.")
def init(
    paths: tuple[str, ...],
    host: str | None,
    token: str | None,
    simulated: bool,
    symbols: str | None,
    folder: Path,
    yes: bool,
    overwrite: bool,
    only_print: bool,
    as_json: bool,
) -> None:
    """Find terminals, account, symbol names and clock, and write the settings.

    One terminal goes into .env, several go into terminals.toml. Files that are there keep their
    other lines, and a copy stays beside them; nothing of theirs changes without a yes.

    \b
    bridgectl init
    bridgectl init --simulated --yes
    bridgectl init --host trading-pc:18813 --print
    """
    asking = Interview(silent=yes or as_json)
    settings = load(forex_pairs=symbols)
    terminals = _terminals_to_look_at(asking, paths, host, token, simulated)
    seen = [
        (one, _looked_into(one, settings.symbols if symbols else one.symbols or settings.symbols))
        for one in terminals
    ]
    draft = _draft(asking, folder, seen)
    if not only_print:
        _write(asking, draft, overwrite=overwrite)
    if as_json:
        click.echo(json.dumps(_init_json(draft, seen, written=not only_print)))
    elif only_print:
        click.echo(draft.text, nl=False)
    else:
        click.echo(f"{draft.path} is written. Next: bridgectl doctor, then bridgectl up", err=True)


@click.command()
@terminal_options
@click.option("--output", type=click.Path(path_type=Path), help="Calibration file to write.")
@click.option("--json", "as_json", is_flag=True, help="The calibration on stdout too.")
def probe(output: Path | None, as_json: bool, **choice: Any) -> None:
    """Ask a terminal, reading only, what no document settles; write a calibration file.

    The file makes a simulated terminal behave like the one that was asked:
    options = {calibration = "FILE"} in its table of terminals.toml.

    \b
    bridgectl probe
    bridgectl probe --terminal ftmo --output ftmo.json
    """
    from producers.setup.session import probed

    settings = load()
    [terminal, *others] = chosen_terminals(settings, TerminalChoice(**choice))
    if others:
        raise BadSettings(["several terminals are configured: add --terminal NAME"])
    seen = inspect(terminal, wanted=terminal.symbols)
    found = []
    for answer in probed(terminal, seen):
        found.append(answer)
        if not as_json:
            click.echo(f"{answer.question}\n    {answer.answer}")
    content = calibration(seen, found)
    path = output or settings.state_dir / "calibration" / f"{terminal.name}.json"
    write_calibration(path, content)
    if as_json:
        click.echo(json.dumps(content))
    click.echo(f"{path} is written", err=True)


@click.group()
def autostart() -> None:
    """Start the bridge when you log on (Task Scheduler, systemd user unit)."""


@autostart.command()
@click.option("--print", "only_print", is_flag=True, help="Show what would be written and run.")
@click.argument("arguments", nargs=-1)
def install(only_print: bool, arguments: tuple[str, ...]) -> None:
    """Start `bridgectl up ARGUMENTS` in this folder at each logon.

    \b
    bridgectl autostart install
    bridgectl autostart install --print -- --terminal ftmo
    """
    plan = logon.plan(sys.platform, folder=Path.cwd(), arguments=arguments)
    if only_print:
        where = plan.path or "a file for the Task Scheduler"
        click.echo(f"# {where}\n{plan.text}")
        for command in plan.commands:
            click.echo(f"# then: {' '.join(command)}")
        return
    logon.install(plan)
    click.echo(f"the bridge starts at your next logon; {plan.hint}", err=True)


@autostart.command()
def remove() -> None:
    """Do not start the bridge at logon any more.

    \b
    bridgectl autostart remove
    """
    logon.remove(logon.plan(sys.platform, folder=Path.cwd()))
    click.echo("the bridge does not start at logon any more", err=True)


def _terminals_to_look_at(
    asking: Interview, paths: tuple[str, ...], host: str | None, token: str | None, simulated: bool
) -> list[TerminalSettings]:
    if simulated:
        return [load().built_in(TerminalKind.SIMULATED)]
    if host is not None:
        return [asking.remote_terminal(host, token)]
    found = [Path(path) for path in paths] or list(installed_terminals(os.environ))
    if not found:
        return [asking.terminal_without_any(token)]
    return [
        TerminalSettings(name=f"terminal-{number}", kind=TerminalKind.NATIVE, path=str(path))
        for number, path in enumerate(asking.chosen_paths(found), start=1)
    ]


def _looked_into(terminal: TerminalSettings, wanted: tuple[str, ...]) -> Inspected:
    where = terminal.path or f"{terminal.kind.value} terminal"
    click.echo(f"looking into {where} ...", err=True)
    seen = inspect(terminal, wanted=wanted)
    click.echo(
        f"account {seen.login} at {seen.server} ({seen.trade_mode}), clock: "
        f"{seen.clock.rule or 'unknown'} ({seen.clock.evidence})",
        err=True,
    )
    for warning in seen.warnings:
        click.echo(f"warning: {warning}", err=True)
    return seen


def _draft(
    asking: Interview, folder: Path, seen: list[tuple[TerminalSettings, Inspected]]
) -> Draft:
    answered = [(terminal, asking.completed(one)) for terminal, one in seen]
    table_file = folder / "terminals.toml"
    if len(answered) == 1 and not table_file.exists():
        [(terminal, one)] = answered
        return env_draft(folder / ".env", settings_of(terminal, one))
    tables: dict[str, Mapping[str, Any]] = {}
    for terminal, one in answered:
        name = asking.name_for(one, taken=set(tables))
        tables[name] = table_of(terminal, one)
    return terminals_draft(table_file, tables)


def _write(asking: Interview, draft: Draft, *, overwrite: bool) -> None:
    if draft.replaces and not overwrite:
        names = ", ".join(draft.replaces)
        if asking.silent or not asking.confirmed(f"{draft.path} has {names} already. Change it?"):
            raise BadSettings(
                [f"{draft.path} has {names} already and stays as it is: add --overwrite"]
            )
    write(draft)


def _init_json(
    draft: Draft, seen: list[tuple[TerminalSettings, Inspected]], *, written: bool
) -> dict[str, Any]:
    return {
        "path": str(draft.path),
        "written": written,
        "replaces": list(draft.replaces),
        "terminals": [
            {
                "kind": terminal.kind.value,
                "login": one.login,
                "server": one.server,
                "trade_mode": one.trade_mode.value,
                "clock": one.clock.rule,
                "clock_evidence": one.clock.evidence,
                "aliases": one.aliases,
                "symbols": list(one.symbols),
                "unresolved": one.unresolved,
                "warnings": list(one.warnings),
            }
            for terminal, one in seen
        ],
    }
