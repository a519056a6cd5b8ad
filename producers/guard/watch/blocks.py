"""Why nothing may be opened for a while, without a latch: each cause begins and ends by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, NamedTuple

BLOCKS_MAX = 32
MORE = "more"
OF_RISK = "risk:"
"""Begins the causes of blocks that group risk asked for."""
OF_LIMIT = "limit:"
"""Begins those of the guard's own limits."""
OF_AHEAD = "ahead:"
"""Begins those of symbols that the guard closed ahead of a window."""
LASTING = frozenset({"command", "stale", "limit", MORE, "risk_halted"})


def lasts(cause: str) -> bool:
    """Whether blocks of this cause outlive the process; the others are found again by looking."""
    return cause in LASTING or cause.startswith((OF_RISK, OF_LIMIT, OF_AHEAD))


Currencies = Callable[[str], tuple[str, ...] | None]
"""The currencies of a symbol; None: not known yet."""


class Block(NamedTuple):
    """One cause. `until_ms` (UTC) None: until its cause is over, or a human resumes."""

    cause: str
    reason: str
    by: str
    until_ms: int | None = None
    symbol: str = ""
    """About this one alone; what was closed of it is kept closed. Empty: about all."""
    symbols: tuple[str, ...] = ()
    """About these alone; empty: about all."""
    concerns: tuple[str, ...] = ()
    """About what of them has to do with these currencies, or is one of these; empty: all."""

    @property
    def whole(self) -> bool:
        """Whether it is about the whole account."""
        return not (self.symbol or self.symbols or self.concerns)

    @property
    def only(self) -> tuple[str, ...]:
        """Symbols and currencies it is about; empty: all."""
        return (self.symbol,) if self.symbol else self.concerns or self.symbols

    def about(self, symbol: object, currencies: Currencies = lambda _: None) -> bool:
        """Whether an order of a symbol is stopped by it; one of an unknown symbol may be, and so
        may one whose `currencies` nobody knows (None)."""
        if self.whole or not symbol:
            return True
        if self.symbol or (self.symbols and symbol not in self.symbols):
            return self.symbol == symbol
        if not self.concerns or symbol in self.concerns:
            return True
        known = currencies(str(symbol))
        return known is None or bool(set(known) & set(self.concerns))


class Blocks:
    """The causes that hold now. Thread-safe.

    Those that last are kept in the journal by their owner (`lasting`).
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
        """Every cause: those of the whole account first, the one that holds longest before."""
        with self._lock:
            return tuple(
                sorted(
                    self._blocks.values(),
                    key=lambda block: (
                        not block.whole, block.until_ms is not None, -(block.until_ms or 0),
                    ),
                )
            )  # fmt: skip

    def lasting(self) -> list[dict[str, Any]]:
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
                    tuple(map(str, row.get("symbols", ()))),
                    tuple(map(str, row.get("concerns", ()))),
                )
            )


def _longer(held: Block, other: Block) -> bool:
    if held.until_ms is None or other.until_ms is None:
        return other.until_ms is not None
    return held.until_ms > other.until_ms
