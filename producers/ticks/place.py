"""Where a tick cursor stands, as the text kept in the log, and which entry its window begins in."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from events.log import BEGIN, EntryId

BUCKET_S = 30
"""Entries of this many seconds share one mark in the trail, which bounds its length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CursorPlace:
    """`hi_msc:total:window_from:rows:complete_s:reread_s`, and behind `@` the last entry.

    `hi_msc` is the newest tick taken (server clock, ms), `total` the number of ticks ever taken.
    The log holds the window of a restart from the entry `window_from` on: `rows` ticks, complete
    from the server second `complete_s` on. `reread_s` is the second from which a restart must
    ask again because a back-fill may still be on its way. `-` stands for None.
    """

    hi_msc: int | None
    total: int
    window_from: EntryId = BEGIN
    rows: int = 0
    complete_s: int = 0
    reread_s: int | None = None
    last_entry: EntryId | None = None

    @classmethod
    def parse(cls, text: str) -> CursorPlace:
        """Read what the log stored. Raises ValueError on anything else."""
        place, at, entry = text.partition("@")
        try:
            hi_msc, total, window_from, rows, complete_s, reread_s = place.split(":")
            return cls(
                hi_msc=None if hi_msc == "-" else int(hi_msc),
                total=int(total),
                window_from=EntryId.parse(window_from),
                rows=int(rows),
                complete_s=int(complete_s),
                reread_s=None if reread_s == "-" else int(reread_s),
                last_entry=EntryId.parse(entry) if at else None,
            )
        except ValueError as error:
            raise ValueError(
                f"{text!r} is no tick cursor (expected "
                "hi_msc:total:window_from:rows:complete_s:reread_s[@entry]); "
                "was it written by another program or version?"
            ) from error

    def __str__(self) -> str:
        """The text without the last entry, which the log itself adds."""
        hi_msc = "-" if self.hi_msc is None else self.hi_msc
        reread_s = "-" if self.reread_s is None else self.reread_s
        window = f"{self.window_from}:{self.rows}:{self.complete_s}"
        return f"{hi_msc}:{self.total}:{window}:{reread_s}"


@dataclass(slots=True)
class _Mark:
    first_id: EntryId
    total_before: int
    oldest_s: int
    newest_s: int


class EntryTrail:
    """The entries that hold the window, oldest first, thinned to one mark per BUCKET_S."""

    def __init__(self, window_from: EntryId = BEGIN, last_entry: EntryId | None = None) -> None:
        self._marks: deque[_Mark] = deque()
        self._bound = window_from
        self._last = last_entry

    def __len__(self) -> int:
        return len(self._marks)

    def appended(
        self, entry_id: EntryId, *, total_before: int, oldest_s: int, newest_s: int
    ) -> None:
        """Rows of the server seconds oldest_s..newest_s, the first of them the symbol's row
        number `total_before`, lie behind the last entry told, up to this one."""
        first_id = self._bound if self._last is None else min(self._last.next(), entry_id)
        self.reached(entry_id)
        last = self._marks[-1] if self._marks else None
        if last and max(newest_s, last.newest_s) - min(oldest_s, last.oldest_s) < BUCKET_S:
            last.oldest_s = min(oldest_s, last.oldest_s)
            last.newest_s = max(newest_s, last.newest_s)
        else:
            self._marks.append(_Mark(first_id, total_before, oldest_s, newest_s))

    def reached(self, entry_id: EntryId) -> None:
        """What comes next lies behind this entry."""
        self._last = entry_id

    def window_from(self, second: int) -> tuple[EntryId, int]:
        """The entry from which on every row of `second` and later is found, and how many rows
        of the symbol lie before it."""
        for mark in self._marks:
            if mark.newest_s >= second:
                return mark.first_id, mark.total_before
        if self._marks:
            return self._marks[-1].first_id, self._marks[-1].total_before
        return self._bound, 0

    def forget(self, second: int) -> None:
        """Drop leading entries that hold only rows older than `second`, all but the last."""
        while len(self._marks) > 1 and self._marks[0].newest_s < second:
            self._marks.popleft()
