"""Indicators: an array at once equals one value at a time, and both what the field says."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import consumers.indicators as indicators
from consumers.bars import Bar, BarBuilder
from consumers.indicators import (
    Adx,
    Atr,
    Bollinger,
    CrossAbove,
    CrossBelow,
    Crossover,
    Donchian,
    Ema,
    Indicator,
    Macd,
    RollingCorrelation,
    RollingStd,
    Rsi,
    Sma,
    Stochastic,
    Vwap,
    Wilder,
    Wma,
    ZScore,
    recurrence,
    rolling,
)
from events.tick_files import load_ticks
from tests.tick_columns import columns_of

SAMPLES = Path(__file__).parents[1] / "data"
Floats = Any
Make = Callable[[], Any]

ONE_SERIES: dict[str, Make] = {
    "ema": lambda: Ema(5),
    "ema-first": lambda: Ema(5, seed="first"),
    "ema-1": lambda: Ema(1),
    "wilder": lambda: Wilder(4),
    "sma": lambda: Sma(5),
    "sma-1": lambda: Sma(1),
    "wma": lambda: Wma(5),
    "rsi": lambda: Rsi(4),
    "std": lambda: RollingStd(5),
    "std-sample": lambda: RollingStd(5, ddof=1),
    "zscore": lambda: ZScore(5),
    "bollinger": lambda: Bollinger(5, 1.5),
    "macd": lambda: Macd(3, 6, 4),
    "macd-mt5": lambda: Macd(3, 6, 4, seed="first", average="sma"),
    "crossover": lambda: Crossover(Ema(3), Ema(7)),
    "crossover-others": lambda: Crossover(Sma(3), Wma(7)),
    "crossover-level": lambda: Crossover(Rsi(3), 50),
    "cross-above": lambda: CrossAbove(Ema(3), 100),
    "cross-below": lambda: CrossBelow(Ema(3), Sma(6)),
}
HIGH_LOW: dict[str, Make] = {"donchian": lambda: Donchian(5)}
BARS: dict[str, Make] = {
    "atr": lambda: Atr(4),
    "atr-mt5": lambda: Atr(4, smoothing="mt5"),
    "adx": lambda: Adx(4),
    "adx-mt5": lambda: Adx(4, smoothing="mt5"),
    "stochastic": lambda: Stochastic(5),
    "stochastic-mt5": lambda: Stochastic(5, slowing=3, smoothing=2, slowed="sums"),
}
PAIRS: dict[str, Make] = {
    "correlation": lambda: RollingCorrelation(5),
    "crossover-lines": lambda: Crossover(),
    "crossover-two": lambda: Crossover(Sma(3), Sma(3)),
}
SESSIONS: dict[str, Make] = {"vwap": Vwap}


@pytest.fixture(autouse=True)
def _every_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short inputs shall reach what long ones do: recounts, and the filter in C."""
    monkeypatch.setattr(rolling, "RECOUNT_AFTER", 16)
    monkeypatch.setattr(recurrence, "FILTER_FROM", 4)


