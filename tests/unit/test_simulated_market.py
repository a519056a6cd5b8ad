"""The generated market: reproducible, true to its bars, closed when markets are."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.ticks import TICK_DTYPE
from producers.terminals import constants as mt5
from producers.terminals.simulated.market import sessions
from producers.terminals.simulated.market.generated import GeneratedMarket
from producers.terminals.simulated.market.rates import aggregated, bar_times, bars_of_ticks
from producers.terminals.simulated.options import TickOptions
from producers.terminals.simulated.symbols import CATALOGUE, catalogue_of, guess_spec

HOUR_MS = 3_600_000
WEDNESDAY = int(datetime(2025, 11, 19, 12, tzinfo=UTC).timestamp() * 1000)


def market_of(seed: int = 3, **options: Any) -> GeneratedMarket:
    return GeneratedMarket(seed, dict(CATALOGUE), TickOptions(**options))


def at(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc]


def test_the_same_seed_gives_the_same_bytes_and_another_does_not() -> None:
    span = ("XAUUSD", WEDNESDAY, WEDNESDAY + HOUR_MS)
    first = market_of(3).ticks(*span)
    assert len(first) > 1000
    assert first.tobytes() == market_of(3).ticks(*span).tobytes()
    assert first.tobytes() != market_of(4).ticks(*span).tobytes()


@given(cuts=st.lists(st.integers(0, 3 * HOUR_MS), min_size=2, max_size=6))
@settings(max_examples=12, deadline=None)
def test_a_span_is_the_same_however_it_is_cut(cuts: list[int]) -> None:
    edges = sorted(WEDNESDAY + cut for cut in cuts)
    market = market_of()
    whole = market.ticks("BTCUSD", edges[0], edges[-1])
    parts = [market_of().ticks("BTCUSD", a, b) for a, b in pairwise(edges)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    assert whole.dtype == TICK_DTYPE


@pytest.mark.parametrize("symbol", sorted(CATALOGUE))
def test_bars_are_exactly_those_of_the_ticks(symbol: str) -> None:
    market = market_of(bursts_per_hour=6)
    for start in (WEDNESDAY // 1000 + 3 * 3600, at(2025, 11, 23, 22, 0) // 1000):
        bars = market.minute_bars(symbol, start, start + 7200)
        made = bars_of_ticks(market.ticks(symbol, start * 1000, (start + 7200) * 1000))
        if CATALOGUE[symbol].trades:  # its ticks' bars follow the last price
            assert bars["tick_volume"].tolist() == made["tick_volume"].tolist()
            continue
        for name in ("time", "open", "high", "low", "close", "tick_volume"):
            assert (bars[name] == made[name]).all(), name


def test_a_very_busy_symbol_is_made_in_small_blocks_and_little_is_kept() -> None:
    market = market_of(rate=500.0)
    rows = market.ticks("XAUUSD", WEDNESDAY, WEDNESDAY + 120_000)
    assert len(rows) > 200_000
    whole = market.ticks("XAUUSD", WEDNESDAY, WEDNESDAY + 600_000)
    assert whole[: len(rows)].tobytes() == rows.tobytes()
    assert market.ticks_kept <= 1_500_000


def test_prices_are_the_doubles_nearest_to_their_decimals() -> None:
    for symbol in ("EURUSD", "USDJPY", "BTCUSD"):
        rows = market_of().ticks(symbol, WEDNESDAY, WEDNESDAY + HOUR_MS)
        digits = CATALOGUE[symbol].digits
        for side in ("bid", "ask"):
            exact = np.array([float(f"{price:.{digits}f}") for price in rows[side].tolist()])
            assert (exact == rows[side]).all()


def test_the_walk_moves_like_its_volatility_and_stays_above_zero() -> None:
    start = WEDNESDAY // 1000 - 300 * 86_400
    bars = market_of().minute_bars("BTCUSD", start, start + 120 * 86_400)
    daily = aggregated(bars, mt5.TIMEFRAME_D1)["close"]
    moves = np.diff(np.log(daily)).std() * 100
    assert 1.0 < moves < 7.0  # asked for: 3 percent
    assert bars["low"].min() > 0


def test_several_ticks_share_a_millisecond_and_some_rows_are_identical() -> None:
    rows = market_of().ticks("XAUUSD", WEDNESDAY, WEDNESDAY + 4 * HOUR_MS)
    same_ms = np.diff(rows["time_msc"]) == 0
    identical = rows[1:] == rows[:-1]
    assert same_ms.sum() > 50
    assert identical.sum() > 10
    assert (np.diff(rows["time_msc"]) >= 0).all()


def test_a_burst_falls_into_one_second() -> None:
    rows = market_of(bursts_per_hour=30, burst_ticks=2000).ticks(
        "EURUSD", WEDNESDAY, WEDNESDAY + HOUR_MS
    )
    _, counts = np.unique(rows["time"], return_counts=True)
    assert counts.max() >= 2000
    assert (np.sort(counts)[:-40] < 100).all()


def test_flags_tell_what_changed() -> None:
    rows = market_of(identical_share=0.0).ticks("EURUSD", WEDNESDAY, WEDNESDAY + HOUR_MS)
    bid_moved = np.diff(rows["bid"]) != 0
    ask_moved = np.diff(rows["ask"]) != 0
    flags = rows["flags"][1:]
    assert ((flags[bid_moved] & 2) != 0).all()
    assert ((flags[ask_moved] & 4) != 0).all()
    assert set(np.unique(flags)) == {2, 4, 6}


def test_undocumented_bits_and_bad_rows_come_on_request() -> None:
    options = {
        "flag_bits": 0x400, "zero_price_share": 0.01, "zero_time_share": 0.01,
        "outlier_share": 0.01, "crossed_share": 0.01,
    }  # fmt: skip
    rows = market_of(**options).ticks("EURUSD", WEDNESDAY, WEDNESDAY + 2 * HOUR_MS)
    assert ((rows["flags"] & 0x400) != 0).all()
    assert 10 < (rows["bid"] == 0).sum() < len(rows) // 20
    assert 10 < (rows["time_msc"] == 0).sum() < len(rows) // 20
    assert (rows["time"] > 0).all()
    good = rows[(rows["bid"] > 0)]
    assert (good["bid"] > good["ask"]).sum() > 10
    assert (good["bid"] > np.median(good["bid"]) * 1.03).sum() > 10
    clean = market_of().ticks("EURUSD", WEDNESDAY, WEDNESDAY + 2 * HOUR_MS)
    assert (clean["bid"] > 0).all()
    assert (clean["ask"] > clean["bid"]).all()
    assert len(clean) == len(rows)


@pytest.mark.parametrize(
    ("symbol", "moment", "is_open"),
    [
        ("EURUSD", (2025, 11, 21, 21, 59), True),  # Friday 16:59 New York
        ("EURUSD", (2025, 11, 21, 22, 0), False),
        ("EURUSD", (2025, 11, 22, 12, 0), False),
        ("EURUSD", (2025, 11, 23, 22, 4), False),  # Sunday 17:04 New York
        ("EURUSD", (2025, 11, 23, 22, 5), True),
        ("EURUSD", (2025, 11, 19, 22, 2), False),  # the daily break
        ("EURUSD", (2025, 7, 18, 20, 59), True),  # summer time: an hour earlier
        ("EURUSD", (2025, 7, 18, 21, 0), False),
        ("EURUSD", (2025, 12, 25, 15, 0), False),
        ("EURUSD", (2025, 12, 24, 17, 59), True),
        ("EURUSD", (2025, 12, 24, 18, 0), False),
        ("XAUUSD", (2025, 11, 19, 22, 59), False),  # metals pause for an hour
        ("ACME", (2025, 11, 19, 14, 29), False),
        ("ACME", (2025, 11, 19, 14, 30), True),
        ("BTCUSD", (2025, 11, 22, 12, 0), True),
        ("BTCUSD", (2025, 12, 25, 12, 0), True),
    ],
)
def test_markets_are_open_when_they_should_be(
    symbol: str, moment: tuple[int, ...], is_open: bool
) -> None:
    market, when = market_of(), at(*moment)
    assert market.is_open(symbol, when) is is_open
    rows = market.ticks(symbol, when, when + 60_000)
    assert bool(len(rows)) is is_open


def test_the_last_tick_of_a_weekend_is_fridays() -> None:
    (row,) = market_of().last_tick("EURUSD", at(2025, 11, 23, 15, 0))
    assert at(2025, 11, 21, 21, 58) < row["time_msc"] < at(2025, 11, 21, 22, 0)


@given(offset=st.integers(0, 40 * HOUR_MS))
@settings(max_examples=25, deadline=None)
def test_the_last_tick_is_the_last_of_the_span_before(offset: int) -> None:
    market, now = market_of(), WEDNESDAY + offset
    (row,) = market.last_tick("NZDUSD", now)
    assert row["time_msc"] <= now
    assert row.tobytes() == market.ticks("NZDUSD", now - 2 * HOUR_MS, now + 1)[-1].tobytes()


def test_sunday_opens_with_a_gap_and_rollover_has_wide_spreads() -> None:
    market = market_of()
    friday = market.last_tick("EURUSD", at(2025, 11, 22))
    monday = market.ticks("EURUSD", at(2025, 11, 23, 22, 0), at(2025, 11, 23, 22, 30))
    assert monday["bid"][0] != friday["bid"][0]
    wide = np.median(monday["ask"] - monday["bid"])
    usual = market.ticks("EURUSD", WEDNESDAY, WEDNESDAY + HOUR_MS)
    assert wide > 3 * np.median(usual["ask"] - usual["bid"])


def test_bars_of_ticks_leave_out_what_has_no_price_or_time() -> None:
    rows = np.zeros(4, TICK_DTYPE)
    rows["time_msc"] = [60_000, 60_001, 0, 120_000]
    rows["bid"] = [1.5, 0.0, 9.0, 1.4]
    bars = bars_of_ticks(rows)
    assert bars["time"].tolist() == [60, 120]
    assert bars["high"].tolist() == [1.5, 1.4]
    assert len(bars_of_ticks(rows[:0])) == 0


def test_weeks_open_on_sunday_and_months_on_the_first() -> None:
    moment = at(2025, 11, 19, 13, 7) // 1000
    times = np.array([moment])
    assert bar_times(times, mt5.TIMEFRAME_W1)[0] == at(2025, 11, 16) // 1000
    assert bar_times(times, mt5.TIMEFRAME_MN1)[0] == at(2025, 11, 1) // 1000
    assert bar_times(times, mt5.TIMEFRAME_H4)[0] == at(2025, 11, 19, 12) // 1000


def test_suffixes_multiply_the_catalogue() -> None:
    offered = catalogue_of(("EURUSD", "USDJPY"), ("", ".raw"))
    assert list(offered) == ["EURUSD", "EURUSD.raw", "USDJPY", "USDJPY.raw"]
    assert offered["EURUSD.raw"].currency_base == "EUR"
    with pytest.raises(ValueError, match="NOSUCH"):
        catalogue_of(("NOSUCH",), ("",))


def test_specs_of_unknown_names_are_guessed() -> None:
    assert guess_spec("EURUSD.x", price=1.2, digits=5).contract_size == 100_000
    assert guess_spec("CADCHF", price=0.6, digits=5).currency_profit == "CHF"
    assert guess_spec("GER40.cash", price=18_000, digits=1).contract_size == 1


def test_activity_and_sessions_are_vectors() -> None:
    minutes = np.arange(WEDNESDAY // 60_000, WEDNESDAY // 60_000 + 1440, dtype=np.int64)
    assert sessions.activity("fx", minutes).mean() == pytest.approx(1.0, abs=0.25)
    assert sessions.open_minutes("fx", minutes).sum() == 1435
