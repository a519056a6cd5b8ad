"""Figures of a backtest: held against other computations of the same, and at their edges."""

from __future__ import annotations

import math
import statistics
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.backtest.report.days import daily_equity, months
from consumers.backtest.report.figures import conventions, figures
from consumers.backtest.report.groups import by_end, by_side, by_symbol
from consumers.backtest.report.labels import GROUPS, UNKNOWN, shown
from consumers.backtest.result import BacktestResult, Costs, EquityCurve, PriceBars
from events.trading import Deal, Trade

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MONDAY_MS = 1_772_409_600_000  # 2 March 2026, 00:00 UTC
INITIAL = 10_000.0


def trade(opened_h: float, closed_h: float | None, profit: float, **changes: Any) -> Trade:
    told: dict[str, Any] = {
        "position_id": round(opened_h * 1000) + 1, "symbol": "EURUSD", "side": 0,
        "volume_lots": 0.5, "price_entry": 1.1, "price_exit": 1.11 if closed_h else 0.0,
        "open_time_ms": MONDAY_MS + round(opened_h * HOUR_MS),
        "close_time_ms": MONDAY_MS + round(closed_h * HOUR_MS) if closed_h else 0,
        "profit": profit, "commission": -1.0, "swap": 0.0, "fee": 0.0, "closed_by": "expert",
    }  # fmt: skip
    return Trade(**(told | changes))


def result(
    times_ms: list[int], equity: list[float], trades: list[Trade] | None = None, **changes: Any
) -> BacktestResult:
    times, values = np.array(times_ms, np.int64), np.array(equity, np.float64)
    told: dict[str, Any] = {
        "strategy": "made", "code": "made:Made", "parameters": {"fast": 3}, "symbols": ("EURUSD",),
        "from_ms": times_ms[0] if times_ms else MONDAY_MS,
        "to_ms": times_ms[-1] if times_ms else MONDAY_MS + DAY_MS,
        "source": "made", "ticks": 10, "seconds": 0.5, "currency": "USD",
        "balance_initial": INITIAL, "assumptions": ("nothing is assumed",), "warnings": (),
        "signals": (), "trades": tuple(trades or ()), "deals": (),
        "equity": EquityCurve(times, values, values, values, np.ones(len(values), np.int64)),
        "costs": Costs(commission=3.0, spread=4.5),
    }  # fmt: skip
    return BacktestResult(**(told | changes))


def walk(seed: int, hours: int) -> tuple[list[int], list[float]]:
    rng = np.random.default_rng(seed)
    equity = INITIAL + np.cumsum(rng.normal(0.4, 12.0, hours))
    return [MONDAY_MS + hour * HOUR_MS for hour in range(hours)], equity.tolist()


def by_hand(times_ms: list[int], equity: list[float], offset_h: int) -> dict[str, float]:
    """The same figures in plain Python, from the definitions."""
    ends: dict[Any, float] = {}
    for time_ms, value in zip(times_ms, equity, strict=True):
        shown_at = datetime.fromtimestamp(time_ms / 1000, UTC) + timedelta(hours=offset_h)
        ends[shown_at.date()] = value
    days = [ends[day] for day in sorted(ends) if day.weekday() < 5]
    returns = [b / a - 1 for a, b in zip([INITIAL, *days[:-1]], days, strict=True)]
    deepest = deepest_percent = 0.0
    for index, low in enumerate(equity):
        peak = max([INITIAL, *equity[:index]])
        deepest = max(deepest, peak - low)
        deepest_percent = max(deepest_percent, (peak - low) / peak * 100)
    span_years = (times_ms[-1] - times_ms[0]) / (365.25 * DAY_MS)
    yearly = ((equity[-1] / INITIAL) ** (1 / span_years) - 1) * 100
    bad = [min(one, 0.0) ** 2 for one in returns]
    mean = statistics.fmean(returns)
    return {
        "sharpe": mean / statistics.stdev(returns) * math.sqrt(252),
        "sortino": mean / math.sqrt(statistics.fmean(bad)) * math.sqrt(252),
        "volatility_yearly_percent": statistics.stdev(returns) * math.sqrt(252) * 100,
        "drawdown_max": deepest,
        "drawdown_max_percent": deepest_percent,
        "return_yearly_percent": yearly,
        "calmar": yearly / deepest_percent,
        "net_profit": equity[-1] - INITIAL,
    }


