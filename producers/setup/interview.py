"""What only a person knows: asked in a terminal window, refused where nobody is there."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from pydantic import SecretStr

from events.settings import BadSettings, TerminalKind, TerminalSettings
from producers.setup.inspection import Clock, Inspected

PORT_DEFAULT = 18813
NONE_OF_THEM = "(none)"


class Interview:
    """Asks; when `silent`, takes what is certain and refuses what is not."""

    def __init__(self, *, silent: bool) -> None:
        self.silent = silent

    def confirmed(self, question: str) -> bool:
        return click.confirm(question, err=True)

    def _may_ask(self, missing: str) -> None:
        if self.silent or not sys.stdin.isatty():
            raise BadSettings([missing])

    def remote_terminal(self, host: str, token: str | None) -> TerminalSettings:
        name, _, port = host.rpartition(":")
        if not name:
            name, port = host, str(PORT_DEFAULT)
        if not port.isdecimal():
            raise BadSettings([f"--host {host}: expected HOST:PORT"])
        if token is None:
            self._may_ask("a terminal elsewhere needs its token: add --token, or set MT5_TOKEN")
            token = click.prompt("Token that the terminal server printed", hide_input=True)
        return TerminalSettings(
            name="remote", kind=TerminalKind.REMOTE, host=name, port=int(port),
            token=SecretStr(token),
        )  # fmt: skip

    def terminal_without_any(self, token: str | None) -> TerminalSettings:
        """No terminal was found here: elsewhere, or none."""
        self._may_ask(
            "no MetaTrader 5 terminal was found here: add --path EXE, --host HOST:PORT, or "
            "--simulated"
        )
        click.echo("No MetaTrader 5 terminal was found on this machine.", err=True)
        host = click.prompt("HOST:PORT of a machine that runs `bridgectl terminal serve`", err=True)
        return self.remote_terminal(host, token)

    def chosen_paths(self, found: Sequence[Path]) -> list[Path]:
        """All of them, or those a person picks."""
        if len(found) == 1 or self.silent:
            return list(found)
        for number, path in enumerate(found, start=1):
            click.echo(f"  {number}  {path}", err=True)
        self._may_ask("several terminals were found: add --path EXE, or --yes for all")
        text = click.prompt("Which of them (numbers, or all)", default="all", err=True)
        if text.strip().lower() == "all":
            return list(found)
        numbers = text.replace(",", " ").split()
        if not all(one.isdecimal() and 1 <= int(one) <= len(found) for one in numbers):
            raise BadSettings([f"{text!r}: allowed are numbers from 1 to {len(found)}, or all"])
        return [found[int(one) - 1] for one in numbers]

    def completed(self, seen: Inspected) -> Inspected:
        """What was found, with a person's answers where it was not certain."""
        return self._with_clock(self._with_symbols(seen))

    def _with_symbols(self, seen: Inspected) -> Inspected:
        if not seen.unresolved:
            return seen
        if self.silent:
            for name, found in seen.unresolved.items():
                click.echo(f"left out: {name} ({_several(found)})", err=True)
            return seen
        aliases, symbols = dict(seen.aliases), list(seen.symbols)
        for name, found in seen.unresolved.items():
            broker = click.prompt(
                f"{name}: {_several(found)}. The broker's name for it, or {NONE_OF_THEM}",
                default=found[0] if found else NONE_OF_THEM,
                err=True,
            )
            if broker != NONE_OF_THEM:
                symbols.append(name)
                aliases[name] = broker
        return replace(seen, symbols=tuple(symbols), aliases=aliases, unresolved={})

    def _with_clock(self, seen: Inspected) -> Inspected:
        if seen.clock.rule or self.silent or not seen.clock.tied:
            return seen
        rule = click.prompt(
            f"The broker's clock ({seen.clock.evidence}); empty: find it out live",
            default=seen.clock.tied[0],
            err=True,
        )
        return replace(seen, clock=Clock(rule.strip(), "as told"))

    def name_for(self, seen: Inspected, *, taken: set[str]) -> str:
        """A name (namespace) that is not taken yet."""
        wanted = seen.suggested_name
        if not self.silent:
            wanted = click.prompt("Name of this terminal", default=wanted, err=True)
        name, number = wanted, 2
        while name in taken:
            name, number = f"{wanted}-{number}", number + 1
        return name


def settings_of(terminal: TerminalSettings, seen: Inspected) -> dict[str, str]:
    """Lines of .env for the only terminal. The password is left out: the terminal is logged in."""
    values = {
        "MT5_NAME": "simulated" if terminal.kind is TerminalKind.SIMULATED else seen.suggested_name,
        "MT5_KIND": terminal.kind.value,
        "MT5_CLOCK": seen.clock.rule,
        "FOREX_PAIRS": ",".join(seen.symbols),
        "MT5_ALIASES": ",".join(f"{name}={broker}" for name, broker in seen.aliases.items()),
    }
    if terminal.kind is not TerminalKind.SIMULATED:
        values |= {
            "MT5_ACCOUNT": str(seen.login),
            "MT5_SERVER": seen.server,
            "MT5_TRADE_MODE": seen.trade_mode.value,
        }
    if terminal.kind is TerminalKind.NATIVE:
        values["MT5_PATH"] = terminal.path
    if terminal.kind is TerminalKind.REMOTE:
        values |= {"MT5_HOST": terminal.host, "MT5_PORT": str(terminal.port)}
        values["MT5_TOKEN"] = terminal.token.get_secret_value() if terminal.token else ""
    return {name: value for name, value in values.items() if value}


def table_of(terminal: TerminalSettings, seen: Inspected) -> Mapping[str, Any]:
    """A table of terminals.toml. Empty values are left out by the writer."""
    table: dict[str, Any] = {"kind": terminal.kind.value}
    if terminal.kind is TerminalKind.NATIVE:
        table["path"] = terminal.path
    if terminal.kind is TerminalKind.REMOTE:
        table |= {"host": terminal.host, "port": terminal.port}
        table["token"] = terminal.token.get_secret_value() if terminal.token else ""
    if terminal.kind is not TerminalKind.SIMULATED:
        table |= {"login": seen.login, "server": seen.server}
        table["trade_mode"] = seen.trade_mode.value
    table |= {"clock": seen.clock.rule, "symbols": list(seen.symbols), "aliases": seen.aliases}
    return table


def _several(found: Sequence[str]) -> str:
    return f"could be {', '.join(found)}" if found else "the broker has nothing like it"