def singly(indicator: Any, columns: tuple[Floats, ...]) -> list[Any]:
    """What repeated `update` returns."""
    return [indicator.update(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]


def check(make: Make, columns: tuple[Floats, ...], cuts: list[int]) -> None:
    count = len(columns[0])
    one = make()
    given_ = singly(one, columns)
    edges = [0, *sorted(min(cut, count) for cut in cuts), count]
    many, parts = make(), []
    for turn, (low, high) in enumerate(pairwise(edges)):
        parts.append(np.asarray(many.update_many(*(c[low:high] for c in columns)), np.float64))
        assert len(parts[-1]) == high - low
        stored = many.state()
        many = make()
        if turn % 2:
            many.restore(json.loads(json.dumps(stored)))
        else:
            many.restore(msgpack.unpackb(msgpack.packb(stored)))
    found = np.concatenate(parts)
    nothing = np.nan if found.ndim == 1 else (np.nan,) * found.shape[1]
    rows = [nothing if row is None else row for row in given_]
    expected = np.array(rows, np.float64).reshape(found.shape)
    assert found.tobytes() == expected.tobytes()
    assert many.state() == one.state()
    assert repr(getattr(many, "value", None)) == repr(getattr(one, "value", None))


def no_negative_zero(value: float) -> float:
    return value + 0.0


numbers = st.one_of(
    st.integers(90, 110).map(float),  # many equal ones
    st.floats(1e-3, 1e6, allow_nan=False, allow_infinity=False),
    st.floats(-100, 100, allow_nan=False).map(no_negative_zero),
)
series = st.lists(numbers, max_size=70)
cut_places = st.lists(st.integers(0, 70), max_size=4)


def each(cases: dict[str, Make]) -> Any:
    return pytest.mark.parametrize("make", cases.values(), ids=list(cases))


@each(ONE_SERIES)
@given(values=series, cuts=cut_places)
@settings(max_examples=15, deadline=None)
def test_an_array_equals_one_value_at_a_time(
    make: Make, values: list[float], cuts: list[int]
) -> None:
    check(make, (np.array(values, np.float64),), cuts)


@each(HIGH_LOW | BARS)
@given(rows=st.lists(st.tuples(*[st.integers(0, 12)] * 3), max_size=60), cuts=cut_places)
@settings(max_examples=15, deadline=None)
def test_arrays_of_bars_equal_one_bar_at_a_time(
    make: Make, rows: list[tuple[int, int, int]], cuts: list[int]
) -> None:
    table = np.array([sorted(row) for row in rows], np.float64).reshape(-1, 3) / 10 + 1.3
    low, close, high = table[:, 0], table[:, 1], table[:, 2]
    columns = (high, low) if isinstance(make(), Donchian) else (high, low, close)
    check(make, columns, cuts)


@each(PAIRS)
@given(rows=st.lists(st.tuples(numbers, numbers), max_size=60), cuts=cut_places)
@settings(max_examples=15, deadline=None)
def test_arrays_of_pairs_equal_one_pair_at_a_time(
    make: Make, rows: list[tuple[float, float]], cuts: list[int]
) -> None:
    table = np.array(rows, np.float64).reshape(-1, 2)
    check(make, (table[:, 0], table[:, 1]), cuts)


@given(
    rows=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3), st.integers(0, 2)), max_size=60),
    cuts=cut_places,
)
@settings(max_examples=25, deadline=None)
def test_vwap_of_arrays_equals_one_at_a_time_and_begins_anew_with_each_session(
    rows: list[tuple[int, int, int]], cuts: list[int]
) -> None:
    rows.sort(key=lambda row: row[2])
    price = np.array([row[0] for row in rows], np.float64)
    volume = np.array([row[1] for row in rows], np.float64)
    session = np.array([row[2] for row in rows], np.int64)
    check(Vwap, (price, volume, session), cuts)
    found = Vwap().update_many(price, volume, session)
    for end in range(len(rows)):
        mine = [r for r in rows[: end + 1] if r[2] == rows[end][2]]
        weight = sum(r[1] for r in mine)
        if not weight:
            assert math.isnan(found[end])
        else:
            assert found[end] == pytest.approx(sum(r[0] * r[1] for r in mine) / weight)


@each({k: v for k, v in (ONE_SERIES | HIGH_LOW | BARS).items() if "cross" not in k})
def test_the_first_value_comes_after_the_warm_up(make: Make) -> None:
    wave = 100 + np.sin(np.arange(40.0))
    inputs = {"one": (wave,), "two": (wave + 1, wave - 1), "three": (wave + 1, wave - 1, wave)}
    kind = make()
    chosen = "two" if isinstance(kind, Donchian) else "one"
    chosen = "three" if isinstance(kind, Atr | Adx | Stochastic) else chosen
    given_ = singly(kind, inputs[chosen])
    assert [one is None for one in given_].index(False) == kind.warm_up - 1
    assert kind.value == given_[-1]


# --- against what others compute -----------------------------------------------------------------


@pytest.fixture(scope="module")
def eurusd_m1() -> list[Bar]:
    """Bars of real quotes: three days, 4,300 minutes."""
    ticks = load_ticks(SAMPLES / "EURUSD_20140504-20140507.csv.gz")
    times = ticks["time_msc"]
    builder = BarBuilder("EURUSD", "M1", point=1e-5)
    made = builder.update_many(columns_of(ticks, server_ms=times, utc_ms=times))
    return [closed.bar for closed in made]


@pytest.fixture(scope="module")
def columns(eurusd_m1: list[Bar]) -> tuple[Floats, Floats, Floats, Floats]:
    """high, low, close, tick volume"""
    names = ("high", "low", "close", "tick_volume")
    high, low, close, volume = (
        np.array([getattr(bar, name) for bar in eurusd_m1], np.float64) for name in names
    )
    return high, low, close, volume


