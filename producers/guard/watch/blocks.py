"""Why nothing may be opened for a while, without a latch: each cause begins and ends by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, NamedTuple

BLOCKS_MAX = 32


MORE = "more"


class Block(NamedTuple):
    """One cause. `until_ms` (UTC) None: until its cause is over, or a human resumes."""

    cause: str
    reason: str
    by: str
    until_ms: int | None = None
    symbol: str = ""
    """About this one alone; what was closed of it is kept closed. Empty: about all."""

    def about(self, symbol: object) -> bool:
        """Whether an order of a symbol may be stopped by it; of an unknown one by any."""
        return not self.symbol or not symbol or self.symbol == symbol


class Blocks:
    """The causes that hold now. Thread-safe.

    Those that a command set are kept in the journal by their owner (`lasting`); the others are
    found again by looking.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._blocks: dict[str, Block] = {}

    def set(self, block: Block) -> bool:
        """Hold a cause, or renew it; True when something changed. What holds longer stays: a cause
        ends earlier by `end` alone. When there are too many, the rest are one, which a human
        ends."""
        with self._lock:
            held = self._blocks.get(block.cause)
            if held is None and len(self._blocks) >= BLOCKS_MAX - 1:
                block = Block(
                    MORE, f"{BLOCKS_MAX} causes and more, one is: {block.reason}", block.by
                )
                held = self._blocks.get(MORE)
                block = held or block
            if held is not None and _longer(held, block):
                block = block._replace(until_ms=held.until_ms)
            changed = held != block
            self._blocks[block.cause] = block
            return changed

    def end(self, cause: str) -> bool:
        """A cause is over; True when it held."""
        with self._lock:
            return self._blocks.pop(cause, None) is not None

    def end_due(self, now_ms: int) -> tuple[Block, ...]:
        """Take away those whose time has come."""
        with self._lock:
            due = tuple(
                block
                for block in self._blocks.values()
                if block.until_ms is not None and block.until_ms <= now_ms
            )
            for block in due:
                del self._blocks[block.cause]
            return due

    def all(self) -> tuple[Block, ...]:
        """Every cause, the one that holds longest first."""
        with self._lock:
            return tuple(
                sorted(
                    self._blocks.values(),
                    key=lambda block: (block.until_ms is not None, -(block.until_ms or 0)),
                )
            )

    def lasting(self, lasts: Callable[[str], bool]) -> list[dict[str, Any]]:
        """The blocks of causes that last as JSON values."""
        return [block._asdict() for block in self.all() if lasts(block.cause)]

    def restore(self, rows: list[Mapping[str, Any]]) -> None:
        """Take over what `lasting` gave. Rows that cannot be read still block."""
        for row in rows:
            self.set(
                Block(
                    str(row.get("cause", "command")),
                    str(row.get("reason", "unreadable")),
                    str(row.get("by", "")),
                    row.get("until_ms"),
                    str(row.get("symbol", "")),
                )
            )


def _longer(held: Block, other: Block) -> bool:
    if held.until_ms is None or other.until_ms is None:
        return other.until_ms is not None
    return held.until_ms > other.until_ms
