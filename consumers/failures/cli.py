"""The commands `dlq list`, `dlq show`, `dlq retry` and `dlq drop`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from consumers.failures.desk import Desk, Shown
from consumers.failures.request import Action, operator_name
from events.cli import opened_log
from events.durations import duration_option
from events.retention.opening import whole_log
from events.settings import Settings, load
from events.views.tables import page

ERROR_CHARS_MAX = 100

group_option = click.option("--group", default="", metavar="NAME", help="Only of this group.")
terminal_option = click.option(
    "--terminal", "names", multiple=True, metavar="NAME", help="Only of these; repeat."
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")


def _deciding(command: Callable[..., None]) -> Callable[..., None]:
    """The options that `retry` and `drop` have in common."""
    for add in reversed((
        click.argument("wanted", nargs=-1, metavar="LETTER..."),
        click.option("--all", "everything", is_flag=True, help="All of them (with --group: its)."),
        group_option,
        terminal_option,
        click.option("--by", default=operator_name, metavar="NAME", help="Who decides this."),
        click.option("--wait", "wait_s", callback=duration_option, default="10s", metavar="10s",
                     show_default=True, help="Wait so long for the task's answers."),
        json_option,
    )):  # fmt: skip
        command = add(command)
    return command


@click.command("list")
@group_option
@terminal_option
@json_option
def dlq_list(group: str, names: tuple[str, ...], as_json: bool) -> None:
    """Show dead letters: entries that a group could not bear and nobody decided about yet.

    Those of group persist are entries that the database could not take.

    \b
    bridgectl dlq list
    bridgectl dlq list --group risk --json
    """
    with _desk(load(), group, names) as desk:
        letters = desk.letters()
    if as_json:
        click.echo(json.dumps({"letters": [letter.as_json() for letter in letters]}))
    elif not letters:
        click.echo("no dead letters")
    else:
        page().print(_table(letters))


@click.command("show")
@click.argument("wanted", metavar="LETTER")
@group_option
@terminal_option
@json_option
def dlq_show(wanted: str, group: str, names: tuple[str, ...], as_json: bool) -> None:
    """Show one dead letter: the error, where it was raised, and the entry itself.

    LETTER is its name in `dlq list` (the first letters of it are enough), or the place of the
    entry.

    \b
    bridgectl dlq show 3f2a
    bridgectl dlq show '{demo:source:0}:high@1700000000000-7'
    """
    with _desk(load(), group, names) as desk:
        shown = desk.shown(desk.found([wanted])[0])
    if as_json:
        click.echo(json.dumps(shown))
        return
    for name, value in shown["letter"].items():
        if value not in ("", None):
            lines = str(value).splitlines() or [""]
            click.echo(f"{name:>12}  {lines[0]}")
            for more in lines[1:]:
                click.echo(f"{'':>12}  {more}")
    entry = shown["entry"]
    if entry is None:
        click.echo("the entry is no longer in the log: the letter can only be dropped")
    else:
        click.echo(json.dumps(entry, indent=2))


@click.command("retry")
@_deciding
@click.option("--reason", default="", metavar="TEXT", help="Why; kept with the answer.")
def dlq_retry(wanted: tuple[str, ...], everything: bool, as_json: bool, **given: Any) -> None:
    """Have entries handled now that could not be handled before, say after a fix or an upgrade.

    The task that owns an entry handles it with its state of now. One that halted in front of it
    goes on when that works. For group persist the entry is stored where it belongs.

    Leaves with 1 unless every entry was handled.

    \b
    bridgectl dlq retry 3f2a
    bridgectl dlq retry --all --group risk
    """
    _decide(Action.RETRY, wanted, everything=everything, as_json=as_json, **given)


@click.command("drop")
@_deciding
@click.option("--reason", required=True, metavar="TEXT", help="Why; kept with the answer.")
def dlq_drop(wanted: tuple[str, ...], everything: bool, as_json: bool, **given: Any) -> None:
    """Give entries up. A task that halted in front of one goes on behind it, without it.

    Who did this and why is written into the log.

    \b
    bridgectl dlq drop 3f2a --reason "test order of the broker"
    """
    _decide(Action.DROP, wanted, everything=everything, as_json=as_json, **given)


def _decide(
    action: Action,
    wanted: Sequence[str],
    *,
    everything: bool,
    as_json: bool,
    group: str,
    names: tuple[str, ...],
    by: str,
    reason: str,
    wait_s: float,
) -> None:
    if bool(wanted) == everything:
        raise click.UsageError("name letters as `dlq list` shows them, or give --all")
    with _desk(load(), group, names) as desk:
        letters = desk.letters() if everything else desk.found(wanted)
        answers = list(desk.decide(action, letters, by=by, reason=reason, wait_s=wait_s))
    if as_json:
        click.echo(json.dumps({"answers": [answer.as_json() for answer in answers]}))
    elif not answers:
        click.echo("no dead letters")
    else:
        for answer in answers:
            click.echo(answer.told())
    raise click.exceptions.Exit(0 if all(answer.settled for answer in answers) else 1)


@contextmanager
def _desk(settings: Settings, group: str, names: tuple[str, ...]) -> Iterator[Desk]:
    with opened_log(settings) as log:
        desk = Desk(
            whole_log(log, settings),
            settings.postgres_url(),
            group=group,
            namespaces=names,
            warn=lambda text: click.echo(text, err=True),
        )
        try:
            yield desk
        finally:
            desk.close()


def _table(letters: Sequence[Shown]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("letter", "group", "entry", "type", "error", ""):
        table.add_column(name, overflow="fold")
    for letter in letters:
        error = letter.error.splitlines()[0] if letter.error else ""
        state = Text("HALTED", style="bold red") if letter.halts else Text("")
        if letter.tries > 1:
            state.append(f" tried {letter.tries} times")
        table.add_row(
            letter.name,
            letter.task,
            letter.place,
            letter.entry_type,
            error[:ERROR_CHARS_MAX],
            state,
        )
    return table