@pytest.mark.parametrize("offset_h", [0, 2, -5])
@pytest.mark.parametrize("seed", [1, 2])
def test_figures_of_equity_are_those_of_the_definitions(seed: int, offset_h: int) -> None:
    times, equity = walk(seed, hours=24 * 40)
    found = figures(result(times, equity, offsets=((times[0], offset_h * 3600),)))
    for name, expected in by_hand(times, equity, offset_h).items():
        assert found[name] == pytest.approx(expected, rel=1e-9), name


def test_figures_of_trades_are_those_of_the_definitions() -> None:
    rng = np.random.default_rng(4)
    profits = np.round(rng.normal(1, 20, 60), 2).tolist()
    trades = [trade(hour, hour + 0.5, profit) for hour, profit in enumerate(profits)]
    found = figures(result(*walk(1, 80), trades))
    nets = [profit - 1.0 for profit in profits]
    wins, losses = [n for n in nets if n > 0], [n for n in nets if n < 0]
    assert found["trades"] == 60
    assert found["win_rate_percent"] == pytest.approx(len(wins) / 60 * 100)
    assert found["profit_factor"] == pytest.approx(sum(wins) / -sum(losses))
    assert found["trade_mean"] == pytest.approx(statistics.fmean(nets))
    assert found["payoff_ratio"] == pytest.approx(
        statistics.fmean(wins) / -statistics.fmean(losses)
    )
    assert (found["trade_best"], found["trade_worst"]) == (max(nets), min(nets))
    signs = "".join("w" if net > 0 else "l" for net in nets)
    assert found["wins_in_a_row_max"] == max(map(len, signs.split("l")))
    assert found["losses_in_a_row_max"] == max(map(len, signs.split("w")))
    assert found["trade_hours_mean"] == pytest.approx(0.5)
    assert found["exposure_percent"] == pytest.approx(30 / 79 * 100)
    assert [found["cost_commission"], found["cost_spread"], found["cost_total"]] == [3.0, 4.5, 7.5]


def test_without_trades_nothing_is_made_up() -> None:
    times = [MONDAY_MS + hour * HOUR_MS for hour in range(100)]
    found = figures(result(times, [INITIAL] * 100))
    unknown = {name for name, value in found.items() if value is None}
    assert unknown >= {
        "sharpe", "sortino", "calmar", "profit_factor", "win_rate_percent", "trade_mean",
        "trade_best", "trade_worst", "payoff_ratio", "trade_hours_mean",
    }  # fmt: skip
    assert (found["net_profit"], found["trades"], found["drawdown_max"]) == (0.0, 0, 0.0)
    assert found["volatility_yearly_percent"] == 0.0
    assert shown("sharpe", None) == UNKNOWN


def test_one_winning_trade_has_no_profit_factor_and_no_loss() -> None:
    found = figures(result(*walk(1, 30), [trade(1, 2, 11.0)]))
    assert (found["profit_factor"], found["loss_mean"], found["payoff_ratio"]) == (None, None, None)
    assert (found["win_rate_percent"], found["trade_mean"]) == (100.0, 10.0)


@pytest.mark.parametrize("last", [0.0, -250.0])
def test_ruin_is_told_as_it_is(last: float) -> None:
    times = [MONDAY_MS + day * DAY_MS for day in range(4)]
    found = figures(result(times, [INITIAL, 5_000.0, last, last]))
    assert found["return_percent"] == (last / INITIAL - 1) * 100
    assert found["return_yearly_percent"] is None
    assert found["calmar"] is None
    assert found["drawdown_max"] == INITIAL - last
    assert found["drawdown_longest_days"] == pytest.approx(2.0)


def test_the_longest_drawdown_lasts_until_the_peak_is_reached_again() -> None:
    times = [MONDAY_MS + day * DAY_MS for day in range(8)]
    equity = [INITIAL, 9_900, 9_950, 10_000, 10_100, 10_090, 10_080, 10_099]
    assert figures(result(times, equity))["drawdown_longest_days"] == 2.0
    assert figures(result([*times, times[-1] + DAY_MS], [*equity, 10_000]))[
        "drawdown_longest_days"
    ] == pytest.approx(3.0)


