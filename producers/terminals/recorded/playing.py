"""How far a recorded terminal has played, when its reader sets the pace."""

from __future__ import annotations

from collections.abc import Sequence

from producers.terminals.recorded.market import RecordedMarket
from producers.terminals.recorded.options import Outage
from producers.terminals.simulated.server_clock import VirtualClock

OUTAGE_REAL_S = 2.0
"""What an outage takes at full speed, so that pollers can see the link down."""
CREEP_MS = 10_000
"""How far time goes for a reader that asks for times the server's clock shows a second time."""
CREEP_SPAN_MS = 2 * 3_600_000
"""After a clock was put back. A reader that is ahead at other times goes on from an earlier play
of the same files: it has what lies between."""


class Playing:
    """Moves the virtual clock of a terminal at full speed: a reader that asks for more than was
    shown gets so many ticks more, and time goes on to the last of them.

    Time stops at the beginning of an outage and runs through it, whoever reads. It stops where
    the server's clock is put back, and goes slowly on until readers have noticed: the second
    showing of an hour lies behind what they have. When everybody who reads has everything, time
    goes to the end: past the last tick of any file and every back-fill. Not thread-safe: the
    terminal calls it under its lock.
    """

    def __init__(
        self,
        market: RecordedMarket,
        clock: VirtualClock,
        outages: Sequence[Outage],
        *,
        stops_utc_ms: Sequence[int] = (),
    ) -> None:
        """`stops_utc_ms`: when the server's clock is put back."""
        self._market, self._clock = market, clock
        self._put_back = tuple(stops_utc_ms)
        self._stops = [*stops_utc_ms]
        for outage in outages:  # what is shown before a back-fill is read before it
            ends_ms = outage.until_utc_ms, outage.healed_utc_ms - 1
            self._stops += [outage.from_utc_ms, *ends_ms]
        self._outages = sorted(outages, key=lambda outage: outage.from_utc_ms)
        healed = [outage.until_utc_ms + int(outage.back_fill_after_s * 1000) for outage in outages]
        self.end_utc_ms = max([market.last_utc_ms, *healed])
        self._exhausted: dict[str, bool] = {}
        """Symbols that were asked for: whether their reader has everything there will be."""

    def asked(self, symbol: str) -> None:
        """A reader follows this symbol."""
        self._exhausted.setdefault(symbol, False)
        self._leave_outage()

    def reveal(self, symbol: str, count: int, *, ahead: bool = False) -> None:
        """Let time go on until `count` more ticks of a symbol were shown, or to the next stop.

        `ahead`: what the reader asks for lies ahead of the server's clock.
        """
        now = self._clock.utc_ms()
        if self._clock.speed:
            return
        stops = [stop for stop in self._stops if stop > now]
        target = self._market.time_after(symbol, now, count)
        if target is None:
            others = [self._market.time_after(name, now, 1) for name in self._exhausted]
            if any(time is not None for time in others):
                return
            target = self.end_utc_ms
        if ahead and any(stop <= now < stop + CREEP_SPAN_MS for stop in self._put_back):
            target = min(target, now + CREEP_MS)
        self._clock.advance_to(min([target, *stops]))
        self._enter_outage()

    def reveal_until(self, utc_ms: int) -> None:
        """A reader asks for everything up to a time, outages or not."""
        self._clock.advance_to(min(utc_ms, self.end_utc_ms))

    def answered(self, symbol: str, *, full: bool) -> None:
        """Note whether an answer was all there is."""
        self._exhausted[symbol] = not full and self._clock.utc_ms() >= self.end_utc_ms

    def finished(self) -> bool:
        """Whether everybody who reads has read to the end."""
        return bool(self._exhausted) and all(self._exhausted.values())

    def _enter_outage(self) -> None:
        now = self._clock.utc_ms()
        for outage in self._outages:
            if outage.from_utc_ms <= now < outage.until_utc_ms:
                left_s = (outage.until_utc_ms - now) / 1000
                self._clock.run(left_s / OUTAGE_REAL_S)
                return

    def _leave_outage(self) -> None:
        now = self._clock.utc_ms()
        inside = any(o.from_utc_ms <= now < o.until_utc_ms for o in self._outages)
        if self._clock.speed and not inside:
            self._clock.run(0)
