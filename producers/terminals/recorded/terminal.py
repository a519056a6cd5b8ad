"""The recorded terminal: the simulated one, with a market that plays tick files."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from events.clock_rules import ClockRule
from events.tick_files import parse_source
from events.ticks import TickArray
from producers.terminals.recorded.market import RecordedMarket
from producers.terminals.recorded.options import MAX, RecordedOptions
from producers.terminals.recorded.playing import Playing
from producers.terminals.simulated import Fault, SimulatedOptions, SimulatedTerminal
from producers.terminals.simulated.server_clock import VirtualClock
from producers.terminals.simulated.symbols import SymbolSpec, guess_spec
from producers.terminals.structs import Tick

DIGITS_MAX = 8
_HISTORY_MARGIN_MS = 60_000


class RecordedTerminal(SimulatedTerminal):
    """Account, trading, faults and errors are those of the simulated terminal.

    Time stands until somebody first reads ticks. Then it runs at the speed of the options; at
    speed `max` it goes as far as the readers of `copy_ticks_from` pull it: an answer that would
    not be full reveals as many more ticks, and `finished` tells that every reader has all.
    `copy_ticks_range` at that speed shows everything up to its end.
    """

    def __init__(
        self,
        options: RecordedOptions,
        *,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises TickFileError when a file cannot be played, ClockRuleError, ValueError."""
        self.recorded = options
        sources = [parse_source(file) for file in options.files]
        market = RecordedMarket.load(sources, options.file_rule(), on_error=options.on_error)
        start_ms = market.first_utc_ms if options.start_utc_ms is None else options.start_utc_ms
        clock = VirtualClock(start_ms, 0, monotonic=monotonic)
        super().__init__(
            _simulated(options, market.symbols, start_ms),
            market=market,
            specs={spec.name: spec for spec in _specs(options, market)},
            clock=clock,
            begin_utc_ms=min(market.first_utc_ms, start_ms) - _HISTORY_MARGIN_MS,
            sleep=sleep,
        )
        self._speed = 0.0 if options.speed == MAX else float(options.speed)
        playing = Playing(
            market, clock, options.outages, stops_utc_ms=_put_back(options.clock, market)
        )
        self.end_utc_ms = playing.end_utc_ms
        self._playing = playing if options.speed == MAX else None

    def copy_ticks_from(self, *args: Any, **kwargs: Any) -> TickArray:
        """copy_ticks_from(symbol, date_from, count, flags), which at full speed plays on."""
        self._begin()
        playing, request = self._playing, self._request(args)
        if playing is None or request is None:
            return super().copy_ticks_from(*args, **kwargs)
        symbol, from_ms, count = request
        with self._lock:
            playing.asked(symbol)
            shown = self._shown_from(symbol, from_ms, count)
            if shown < count:
                ahead = from_ms > self.server_clock.server_ms(self.clock.utc_ms())
                playing.reveal(symbol, count - shown, ahead=ahead)
            rows: TickArray | None = super().copy_ticks_from(*args, **kwargs)
            if rows is not None:  # the call may have failed
                playing.answered(symbol, full=len(rows) >= count)
            return rows  # type: ignore[return-value] # as in the base class, None on failure

    def copy_ticks_range(self, *args: Any, **kwargs: Any) -> TickArray:
        """copy_ticks_range(symbol, date_from, date_to, flags)"""
        self._begin()
        if self._playing is not None and len(args) == 4 and isinstance(args[2], int):
            latest_ms = self.server_clock.utc_hull(args[2] * 1000, args[2] * 1000 + 1)[1]
            with self._lock:
                self._playing.reveal_until(latest_ms)
        return super().copy_ticks_range(*args, **kwargs)

    def symbol_info_tick(self, *args: Any, **kwargs: Any) -> Tick:
        """symbol_info_tick(symbol)"""
        self._begin()
        return super().symbol_info_tick(*args, **kwargs)

    def finished(self) -> bool:
        """Whether nothing new will come. At full speed: whether every reader has everything."""
        if self._playing is not None:
            with self._lock:
                return self._playing.finished()
        return self.clock.utc_ms() >= self.end_utc_ms

    def _begin(self) -> None:
        """The film starts when somebody looks."""
        if self._speed and not self.clock.speed:
            self.clock.run(self._speed)

    def _request(self, args: tuple[Any, ...]) -> tuple[str, int, int] | None:
        """Symbol, from (server ms), count of a sound request; the base class tells the others
        what is wrong with them."""
        if len(args) != 4 or not self.attached:
            return None
        symbol, from_s, count, _ = args
        sound = symbol in self.selected_at and symbol in self.specs
        if not sound or not isinstance(from_s, int | np.integer) or not isinstance(count, int):
            return None
        return symbol, int(from_s) * 1000, count

    def _shown_from(self, symbol: str, from_server_ms: int, count: int) -> int:
        now = self.clock.utc_ms()
        return len(self.feed.ticks_from(symbol, from_server_ms, count, now_utc_ms=now))


def _simulated(
    options: RecordedOptions, symbols: tuple[str, ...], start_ms: int
) -> SimulatedOptions:
    outages = tuple(
        Fault(
            kind="disconnect",
            at_s=(outage.from_utc_ms - start_ms) / 1000,
            for_s=(outage.until_utc_ms - outage.from_utc_ms) / 1000,
            seconds=outage.back_fill_after_s,
        )
        for outage in options.outages
    )
    return SimulatedOptions(
        seed=options.seed,
        selected=symbols,
        account=options.account,
        clock=options.clock,
        start_utc_ms=start_ms,
        speed=0,
        latency=options.latency,
        latency_ms=options.latency_ms,
        trader=options.trader,
        faults=(*outages, *options.faults),
    )


def _put_back(clock: str, market: RecordedMarket) -> list[int]:
    """When the server's clock is put back while files play."""
    switches = ClockRule.parse(clock).changes(market.first_utc_ms, market.last_utc_ms + 1)
    return [switch.utc_ms for switch in switches if switch.back]


def _specs(options: RecordedOptions, market: RecordedMarket) -> list[SymbolSpec]:
    """The given instruments, and guesses for the rest. Raises ValueError on a spec that no file
    belongs to."""
    given = {spec.name: spec for spec in options.specs}
    unknown = given.keys() - set(market.symbols)
    if unknown:
        raise ValueError(f"specs of {', '.join(sorted(unknown))}: no file holds their ticks")
    return [given.get(symbol) or _guessed(symbol, market) for symbol in market.symbols]


def _guessed(symbol: str, market: RecordedMarket) -> SymbolSpec:
    sample = market.sample(symbol)
    prices = np.concatenate([sample["bid"], sample["ask"]])
    prices = prices[prices > 0]
    if not len(prices):
        raise ValueError(f"{symbol}: its file holds no prices above 0: give its spec")
    return guess_spec(symbol, price=float(prices[0]), digits=digits_of(prices))


def digits_of(prices: np.ndarray[Any, np.dtype[np.float64]]) -> int:
    """The decimals that all of some prices need, at most DIGITS_MAX."""
    for digits in range(DIGITS_MAX):
        if (np.round(prices, digits) == prices).all():
            return digits
    return DIGITS_MAX
