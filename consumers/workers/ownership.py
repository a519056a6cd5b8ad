"""Which tasks a worker takes and gives up, judged by what it sees of all tasks and workers.

Safety never hangs on this: a task has one owner because its token can be taken once, and a
commit with another token is refused. Here it is only about who should be the owner.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from consumers.runtime.sharing import Members, share
from events.log import Slot
from events.tasks import Holding, Tasks

logger = logging.getLogger(__name__)

LEASE_S = 1.0
"""A task whose holder did not beat for this long may be taken over."""
LEASE_S_MIN = 0.5
LOOK_MISSING_S = 0.025
"""How often a worker looks while something of its share is not in its hands."""
LOOK_CALM_S = 0.1
"""How often it looks otherwise; never more rarely than a fifth of the lease."""


@dataclass(frozen=True, slots=True)
class Change:
    """What should change hands."""

    take: tuple[Holding, ...] = ()
    give: frozenset[Slot] = frozenset()
    lost: frozenset[Slot] = frozenset()
    """What we believe to own and somebody else, or nobody, holds."""


@dataclass(slots=True)
class _Watched:
    token: str
    beat: int
    silent_s: float = 0.0


class Ownership:
    """Looks at the tasks of a group. `due` says when to look again, on our monotonic clock."""

    def __init__(
        self,
        tasks: Tasks,
        members: Members,
        *,
        lease_s: float = LEASE_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if lease_s < LEASE_S_MIN:
            raise ValueError(f"lease_s = {lease_s}: at least {LEASE_S_MIN}")
        self._tasks, self._members = tasks, members
        self._lease_s, self._monotonic = lease_s, monotonic
        self._calm_s = min(LOOK_CALM_S, lease_s / 5)
        self._watched: dict[Slot, _Watched] = {}
        self._looked_at: float | None = None
        self._due_at = monotonic()
        self._told_idle = False

    @property
    def due(self) -> bool:
        return self._monotonic() >= self._due_at

    def due_in_s(self) -> float:
        """How long one may sleep before the next look."""
        return max(0.0, self._due_at - self._monotonic())

    def hurry(self) -> None:
        """Something happened: look at once."""
        self._due_at = self._monotonic()

    def look(self, slots: Collection[Slot], owned: Collection[Slot]) -> Change:
        """Compare what is held with how it should be shared. Raises LogUnavailable."""
        holdings = self._tasks.look(sorted(slots))
        self._watch(holdings)
        me = self._members.me
        silent = {h.slot for h in holdings if self._is_silent(h)}
        living = self._living(holdings, silent)
        held = {h.slot: "" if h.slot in silent else h.holder for h in holdings}
        mine = share(held, living, me)
        lost = frozenset(h.slot for h in holdings if h.slot in owned and h.holder != me)
        take = tuple(
            holding
            for holding in holdings
            if holding.slot in mine
            and holding.slot not in owned
            and (not holding.token or holding.holder == me or holding.slot in silent)
        )
        missing = not mine <= set(owned)
        self._due_at = self._monotonic() + self._next_look_s(holdings, missing=missing)
        self._tell_idle(bool(holdings) and not mine, len(living), len(holdings))
        return Change(take, frozenset(owned) - mine - lost, lost)

    def _watch(self, holdings: Collection[Holding]) -> None:
        """Note whose beat stood still. Time in which we did not look counts for half a lease at
        most: while the log did not answer, or we stood still, nobody could have beaten."""
        now = self._monotonic()
        passed_s = now - self._looked_at if self._looked_at is not None else 0.0
        passed_s = min(passed_s, self._lease_s / 2)
        self._looked_at = now
        watched = {}
        for holding in holdings:
            seen = self._watched.get(holding.slot)
            if seen is None or (seen.token, seen.beat) != (holding.token, holding.beat):
                seen = _Watched(holding.token, holding.beat)
            else:
                seen.silent_s += passed_s
            watched[holding.slot] = seen
        self._watched = watched

    def _is_silent(self, holding: Holding) -> bool:
        if not holding.token or holding.holder == self._members.me:
            return False
        return self._watched[holding.slot].silent_s >= self._lease_s

    def _living(self, holdings: Collection[Holding], silent: Collection[Slot]) -> frozenset[str]:
        """Who takes part: workers that beat, and holders on the list whose leases are good. One
        that left the list is handing over what it holds."""
        dead = {h.holder for h in holdings if h.slot in silent}
        holders = {h.holder for h in holdings if h.token} & self._members.registered
        return (self._members.living | holders) - dead

    def _next_look_s(self, holdings: Collection[Holding], *, missing: bool) -> float:
        wait_s = LOOK_MISSING_S if missing or not holdings else self._calm_s
        for holding in holdings:
            if holding.token and holding.holder != self._members.me:
                left_s = self._lease_s - self._watched[holding.slot].silent_s
                if left_s > 0:
                    wait_s = min(wait_s, left_s)
        return wait_s

    def _tell_idle(self, idle: bool, workers: int, tasks: int) -> None:
        if idle and not self._told_idle:
            logger.info("%d workers for %d tasks: this one stands by", workers, tasks)
        self._told_idle = idle