def same(ours: Floats, theirs: Floats, *, skip: int = 0, tolerance: float = 1e-9) -> None:
    """Equal to a relative `tolerance`, and equally long warming up unless `skip` leaves it out."""
    if not skip:
        assert (np.isnan(ours) == np.isnan(theirs)).all()
    known = ~np.isnan(theirs)
    known[:skip] = False
    assert known.sum() > 1000
    np.testing.assert_allclose(ours[known], theirs[known], rtol=tolerance, atol=tolerance)


def test_on_real_bars_ta_lib_computes_the_same(columns: tuple[Floats, ...]) -> None:
    """TA-Lib squares prices themselves, so its deviations and correlations hold few digits;
    `test_rolling_figures_keep_their_digits_over_a_long_run` holds ours against exact sums."""
    talib = pytest.importorskip("talib")
    high, low, close, _ = columns
    same(Sma(20).update_many(close), talib.SMA(close, 20))
    same(Ema(20).update_many(close), talib.EMA(close, 20))
    same(Wma(20).update_many(close), talib.WMA(close, 20))
    same(Rsi(14).update_many(close), talib.RSI(close, 14))
    same(Atr(14).update_many(high, low, close), talib.ATR(high, low, close, 14))
    same(RollingStd(20).update_many(close), talib.STDDEV(close, 20), tolerance=1e-6)
    upper, middle, lower = talib.BBANDS(close, 20, 2.0, 2.0)
    bands = Bollinger(20).update_many(close)
    for ours, theirs in zip(bands.T, (lower, middle, upper), strict=True):
        same(ours, theirs, tolerance=1e-6)
    channel = Donchian(20).update_many(high, low)
    same(channel[:, 2], talib.MAX(high, 20), tolerance=0.0)
    same(channel[:, 0], talib.MIN(low, 20), tolerance=0.0)
    k, d = talib.STOCH(high, low, close, 14, 3, 0, 3, 0)
    still = Donchian(14).update_many(high, low)
    assert not (still[13:, 0] == still[13:, 2]).any()  # where they differ by convention
    stochastic = Stochastic(14).update_many(high, low, close)
    same(stochastic[:, 0], k, tolerance=1e-8)
    same(stochastic[:, 1], d, tolerance=1e-8)
    same(RollingCorrelation(30).update_many(high, low), talib.CORREL(high, low, 30), tolerance=1e-3)


def test_what_ta_lib_begins_otherwise_agrees_once_that_has_faded(
    columns: tuple[Floats, ...],
) -> None:
    talib = pytest.importorskip("talib")
    high, low, close, _ = columns
    line, signal, histogram = talib.MACD(close, 12, 26, 9)
    macd = Macd().update_many(close)
    for ours, theirs in zip(macd.T, (line, signal, histogram), strict=True):
        same(ours, theirs, skip=400)
    adx = Adx(14).update_many(high, low, close)
    same(adx[:, 0], talib.ADX(high, low, close, 14), skip=800, tolerance=1e-7)
    same(adx[:, 1], talib.PLUS_DI(high, low, close, 14), skip=800, tolerance=1e-7)
    same(adx[:, 2], talib.MINUS_DI(high, low, close, 14), skip=800, tolerance=1e-7)


def mt5_exponential(values: Floats, period: int, first: float) -> Floats:
    """MQL5's ExponentialMA (MovingAverages.mqh), begun with `first`."""
    share, average, found = 2 / (period + 1), first, []
    for value in values.tolist():
        average = value * share + average * (1 - share)
        found.append(average)
    return np.array(found)


