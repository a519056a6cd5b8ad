"""The bar that is forming: what it holds, and which ticks belong to it."""

from __future__ import annotations

from typing import Any, ClassVar

from consumers.bars.bar import Bar

NOTHING_MS = -(2**62)


class FormingBar:
    """Prices of ticks by their time (UTC), whatever order they came in."""

    __slots__ = (
        "before_ms", "close", "first_ms", "high", "last_ms", "low", "offset_ms", "open",
        "opened_s", "real_volume", "spread", "tick_volume", "time_ms", "whole",
    )  # fmt: skip
    MEMORY: ClassVar[tuple[str, ...]] = __slots__

    def __init__(self, opened_s: int, time_ms: int, offset_ms: int, *, whole: bool) -> None:
        """Opens at `opened_s` of the server, whose clock is `offset_ms` ahead of UTC; `time_ms` is
        the time of its first tick, `whole` whether it began with that."""
        self.opened_s, self.time_ms = opened_s, opened_s * 1000 - offset_ms
        self.offset_ms = self.before_ms = offset_ms
        self.first_ms = self.last_ms = time_ms
        self.open = self.high = self.low = self.close = 0.0
        self.tick_volume = 0
        self.spread = float("inf")
        self.real_volume = 0.0
        self.whole = whole

    def comes_after(self, opened_s: int, time_ms: int, offset_ms: int) -> bool:
        """Whether a tick of a bar that opens at another server time is of a later bar.

        With one offset the server's time decides. When the clock was put back, a bar that is
        earlier by the server's clock is later all the same if its ticks go on in UTC; a tick that
        still has the offset of before, and is older, is late.
        """
        if offset_ms == self.offset_ms:
            return opened_s > self.opened_s
        if offset_ms < self.offset_ms:
            return opened_s > self.opened_s or time_ms >= self.last_ms
        late = offset_ms == self.before_ms and time_ms < self.time_ms
        return opened_s > self.opened_s and not late

    def add(
        self, time_ms: int, offset_ms: int, *, price: float, spread: float, volume: float
    ) -> None:
        """A tick that belongs to it."""
        if not self.tick_volume:
            self.open = self.high = self.low = self.close = price
        if time_ms < self.first_ms:
            self.first_ms, self.open = time_ms, price
        if time_ms >= self.last_ms:
            self.last_ms, self.close = time_ms, price
            self.follow(offset_ms)
        if price > self.high:
            self.high = price
        if price < self.low:
            self.low = price
        if spread < self.spread:
            self.spread = spread
        self.tick_volume += 1
        self.real_volume += volume

    def follow(self, offset_ms: int) -> None:
        """The newest tick has this offset."""
        if offset_ms != self.offset_ms:
            self.before_ms, self.offset_ms = self.offset_ms, offset_ms

    def closed(self, symbol: str, timeframe: str, point: float) -> Bar:
        """What is known of it now."""
        known = point > 0 and self.spread != float("inf")
        return Bar(
            symbol, timeframe, self.time_ms, self.opened_s,
            self.open, self.high, self.low, self.close,
            self.tick_volume, round(self.spread / point) if known else 0, self.real_volume,
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """Plain values."""
        held = {name: getattr(self, name) for name in self.MEMORY}
        if self.spread == float("inf"):
            held["spread"] = None
        return held

    @classmethod
    def of(cls, state: dict[str, Any]) -> FormingBar:
        """Read `state()` back. Raises ValueError."""
        if not isinstance(state, dict) or set(state) != set(cls.MEMORY):
            raise ValueError("this is no state of a forming bar: it holds other names")
        made = cls(0, 0, 0, whole=False)
        for name, value in state.items():
            setattr(made, name, value)
        if made.spread is None:
            made.spread = float("inf")
        return made
