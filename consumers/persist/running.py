"""Group persist from its start to its end, as `consume` runs it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from consumers.persist.group import GroupProgress, PersistGroup, all_slots, default_holder
from consumers.persist.worker import PersistOptions
from events import postgres
from events.log import Log
from events.postgres import where

logger = logging.getLogger(__name__)

STATUS_S = 5.0
POLL_S = 0.2


def run_persist(
    dsn: str,
    open_log: Callable[[], Log],
    stop: threading.Event,
    *,
    namespaces: Sequence[str],
    threads: int,
    lease_s: float,
    until_idle: bool,
) -> GroupProgress | None:
    """Store until told to stop; None when that came before the database was there.

    Raises DatabaseRefused.
    """
    if not prepared(dsn, stop):
        return None
    options = PersistOptions(
        dsn,
        open_log,
        all_slots(namespaces),
        default_holder(),
        namespaces=tuple(namespaces),
        lease_s=lease_s,
        until_idle=until_idle,
    )
    return _run(PersistGroup(options, workers=threads), stop)


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