def test_gross_exposure_adds_long_and_short_and_a_reversal_is_not_both() -> None:
    deals = tuple(
        Deal(
            event_time_ms=MONDAY_MS, recv_time_ms=MONDAY_MS, login=1, ticket=ticket, order=ticket,
            position_id=ticket, symbol="EURUSD", type=0, entry=0, reason=3, volume_lots=0.5,
            price=1.1, profit=0, commission=0, swap=0, fee=0, time_server_ms=MONDAY_MS,
        )
        for ticket in (1, 2, 3)
    )  # fmt: skip
    trades = [
        trade(0, 5, 1.0, deals=(1,)),
        trade(5, 10, 1.0, side=1, deals=(2,)),
        trade(2, 4, 1.0, deals=(3,)),
    ]
    times = [MONDAY_MS, MONDAY_MS + 20 * HOUR_MS]
    made = result(times, [INITIAL] * 2, trades, deals=deals, deal_values=(5_000.0,) * 3)
    found = figures(made)
    assert found["exposure_gross_max_percent"] == pytest.approx(100.0)
    assert found["exposure_gross_percent"] == pytest.approx((5 + 5 + 2) / 20 * 50)
    assert figures(result(times, [INITIAL] * 2, trades))["exposure_gross_percent"] is None


def test_a_day_ends_at_the_brokers_midnight_and_weekends_are_none() -> None:
    friday_ms = MONDAY_MS + 4 * DAY_MS
    times = [friday_ms + 21 * HOUR_MS, friday_ms + 22 * HOUR_MS + 1, friday_ms + 3 * DAY_MS]
    made = result(times, [10_010.0, 10_020.0, 10_030.0], offsets=((times[0], 7_200),))
    days, equity = daily_equity(made)
    assert equity.tolist() == [10_010.0, 10_030.0]
    assert [int(day) % 7 for day in days] == [1, 4]  # Friday and Monday
    at_weekends = PriceBars(3600, np.array([friday_ms + DAY_MS]), *(np.ones(1) for _ in range(4)))
    crypto = result(times, [10_010.0, 10_020.0, 10_030.0], bars={"BTCUSD": at_weekends})
    assert len(daily_equity(crypto)[0]) == 4
    assert "365" in " ".join(conventions(crypto))
    assert "252" in " ".join(conventions(made))


def test_months_add_up_to_the_whole_over_a_year_and_a_change_of_clock() -> None:
    begin_ms = int(datetime(2025, 10, 15, tzinfo=UTC).timestamp()) * 1000
    times = [begin_ms + day * DAY_MS for day in range(120)]
    rng = np.random.default_rng(3)
    equity = (INITIAL + np.cumsum(rng.normal(0, 30, 120))).tolist()
    trades = [trade(0, 1, 5.0, open_time_ms=at, close_time_ms=at + 1) for at in times]
    turn = times[40]
    made = result(times, equity, trades, offsets=((times[0], 10_800), (turn, 7_200)))
    found = months(made)
    assert [(one.year, one.month) for one in found] == [
        (2025, 10), (2025, 11), (2025, 12), (2026, 1), (2026, 2),
    ]  # fmt: skip
    assert sum(one.net_profit for one in found) == pytest.approx(equity[-1] - INITIAL)
    assert sum(one.trades for one in found) == 120
    product = math.prod(1 + (one.return_percent or 0) / 100 for one in found)
    assert product == pytest.approx(equity[-1] / INITIAL)


def test_groups_hold_every_closed_trade_once() -> None:
    trades = [
        trade(0, 1, 5.0), trade(1, 2, -5.0, side=1, closed_by="stop_loss"),
        trade(2, 3, 5.0, symbol="USDJPY"),
    ]  # fmt: skip
    for groups in (by_symbol(trades), by_side(trades), by_end(trades)):
        assert sum(one.trades for one in groups) == 3
        assert sum(one.net_profit for one in groups) == pytest.approx(2.0)
        assert sum(one.costs for one in groups) == 3.0


@settings(max_examples=40)
@given(
    st.lists(st.integers(-(10**9), 10**9).map(lambda cents: cents / 100), max_size=20),
    st.integers(1, 40) | st.just(0),
)
def test_whatever_equity_does_no_figure_is_nan_or_infinite(equity: list[float], hours: int) -> None:
    times = [MONDAY_MS + index * hours * HOUR_MS for index in range(len(equity))]
    found = figures(result(times, equity))
    assert all(value is None or math.isfinite(value) for value in found.values())
    assert found["drawdown_max"] is not None
    assert found["drawdown_max"] >= 0
    assert {name for group in GROUPS.values() for name in group} <= found.keys()
