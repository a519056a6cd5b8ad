"""Which tasks each worker of a group takes, and which of its workers live.

Nobody hands tasks out: every worker works out the same answer from what all can see (who holds
what, who beats), gives up what is over its share and takes what is free and within it. Two that
see different things for a moment may want the same task; its token lets one of them have it.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass

from events.log import LogFull, Slot
from events.tasks import Tasks

BEAT_S = 0.2
"""How often a worker shows that it lives."""
LOOK_S = 0.05
"""How often a worker looks for others that came or went."""
SILENT_S = 1.25
"""A worker that did not beat for this long takes no part in the sharing."""


def shared_out(held: Mapping[Slot, str], workers: Collection[str]) -> dict[Slot, str]:
    """Every task with the worker that is to have it; empty when there is no worker.

    `held` names the holder of each task ("" for nobody). Sizes differ by one at most, and no
    task moves away from a living worker unless that makes them so.
    """
    if not workers:
        return {}
    counts = Counter(holder for holder in held.values() if holder in workers)
    by_size = sorted(set(workers), key=lambda worker: (-counts[worker], worker))
    least, larger = divmod(len(held), len(by_size))
    room = {worker: least + (rank < larger) for rank, worker in enumerate(by_size)}
    owners: dict[Slot, str] = {}
    for slot, holder in sorted(held.items()):
        if room.get(holder, 0):
            room[holder] -= 1
            owners[slot] = holder
    takers = iter([worker for worker in sorted(room) for _ in range(room[worker])])
    return {slot: owners.get(slot) or next(takers) for slot in sorted(held)}


def share(held: Mapping[Slot, str], workers: Collection[str], me: str) -> frozenset[Slot]:
    """The tasks that are mine to have: take what is missing, give up what is not among them.

    Tasks that different workers may take (`takes`) are shared out apart from each other.
    """
    everybody = sorted({*workers, me})
    by_takers: dict[tuple[str, ...], dict[Slot, str]] = {}
    for slot, holder in held.items():
        takers = tuple(name for name in everybody if takes(name, slot.namespace))
        by_takers.setdefault(takers, {})[slot] = holder
    return frozenset(
        slot
        for takers, part in by_takers.items()
        for slot, owner in shared_out(part, takers).items()
        if owner == me
    )


def worker_name(holder: str, namespaces: Collection[str] = ()) -> str:
    """A name that no other worker has, now or later. `holder` tells people where it runs; a
    worker that runs for some namespaces alone names them, so that nobody leaves others to it."""
    only = f"@{','.join(sorted(namespaces))}" if namespaces else ""
    return f"{holder}/{secrets.token_hex(4)}{only}"


def takes(worker: str, namespace: str) -> bool:
    """Whether a worker takes tasks of a namespace, by its name."""
    _, only, names = worker.rpartition("@")
    return not only or namespace in names.split(",")


@dataclass(slots=True)
class _Seen:
    beat: int
    moved_at: float
    proven: bool
    """Whether it beat, or came, while we watched. What we found at first may be a dead one's."""


class Members:
    """The workers of a group, as one of them sees them. Time is our own monotonic clock."""

    def __init__(
        self,
        tasks: Tasks,
        group: str,
        me: str,
        *,
        silent_s: float = SILENT_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tasks, self._group, self.me = tasks, group, me
        self._silent_s, self._monotonic = silent_s, monotonic
        self._seen: dict[str, _Seen] = {}
        self._looked_at: float | None = None
        self._beat_at: float | None = None

    @property
    def living(self) -> frozenset[str]:
        """Those that took part at the last look, and we."""
        return frozenset({self.me, *(name for name, seen in self._seen.items() if seen.proven)})

    @property
    def registered(self) -> frozenset[str]:
        """Those on the list at the last look, whether they live or not, and we."""
        return frozenset({self.me, *self._seen})

    def tend(self) -> bool:
        """Beat and look around when it is time to. True when somebody came or went."""
        now = self._monotonic()
        if self._beat_at is None or now - self._beat_at >= BEAT_S:
            self._beat_at = now
            with suppress(LogFull):  # reading goes on, and makes room
                self._tasks.beat_worker(self._group, self.me)
        if self._looked_at is not None and now - self._looked_at < LOOK_S:
            return False
        before = self.living
        self._look(now)
        return self.living != before

    def leave(self) -> None:
        """Say that we end, so that nobody waits for our silence."""
        self._tasks.drop_worker(self._group, self.me)

    def _look(self, now: float) -> None:
        found = self._tasks.workers(self._group)
        first = self._looked_at is None
        # While we did not look nobody can be called silent: what we missed proves nothing.
        blind = self._looked_at is not None and now - self._looked_at >= self._silent_s
        self._looked_at = now
        self._seen = {name: seen for name, seen in self._seen.items() if name in found}
        for name, beat in found.items():
            seen = self._seen.get(name)
            if name == self.me:
                continue
            if seen is None:
                self._seen[name] = _Seen(beat, now, proven=not first)
            elif seen.beat != beat:
                self._seen[name] = _Seen(beat, now, proven=True)
            elif blind:
                seen.moved_at = now
            elif now - seen.moved_at >= self._silent_s:
                del self._seen[name]
                self._tasks.drop_worker(self._group, name)
