"""Reading on while the entries read before are handled: what a log may offer beside its port."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from events.log import Entry, EntryId, Stream


class AskedRead(Protocol):
    """A read that was asked for. It is taken or dropped; left alone it is dropped, too."""

    def ready(self) -> bool:
        """Whether `take` would not wait."""
        ...

    def take(self) -> dict[Stream, list[Entry]]:
        """What `Log.read` would have given when it was asked for. Raises LogUnavailable."""
        ...

    def drop(self) -> None:
        """The reply is not wanted any more."""
        ...


@runtime_checkable
class ReadsAhead(Protocol):
    """A log whose reads can be asked for before they are needed."""

    def read_ahead(
        self, after: Mapping[Stream, EntryId], *, count_max: int, block_ms: int = 0
    ) -> AskedRead | None:
        """Ask for what follows, without waiting. None where that cannot be done.

        With `block_ms` the reply comes when there is something, or when that time is over.
        """
        ...
