"""Prices of held symbols that stand still or blow out, while their market is open."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

from consumers.alerts.conditions import Conditions, Finding
from consumers.alerts.sessions import Sessions, is_currency_week
from events.alerts import Alert
from events.candles import TIMEFRAME_SECONDS, CandleBatch
from events.decisions import RulesSet
from events.market import Quotes
from events.operations import ProducerState
from events.rules import Rules, windows_at
from events.trading import Book

STALE_S = 120.0
"""A price younger than this is never stale."""
GAPS_STALE = 3.0
"""A price is stale when it is older than so many of the longest pauses of this hour of the day."""
GAP_S_MAX = 1_200.0
"""Pauses longer than this are not learned as usual ones."""
GAP_FADES = 0.8
"""What remains of an hour's longest pause a day later."""
SILENT_SYMBOLS_MIN = 3
"""When so many symbols, and all that should move, stand still, it is the market or the feed."""
SPREAD_WIDE, SPREAD_NORMAL = 8.0, 4.0
"""Times the usual spread of this hour of the day: where a blow-out begins and ends."""
SPREAD_GRACE_S = 15.0
SPREAD_LOOKS_MIN = 60
"""Looks at an hour's spread before it counts as known."""
SPREAD_WEIGHT = 0.02
AROUND_CLOSE_MS = 15 * 60_000
"""Spreads widen before each day's close and after its opening."""
MARKET_GRACE_S = 300.0
FIRST_HISTORY_CANDLES = 24
"""Longer batches are history; a single closed hour would hide when in that hour trading ended."""
LONG_WINDOW_MS = 6 * 3_600_000
"""A window of the rules as long as this is a closed market, not news."""
HELD, QUOTED, RULES, LOOKED = "held", "quoted", "rules", "looked_ms"
SYMBOLS_MAX = 200
"""Symbols that are not held are learned up to so many, for when they are."""
LOOKS_MISSED_MS = 60_000
"""After such a pause in the looks nothing is known of the time between."""
OPENING_MS = 5 * 60_000
"""First ticks come late after an opening, and after a terminal was away."""


@dataclass(frozen=True, slots=True)
class _Look:
    """One symbol at one moment. Times in ms."""

    symbol: str
    last_ms: int
    last_server_ms: int
    bid: float
    ask: float


