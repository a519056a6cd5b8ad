"""Handing entries out to any number of consumers at once, in no order, each at least once.

A *reader* (`GROUP.TASK`) of a stream has one list of what was given to whom and is not
acknowledged yet. What a consumer derives from an entry goes to the group's own slot under the
entry's place, once, and only then the entry is acknowledged: an entry that is given out twice has
its outputs once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from events.log import Entry, EntryId, NewEntry, Slot, Stream


class Derived(NamedTuple):
    """What follows from one entry; may be nothing."""

    entry: Entry
    outputs: Sequence[NewEntry]


class Taken(NamedTuple):
    """Entries given to a consumer, and those of its list that are gone from the log."""

    entries: tuple[Entry, ...] = ()
    lost: tuple[str, ...] = ()
    """Their places."""


class Reclaimed(NamedTuple):
    """What was taken over from consumers that were silent for long."""

    entries: tuple[Entry, ...]
    times: tuple[int, ...]
    """How often each entry was given out, this time included."""
    lost: tuple[str, ...]
    """Places of entries that were removed from the log before anybody acknowledged them."""
    done_to: EntryId
    """Every entry up to here is acknowledged."""


class Unordered(Protocol):
    """The port, reached as `Log.unordered`. Implementations: RedisUnordered, MemoryUnordered.

    Every method may raise LogUnavailable; nothing is retried inside. After it, a consumer takes
    what is on its list (`again`) before anything new: a lost reply has given it entries.
    """

    def open(self, reader: str, begin: Mapping[Stream, EntryId]) -> None:
        """Make the reader's lists where there are none; entries after the given ids count as
        not given out yet."""
        ...

    def take(
        self, reader: str, consumer: str, begin: Mapping[Stream, EntryId], *, count_max: int
    ) -> Taken:
        """Up to `count_max` entries of each stream that nobody was given yet. A list that
        somebody removed is made anew (see `open`)."""
        ...

    def again(
        self, reader: str, consumer: str, streams: Collection[Stream], *, count_max: int
    ) -> Taken:
        """The oldest entries that this consumer was given and did not acknowledge. They do not
        count as given out once more."""
        ...

    def hold(self, reader: str, consumer: str, entries: Collection[Entry]) -> None:
        """Still at work on these: they are not silent."""
        ...

    def reclaim(
        self, reader: str, consumer: str, stream: Stream, *, silent_ms: int, count_max: int
    ) -> Reclaimed:
        """Take over what was given out and left lying for `silent_ms`: up to `count_max` entries
        that were given out once, and one at most of those that were given out more often. One of
        them may kill its consumers, and the others shall not share its fate."""
        ...

    def derive(self, slot: Slot, derived: Sequence[Derived]) -> int:
        """Append the outputs of these entries to the group's slot, in order; those of an entry
        that has them already are passed over. Returns how many entries were new."""
        ...

    def acknowledge(self, reader: str, entries: Collection[Entry]) -> int:
        """These are done. Returns how many were not acknowledged before."""
        ...

    def done_to(self, slot: Slot) -> dict[Stream, EntryId]:
        """Up to where all entries of each stream are done, as `settle` wrote it."""
        ...

    def settle(self, slot: Slot, stream: Stream, done_to: EntryId) -> None:
        """Every entry up to `done_to` is acknowledged: their places need not be remembered one
        by one any more. Never goes back."""
        ...

    def tidy(self, reader: str, stream: Stream, consumer: str, *, silent_ms: int) -> None:
        """Forget `consumer` ("" for none), and all that are silent for long, of those who have
        nothing on their list."""
        ...
