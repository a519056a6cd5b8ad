"""What leaves a slot, when, and how: trimmed when everybody read it, else spilled to disk first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from events.log import BEGIN, Entry, EntryId, Log, Slot, Stream
from events.retained import LaneUse, SlotUse
from events.retention.copies import Need, copies_before, outdated
from events.retention.folder import DiskFull, SegmentFolder
from events.retention.segment import UNFINISHED, Segment, SegmentDamaged

logger = logging.getLogger(__name__)

MEMORY_BYTES_DEFAULT = 1024 * 1024 * 1024
SHARE_OF_MAXMEMORY = 0.6
LOW, HIGH, FULL = 0.6, 0.75, 0.9
"""Of the memory budget: above HIGH entries leave early, until LOW. Above FULL appends wait
meanwhile; the rest is for what comes between two looks."""
LANE_BYTES_MIN = 256 * 1024
"""Smaller lanes are left alone: what fills the memory lies elsewhere."""
SEGMENT_BYTES_MIN, SEGMENT_BYTES_AIM = 1024 * 1024, 64 * 1024 * 1024
SEGMENTS_PER_BUDGET = 8
SEGMENT_ENTRIES_MAX = 250_000
PAGE_BYTES_AIM = 4 * 1024 * 1024
PAGE_ENTRIES_MAX = 5_000
STEPS_MAX = 16
"""Trims and spills of one lane in one go; the next call goes on."""
TRIMS_MAX = 1_000
OVER_BUDGET = "memory is over its budget (RETENTION_MEMORY_MB), entries are on their way to disk"
PROGRESS_MIN = 0.02
"""A trim that frees less of a lane does not help: what was not read leaves for the disk."""


Needs = Callable[[Slot], Sequence[Need]]
"""What the writer of a slot reads when it begins again."""


def nothing_needed(slot: Slot) -> Sequence[Need]:
    """Of a writer that keeps all it needs elsewhere, as tasks do."""
    return ()


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how much. `memory_bytes_max`: of the whole server; None: 60 % of its
    maxmemory, or MEMORY_BYTES_DEFAULT where it has none."""

    age_s: float = 24 * 3600
    memory_bytes_max: int | None = None

    def memory_bytes(self, use: SlotUse) -> int:
        if self.memory_bytes_max is None:
            return int(use.limit_bytes * SHARE_OF_MAXMEMORY) or MEMORY_BYTES_DEFAULT
        if use.limit_bytes:
            return min(self.memory_bytes_max, int(use.limit_bytes * 0.9))
        return self.memory_bytes_max


@dataclass(slots=True)
class Kept:
    """What one call did."""

    trimmed: int = 0
    spilled: int = 0
    dropped: int = 0
    """Segments that nobody needs any more."""
    pressed: bool = False
    """The memory is still over what entries should take: call again soon."""
    full: str = ""


@dataclass(slots=True)
class _Pass:
    """One call of `keep`: what is known of the slot, and what was done."""

    slot: Slot
    needs: Needs
    readers: dict[Stream, frozenset[str]]
    budget: int = 0
    """Memory that the server should not exceed."""
    done: Kept = field(default_factory=Kept)


