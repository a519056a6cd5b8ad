"""The window of ticks already taken, as an ordered multiset, and how an answer is held against it.

A tick has no identity: several may share a millisecond, and wholly identical rows are legal. So
an answer is compared with what was taken before as a *multiset*: the k-th occurrence of a row is
new when fewer than k of it were taken. Bits of `flags` that MT5 does not document change between
two readings of the same tick; they are masked here and kept in what is handed on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from events.ticks import FLAGS_DOCUMENTED, TICK_DTYPE, TickArray

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

PRUNE_SLACK_S = 10
_CAPACITY_MIN = 256
_WORDS = TICK_DTYPE.itemsize // 4


@dataclass(frozen=True, slots=True)
class _Buffer:
    rows: TickArray
    seconds: Int64Array
    absences: npt.NDArray[np.uint8]

    @classmethod
    def of_capacity(cls, capacity: int) -> _Buffer:
        return cls(
            np.empty(capacity, TICK_DTYPE),
            np.empty(capacity, np.int64),
            np.empty(capacity, np.uint8),
        )


@dataclass(frozen=True, slots=True)
class TickWindow:
    """Rows taken (flags masked) in the order of the terminal's answers, each with its second.

    A value: every change gives another window. An older window stays valid while younger ones
    grow from it, but only the youngest branch may grow (they share one buffer).
    """

    _buffer: _Buffer
    _begin: int = 0
    _end: int = 0
    ordered: bool = True
    """Whether the seconds never decrease (false after late ticks or a clock put back)."""

    @classmethod
    def empty(cls) -> TickWindow:
        return cls(_Buffer.of_capacity(_CAPACITY_MIN))

    def __len__(self) -> int:
        return self._end - self._begin

    @property
    def rows(self) -> TickArray:
        return self._buffer.rows[self._begin : self._end]

    @property
    def seconds(self) -> Int64Array:
        return self._buffer.seconds[self._begin : self._end]

    @property
    def absences(self) -> npt.NDArray[np.uint8]:
        """How many answers in a row should have held the row and did not (at most 2)."""
        return self._buffer.absences[self._begin : self._end]

    def since(self, second: int) -> slice | BoolArray:
        """What selects the rows of this second and later: a slice where order allows."""
        if self.ordered:
            return slice(int(np.searchsorted(self.seconds, second, side="left")), len(self))
        return self.seconds >= second

    def count_since(self, second: int) -> int:
        found = self.since(second)
        if isinstance(found, slice):
            return int(found.stop - found.start)
        return int(np.count_nonzero(found))

    def extended(self, rows: TickArray, seconds: Int64Array) -> TickWindow:
        """With rows behind the present ones (their flags are masked here)."""
        if not len(rows):
            return self
        ordered = self.ordered and _never_decreases(seconds)
        if ordered and len(self):
            ordered = bool(seconds[0] >= self.seconds[-1])
        room = self if self._end + len(rows) <= len(self._buffer.rows) else self._moved(len(rows))
        end = room._end + len(rows)
        room._buffer.rows[room._end : end] = rows
        room._buffer.rows["flags"][room._end : end] &= FLAGS_DOCUMENTED
        room._buffer.seconds[room._end : end] = seconds
        room._buffer.absences[room._end : end] = 0
        return replace(room, _end=end, ordered=ordered)

    def rewritten(
        self,
        stay: BoolArray,
        absent: npt.NDArray[np.uint8],
        rows: TickArray,
        seconds: Int64Array,
    ) -> TickWindow:
        """Only the rows of `stay`, with their new counts of absence, then `rows`.

        Puts the end of the window into the order of the newest answer.
        """
        kept = int(np.count_nonzero(stay))
        buffer = _Buffer.of_capacity(max(_CAPACITY_MIN, 2 * (kept + len(rows))))
        buffer.rows[:kept] = self.rows[stay]
        buffer.seconds[:kept] = self.seconds[stay]
        buffer.absences[:kept] = absent[stay]
        ordered = _never_decreases(buffer.seconds[:kept])
        return TickWindow(buffer, 0, kept, ordered).extended(rows, seconds)

    def worth_pruning(self, before_s: int, rows_max: int) -> bool:
        """Whether enough has become old that dropping it is worth the work."""
        return len(self) > rows_max or (
            len(self) > 0 and int(self.seconds[0]) < before_s - PRUNE_SLACK_S
        )

    def pruned(self, before_s: int, rows_max: int) -> TickWindow:
        """Without leading rows older than `before_s`, and with at most `rows_max` rows."""
        if self.ordered:
            old = int(np.searchsorted(self.seconds, before_s, side="left"))
        else:
            young = self.seconds >= before_s
            old = int(np.argmax(young)) if young.any() else len(self)
        drop = max(old, len(self) - rows_max)
        return replace(self, _begin=self._begin + drop) if drop > 0 else self

    def _moved(self, more: int) -> TickWindow:
        buffer = _Buffer.of_capacity(max(_CAPACITY_MIN, 2 * (len(self) + more)))
        buffer.rows[: len(self)] = self.rows
        buffer.seconds[: len(self)] = self.seconds
        buffer.absences[: len(self)] = self.absences
        return TickWindow(buffer, 0, len(self), self.ordered)


@dataclass(frozen=True, slots=True)
class Match:
    """Which rows of an answer are new, and which known rows it lacks (masks)."""

    new: BoolArray
    absent: BoolArray


def masked(rows: TickArray) -> TickArray:
    """A copy for comparing: undocumented flag bits are zero."""
    copy = np.ascontiguousarray(rows).copy()
    copy["flags"] &= FLAGS_DOCUMENTED
    return copy


def seconds_of(rows: TickArray, otherwise: int) -> Int64Array:
    """The server second each row lies in.

    A row without `time_msc` lies where `time` says, else where the row before it lies, else at
    `otherwise`.
    """
    msc = rows["time_msc"]
    seconds: Int64Array = np.where(msc > 0, msc // 1000, rows["time"])
    lost = seconds <= 0
    if lost.any():
        places = np.maximum.accumulate(np.where(lost, -1, np.arange(len(rows))))
        seconds = np.where(places >= 0, seconds[np.maximum(places, 0)], otherwise)
    return seconds


def common_prefix(known: TickArray, answer: TickArray) -> int:
    """How many rows both begin with, byte for byte."""
    length = min(len(known), len(answer))
    same = _words(known[:length]) == _words(answer[:length])
    return length if same.all() else int(np.argmin(same)) // _WORDS


def match(known: TickArray, answer: TickArray) -> Match:
    """Hold an answer against the known rows as multisets (both with masked flags)."""
    prefix = common_prefix(known, answer)
    new = np.zeros(len(answer), np.bool_)
    absent = np.zeros(len(known), np.bool_)
    split = len(known) - prefix
    both = np.concatenate((known[prefix:], answer[prefix:])).view(f"V{TICK_DTYPE.itemsize}")
    if len(both):
        kinds, kind = np.unique(both, return_inverse=True)
        taken, given = kind[:split], kind[split:]
        new[prefix:] = _ranks(given) >= np.bincount(taken, minlength=len(kinds))[given]
        absent[prefix:] = _ranks(taken) >= np.bincount(given, minlength=len(kinds))[taken]
    return Match(new, absent)


def _ranks(kinds: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """For each element, how many equal ones stand before it."""
    order = np.argsort(kinds, kind="stable")
    ordered = kinds[order]
    firsts = np.searchsorted(ordered, ordered, side="left")
    ranks = np.empty(len(kinds), np.intp)
    ranks[order] = np.arange(len(kinds)) - firsts
    return ranks


def _words(rows: TickArray) -> npt.NDArray[np.uint32]:
    return np.ascontiguousarray(rows).view(np.uint32)


def _never_decreases(seconds: Int64Array) -> bool:
    return bool((seconds[1:] >= seconds[:-1]).all())