def test_mt5s_own_ways_follow_its_programs(columns: tuple[Floats, ...]) -> None:
    """The indicators that come with the terminal as MQL5 source, written again plainly."""
    high, low, close, _ = columns
    high, low, close = high[:1500], low[:1500], close[:1500]
    same(
        Ema(20, seed="first").update_many(close)[19:],
        mt5_exponential(close, 20, float(close[0]))[19:],
    )
    true = np.maximum(high[1:], close[:-1]) - np.minimum(low[1:], close[:-1])
    plain = np.convolve(true, np.ones(14) / 14, "valid")  # ATR.mq5: a simple average
    same(Atr(14, smoothing="mt5").update_many(high, low, close)[14:], plain)
    up, down = np.maximum(high[1:] - high[:-1], 0), np.maximum(low[:-1] - low[1:], 0)
    spans = np.where(true == 0, 1.0, true)  # minutes without any move count 0
    plus = np.where(up > down, up, 0) / spans * 100  # ADX.mq5
    minus = np.where(down > up, down, 0) / spans * 100
    di = [mt5_exponential(moved, 14, 0.0) for moved in (plus, minus)]
    index = mt5_exponential(abs(di[0] - di[1]) / (di[0] + di[1]) * 100, 14, 0.0)
    adx = Adx(14, smoothing="mt5").update_many(high, low, close)
    same(adx[13:, 0], index[12:])
    same(adx[13:, 1], di[0][12:])
    span = np.lib.stride_tricks.sliding_window_view
    highest, lowest = span(high, 5).max(1), span(low, 5).min(1)
    above, width = span(close[4:] - lowest, 3).sum(1), span(highest - lowest, 3).sum(1)
    k = above / width * 100  # Stochastic.mq5: a quotient of sums
    found = Stochastic(5, slowing=3, smoothing=3, slowed="sums").update_many(high, low, close)
    same(found[8:, 0], k[2:])
    same(found[8:, 1], span(k, 3).mean(1))


