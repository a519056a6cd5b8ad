"""A market made from a seed: any span of it can be made again alone, equal to the byte."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

import numpy as np
import numpy.typing as npt

from events.ticks import RATE_DTYPE, TICK_DTYPE, RateArray, TickArray
from producers.terminals import constants as mt5
from producers.terminals.simulated.market import sessions
from producers.terminals.simulated.market.hashing import bits, normal, uniform
from producers.terminals.simulated.market.minutes import MinutePlan, MinutePlanner
from producers.terminals.simulated.options import TickOptions
from producers.terminals.simulated.symbols import SymbolSpec

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

BLOCK_MINUTES = (30, 10, 1)
BLOCK_TICKS_MAX = 60_000
"""A block is as long as leaves it about so many ticks."""
TICKS_KEPT_MAX = 1_000_000
TICKS_KEPT_PER_SYMBOL = 15_000
"""Kept for each symbol where there are many, lest every look draws a block again."""
LOOK_BACK_DAYS_MAX = 10
_BOTH = mt5.TICK_FLAG_BID | mt5.TICK_FLAG_ASK
(_SALT_TIME, _SALT_WALK, _SALT_SPREAD, _SALT_SAME, _SALT_EQUAL, _SALT_TRADE, _SALT_VOLUME,
 _SALT_ZERO_PRICE, _SALT_ZERO_TIME, _SALT_OUTLIER, _SALT_CROSSED, _SALT_BURST,
 _SALT_EXTREME) = range(200, 213)  # fmt: skip


class Market(Protocol):
    """Where a terminal's ticks come from: generated, or played from files.

    Ticks have TICK_DTYPE, but their `time` and `time_msc` are **UTC** (ms and whole seconds);
    the terminal writes the broker's clock over them. They are ordered as they came.
    """

    def ticks(self, symbol: str, from_utc_ms: int, to_utc_ms: int) -> TickArray:
        """Ticks with from <= UTC time < to; may be a read-only view. Raises KeyError."""
        ...

    def last_tick(self, symbol: str, utc_ms: int) -> TickArray:
        """The newest tick at or before a moment as an array of one row, or an empty array."""
        ...

    def minute_bars(self, symbol: str, from_utc_s: int, to_utc_s: int) -> RateArray:
        """M1 bars whose opening lies in [from, to), `time` in UTC, oldest first."""
        ...

    def is_open(self, symbol: str, utc_ms: int) -> bool:
        """Whether the symbol trades at a moment."""
        ...


class GeneratedMarket:
    """The market of a seed. `time_msc` is 0 on the rows TickOptions asks for."""

    def __init__(self, seed: int, specs: dict[str, SymbolSpec], options: TickOptions) -> None:
        self._options = options
        self._planners = {
            name: MinutePlanner(
                seed,
                spec,
                rate=options.rate,
                bursts_per_hour=options.bursts_per_hour,
                burst_ticks=options.burst_ticks,
            )
            for name, spec in specs.items()
        }
        self._ticks_kept_max = max(TICKS_KEPT_MAX, TICKS_KEPT_PER_SYMBOL * len(specs))
        self._block_minutes = {
            name: _block_minutes(planner) for name, planner in self._planners.items()
        }
        self._blocks: OrderedDict[tuple[str, int], tuple[Int64Array, TickArray]] = OrderedDict()
        self._ticks_kept = 0

    @property
    def ticks_kept(self) -> int:
        """How many ticks are held in memory for the next reading."""
        return self._ticks_kept

    def ticks(self, symbol: str, from_utc_ms: int, to_utc_ms: int) -> TickArray:
        if to_utc_ms <= from_utc_ms:
            return np.empty(0, TICK_DTYPE)
        block_ms = self._block_minutes[symbol] * 60_000
        parts = []
        for block in range(from_utc_ms // block_ms, -(-to_utc_ms // block_ms)):
            times, rows = self._block(symbol, block)
            low = np.searchsorted(times, from_utc_ms, side="left")
            high = np.searchsorted(times, to_utc_ms, side="left")
            parts.append(rows[low:high])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def last_tick(self, symbol: str, utc_ms: int) -> TickArray:
        minute = utc_ms // 60_000
        planner = self._planners[symbol]
        for _ in range(3):  # the running minute may have nothing yet
            rows = self.ticks(symbol, minute * 60_000, min(utc_ms, minute * 60_000 + 59_999) + 1)
            if len(rows):
                return rows[-1:]
            earlier = self._last_busy_minute(planner, minute)
            if earlier is None:
                break
            minute = earlier
        return np.empty(0, TICK_DTYPE)

    def minute_bars(self, symbol: str, from_utc_s: int, to_utc_s: int) -> RateArray:
        planner = self._planners[symbol]
        plan = planner.span(-(-from_utc_s // 60), -(-to_utc_s // 60))
        used = plan.count > 0
        spec = planner.spec
        bars = np.zeros(int(used.sum()), RATE_DTYPE)
        bars["time"] = plan.minute[used] * 60
        for name in ("open", "high", "low", "close"):
            bars[name] = _prices(getattr(plan, name)[used], spec)
        bars["tick_volume"] = plan.count[used]
        bars["spread"] = spec.spread_points
        return bars

    def is_open(self, symbol: str, utc_ms: int) -> bool:
        return sessions.is_open(self._planners[symbol].spec.session, utc_ms)

    def _last_busy_minute(self, planner: MinutePlanner, before: int) -> int | None:
        day = (before - 1) // sessions.DAY_MINUTES
        for back in range(LOOK_BACK_DAYS_MAX):
            plan = planner.day(day - back).part(0, before)
            busy = np.flatnonzero(plan.count)
            if len(busy):
                return int(plan.minute[busy[-1]])
        return None

    def _block(self, symbol: str, block: int) -> tuple[Int64Array, TickArray]:
        """Ticks of one block and the UTC ms they came at."""
        found = self._blocks.get((symbol, block))
        if found is None:
            minutes = self._block_minutes[symbol]
            planner = self._planners[symbol]
            plan = planner.span(block * minutes, (block + 1) * minutes)
            found = _draw(planner, plan, self._options)
            self._blocks[(symbol, block)] = found
            self._ticks_kept += len(found[0])
            while self._ticks_kept > self._ticks_kept_max and len(self._blocks) > 1:
                _, oldest = self._blocks.popitem(last=False)
                self._ticks_kept -= len(oldest[0])
        else:
            self._blocks.move_to_end((symbol, block))
        return found


def _block_minutes(planner: MinutePlanner) -> int:
    per_minute = planner.ticks_per_minute
    fitting = (n for n in BLOCK_MINUTES if n * per_minute <= BLOCK_TICKS_MAX)
    return next(fitting, BLOCK_MINUTES[-1])


def _draw(
    planner: MinutePlanner, plan: MinutePlan, options: TickOptions
) -> tuple[Int64Array, TickArray]:
    """Ticks that fit the bars of a plan exactly: first is open, last is close, high and low are
    touched, and their number is the bar's tick volume."""
    total = int(plan.count.sum())
    rows = np.zeros(total, TICK_DTYPE)
    if not total:
        return np.empty(0, np.int64), rows
    owner = np.repeat(np.arange(len(plan.count)), plan.count)
    starts = np.cumsum(plan.count) - plan.count
    within = np.arange(total) - starts[owner]
    place = plan.minute[owner] * 1_000_000 + within
    steps, pinned = _walk(planner, plan, owner, within, place)
    times = _times(planner.key, plan, owner, within, place)
    copied = (uniform(planner.key, _SALT_EQUAL, place) < options.identical_share) & ~pinned
    same = (uniform(planner.key, _SALT_SAME, place) < options.same_ms_share) & (within > 0)
    times = times[_carry(same | copied)]
    source = _carry(copied)
    wide = sessions.spread_factor(planner.spec.session, plan.minute)[owner]
    noise = uniform(planner.key, _SALT_SPREAD, place)
    spread = np.rint(planner.spec.spread_points * wide * (0.8 + 0.5 * noise * noise))
    spread_steps = np.maximum(1, spread * planner.spec.point / planner.spec.step)
    rows["bid"] = _prices(steps, planner.spec)
    rows["ask"] = _prices(steps + np.rint(spread_steps).astype(np.int64), planner.spec)
    rows["flags"] = _flags(rows, within) | np.uint32(options.flag_bits)
    if planner.spec.trades:
        _add_trades(planner, rows, place)
    rows = rows[source]
    rows["time_msc"], rows["time"] = times, times // 1000
    _spoil(planner, rows, place, keep=pinned, options=options)
    return times, rows


