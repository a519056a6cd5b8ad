"""Commands of the consumers' room: `consume` and `migrate`."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

from consumers.persist import (
    GROUP,
    GroupProgress,
    PersistGroup,
    PersistOptions,
    all_slots,
    default_holder,
)
from events import postgres
from events.log import Log
from events.postgres import DatabaseRefused, where
from events.postgres.offsets import LEASE_S
from events.program_log import start_program_log
from events.settings import Settings, load

logger = logging.getLogger(__name__)

STATUS_S = 5.0
POLL_S = 0.2
GROUPS = {GROUP: "stores every event in PostgreSQL"}


class ConsumeFailed(RuntimeError):
    """The group ended before its work was done. The message names cause and cure."""


@click.command()
@click.option("--group", default=GROUP, show_default=True, help="Which group to run.")
@click.option("--terminal", "names", multiple=True, metavar="NAME", help="Only these; repeat.")
@click.option(
    "--workers",
    type=click.IntRange(1, 16),
    default=1,
    show_default=True,
    help="Threads that share the partitions.",
)
@click.option("--until-idle", is_flag=True, help="End when everything in the log is stored.")
@click.option(
    "--lease",
    "lease_s",
    type=click.FloatRange(0.5, 600),
    default=LEASE_S,
    show_default=True,
    help="Seconds without a sign of life after which a hanging holder is replaced.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
def consume(
    group: str,
    names: tuple[str, ...],
    workers: int,
    until_idle: bool,
    lease_s: float,
    as_json: bool,
) -> None:
    """Run a consumer group until it is stopped.

    \b
    bridgectl consume --group persist
    bridgectl consume --group persist --workers 2
    bridgectl consume --group persist --until-idle --json
    """
    if group not in GROUPS:
        known = "; ".join(f"{name} ({what})" for name, what in GROUPS.items())
        raise click.UsageError(f"there is no group {group!r}. There is: {known}")
    settings = load()
    start_program_log(
        group,
        folder=settings.state_dir,
        level=settings.log_level,
        file=settings.log_file,
        as_json=settings.log_json,
        secrets=settings.secrets(),
    )
    redis, dsn = _addresses(settings)
    with _stopped_by_signals() as stop:
        if not prepared(dsn, stop):
            return
        options = PersistOptions(
            dsn,
            lambda: _open_log(redis),
            all_slots(names),
            default_holder(),
            lease_s=lease_s,
            until_idle=until_idle,
        )
        progress = _run(PersistGroup(options, workers=workers), stop)
    if as_json:
        click.echo(json.dumps({"group": group, **progress.as_json()}))
    if progress.refused or progress.halted:
        raise ConsumeFailed(progress.refused or "; ".join(progress.halted.values()))


@click.command()
@click.option("--check", "only_check", is_flag=True, help="Only say whether there is work to do.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def migrate(only_check: bool, as_json: bool) -> None:
    """Bring the database to this program's schema (forward only).

    \b
    bridgectl migrate
    bridgectl migrate --check --json
    """
    dsn = _postgres(load())
    state = postgres.current(dsn) if only_check else postgres.migrate(dsn)
    if as_json:
        facts = {"current": state.current, "newest": state.newest, "timescaledb": state.timescaledb}
        click.echo(json.dumps(facts))
    else:
        done = "is up to date" if state.ready else f"needs {state.newest}: run `bridgectl migrate`"
        click.echo(f"database {where(dsn)}: schema {state.current or 'none'} {done}")
    if not state.ready:
        raise click.exceptions.Exit(1)


def prepared(dsn: str, stop: threading.Event) -> bool:
    """Wait for the database and see to its schema: an empty database gets the tables, an older
    or newer one is refused. False when told to stop before that. Raises DatabaseRefused."""
    if not postgres.wait_until_ready(
        dsn, tell=logger.warning, stopped=stop.is_set, sleep=stop.wait
    ):
        return False
    if postgres.current(dsn).current is None:
        logger.info("making the tables in database %s", where(dsn))
        postgres.migrate(dsn)
    postgres.check(dsn)
    return True


def _run(group: PersistGroup, stop: threading.Event) -> GroupProgress:
    """Until every worker ended or we are told to stop, saying every few seconds how it goes."""
    group.start()
    began = said_at = time.monotonic()
    ticks_then = 0
    while group.running and not stop.is_set():
        stop.wait(POLL_S)
        if group.progress().refused:
            break
        now = time.monotonic()
        if now - said_at >= STATUS_S:
            progress = group.progress()
            logger.info("%s", _line(progress, (progress.ticks - ticks_then) / (now - said_at)))
            said_at, ticks_then = now, progress.ticks
    group.stop()
    if not group.join():
        logger.warning("a worker still waits for the database; what it was storing is not counted")
    progress = group.progress()
    rate = progress.ticks / max(time.monotonic() - began, 1e-9)
    logger.info("ended: %s", _line(progress, rate, ended=True))
    return progress


def _line(progress: GroupProgress, ticks_per_s: float, *, ended: bool = False) -> str:
    parts = [
        f"{progress.entries} entries, {progress.ticks} ticks stored ({ticks_per_s:.0f} ticks/s)"
    ]
    if not ended:  # at the end every slot was given up
        parts.append(f"{len(progress.held)} slots held")
    if not ended and not progress.held:
        parts.append("standing by: others hold all slots, or nothing is there yet")
    if progress.dead:
        parts.append(f"{progress.dead} entries in dead_entries")
    if progress.halted:
        parts.append(f"{len(progress.halted)} slots HALTED")
    if progress.waiting:
        parts.append(f"waiting: {progress.waiting}")
    return ", ".join(parts)


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C, Ctrl-Break and a polite kill set."""
    stop = threading.Event()

    def on_signal(number: int, _: FrameType | None) -> None:
        stop.set()

    wanted = [signal.SIGINT, signal.SIGTERM]
    if sys.platform == "win32":
        wanted.append(signal.SIGBREAK)
    former = {number: signal.signal(number, on_signal) for number in wanted}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _addresses(settings: Settings) -> tuple[str, str]:
    redis = settings.redis_url()
    if redis is None:
        raise ConsumeFailed(
            "no Redis is configured and no embedded one runs: "
            "start `bridgectl up`, or set REDIS_URL"
        )
    return redis, _postgres(settings)


def _postgres(settings: Settings) -> str:
    dsn = settings.postgres_url()
    if dsn is None:
        raise DatabaseRefused(
            "no database is configured and no embedded one runs: "
            "start `bridgectl up`, or set POSTGRES_HOST (or POSTGRES_URL)"
        )
    return dsn


def _open_log(url: str) -> Log:
    from events.redis import open_log

    return open_log(url)