def test_rolling_figures_keep_their_digits_over_a_long_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Deviations of 0.00001 at prices of 1.38, after 60,000 steps, against sums without error."""
    monkeypatch.undo()  # recounts as seldom as in earnest
    generator = np.random.default_rng(11)
    prices = np.round(1.38 + np.cumsum(generator.normal(0, 2e-5, 60_000)), 5)
    other = prices + np.round(generator.normal(0, 2e-5, 60_000), 5)
    found = {
        "mean": Sma(30).update_many(prices), "std": RollingStd(30).update_many(prices),
        "weighed": Wma(30).update_many(prices),
        "correlation": RollingCorrelation(30).update_many(prices, other),
    }  # fmt: skip
    for end in range(59_000, 60_000, 37):
        window, partner = prices[end - 29 : end + 1].tolist(), other[end - 29 : end + 1].tolist()
        mean, second = fmean(window), fmean(partner)
        square = math.fsum((v - mean) ** 2 for v in window)
        square_second = math.fsum((v - second) ** 2 for v in partner)
        both = math.fsum((v - mean) * (w - second) for v, w in zip(window, partner, strict=True))
        assert found["mean"][end] == pytest.approx(mean, rel=1e-13)
        assert found["std"][end] == pytest.approx(math.sqrt(square / 30), rel=1e-7)
        weighed = math.fsum(k * v for k, v in enumerate(window, 1)) / 465
        assert found["weighed"][end] == pytest.approx(weighed, rel=1e-12)
        assert found["correlation"][end] == pytest.approx(
            both / math.sqrt(square * square_second), rel=1e-6
        )


def test_a_price_that_stands_still_has_no_deviation_whatever_came_before() -> None:
    prices = np.array([1.38123, 1.39, 1.2, *[1.38456] * 40])
    assert RollingStd(20).update_many(prices)[-1] == 0
    assert ZScore(20).update_many(prices)[-1] == 0
    assert RollingCorrelation(20).update_many(prices, prices)[-1] == 0
    assert Rsi(3).update_many([5.0] * 9)[-1] == 50
    assert Adx(3).update(1, 1, 1) is None
    assert Adx(3).update_many([1.0] * 9, [1.0] * 9, [1.0] * 9)[-1].tolist() == [0, 0, 0]
    assert Stochastic(3).update_many([1.0] * 9, [1.0] * 9, [1.0] * 9)[-1].tolist() == [50, 50]


# --- crossings -----------------------------------------------------------------------------------


def test_crossings_alternate_and_a_touch_is_none() -> None:
    first = [2, 3, 1, 1, 2, 3, 2, 1, 2, 5]
    second = [2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    lines = Crossover()
    found = [lines.update(a, b) for a, b in zip(first, second, strict=True)]
    assert found == [0, 0, -1, 0, 0, 1, 0, -1, 0, 1]
    assert lines.side == 1
    above, below = CrossAbove(None, 2), CrossBelow(None, 2)
    assert [above.update(value) for value in first] == [one == 1 for one in found]
    assert [below.update(value) for value in first] == [one == -1 for one in found]


def test_two_emas_are_compared_as_any_two_lines() -> None:
    prices = 1.38 + np.cumsum(np.random.default_rng(5).normal(0, 1e-4, 3_000))
    pair, lines = Crossover(Ema(12), Ema(48)), Crossover()
    fast, slow = Ema(12), Ema(48)
    found = [pair.update(price) for price in prices.tolist()]
    plain = []
    for price in prices.tolist():
        a, b = fast.update(price), slow.update(price)
        plain.append(0 if a is None or b is None else lines.update(a, b))
    assert found == plain
    assert found.count(1) > 10 < found.count(-1)
    assert isinstance(pair.first, Ema)
    assert pair.first.value == fast.value
    assert type(pair) is not Crossover  # the faster class
    assert type(Crossover(Ema(3), Wilder(3))) is Crossover


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Ema(0), "between 1 and"),
        (lambda: Sma(2.5), "whole number"),  # type: ignore[arg-type]  # on purpose
        (lambda: Ema(3, seed="last"), "'sma' or 'first'"),  # type: ignore[arg-type]  # on purpose
        (lambda: RollingStd(1, ddof=1), "between 2 and"),
        (lambda: Macd(26, 12), "below slow"),
        (lambda: Stochastic(5, slowed="no"), "'mean' or 'sums'"),  # type: ignore[arg-type]  # on purpose
        (lambda: Atr(5, smoothing="no"), "'wilder' or 'mt5'"),  # type: ignore[arg-type]  # on purpose
        (lambda: Sma(2_000_000), "between 1 and"),
        (lambda: Sma(3).update_many([[1.0], [2.0]]), "shape"),  # type: ignore[list-item]  # on purpose
        (lambda: Atr(3).update_many([1.0], [1.0, 2.0], [1.0]), "one length"),
    ],
    ids=["zero", "fraction", "seed", "ddof", "order", "slowed", "smoothing", "huge", "shape",
         "lengths"],
)  # fmt: skip
def test_bad_parameters_get_one_line(make: Make, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        make()
    assert "\n" not in str(error.value)


def test_lines_of_a_crossover_are_indicators_of_one_price() -> None:
    with pytest.raises(TypeError, match="indicator of one price"):
        Crossover(Atr(3), 1)  # type: ignore[arg-type]  # on purpose


def all_kinds() -> Iterator[tuple[str, Make]]:
    yield from (ONE_SERIES | HIGH_LOW | BARS | PAIRS | SESSIONS).items()


def test_a_state_of_another_indicator_is_refused_and_changes_nothing() -> None:
    kinds = dict(all_kinds())
    for name, make in kinds.items():
        for other, make_other in kinds.items():
            if name == other:
                continue
            one = make()
            before = one.state()
            if make_other().state() == before:
                continue
            with pytest.raises(ValueError, match="no state of"):
                one.restore(make_other().state())
            if before["kind"] not in ("CrossAbove", "CrossBelow", "Crossover"):
                assert one.state() == before
    with pytest.raises(ValueError, match="wrong length"):
        Sma(2).restore(Sma(2).state() | {"_window": [1.0] * 3})
    with pytest.raises(ValueError, match="no state of"):
        Sma(2).restore([1.0])  # type: ignore[arg-type]  # on purpose


def test_every_public_indicator_is_tried_here() -> None:
    tried = {type(make()) for _, make in all_kinds()}
    public = {
        kind
        for name in indicators.__all__
        if isinstance(kind := getattr(indicators, name), type) and issubclass(kind, Indicator)
    }
    assert public - tried == {Indicator, indicators.OneInput}
    page = (SAMPLES.parents[1] / "docs" / "INDICATORS.md").read_text(encoding="utf-8")
    assert {kind.__name__ for kind in public & tried if f"`{kind.__name__}" not in page} == set()


def test_without_the_filter_in_c_a_loop_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    prices = 1.38 + np.random.default_rng(2).normal(0, 1e-3, 5_000)
    given_ = Ema(12).update_many(prices)
    monkeypatch.setattr(recurrence, "_filter", lambda: None)
    assert Ema(12).update_many(prices).tobytes() == given_.tobytes()


def test_indicators_take_what_they_need_from_a_bar(eurusd_m1: list[Bar]) -> None:
    bars = eurusd_m1[:60]
    for make in (lambda: Ema(5), lambda: Atr(5), lambda: Donchian(5), lambda: Stochastic(5), Vwap):
        one = make()
        for bar in bars:
            one.update_bar(bar)
        assert one.value is not None
    direct = Atr(5)
    for bar in bars:
        direct.update(bar.high, bar.low, bar.close)
    fed = Atr(5)
    for bar in bars:
        fed.update_bar(bar)
    assert fed.value == direct.value