def _times(
    key: int, plan: MinutePlan, owner: Int64Array, within: Int64Array, place: Int64Array
) -> Int64Array:
    """UTC ms of every tick, in order; the last `burst` of a minute fall into one second."""
    ms = (bits(key, _SALT_TIME, place) % np.uint64(60_000)).astype(np.int64)
    bursting = within >= (plan.count - plan.burst)[owner]
    if bursting.any():
        second = (bits(key, _SALT_BURST, plan.minute) % np.uint64(60)).astype(np.int64)
        ms = np.where(bursting, second[owner] * 1000 + ms % 1000, ms)
    times: Int64Array = np.sort(plan.minute[owner] * 60_000 + ms)
    return times


def _walk(
    planner: MinutePlanner,
    plan: MinutePlan,
    owner: Int64Array,
    within: Int64Array,
    place: Int64Array,
) -> tuple[Int64Array, BoolArray]:
    """Bid of every tick in price steps, and which ticks carry open, high, low or close."""
    count = plan.count[owner]
    share = within / np.maximum(count - 1, 1)
    path = np.cumsum(normal(planner.key, _SALT_WALK, place))
    first = np.flatnonzero(within == 0)
    last = np.flatnonzero(within == count - 1)
    row_of = np.cumsum(within == 0) - 1
    path = path - path[first][row_of]
    path -= path[last][row_of] * share  # a bridge: both ends at zero
    reach = (plan.high - plan.low)[owner] * 0.35 / np.sqrt(np.maximum(count, 1))
    middle = plan.open[owner] + (plan.close - plan.open)[owner] * share + path * reach
    steps = np.clip(np.rint(middle), plan.low[owner], plan.high[owner]).astype(np.int64)
    pinned = (within == 0) | (within == count - 1)
    steps[within == 0], steps[last] = plan.open[owner][within == 0], plan.close[owner][last]
    extreme = (bits(planner.key, _SALT_EXTREME, plan.minute) % np.uint64(1 << 20)).astype(np.int64)
    inner = np.maximum(count - 2, 1)
    at_high = 1 + extreme[owner] % inner
    at_low = 1 + (extreme[owner] + 1) % inner
    roomy = count >= 4
    is_high, is_low = roomy & (within == at_high), roomy & (within == at_low)
    steps = np.where(is_high, plan.high[owner], np.where(is_low, plan.low[owner], steps))
    return steps, pinned | is_high | is_low


