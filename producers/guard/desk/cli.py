"""The commands `halt`, `flatten` and `resume`: three verbs that are never confused.

`halt`: no new trades, what is open stays. `flatten`: halt, cancel pending orders, close.
`resume`: a human ends a halt. (`down` ends programs and touches no position.)
"""

from __future__ import annotations

import getpass
import json
import platform
import secrets
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import click

from events.decisions import Command
from events.durations import duration_option
from events.settings import BadSettings, Settings, TerminalChoice, TerminalSettings, load
from events.settings import chosen_terminals as chosen
from producers.guard.desk.direct import send_directly
from producers.guard.desk.sending import Outcome, send

EXPIRES_S = 120.0
"""A command that nobody read for so long is stale: the world has changed."""
_Function = TypeVar("_Function", bound=Callable[..., Any])


def common_options(command: _Function) -> _Function:
    """Options that all three verbs have."""
    for option in reversed(
        (
            click.option("--terminal", "name", metavar="NAME", help="Which terminal."),
            click.option("--reason", default="", help="Kept with the latch, shown by status."),
            click.option(
                "--direct", is_flag=True,
                help="Attach to the terminal ourselves: producer, guard and Redis may be dead.",
            ),
            click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout."),
        )
    ):  # fmt: skip
        command = option(command)
    return command


@click.command()
@common_options
@click.pass_context
def halt(ctx: click.Context, name: str | None, reason: str, direct: bool, as_json: bool) -> None:
    """No new trades on an account from now on; what is open stays open.

    Every order that could open something is refused, also those of other programs that use the
    bridge's terminal, until a human resumes. It survives restarts of everything.

    \b
    bridgectl halt --reason "news"
    bridgectl halt --terminal ftmo --direct
    """
    terminal, settings = _terminal(name)
    _carry_out(ctx, settings, terminal, _command("halt", terminal, reason=reason or "halt"),
               direct=direct, as_json=as_json)  # fmt: skip


@click.command()
@common_options
@click.option("--magic", type=click.IntRange(0), help="Only what carries this magic number.")
@click.option("--symbol", metavar="NAME", help="Only this symbol, by the broker's name.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--wait", "wait_s", callback=duration_option, default="120s", show_default=True,
              metavar="120s", help="Wait so long for the end.")  # fmt: skip
@click.pass_context
def flatten(
    ctx: click.Context,
    name: str | None,
    reason: str,
    direct: bool,
    as_json: bool,
    magic: int | None,
    symbol: str | None,
    yes: bool,
    wait_s: float,
) -> None:
    """Halt the account, cancel its pending orders, close its positions, and verify it.

    Takes the guard's own socket, else the log; with --direct it attaches to the terminal itself.
    Leaves with 0 only when the account (or the part that was named) is FLAT.

    \b
    bridgectl flatten --reason "I want out"
    bridgectl flatten --terminal ftmo --symbol XAUUSD --yes
    bridgectl flatten --terminal ftmo --direct --yes
    """
    if magic is not None and symbol:
        raise click.UsageError("give --magic or --symbol, not both")
    terminal, settings = _terminal(name)
    what = f"magic {magic}" if magic is not None else symbol or "everything"
    if not yes:
        _ask(f"Close {what} on {terminal.name}, and allow no new trades?")
    part = {"magic": str(magic)} if magic is not None else {"symbol": symbol} if symbol else {}
    command = _command("flatten", terminal, reason=reason or "flatten", **part)
    _carry_out(ctx, settings, terminal, command, direct=direct, as_json=as_json, wait_s=wait_s)


@click.command()
@common_options
@click.option("--account", metavar="NUMBER", help="The account number, in place of typing it.")
@click.option("--stop-flatten", is_flag=True, help="Stop a flatten that still runs.")
@click.option("--despite", is_flag=True, help="Although a limit is still reached: it acts again.")
@click.pass_context
def resume(
    ctx: click.Context,
    name: str | None,
    reason: str,
    direct: bool,
    as_json: bool,
    account: str | None,
    stop_flatten: bool,
    despite: bool,
) -> None:
    """End a halt: a human's act, confirmed by typing the account's number.

    Both copies of the latch are cleared, or it fails and says which one remains. While a limit
    that closes everything is still reached it is refused, and says which one, where it stands and
    until when; with --despite it latches again at the next look.

    \b
    bridgectl resume
    bridgectl resume --terminal ftmo --account 5000001
    """
    terminal, settings = _terminal(name)
    if account is None:
        if not sys.stdin.isatty():
            raise click.UsageError("type the account number: add --account NUMBER")
        account = click.prompt(f"Type the account number of {terminal.name} to allow trades again")
    command = _command(
        "resume", terminal, reason=reason or "resume", typed_login=str(account).strip(),
        stop_flatten=stop_flatten, despite=despite,
    )  # fmt: skip
    _carry_out(ctx, settings, terminal, command, direct=direct, as_json=as_json)


def _terminal(name: str | None) -> tuple[TerminalSettings, Settings]:
    """Raises BadSettings when it is not clear which one is meant."""
    settings = load()
    terminals = chosen(settings, TerminalChoice(terminal=name))
    if len(terminals) > 1:
        names = ", ".join(one.name for one in terminals)
        raise BadSettings([f"several terminals are configured: add --terminal, one of {names}"])
    return terminals[0], settings


def _command(verb: str, terminal: TerminalSettings, **arguments: Any) -> Command:
    now_ms = time.time_ns() // 1_000_000
    return Command.model_validate(
        {
            "event_time_ms": now_ms,
            "command_id": f"{verb}-{secrets.token_hex(8)}",
            "verb": verb,
            "issued_by": f"{_user()}@{platform.node()}",
            "expires_ms": now_ms + int(EXPIRES_S * 1000),
            "arguments": arguments,
            "login": terminal.login,
        }
    )


def _carry_out(
    ctx: click.Context,
    settings: Settings,
    terminal: TerminalSettings,
    command: Command,
    *,
    direct: bool,
    as_json: bool,
    wait_s: float = 60.0,
) -> None:
    def tell(line: str) -> None:
        click.echo(line, err=as_json)

    way = send_directly if direct else send
    outcome = way(settings, terminal, command, wait_s=wait_s, tell=tell)
    if as_json:
        click.echo(json.dumps(outcome.to_json()))
    else:
        click.secho(_verdict(outcome), fg="green" if outcome.good else "red")
    ctx.exit(0 if outcome.good else 1)


def _verdict(outcome: Outcome) -> str:
    ended, verb = outcome.ended, outcome.command.verb
    if verb == "flatten" and ended is not None:
        if ended.state == "FLAT":
            return f"{outcome.terminal} is FLAT and halted; bridgectl resume allows trades again"
        left = ", ".join(
            f"{one.symbol} {one.ticket} ({one.outcome} {one.detail})".strip()
            for one in ended.outcomes
            if one.outcome not in ("closed", "cancelled")
        )
        return (
            f"{outcome.terminal} is {ended.state}: {left or outcome.text}; phone the broker's desk"
        )
    if outcome.accepted is None or (verb == "flatten" and outcome.accepted):
        return f"{verb} of {outcome.terminal}: {outcome.text}; look at bridgectl status"
    return f"{outcome.terminal}: {'' if outcome.accepted else 'refused: '}{outcome.text}"


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("nobody is there to ask: add --yes")
    if not click.confirm(question):
        raise click.Abort


def _user() -> str:
    """Who gives the command, as the system knows them; a container may not."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "somebody"
