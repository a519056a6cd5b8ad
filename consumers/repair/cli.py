"""The command `repair`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click
from rich.table import Table

from consumers.repair.plan import Done, Plan
from consumers.repair.run import Repair
from events.cli import opened_log
from events.postgres import connect
from events.retention.opening import whole_log
from events.settings import Settings, load
from events.views.tables import page

EXIT_DIFFERS = 3


class ProducerNeeded(RuntimeError):
    """Repairing now could store a span twice. The message names cause and cure."""


@click.command()
@click.option("--terminal", "names", multiple=True, metavar="NAME", help="Only these; repeat.")
@click.option("--dry-run", is_flag=True, help="Only say what is wrong and what would be done.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--without-producer",
    is_flag=True,
    help="Also where a log was begun anew and its producer does not run yet.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def repair(
    names: tuple[str, ...], dry_run: bool, yes: bool, without_producer: bool, as_json: bool
) -> None:
    """Mend what a log that lost its tail left behind in groups and database.

    Looks at every offset and asks the log for the entry it stands on. Where that is gone or
    another one, the last common entry is looked for; what was made of entries that the log lost
    is removed (their bytes are kept in the state folder) and made again from the log. Producers
    heal by themselves and may run meanwhile; so may groups.

    With --dry-run, leaves with 3 when something is wrong.

    \b
    bridgectl repair --dry-run
    bridgectl repair
    bridgectl repair --yes --json
    """
    settings = load()
    with _opened(settings, names) as mender:
        plans = mender.plans()
        if dry_run or not plans:
            _tell([(plan, None) for plan in plans], as_json=as_json)
            raise click.exceptions.Exit(EXIT_DIFFERS if plans else 0)
        if not as_json:
            page().print(_table([(plan, None) for plan in plans]))
        waits = sorted(map(str, mender.waits_for(plans)))
        if waits and not without_producer:
            raise ProducerNeeded(
                f"the log of {', '.join(waits)} was begun anew, and its producer does not run: "
                "start it, so that what it pulls again is known and not stored twice, and repair "
                "then (or add --without-producer)"
            )
        if not yes and not (sys.stdin.isatty() and click.confirm("Do this?")):
            raise click.UsageError("nothing was changed: look above, then add --yes")
        _tell(list(mender.run()), as_json=as_json)


@contextmanager
def _opened(settings: Settings, names: tuple[str, ...]) -> Iterator[Repair]:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    folder = settings.state_dir / "forks"
    dsn = settings.postgres_url()
    with opened_log(settings) as log:
        whole = whole_log(log, settings)
        if dsn is None:
            yield Repair(whole, None, kept_folder=folder, stamp=stamp, namespaces=names)
            return
        with connect(dsn, application="bridge repair") as connection:
            yield Repair(whole, connection, kept_folder=folder, stamp=stamp, namespaces=names)


def _tell(steps: list[tuple[Plan, Done | None]], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"found": [plan.as_json(done) for plan, done in steps]}))
    elif not steps:
        click.echo("every offset stands on the entry it was taken at: nothing to repair")
    else:
        page().print(_table(steps))


def _table(steps: list[tuple[Plan, Done | None]]) -> Table:
    table = Table(title="Offsets that lead nowhere", title_justify="left", show_lines=True)
    for name in ("reader", "stream", "what happened", "cure"):
        table.add_column(name)
    for name in ("undone", "removed"):
        table.add_column(name, justify="right")
    for plan, done in steps:
        table.add_row(
            plan.reader,
            str(plan.finding.stream),
            plan.finding.cause,
            f"{plan.cure} (from {plan.last_common})",
            str(plan.entries_undone),
            "" if done is None else _removed(done),
        )
    return table


def _removed(done: Done) -> str:
    parts = [f"{count} {table}" for table, count in done.rows_removed.items()]
    if done.outputs_removed:
        parts.append(f"{done.outputs_removed} outputs")
    if done.kept_in is not None:
        parts.append(f"kept in {done.kept_in}")
    return "\n".join(parts) or "nothing"