class Prices:
    """Learns from every look of a producer, and tells of held symbols alone."""

    def __init__(self, state: MutableMapping[str, Any], conditions: Conditions) -> None:
        self._state, self._conditions = state, conditions
        self._sessions = Sessions(state)
        self._rules: tuple[str, Rules | None] = ("", None)

    def hold(self, book: Book) -> None:
        """These are open now."""
        self._state[HELD] = {
            "symbols": sorted({position.symbol for position in book.positions}),
            "positions": len(book.positions),
        }

    @property
    def held(self) -> list[str]:
        return list(self._state.get(HELD, {}).get("symbols", ()))

    @property
    def positions(self) -> int | None:
        """None: the book was not seen yet."""
        held = self._state.get(HELD)
        return None if held is None else int(held["positions"])

    def quoted(self, quotes: Quotes) -> None:
        """Symbols that are held and not followed are seen here alone."""
        self._state[QUOTED] = {
            quote.symbol: [quote.time_ms, quote.time_server_ms, quote.bid, quote.ask]
            for quote in quotes.quotes
        }

    def rules(self, event: RulesSet) -> None:
        """Their windows tell when markets are closed."""
        self._state[RULES] = event.rules

    def candles(self, batch: CandleBatch) -> None:
        """History teaches the sessions at once."""
        length_s = TIMEFRAME_SECONDS.get(batch.timeframe, 0)
        is_history = len(batch) >= FIRST_HISTORY_CANDLES
        if 0 < length_s <= 900 or (length_s == 3600 and is_history):
            self._sessions.moved_at(batch.symbol, batch.candles["time"], length_s)

    def look(self, seen: ProducerState) -> Iterator[Alert]:
        """What the prices are now; called every few seconds."""
        looks = self._looks(seen)
        now_ms, offset_s = seen.event_time_ms, seen.offset_s
        missed = now_ms - self._state.get(LOOKED, 0) > LOOKS_MISSED_MS
        self._state[LOOKED] = now_ms
        should: dict[str, bool] = {}
        stale: dict[str, float] = {}
        for look in looks:
            known = self._learn(look, now_ms, offset_s)
            is_open = self._is_open(look.symbol, now_ms, offset_s)
            should[look.symbol] = is_open
            if not is_open or missed or known["open_ms"] is None:
                known["open_ms"] = now_ms + OPENING_MS if is_open else None
            age_s = (now_ms - look.last_ms) / 1000
            since_ms = known["open_ms"]
            if since_ms is None or now_ms < since_ms + STALE_S * 1000:
                continue
            if age_s > max(STALE_S, GAPS_STALE * _usual_gap_s(known, _hour(now_ms, offset_s))):
                stale[look.symbol] = age_s
        market = self._market_is_silent(should, stale)
        yield from self._tell_market(seen, market, stale)
        for look in looks:
            if look.symbol in self.held:
                yield from self._tell(look, now_ms, stale.get(look.symbol), quiet=market)
        yield from self._forget_unheld(looks, now_ms)

    def is_any_open(self, now_ms: int, offset_s: int) -> bool:
        """Whether a market of what is held, or the currency market, is open."""
        return is_currency_week(now_ms) or any(
            self._is_open(symbol, now_ms, offset_s) for symbol in self.held
        )

    def _looks(self, seen: ProducerState) -> list[_Look]:
        found = {
            one.symbol: _Look(
                one.symbol, one.last_tick_ms, one.last_tick_server_ms or 0, one.bid, one.ask
            )
            for one in seen.symbols
            if one.last_tick_ms is not None
        }
        for symbol, (time_ms, server_ms, bid, ask) in self._state.get(QUOTED, {}).items():
            if symbol not in found or found[symbol].last_ms < time_ms:
                found[symbol] = _Look(symbol, time_ms, server_ms, bid, ask)
        held = set(self.held)
        others = [symbol for symbol in sorted(found) if symbol not in held][:SYMBOLS_MAX]
        return [found[symbol] for symbol in sorted([*(held & found.keys()), *others])]

    def _is_open(self, symbol: str, now_ms: int, offset_s: int) -> bool:
        if not self._sessions.is_open(symbol, now_ms, offset_s):
            return False
        rules = self._known_rules()
        return rules is None or not any(
            window.phase == "during"
            and (window.defer or window.until_ms - window.begin_ms >= LONG_WINDOW_MS)
            and window.about(symbol)
            for window in windows_at(rules, now_ms)
        )

    def _known_rules(self) -> Rules | None:
        """Read once; a cache of what stands in the state."""
        text = self._state.get(RULES)
        if not text:
            return None
        mark = repr(text)
        if self._rules[0] != mark:
            try:
                self._rules = (mark, Rules.model_validate(text))
            except ValueError:  # of another version of the program: no windows then
                self._rules = (mark, None)
        return self._rules[1]

    def _learn(self, look: _Look, now_ms: int, offset_s: int) -> dict[str, Any]:
        """What is known of a symbol, with what is usual in this hour of the server's day: the
        longest pause, and the spread."""
        key, hour = f"price:{look.symbol}", _hour(now_ms, offset_s)
        known: dict[str, Any] | None = self._state.get(key)
        if known is None:
            known = {"last_ms": look.last_ms, "hour": hour, "gaps": [0.0] * 24,
                     "spread": [0.0] * 24, "looks": [0] * 24, "open_ms": None}  # fmt: skip
            self._state[key] = known
            return known
        if look.last_ms <= known["last_ms"]:
            return known
        gap_s = (look.last_ms - known["last_ms"]) / 1000
        known["last_ms"] = look.last_ms
        if now_ms - look.last_ms < STALE_S * 1000:
            self._sessions.moved(look.symbol, look.last_server_ms)
        if hour != known["hour"]:
            known["hour"] = hour
            known["gaps"][hour] *= GAP_FADES
        if gap_s <= GAP_S_MAX:
            known["gaps"][hour] = max(known["gaps"][hour], gap_s)
        spread, usual = look.ask - look.bid, known["spread"][hour]
        if spread > 0 and not self._conditions.is_open("spread", look.symbol):
            first = not known["looks"][hour]
            known["spread"][hour] = spread if first else usual + (spread - usual) * SPREAD_WEIGHT
            known["looks"][hour] = min(known["looks"][hour] + 1, SPREAD_LOOKS_MIN)
        return known

    def _market_is_silent(self, should: dict[str, bool], stale: dict[str, float]) -> bool:
        regular = [
            symbol
            for symbol, is_open in should.items()
            if is_open and not self._sessions.is_always_open(symbol)
        ]
        return len(regular) >= SILENT_SYMBOLS_MIN and all(one in stale for one in regular)

    def _tell_market(
        self, seen: ProducerState, silent: bool, stale: dict[str, float]
    ) -> Iterator[Alert]:
        now_ms = seen.event_time_ms
        if not silent or not any(symbol in stale for symbol in self.held):
            yield from self._conditions.over("market_silent", seen.terminal, now_ms)
            return
        feed_lives = any(
            symbol.last_tick_ms is not None and now_ms - symbol.last_tick_ms < STALE_S * 1000
            for symbol in seen.symbols
        )
        yield from self._conditions.lasts(
            Finding(
                "market_silent", seen.terminal, "info" if feed_lives else "warning",
                f"no symbol moves that should ({len(stale)} of them)"
                + (", others do: a holiday" if feed_lives else ": a holiday, or the feed stands"),
                cure="is it a holiday at the broker? If not, look at the terminal",
                grace_s=MARKET_GRACE_S, repeat_s=0.0,
            ),
            now_ms,
        )  # fmt: skip

    def _tell(
        self, look: _Look, now_ms: int, age_s: float | None, *, quiet: bool
    ) -> Iterator[Alert]:
        if quiet:  # that is told of the market
            self._conditions.drop("stale_ticks", look.symbol)
        elif age_s is None:
            text = f"{look.symbol} moves again, or its market closed"
            yield from self._conditions.over("stale_ticks", look.symbol, now_ms, text)
        else:
            yield from self._conditions.lasts(
                Finding(
                    "stale_ticks", look.symbol, "warning",
                    f"{look.symbol} is held and its price is {age_s:.0f} s old",
                    cure="look at the symbol in the terminal: is its market open?",
                ),
                now_ms,
            )  # fmt: skip
        yield from self._tell_spread(look, now_ms)

    def _tell_spread(self, look: _Look, now_ms: int) -> Iterator[Alert]:
        known = self._state.get(f"price:{look.symbol}")
        if known is None:
            return
        hour, spread = known["hour"], look.ask - look.bid
        usual, is_known = known["spread"][hour], known["looks"][hour] >= SPREAD_LOOKS_MIN
        near_close = not all(
            is_currency_week(now_ms + shift) for shift in (-AROUND_CLOSE_MS, AROUND_CLOSE_MS)
        ) and not self._sessions.is_always_open(look.symbol)
        if is_known and usual > 0 and spread > SPREAD_WIDE * usual and not near_close:
            yield from self._conditions.lasts(
                Finding(
                    "spread", look.symbol, "warning",
                    f"{look.symbol} is held and its spread is {spread:g}, "
                    f"{spread / usual:.0f} times the usual one",
                    cure="closing now costs this much; is there news?",
                    grace_s=SPREAD_GRACE_S,
                ),
                now_ms,
            )  # fmt: skip
        elif spread < SPREAD_NORMAL * usual or near_close:
            yield from self._conditions.over("spread", look.symbol, now_ms)

    def _forget_unheld(self, looks: list[_Look], now_ms: int) -> Iterator[Alert]:
        for look in looks:
            if look.symbol not in self.held:
                for topic in ("stale_ticks", "spread"):
                    yield from self._conditions.over(topic, look.symbol, now_ms)


def _usual_gap_s(known: dict[str, Any], hour: int) -> float:
    """The longest pause of this hour and the one before; of an hour never seen, of any hour."""
    gaps: list[float] = known["gaps"]
    return max(gaps[hour], gaps[hour - 1]) if gaps[hour] else max(gaps)


def _hour(now_ms: int, offset_s: int) -> int:
    return (now_ms // 1000 + offset_s) % 86_400 // 3_600
