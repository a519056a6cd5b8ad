"""The order of repair: tasks first, those that read from them next, the database last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from consumers.repair.database import CURES, DatabaseRepair
from consumers.repair.plan import Done, Plan
from consumers.repair.tasks import TaskRepair
from events.log import SOURCE, Log, Slot
from events.postgres.connection import Connection

ROUNDS_MAX = 20
"""Groups that read from groups: how long such a chain may be."""


class Repair:
    """Looks for offsets that lead nowhere and cures them. `connection` may be None: then only
    the log is looked at."""

    def __init__(
        self,
        log: Log,
        connection: Connection | None,
        *,
        kept_folder: Path,
        stamp: str,
        namespaces: Sequence[str] = (),
    ) -> None:
        self._log, self._namespaces = log, namespaces
        self._tasks = TaskRepair(log)
        self._database = (
            None
            if connection is None
            else DatabaseRepair(log, connection, kept_folder=kept_folder, stamp=stamp)
        )

    def plans(self) -> list[Plan]:
        """What is wrong now. (More may show once tasks are put back.)"""
        found = list(self._tasks.plans(self._namespaces))
        if self._database is not None:
            found += self._database.plans(self._namespaces)
        return found

    def waits_for(self, plans: Sequence[Plan]) -> set[Slot]:
        """Slots begun anew into which nobody writes yet. Only what their producer pulls and sends
        again tells which stored rows would come twice."""
        anew = {
            plan.finding.stream.slot
            for plan in plans
            if plan.cure == CURES["anew"] and plan.finding.stream.slot.writer == SOURCE
        }
        return {slot for slot in anew if not self._log.holder(slot)}

    def run(self) -> Iterator[tuple[Plan, Done]]:
        """Cure everything, telling each step when it is done.

        Raises LogError, DatabaseError, SinkFenced; what was done stays done, and running it once
        more goes on.
        """
        for _ in range(ROUNDS_MAX):
            plans = list(self._tasks.plans(self._namespaces))
            if not plans:
                break
            for plan in plans:
                yield plan, plan.apply()
        if self._database is not None:
            for plan in self._database.plans(self._namespaces):
                yield plan, plan.apply()
