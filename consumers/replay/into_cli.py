"""`replay --into`: the part of the command that writes a namespace."""

from __future__ import annotations

import json
import socket
import sys

import click
from rich.console import Console
from rich.progress import Progress, TextColumn

from consumers.replay.into import Pace, ReplayInto, ReplayRefused
from events.archive.source import Wanted, opened_source
from events.cli import opened_log
from events.log import Log, Slot, checked_name
from events.origin import LIVE
from events.retention import Retention, RetentionLoop, limits_of, segment_folder
from events.settings import load
from events.views.moments import utc_text

HOLES_SHOWN_MAX = 20


def speed_option(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """A click callback: `10x`, `10` or `max` (as fast as possible: None)."""
    if value is None or value.strip().lower() == "max":
        return None
    try:
        speed = float(value.strip().lower().removesuffix("x"))
    except ValueError:
        speed = 0.0
    if not 0 < speed < 1e6:
        raise click.BadParameter(f"{value!r} is no speed: write 1x, 10x or max", ctx, param)
    return speed


def replay_into(
    names: tuple[str, ...],
    into: str,
    *,
    from_ms: int | None,
    until_ms: int | None,
    speed: float | None,
    as_json: bool,
) -> None:
    """Append what was recorded of one terminal to a namespace of its own."""
    settings = load()
    try:
        checked_name(into)
    except ValueError as error:
        raise click.UsageError(f"--into: {error}") from error
    with (
        opened_source(
            settings, told=lambda text: click.secho(text, fg="yellow", err=True)
        ) as found,
        opened_log(settings) as log,
    ):
        name = _terminal(log, names)
        wanted = Wanted(name, from_ms=from_ms, until_ms=until_ms)
        retention = Retention(log, segment_folder(settings), limits_of(settings))

        def slots() -> list[Slot]:
            partitions = log.namespaces().get(into, 0)
            return [Slot(into, "source", number) for number in range(partitions)]

        columns = (TextColumn("{task.description}"), TextColumn("{task.fields[reached]}"))
        hidden = as_json or not sys.stderr.isatty()
        with (
            RetentionLoop(retention, slots),  # a replay may bring more than memory holds
            Progress(*columns, console=Console(stderr=True), disable=hidden) as progress,
        ):
            task = progress.add_task(f"{name} -> {into}", reached="")

            def told(entries: int, reached_ms: int | None) -> None:
                at = utc_text(reached_ms)[:19] if reached_ms is not None else ""
                progress.update(task, reached=f"{entries:,} entries, {at} UTC")

            holder = f"replay on {socket.gethostname()}"
            done = ReplayInto(
                found, log, wanted, into=into, holder=holder, pace=Pace(speed), told=told
            ).run()
    if as_json:
        holes = [str(hole) for hole in done.holes]
        click.echo(json.dumps({"namespace": name, "into": into, "entries": done.entries,
                               "holes": holes}))  # fmt: skip
        return
    click.echo(f"{into}: {done.entries:,} entries of {name}; bridgectl consume --terminal {into}")
    for hole in done.holes[:HOLES_SHOWN_MAX]:
        click.secho(f"  {hole}", fg="yellow", err=True)


def _terminal(log: Log, names: tuple[str, ...]) -> str:
    """The one that is meant."""
    live = [name for name in sorted(log.namespaces()) if log.origin(name) == LIVE]
    if len(names) == 1:
        return names[0]
    if not names and len(live) == 1:
        return live[0]
    known = ", ".join(live) or "none yet"
    raise ReplayRefused(
        f"--into takes the events of one terminal: name it with --terminal ({known})"
    )
