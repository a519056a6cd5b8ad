"""Bars from ticks equal those the terminal shows, in every timeframe and around every switch."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.bars import Bar, BarBuilder, ClosedBar, bars_of
from events.candles import TIMEFRAME_SECONDS, CandleBatch
from events.clock_rules import ClockRule
from events.market import Instrument
from events.ticks import OffsetSource, RateArray
from producers.terminals import constants as mt5
from producers.terminals.recorded import RecordedOptions, RecordedTerminal
from producers.terminals.simulated import SimulatedOptions, SimulatedTerminal, TickOptions
from tests.tick_columns import Columns, columns_of

SAMPLES = Path(__file__).parents[1] / "data"
HOUR_MS = 3_600_000
TIMEFRAMES = list(TIMEFRAME_SECONDS)
PRICES = ("open", "high", "low", "close", "tick_volume")


def utc(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc]


# 2026: the US switch on 8 March and 1 November, the EU on 29 March and 25 October
SWITCHES = {
    "us-forward": ("America/New_York+7h", utc(2026, 3, 8, 7), 24),
    "eu-gap-weeks": ("Europe/Athens", utc(2026, 3, 29, 1), 24),
    "us-back": ("America/New_York+7h", utc(2026, 11, 1, 6), 24),
    "eu-back": ("Europe/Athens", utc(2026, 10, 25, 1), 24),
    "odd-offset": ("fixed+5:45", utc(2026, 7, 1), 12),
}


def terminal_at(now_utc_ms: int, clock: str, *, rate: float) -> SimulatedTerminal:
    terminal = SimulatedTerminal(
        SimulatedOptions(
            start_utc_ms=now_utc_ms, speed=0, clock=clock, ticks=TickOptions(rate=rate),
            symbols=("EURUSD", "BTCUSD"), selected=("EURUSD", "BTCUSD"),
        )
    )  # fmt: skip
    assert terminal.initialize()
    return terminal


def stream(terminal: SimulatedTerminal, symbol: str, from_ms: int, to_ms: int) -> Columns:
    """Ticks in the order they came, as a producer appends them."""
    raw = terminal.market.ticks(symbol, from_ms, to_ms)
    times = np.where(raw["time_msc"] == 0, raw["time"] * 1000, raw["time_msc"])
    offsets = terminal.server_clock.offsets_s(times) * 1000
    return columns_of(raw, server_ms=times + offsets, utc_ms=times)


def shown(terminal: SimulatedTerminal, symbol: str, timeframe: str, since_s: int) -> RateArray:
    frame = getattr(mt5, f"TIMEFRAME_{timeframe}")
    rows = terminal.copy_rates_range(symbol, frame, since_s, 1 << 33)
    assert rows is not None
    return rows


def by_opening(bars: list[ClosedBar]) -> dict[int, tuple[Any, ...]]:
    """Server time -> prices; bars under one server time as one."""
    found: dict[int, tuple[Any, ...]] = {}
    for _, bar in bars:
        prices = (bar.open, bar.high, bar.low, bar.close, bar.tick_volume)
        if (held := found.get(bar.time_server_s)) is not None:
            # the terminal sorts by minute, so open and close are not told by the order
            high, low = max(held[1], bar.high), min(held[2], bar.low)
            prices = (held[0], high, low, bar.close, held[4] + bar.tick_volume)
        found[bar.time_server_s] = prices
    return found


def terminal_bars(rows: RateArray) -> dict[int, tuple[Any, ...]]:
    columns = zip(*(rows[name].tolist() for name in PRICES), strict=True)
    return dict(zip(rows["time"].tolist(), columns, strict=True))


def check_against(terminal: SimulatedTerminal, symbol: str, timeframe: str, ticks: Columns) -> None:
    builder = BarBuilder(symbol, timeframe)
    closed = builder.update_many(ticks)
    if not closed:
        assert TIMEFRAME_SECONDS[timeframe] > HOUR_MS // 1000
        return
    ours = by_opening(closed)
    theirs = terminal_bars(shown(terminal, symbol, timeframe, min(ours)))
    forming = builder.forming
    assert forming is not None
    assert forming.time_server_s == max(theirs)
    del theirs[forming.time_server_s]
    assert list(ours) == sorted(ours) or symbol == "BTCUSD"
    assert ours.keys() == theirs.keys()
    times = Counter(bar.time_server_s for _, bar in closed)
    repeated = {time_s for time_s, count in times.items() if count > 1}
    for time_s, prices in ours.items():
        if time_s in repeated:  # both hours in one bar there, two bars here
            assert (prices[1], prices[2], prices[4]) == tuple(theirs[time_s][i] for i in (1, 2, 4))
        else:
            assert prices == theirs[time_s], (timeframe, time_s)
    assert len(repeated) <= 60


@pytest.mark.parametrize("symbol", ["EURUSD", "BTCUSD"])
@pytest.mark.parametrize("case", SWITCHES)
def test_bars_of_every_timeframe_are_the_terminals(case: str, symbol: str) -> None:
    clock, moment, hours = SWITCHES[case]
    end = moment + hours * HOUR_MS
    terminal = terminal_at(end, clock, rate=0.05)
    ticks = stream(terminal, symbol, moment - hours * HOUR_MS, end)
    for timeframe in TIMEFRAMES:
        check_against(terminal, symbol, timeframe, ticks)


def test_weeks_and_months_are_the_terminals_too() -> None:
    end = utc(2026, 4, 3, 12)
    terminal = terminal_at(end, "America/New_York+7h", rate=0.002)
    for symbol in ("EURUSD", "BTCUSD"):
        ticks = stream(terminal, symbol, utc(2026, 2, 24), end)
        for timeframe in ("D1", "W1", "MN1"):
            check_against(terminal, symbol, timeframe, ticks)
        months = BarBuilder(symbol, "MN1").update_many(ticks)
        assert [datetime.fromtimestamp(b.time_server_s, UTC).month for _, b in months] == [3]
        weeks = BarBuilder(symbol, "W1").update_many(ticks)
        assert {datetime.fromtimestamp(b.time_server_s, UTC).weekday() for _, b in weeks} == {6}


@pytest.mark.parametrize("timeframe", ["M1", "M5", "H1"])
def test_a_bar_is_what_the_terminal_shows_when_it_closes(timeframe: str) -> None:
    """Asked at the very tick that closes it, not afterwards."""
    begin = utc(2026, 3, 10, 9, 58)
    terminal = terminal_at(begin, "America/New_York+7h", rate=0.2)
    span = {"M1": 10, "M5": 40, "H1": 250}[timeframe] * 60_000
    ticks = stream(terminal, "EURUSD", begin, begin + span)
    closed = BarBuilder("EURUSD", timeframe).update_many(ticks)
    assert len(closed) >= 3
    frame = getattr(mt5, f"TIMEFRAME_{timeframe}")
    for at, bar in closed:
        terminal.advance(int(ticks.time_ms[at]) - terminal.clock.utc_ms())
        row = terminal.copy_rates_from_pos("EURUSD", frame, 1, 1)[0]
        assert int(row["time"]) == bar.time_server_s
        assert tuple(row[name].item() for name in PRICES) == tuple(
            getattr(bar, name) for name in PRICES
        )


def test_a_weekend_leaves_no_bars_and_fridays_last_closes_on_sunday() -> None:
    friday, monday = utc(2026, 3, 13, 12), utc(2026, 3, 16, 12)
    terminal = terminal_at(monday, "America/New_York+7h", rate=0.2)
    ticks = stream(terminal, "EURUSD", friday, monday)
    closed = BarBuilder("EURUSD", "H1").update_many(ticks)
    gaps = [(a, b) for a, b in pairwise(closed) if b.bar.time_ms - a.bar.time_ms > HOUR_MS]
    assert len(gaps) == 1
    before, after = gaps[0]
    assert after.bar.time_ms - before.bar.time_ms >= 48 * HOUR_MS
    assert ticks.time_ms[before.at] >= after.bar.time_ms
    assert ticks.time_ms[before.at - 1] < before.bar.time_ms + HOUR_MS


def test_a_clock_put_back_gives_short_bars_twice_and_long_ones_once() -> None:
    clock, moment, _ = SWITCHES["us-back"]
    end = moment + 3 * HOUR_MS
    terminal = terminal_at(end, clock, rate=0.2)
    ticks = stream(terminal, "BTCUSD", moment - 3 * HOUR_MS, end)
    halves = [bar for _, bar in BarBuilder("BTCUSD", "M30").update_many(ticks)]
    twice = [bar.time_ms for bar in halves if bar.time_server_s == halves[3].time_server_s]
    assert twice == [moment - HOUR_MS, moment]
    assert [b.time_ms - a.time_ms for a, b in pairwise(halves)] == [HOUR_MS // 2] * (
        len(halves) - 1
    )
    hours = [bar for _, bar in BarBuilder("BTCUSD", "H1").update_many(ticks)]
    assert [(b.time_ms - a.time_ms) // HOUR_MS for a, b in pairwise(hours)] == [1, 2]


@pytest.mark.parametrize("clock", ["UTC", "America/New_York+7h"])
def test_bars_of_a_recorded_terminal_are_those_of_its_ticks(clock: str) -> None:
    file = SAMPLES / "EURUSD_20140504-20140507.csv.gz"
    terminal = RecordedTerminal(
        RecordedOptions(files=(str(file),), speed="max", clock=clock, file_clock="UTC")
    )
    assert terminal.initialize()
    rows = terminal.copy_ticks_range("EURUSD", 0, 1 << 33, mt5.COPY_TICKS_ALL)
    assert len(rows) == 112_572
    offset_ms = ClockRule.parse(clock).offset_s(utc(2014, 5, 5)) * 1000
    ticks = columns_of(rows, server_ms=rows["time_msc"], utc_ms=rows["time_msc"] - offset_ms)
    for timeframe in TIMEFRAMES:
        check_against(terminal, "EURUSD", timeframe, ticks)


# --- one tick at a time, cuts, late ticks ---------------------------------------------------------

MINUTE = utc(2026, 6, 1) // 60_000


@st.composite
def tick_columns(draw: st.DrawFn) -> Columns:
    """Few ticks over few minutes: late ones, bad rows, a clock that moves."""
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(-3, 20),  # step in 10 s
                st.sampled_from([1.1, 1.2, 1.3, 1.4, 0.0]),
                st.sampled_from([0.0, 0.1, 0.2]),
                st.sampled_from([0.0, 0.25, 1.1]),
                st.sampled_from([0, 0, 0, 0, 3600, -3600]),
            ),
            max_size=60,
        )
    )
    time_ms = MINUTE * 60_000 + np.cumsum([row[0] for row in rows], dtype=np.int64) * 10_000
    offset_ms = 7_200_000 + np.cumsum([row[4] for row in rows], dtype=np.int64) * 1000
    bid = np.array([row[1] for row in rows], np.float64)
    spread = np.array([row[2] for row in rows], np.float64)
    volume = np.array([row[3] for row in rows], np.float64)
    last = np.where(volume > 1, bid + 0.05, 0.0)
    return Columns(time_ms, time_ms + offset_ms, bid, bid + spread, last, volume)


@given(
    ticks=tick_columns(),
    cuts=st.lists(st.integers(0, 60), max_size=4),
    timeframe=st.sampled_from(["M1", "M5", "H1", "D1", "W1", "MN1"]),
    price=st.sampled_from(["bid", "last"]),
    whole_first=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_arrays_however_cut_equal_one_tick_at_a_time(
    ticks: Columns, cuts: list[int], timeframe: str, price: Any, whole_first: bool
) -> None:
    def builder() -> BarBuilder:
        return BarBuilder("X", timeframe, point=0.01, price=price, whole_first=whole_first)

    one, expected = builder(), []
    for at, row in enumerate(ticks.rows()):
        bar = one.update(*row)
        if bar is not None:
            expected.append(ClosedBar(at, bar))
    many, found = builder(), []
    edges = [0, *sorted(min(cut, len(ticks.bid)) for cut in cuts), len(ticks.bid)]
    for low, high in pairwise(edges):
        part = many.update_many(ticks.part(slice(low, high)))
        found += [ClosedBar(at + low, bar) for at, bar in part]
        stored = json.loads(json.dumps(many.state()))
        many = builder()
        many.restore(stored)
    assert found == expected
    assert many.state() == one.state()
    assert many.forming == one.forming


@given(ticks=tick_columns(), cut=st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_what_comes_later_changes_no_bar(ticks: Columns, cut: int) -> None:
    whole = BarBuilder("X", "M1").update_many(ticks)
    early = BarBuilder("X", "M1").update_many(ticks.part(slice(0, cut)))
    assert early == [closed for closed in whole if closed.at < cut]


@given(ticks=tick_columns(), others=st.lists(st.booleans(), min_size=60, max_size=60))
@settings(max_examples=40, deadline=None)
def test_ticks_of_other_symbols_in_between_are_passed_over(
    ticks: Columns, others: list[bool]
) -> None:
    mine = np.flatnonzero(~np.array(others[: len(ticks.bid)], np.bool_))
    chosen = BarBuilder("X", "M1").update_many(ticks, mine)
    apart = BarBuilder("X", "M1").update_many(ticks.part(mine))
    assert chosen == [ClosedBar(int(mine[at]), bar) for at, bar in apart]


def made(rows: list[tuple[int, float]], *, offset_s: int = 0, spread: float = 0.1) -> Columns:
    """Ticks at seconds behind a full minute."""
    time_ms = MINUTE * 60_000 + np.array([second * 1000 for second, _ in rows], np.int64)
    bid = np.array([price for _, price in rows])
    zeros = np.zeros(len(rows))
    return Columns(time_ms, time_ms + offset_s * 1000, bid, bid + spread, zeros, zeros)


def prices(bar: Bar) -> tuple[float, ...]:
    return bar[4:9]


def test_a_late_tick_goes_into_its_bar_while_that_forms_and_nowhere_afterwards() -> None:
    rows = [(0, 1.0), (60, 2.0), (90, 3.0), (70, 2.5), (65, 9.0), (61, 0.5), (120, 4.0), (100, 8.0)]
    builder = BarBuilder("X", "M1")
    closed = builder.update_many(made(rows))
    assert [at for at, _ in closed] == [6]
    assert prices(closed[0].bar) == (2.0, 9.0, 0.5, 3.0, 5)
    assert builder.late_ticks == 1
    assert builder.forming is not None
    assert prices(builder.forming) == (4.0, 4.0, 4.0, 4.0, 1)


def test_a_late_tick_from_before_the_clock_was_put_back_is_late() -> None:
    builder = BarBuilder("X", "M1")
    before = made([(0, 1.0), (60, 2.0), (120, 3.0)], offset_s=10_800)
    after = made([(180, 4.0), (240, 5.0)], offset_s=7_200)
    late = made([(121, 9.0)], offset_s=10_800)
    closed = [*builder.update_many(before), *builder.update_many(after)]
    assert [prices(bar)[0] for _, bar in closed] == [2.0, 3.0, 4.0]
    assert builder.update_many(late) == []
    assert builder.late_ticks == 1
    assert builder.forming is not None
    assert builder.forming.open == 5.0


def test_the_bar_in_which_ticks_begin_is_not_given_unless_it_is_known_to_be_whole() -> None:
    rows = made([(30, 1.0), (60, 2.0), (120, 3.0)])
    assert [bar.open for _, bar in BarBuilder("X", "M1").update_many(rows)] == [2.0]
    whole = BarBuilder("X", "M1", whole_first=True)
    assert [bar.open for _, bar in whole.update_many(rows)] == [1.0, 2.0]


def test_the_smallest_spread_is_told_in_points() -> None:
    ticks = made([(0, 1.0), (60, 1.0), (61, 1.0), (120, 1.0)], spread=0.0002)
    ticks.ask[2] = 1.0001
    assert BarBuilder("X", "M1", point=0.0001).update_many(ticks)[0].bar.spread_points == 1
    assert BarBuilder("X", "M1").update_many(ticks)[0].bar.spread_points == 0


def test_bars_of_an_exchanges_symbol_are_of_last_prices() -> None:
    ticks = made([(0, 1.0), (60, 2.0), (61, 2.2), (120, 3.0), (180, 4.0)])
    ticks.last[2:4] = 2.5
    builder = BarBuilder("X", "M1")
    facts = Instrument(
        symbol="X", broker_symbol="X", digits=2, point=0.01, tick_size=0.01, contract_size=1,
        volume_min_lots=1, volume_max_lots=9, volume_step_lots=1, chart_mode=1,
        event_time_ms=0, recv_time_ms=0,
    )  # fmt: skip
    builder.learn(facts)
    closed = builder.update_many(ticks)
    assert [prices(bar) for _, bar in closed] == [(2.0, 2.5, 2.0, 2.5, 2), (2.5, 2.5, 2.5, 2.5, 1)]
    assert closed[0].bar.spread_points == 10
    other = BarBuilder("X", "M1")
    other.restore(builder.state())
    assert other.price == "last"


def test_bars_of_recorded_candles_are_bars() -> None:
    terminal = terminal_at(utc(2026, 3, 10, 12), "UTC", rate=0.2)
    rows = terminal.copy_rates_from_pos("EURUSD", mt5.TIMEFRAME_M5, 1, 10)
    batch = CandleBatch("EURUSD", "M5", rows, 7200, OffsetSource.LIVE, 0, 0)
    found = bars_of(batch)
    assert [bar.time_server_s for bar in found] == rows["time"].tolist()
    assert found[3].time_ms == (int(rows["time"][3]) - 7200) * 1000
    assert prices(found[3]) == tuple(rows[name][3].item() for name in PRICES)


def test_unknown_timeframes_and_foreign_states_get_one_line() -> None:
    with pytest.raises(ValueError, match="no timeframe 'M7': MT5 has M1, M2"):
        BarBuilder("X", "M7")
    with pytest.raises(ValueError, match="'bid' or 'last'"):
        BarBuilder("X", "M1", price="ask")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValueError, match="no state of bars of X M1"):
        BarBuilder("X", "M1").restore(BarBuilder("X", "M5").state())