class Retention:
    """Keeps the streams of slots within age, memory and disk. Owned by whoever writes the slot,
    called every second or so; one look at the server when there is nothing to do.

    Whoever calls it, entries that somebody needs are never lost: the log checks that itself. Two
    callers at once disturb each other's work, not the entries. Not thread-safe.
    """

    def __init__(self, log: Log, folder: SegmentFolder, limits: Limits | None = None) -> None:
        self._log, self._folder, self._limits = log, folder, limits or Limits()
        self._copies: dict[Slot, set[str]] = {}
        self._swept: set[Slot] = set()
        self._told = ""

    def keep(self, slot: Slot, needs: Needs = nothing_needed) -> Kept:
        """Let go what may go. `needs` tells what the writer reads when it begins again, by what
        the log holds when it is asked.

        Raises LogUnavailable, LogError.
        """
        one = _Pass(slot, needs, self._log.tasks.readers(slot.namespace))
        use = self._log.retained.look(slot)
        oldest = EntryId(max(0, use.now_ms - int(self._limits.age_s * 1000)), 0)
        if slot not in self._swept:
            self._sweep(one, use, oldest)
        for lane in use.lanes:
            first = min([lane.first_id or oldest, *(s.first for s in use.spans_of(lane.stream))])
            if first < oldest:
                self._trim(one, lane, oldest)
        self._forget_copies(one)
        self._relieve(one, self._log.retained.look(slot) if one.done.trimmed else use)
        return one.done

    def _sweep(self, one: _Pass, use: SlotUse, oldest: EntryId) -> None:
        """Remove files of a writer that died before it registered them. One whose entries the
        log does not hold any more stays: it may be the only copy."""
        self._copies[one.slot] = set(self._log.retained.kept(one.slot))
        for lane in use.lanes:
            for path in self._folder.unregistered(lane.stream, use.spans_of(lane.stream)):
                if self._is_needless(path, lane, floor=min(oldest, self._floor(one, lane))):
                    logger.info("%s is not registered (any more) and is removed", path)
                    path.unlink(missing_ok=True)
                else:
                    logger.warning("%s is not registered, and the log begins behind it", path)
        self._swept.add(one.slot)

    @staticmethod
    def _is_needless(path: Path, lane: LaneUse, *, floor: EntryId) -> bool:
        """Unfinished, or its entries are still in the log, or nobody needs them any more."""
        if path.suffix == UNFINISHED:
            return True
        try:
            segment = Segment(path)
        except (SegmentDamaged, OSError) as error:
            logger.warning("%s", error)
            return False
        in_log = lane.first_id is not None and lane.first_id <= segment.first
        return in_log or segment.last < floor

    def _floor(self, one: _Pass, lane: LaneUse) -> EntryId:
        """The oldest entry that somebody still needs."""
        if not one.readers.get(lane.stream, frozenset()) <= set(lane.offsets):
            return BEGIN
        return min(lane.offsets.values(), default=lane.last_id.next())

    def _trim(self, one: _Pass, lane: LaneUse, below: EntryId) -> int:
        """Remove what lies below `below` and below everybody's offset."""
        below = min(below, self._floor(one, lane), lane.last_id.next())
        if lane.first_id is not None:
            self._copy(one, lane.stream, lane.first_id, below)
        removed = 0
        for _ in range(TRIMS_MAX):
            readers = one.readers.get(lane.stream, frozenset())
            done = self._log.retained.trim(lane.stream, below, readers)
            self._folder.delete(done.spans)
            one.done.dropped += len(done.spans)
            removed += done.entries
            if not done.more:
                break
        one.done.trimmed += removed
        return removed

    def _copy(self, one: _Pass, stream: Stream, begin: EntryId, until: EntryId) -> None:
        """Keep copies of what the writer needs, before it leaves the log."""
        if until <= begin:
            return
        needs = one.needs(one.slot)  # after the look that gave `until`: it covers all before it
        for copies in copies_before(self._log, stream, needs, begin=begin, until=until):
            self._log.retained.keep(one.slot, copies)
            self._copies[one.slot].update(copies)

    def _forget_copies(self, one: _Pass) -> None:
        names = sorted(self._copies[one.slot])
        gone = outdated(names, one.needs(one.slot)) if names else []
        if gone:
            self._log.retained.keep(one.slot, {}, gone)
            self._copies[one.slot].difference_update(gone)

    def _relieve(self, one: _Pass, use: SlotUse) -> None:
        """Let entries leave early while the server's memory is over HIGH of the budget."""
        one.budget = self._limits.memory_bytes(use)
        full_bytes = int(one.budget * FULL)
        why = ""
        if use.used_bytes > one.budget * HIGH and _can_shrink(use):
            # Each append looks from now on: memory does not grow faster than the disk takes.
            self._refuse(use, use.full or OVER_BUDGET, full_bytes)
            why = self._relieve_lanes(one, use)
            use = self._log.retained.look(one.slot)
        one.done.pressed = use.used_bytes > one.budget * HIGH
        still = one.done.pressed and _can_shrink(use)
        self._refuse(use, (why or OVER_BUDGET) if still else "", full_bytes)
        one.done.full = why if use.used_bytes >= full_bytes else ""
        self._tell(one.done.full)

    def _refuse(self, use: SlotUse, why: str, above_bytes: int) -> None:
        """Let appends be refused for this reason, or ("") be taken again."""
        if why != use.full or (why and above_bytes != use.full_above_bytes):
            self._log.retained.refuse(use.slot, why, above_bytes=above_bytes)

    def _relieve_lanes(self, one: _Pass, use: SlotUse) -> str:
        """Our share of what is too much; the server's other streams have writers of their own.
        Returns why nothing (more) can be spilled, or ""."""
        for lane in sorted(use.lanes, key=lambda lane: -lane.memory_bytes):
            if lane.memory_bytes < LANE_BYTES_MIN:
                continue
            share = 1 - one.budget * LOW / use.used_bytes
            goal = int(lane.memory_bytes * (1 - share))
            try:
                self._shrink(one, lane, goal)
            except DiskFull as error:
                return str(error)
        return ""

    def _shrink(self, one: _Pass, lane: LaneUse, goal_bytes: int) -> None:
        """Until the lane takes no more than that: trim what everybody read, else spill."""
        for _ in range(STEPS_MAX):
            if lane.memory_bytes <= max(goal_bytes, LANE_BYTES_MIN) or lane.first_id is None:
                return
            share = 1 - goal_bytes / lane.memory_bytes
            # Short memory is no reason to lose what nobody registered for yet: it is spilled.
            trimmed = self._trim(one, lane, _part_of(lane, share)) if lane.offsets else 0
            everything_was_read = bool(lane.offsets) and self._floor(one, lane) >= lane.last_id
            before, lane = lane, self._seen_again(lane)
            if trimmed < before.length * PROGRESS_MIN and not everything_was_read:
                self._spill(one, lane, int(lane.memory_bytes * share))
                lane = self._seen_again(lane)

    def _seen_again(self, lane: LaneUse) -> LaneUse:
        return self._log.retained.look(lane.stream.slot).lanes[int(lane.stream.lane)]

    def _spill(self, one: _Pass, lane: LaneUse, bytes_wanted: int) -> None:
        """The oldest entries of a lane into a segment, at least one."""
        if lane.first_id is None:
            return
        removed = lane.entries_added - lane.length
        most = min(SEGMENT_BYTES_AIM, max(SEGMENT_BYTES_MIN, one.budget // SEGMENTS_PER_BUDGET))
        entries = _Counted(self._log, lane, bytes_max=min(bytes_wanted, most))
        span = self._folder.write(lane.stream, entries, first=lane.first_id, before=removed)
        self._copy(one, lane.stream, span.first, span.last.next())
        if span.first == lane.first_id and self._log.retained.spill(span):
            one.done.spilled += span.entries
            logger.info(
                "%s: %d entries spilled to %s (%d bytes), memory is short and somebody has not "
                "read them", lane.stream, span.entries, span.path, span.size_bytes,
            )  # fmt: skip
        elif span not in self._log.retained.spans([one.slot]).get(lane.stream, []):
            self._folder.delete([span])  # somebody else trimmed meanwhile: look again

    def _tell(self, text: str) -> None:
        """Once per trouble."""
        if text and text != self._told:
            logger.error("appends are refused until there is room: %s", text)
        elif self._told and not text:
            logger.info("appends are taken again")
        self._told = text


class _Counted:
    """The oldest entries of a lane, page by page, until they are about `bytes_max`."""

    def __init__(self, log: Log, lane: LaneUse, *, bytes_max: int) -> None:
        self._log, self._lane, self._bytes_max = log, lane, bytes_max

    def __iter__(self) -> Iterator[Entry]:
        assert self._lane.first_id is not None, "made for lanes with entries"
        per_entry = max(1, self._lane.memory_bytes // max(1, self._lane.length))
        most = min(SEGMENT_ENTRIES_MAX, max(1, self._bytes_max // per_entry))
        page_max = max(1, min(PAGE_ENTRIES_MAX, PAGE_BYTES_AIM // per_entry))
        at, count = self._lane.first_id, 0
        while count < most:
            wanted = min(page_max, most - count)
            page = self._log.between(self._lane.stream, at, self._lane.last_id, count_max=wanted)
            yield from page
            count += len(page)
            if len(page) < wanted:
                return
            at = page[-1].id.next()


def _can_shrink(use: SlotUse) -> bool:
    """Whether there is something in the slot that could leave."""
    return any(lane.memory_bytes > LANE_BYTES_MIN for lane in use.lanes)


def _part_of(lane: LaneUse, share: float) -> EntryId:
    """The id before which about that share of a lane lies, were it filled evenly."""
    assert lane.first_id is not None, "asked of lanes with entries"
    span_ms = lane.last_id.ms - lane.first_id.ms
    if span_ms <= 1:
        return lane.last_id
    return EntryId(lane.first_id.ms + max(1, int(span_ms * share)), 0)