def _carry(copied: BoolArray) -> Int64Array:
    """For each row the row it is a copy of: itself, or the nearest uncopied one before it."""
    own = np.where(copied, 0, np.arange(len(copied)))
    own[0:1] = 0
    carried: Int64Array = np.maximum.accumulate(own)
    return carried


def _prices(steps: Int64Array, spec: SymbolSpec) -> npt.NDArray[np.float64]:
    """The doubles nearest to the decimal prices."""
    if not spec.tick_size:
        return steps / 10.0**spec.digits
    return np.round(steps * spec.tick_size, spec.digits)


def _flags(rows: TickArray, within: Int64Array) -> npt.NDArray[np.uint32]:
    """What changed since the row before; the first of a minute tells both sides."""
    bid = np.diff(rows["bid"], prepend=0.0) != 0
    ask = np.diff(rows["ask"], prepend=0.0) != 0
    flags = np.where(bid, mt5.TICK_FLAG_BID, 0) | np.where(ask, mt5.TICK_FLAG_ASK, 0)
    return np.where((flags == 0) | (within == 0), _BOTH, flags).astype(np.uint32)


def _add_trades(planner: MinutePlanner, rows: TickArray, place: Int64Array) -> None:
    """A third of the rows of an exchange symbol are trades at bid or ask."""
    draw = uniform(planner.key, _SALT_TRADE, place)
    traded, bought = draw < 0.35, draw < 0.175
    lots = 1 + (bits(planner.key, _SALT_VOLUME, place) % np.uint64(9)).astype(np.int64) * 10
    price = np.where(bought, rows["ask"], rows["bid"])
    source = _carry(~traded)
    rows["last"], rows["volume"] = price[source], lots[source]
    rows["volume_real"] = lots[source]
    side = np.where(bought, mt5.TICK_FLAG_BUY, mt5.TICK_FLAG_SELL)
    trade = mt5.TICK_FLAG_LAST | mt5.TICK_FLAG_VOLUME | side
    extra = rows["flags"] & ~np.uint32(0x7E)
    rows["flags"] = np.where(traded, trade.astype(np.uint32) | extra, rows["flags"])


def _spoil(
    planner: MinutePlanner,
    rows: TickArray,
    place: Int64Array,
    *,
    keep: BoolArray,
    options: TickOptions,
) -> None:
    """Bad rows as real feeds have them; rows that carry a bar's prices stay whole."""
    key, free = planner.key, ~keep
    if options.outlier_share:
        hit = free & (uniform(key, _SALT_OUTLIER, place) < options.outlier_share)
        for side in ("bid", "ask"):
            rows[side][hit] = np.round(rows[side][hit] * 1.05, planner.spec.digits)
    if options.crossed_share:
        hit = free & (uniform(key, _SALT_CROSSED, place) < options.crossed_share)
        rows["bid"][hit], rows["ask"][hit] = rows["ask"][hit].copy(), rows["bid"][hit].copy()
    if options.zero_price_share:
        hit = free & (uniform(key, _SALT_ZERO_PRICE, place) < options.zero_price_share)
        rows["bid"][hit] = rows["ask"][hit] = 0.0
        rows["flags"][hit] |= _BOTH
    if options.zero_time_share:
        hit = free & (uniform(key, _SALT_ZERO_TIME, place) < options.zero_time_share)
        rows["time_msc"][hit] = 0
