"""Every formula of group risk against an independent computation, or a worked example."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.risk.figures import realised
from consumers.risk.figures.closing import cost_of_closing
from consumers.risk.figures.exposure import (
    concentration_percent,
    exposure,
    largest_net,
    leverage,
)
from consumers.risk.figures.holdings import Holding, Market, PriceSeen, implied_rate
from consumers.risk.figures.largest_lot import largest_lots
from consumers.risk.figures.margin import margin_free, margin_level_percent, stop_out_distance
from consumers.risk.figures.staleness import spreads_points, tick_ages_s
from consumers.risk.figures.stops import risk_to_stop
from consumers.risk.figures.value_at_risk import (
    Series,
    daily_deviation,
    historical,
    parametric,
    returns_of,
    value_at_risk,
    weights,
)
from events.accounting import Contract
from events.accounting.contract import CalcMode
from events.decisions import RiskMetrics
from events.rules import Account as RiskAccount
from events.rules import Limit, References, Rules
from events.trading import Account
from tests.unit.risk_desk import Desk, deal, instrument, operation, position

GOLD = {"currency_base": "XAU", "currency_profit": "USD", "contract_size": 100.0, "point": 0.01,
        "tick_size": 0.01, "digits": 2}  # fmt: skip
INDEX = {
    "currency_base": "EUR", "currency_profit": "EUR", "calc_mode": CalcMode.CFD_INDEX,
    "contract_size": 1.0, "point": 0.1, "tick_size": 0.1, "digits": 1,
}  # fmt: skip
FUTURE = {
    "currency_base": "USD", "currency_profit": "USD", "calc_mode": CalcMode.EXCHANGE_FUTURES,
    "contract_size": 1.0, "point": 0.25, "tick_size": 0.25, "tick_value": 12.5,
}  # fmt: skip
PRICES = {
    "EURUSD": (1.1000, 1.1002), "USDJPY": (150.00, 150.02), "GBPUSD": (1.2500, 1.2503),
    "EURGBP": (0.8800, 0.8802), "XAUUSD": (2_000.0, 2_000.5), "GER40": (18_000.0, 18_001.0),
    "ES": (5_000.0, 5_000.25),
}  # fmt: skip


def market(currency: str = "USD", *, without: tuple[str, ...] = ()) -> Market:
    shapes = {"XAUUSD": GOLD, "GER40": INDEX, "ES": FUTURE,
              "USDJPY": {"point": 0.001, "tick_size": 0.001, "digits": 3}}  # fmt: skip
    instruments = {
        symbol: instrument(symbol, **shapes.get(symbol, {}))
        for symbol in PRICES
        if symbol not in without
    }
    prices = {s: PriceSeen(*PRICES[s], time_ms=1_000) for s in instruments}
    contracts = {symbol: Contract.of(one) for symbol, one in instruments.items()}
    return Market(currency, contracts, prices, instruments)


def held(symbol: str, lots: float, *, ticket: int = 1, **more: Any) -> Holding:
    """Positive lots are long, at the price at which they would close."""
    side = 0 if lots > 0 else 1
    fields = {
        "ticket": ticket, "symbol": symbol, "side": side, "volume_lots": abs(lots),
        "price_open": PRICES[symbol][0], "price_current": PRICES[symbol][side], "profit": 0.0,
        "swap": 0.0, **more,
    }  # fmt: skip
    return Holding(**fields)


# Worked by hand: notional = lots * contract size * price * rate of the profit currency.
# A long is valued at the bid, a short at the ask; rates are the middle of bid and ask.
NOTIONALS = [
    ("USD", "EURUSD", 1.0, 100_000 * 1.1000),
    ("USD", "EURUSD", -0.5, 50_000 * 1.1002),
    ("USD", "USDJPY", 1.0, 100_000 * 150.00 * (1 / 150.02 + 1 / 150.00) / 2),
    ("USD", "EURGBP", 2.0, 200_000 * 0.8800 * (1.2500 + 1.2503) / 2),
    ("USD", "XAUUSD", 0.1, 10 * 2_000.0),
    ("USD", "GER40", 3.0, 3 * 18_000.0 * (1.1000 + 1.1002) / 2),
    ("EUR", "GER40", 3.0, 3 * 18_000.0),
    ("EUR", "USDJPY", 1.0, None),
    ("USD", "ES", 2.0, 2 * 5_000.0 / 0.25 * 12.5),
]
JPY_EUR = (1 / 150.02 / 1.1002 + 1 / 150.00 / 1.1000) / 2  # through USD


@pytest.mark.parametrize(("currency", "symbol", "lots", "wanted"), NOTIONALS, ids=str)
def test_notional_of_a_position(
    currency: str, symbol: str, lots: float, wanted: float | None
) -> None:
    wanted = 100_000 * 150.00 * JPY_EUR if wanted is None else wanted
    found = exposure([held(symbol, lots)], market(currency))
    assert found.gross == pytest.approx(wanted, rel=1e-12)
    assert found.net_by_symbol[symbol] == pytest.approx(math.copysign(wanted, lots))


def test_both_legs_of_every_position_are_exposure() -> None:
    book = [held("EURUSD", 1.0), held("EURGBP", -1.0, ticket=2), held("GER40", 2.0, ticket=3)]
    found = exposure(book, market())
    eurusd, mid_gbp, mid_eur = 110_000.0, (1.2500 + 1.2503) / 2, (1.1000 + 1.1002) / 2
    eurgbp, index = 100_000 * 0.8802 * mid_gbp, 2 * 18_000.0 * mid_eur
    assert found.net_by_currency == pytest.approx(
        {"EUR": eurusd - eurgbp - index, "USD": -eurusd, "GBP": eurgbp, "GER40": index}
    )
    assert found.gross_by_currency == pytest.approx(
        {"EUR": eurusd + eurgbp + index, "USD": eurusd, "GBP": eurgbp, "GER40": index}
    )
    assert found.gross == pytest.approx(eurusd + eurgbp + index)
    assert largest_net(found, "USD") == pytest.approx(
        max(abs(eurusd - eurgbp - index), eurgbp, index)
    )
    assert leverage(found.gross, 10_000) == pytest.approx(found.gross / 10_000)
    assert concentration_percent(found.gross_by_symbol.values()) == pytest.approx(
        max(eurusd, eurgbp, index) / found.gross * 100
    )


def test_a_hedge_is_gross_but_not_net() -> None:
    found = exposure([held("XAUUSD", 1.0), held("XAUUSD", -1.0, ticket=2)], market())
    assert found.gross == pytest.approx(100 * (2_000.0 + 2_000.5))
    assert found.net_by_symbol["XAUUSD"] == pytest.approx(-100 * 0.5)


def test_what_cannot_be_converted_is_missing_and_not_nothing() -> None:
    found = exposure([held("EURGBP", 1.0)], market("USD", without=("GBPUSD", "EURUSD")))
    assert (found.missing, found.known) == (("EURGBP",), False)
    nothing = exposure([], market())
    assert (nothing.gross, nothing.known, concentration_percent([])) == (0.0, True, None)
    assert leverage(1.0, 0.0) is None


def test_without_a_pair_the_tick_value_tells_the_rate() -> None:
    # 1 GBP = 1.25 USD: a tick of 0.00001 on 100,000 is 1 GBP.
    facts = instrument("EURGBP", tick_value=1.25)
    contract = Contract.of(facts)
    assert implied_rate(contract) == pytest.approx(1.25)
    alone = Market("USD", {"EURGBP": contract}, {"EURGBP": PriceSeen(0.88, 0.8802, 0)})
    assert exposure([held("EURGBP", 1.0)], alone).gross == pytest.approx(88_000 * 1.25)


@pytest.mark.parametrize(
    ("holding", "currency", "wanted"),
    [
        # order_calc_profit(BUY, EURUSD, 1, 1.1000, 1.0950) = -500 USD
        (held("EURUSD", 1.0, stop_loss=1.0950), "USD", 500.0),
        (held("EURUSD", -1.0, stop_loss=1.1052), "USD", 500.0),
        (held("EURUSD", 1.0, stop_loss=1.1100), "USD", 0.0),  # beyond the price: no loss left
        # 1.00 JPY on 100,000 is 100,000 JPY; a long converts at the bid of JPY/USD, 1/150.02
        (held("USDJPY", 1.0, stop_loss=149.0), "USD", 100_000 / 150.02),
        (held("USDJPY", -1.0, stop_loss=151.02), "USD", 100_000 / 150.00),
        (held("XAUUSD", 0.5, stop_loss=1_990.0), "USD", 500.0),
        (held("GER40", 1.0, stop_loss=17_900.0), "USD", 100 * 1.1000),
        (held("ES", 1.0, stop_loss=4_990.0), "USD", 10 / 0.25 * 12.5),
    ],
    ids=lambda one: f"{one.symbol}{one.side}" if isinstance(one, Holding) else str(one),
)
def test_risk_to_the_stop(holding: Holding, currency: str, wanted: float) -> None:
    found = risk_to_stop([holding], market(currency), {})
    assert found.total == pytest.approx(wanted)
    assert found.without_stop == 0


def test_without_a_stop_three_daily_deviations_count() -> None:
    found = risk_to_stop([held("EURUSD", 1.0)], market(), {"EURUSD": 0.005})
    assert found.total == pytest.approx(3 * 0.005 * 1.1 * 100_000)
    assert (found.without_stop, found.missing) == (1, ())
    assert risk_to_stop([held("EURUSD", 1.0)], market(), {}).missing == ("EURUSD",)


@pytest.mark.parametrize(
    ("equity", "margin", "level"),
    [(10_000.0, 500.0, 2_000.0), (450.0, 500.0, 90.0), (10_000.0, 0.0, None), (-50.0, 100.0, -50)],
)
def test_margin_level(equity: float, margin: float, level: float | None) -> None:
    assert margin_level_percent(equity, margin) == level
    assert margin_free(equity, margin) == equity - margin


def test_distance_to_the_stop_out_in_percent_and_in_money() -> None:
    assert stop_out_distance(1_000, 400, mode=0, level=50) == 800
    assert stop_out_distance(1_000, 400, mode=1, level=300) == 700
    assert stop_out_distance(1_000, 0, mode=0, level=50) is None


def walk(seed: int, n: int, columns: int) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(seed)
    shared = random.normal(0, 0.0006, (n, 1))
    return 1.1 * np.exp(np.cumsum(shared + random.normal(0, 0.0008, (n, columns)), axis=0))


def series_of(prices: Any, *, skip: int = 0) -> Series:
    times = np.arange(len(prices), dtype=np.int64) * 3600
    return Series(times[skip:], np.asarray(prices, float)[skip:])


Z = {0.95: 1.6448536269514722, 0.99: 2.3263478740408408}
"""Quantiles of the normal distribution (NIST Handbook, table 1.3.6.7.1)."""
TAIL = {0.95: 2.0627128075074257, 0.99: 2.6652142203457634}
"""pdf(z) / (1 - level): the mean of the tail in standard deviations."""


@pytest.mark.parametrize("level", [0.95, 0.99])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_parametric_value_at_risk_is_the_textbooks(level: float, seed: int) -> None:
    prices = walk(seed, 900, 3)
    names = ("AAA", "BBB", "CCC")
    returns = returns_of({name: series_of(prices[:, i]) for i, name in enumerate(names)})
    assert returns is not None
    net = {"AAA": 110_000.0, "BBB": -60_000.0, "CCC": 25_000.0}
    # Independently: deviation of the P/L of every hour, no covariance matrix in between.
    hourly = prices[1:] / prices[:-1] - 1
    result = hourly @ np.array([net[name] for name in names])
    mean = sum(result) / len(result)
    deviation = math.sqrt(sum((one - mean) ** 2 for one in result) / (len(result) - 1) * 24)
    found = parametric(returns, weights(returns, net), level)
    assert found == pytest.approx((Z[level] * deviation, TAIL[level] * deviation), rel=1e-9)


@pytest.mark.parametrize("level", [0.95, 0.99])
@pytest.mark.parametrize("seed", [4, 5])
def test_historical_value_at_risk_is_that_of_sorted_losses(level: float, seed: int) -> None:
    prices = walk(seed, 1_000, 2)
    returns = returns_of({"AAA": series_of(prices[:, 0]), "BBB": series_of(prices[:, 1])})
    assert returns is not None
    net = {"AAA": 50_000.0, "BBB": -80_000.0}
    losses = sorted(
        -sum(net[name] * (prices[t + 24][i] / prices[t][i] - 1) for i, name in enumerate(net))
        for t in range(len(prices) - 24)
    )
    place = (len(losses) - 1) * level  # Hyndman and Fan, type 7
    low = math.floor(place)
    at_risk = losses[low] + (place - low) * (losses[low + 1] - losses[low])
    beyond = [loss for loss in losses if loss >= at_risk]
    found = historical(returns, weights(returns, net), level)
    assert found == pytest.approx((at_risk, sum(beyond) / len(beyond)), rel=1e-9)


def test_returns_are_taken_at_times_that_all_symbols_have() -> None:
    prices = walk(6, 700, 2)
    whole, late = series_of(prices[:, 0]), series_of(prices[:, 1], skip=100)
    returns = returns_of({"AAA": whole, "BBB": late})
    assert returns is not None
    assert returns.hourly.shape == (599, 2)
    assert returns.hourly[0][0] == pytest.approx(prices[101][0] / prices[100][0] - 1)


def test_too_little_history_is_unknown_and_nothing_held_is_no_risk() -> None:
    short = returns_of({"AAA": series_of(walk(7, 300, 1)[:, 0])})
    assert short is not None
    found = value_at_risk(short, {"AAA": 1_000.0})
    assert found["var_99"] is not None
    assert found["var_historical_99"] is None
    assert set(value_at_risk(None, {"AAA": 1_000.0}).values()) == {None}
    assert set(value_at_risk(None, {}).values()) == {0.0}
    assert returns_of({"AAA": series_of(np.ones(50))}) is None
    assert daily_deviation(series_of(np.ones(50))) is None


def test_deviation_of_a_day_is_that_of_an_hour_times_the_root_of_24() -> None:
    prices = walk(8, 500, 1)[:, 0]
    hourly = [b / a - 1 for a, b in itertools.pairwise(prices)]
    mean = sum(hourly) / len(hourly)
    wanted = math.sqrt(sum((one - mean) ** 2 for one in hourly) / (len(hourly) - 1) * 24)
    assert daily_deviation(series_of(prices)) == pytest.approx(wanted)


def test_closing_costs_commission_slippage_and_what_is_not_valued_at_its_closing_side() -> None:
    book = [held("EURUSD", 2.0), held("XAUUSD", -1.0, ticket=2, price_current=2_000.2)]
    found = cost_of_closing(
        book, market(), commission_per_lot={"EURUSD": 3.5, "XAUUSD": 0.0}.__getitem__,
        slippage_points=2.0,
    )  # fmt: skip
    assert found.commission == pytest.approx(7.0)
    # The long is valued at the bid already; the short at 2,000.2 closes at the ask, 2,000.5.
    assert found.spread == pytest.approx(0.3 * 100)
    assert found.slippage == pytest.approx(2 * 1e-5 * 200_000 + 2 * 0.01 * 100)
    assert found.total == pytest.approx(7 + 30 + 4 + 2)
    assert sum(found.by_symbol.values()) == pytest.approx(found.total)


@pytest.mark.parametrize(
    ("charged", "wanted"),
    [
        ({"EURUSD": [1.0, 3.5, 0.0, 0.0]}, 3.5),  # only opened: closing costs the same
        ({"EURUSD": [1.0, 7.0, 1.0, 0.0]}, 0.0),  # both sides charged at the opening
        ({"EURUSD": [4.0, 0.0, 2.0, 14.0]}, 7.0),  # both sides charged at the close
        ({"XAUUSD": [1.0, 4.0, 1.0, 8.0]}, 6.0),  # another symbol is all there is
        ({}, 0.0),
    ],
    ids=str,
)
def test_commission_of_closing_a_lot(charged: dict[str, list[float]], wanted: float) -> None:
    assert realised.commission_per_lot(charged, "EURUSD") == pytest.approx(wanted)


def test_spread_and_age_of_prices() -> None:
    seen = market()
    assert spreads_points(["EURUSD", "XAUUSD", "NOWHERE"], seen) == pytest.approx(
        {"EURUSD": 20.0, "XAUUSD": 50.0}
    )
    assert tick_ages_s(["EURUSD", "NOWHERE"], seen, 61_000) == {"EURUSD": 60.0}


def utc_ms(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp() * 1000)  # type: ignore[arg-type]


def test_realised_profit_of_the_firms_day_week_and_month() -> None:
    """Prague: 00:00 is 22:00 UTC in summer and 23:00 UTC from 25 October 2026 on."""
    rules = Rules(account=RiskAccount(reset_zone="Europe/Prague"))
    ledger, counts = realised.new_ledger(), realised.new_counts()
    amounts = [
        (utc_ms(2026, 9, 30, 21, 59), -1_000.0),  # September in Prague
        (utc_ms(2026, 9, 30, 22, 0), 1.0),  # October
        (utc_ms(2026, 10, 25, 21, 59), 2.0),  # Sunday, winter time already
        (utc_ms(2026, 10, 25, 22, 59), 4.0),
        (utc_ms(2026, 10, 25, 23, 0), 8.0),  # Monday
        (utc_ms(2026, 10, 27, 22, 59), 16.0),
        (utc_ms(2026, 10, 27, 23, 0), 32.0),  # Wednesday
    ]
    for ticket, (at, amount) in enumerate(amounts, start=1):
        realised.book_deal(ledger, counts, deal(ticket, at, entry=1, profit=amount))
    assert realised.book_deal(ledger, counts, operation(99, amounts[-1][0], 5_000.0))
    found = realised.realised(ledger["minutes"], rules, utc_ms(2026, 10, 28, 12, 0))
    assert found == {"realised_day": 32.0, "realised_week": 56.0, "realised_month": 63.0}


@given(
    st.lists(
        st.tuples(
            st.integers(0, 43_200), st.integers(-10_000, 10_000), st.sampled_from([0, 1, 2, 7])
        ),
        max_size=60,
    )
)  # fmt: skip
def test_what_was_realised_is_the_sum_of_deals(rows: list[tuple[int, int, int]]) -> None:
    ledger, counts = realised.new_ledger(), realised.new_counts()
    start = utc_ms(2026, 3, 1, 0, 0)
    for ticket, (minute, cents, kind) in enumerate(rows, start=1):
        booked = deal(ticket, start + minute * 60_000, type=kind, entry=1, profit=cents / 100,
                      commission=-0.5)  # fmt: skip
        realised.book_deal(ledger, counts, booked)
        realised.book_deal(ledger, counts, booked)
    earned = [(minute, cents / 100 - 0.5) for minute, cents, kind in rows if kind != 2]
    since = start + 10 * 86_400_000
    assert realised.since(ledger["minutes"], since) == pytest.approx(
        sum(amount for minute, amount in earned if minute >= 10 * 1_440), abs=1e-6
    )
    assert counts["waiting"]["realised"] == pytest.approx(
        sum(amount for _, amount in earned), abs=1e-6
    )
    assert len(counts["waiting"]["operations"]) == sum(kind == 2 for _, _, kind in rows)


def test_what_is_remembered_of_deals_is_bounded() -> None:
    ledger, counts = realised.new_ledger(), realised.new_counts()
    for number in range(4_000):  # a deal per half hour: 83 days
        realised.book_deal(ledger, counts, deal(number + 1, number * 1_800_000, position_id=number,
                                                entry=number % 2, profit=1.0))  # fmt: skip
    kept_days = realised.KEPT_MINUTES / 1_440
    assert kept_days * 48 <= len(ledger["minutes"]) <= kept_days * 48 + 2 * realised.PRUNE_EVERY
    assert len(ledger["tickets"]) == realised.TICKETS_MAX
    assert len(ledger["open"]) <= realised.POSITIONS_MAX
    assert realised.since(ledger["minutes"], 3_900 * 1_800_000) == pytest.approx(100.0)


def test_a_reversal_closes_a_trade_and_a_partial_close_does_not() -> None:
    ledger, counts = realised.new_ledger(), realised.new_counts()
    book = [
        deal(1, 0, position_id=9, volume_lots=2.0),
        deal(2, 1, position_id=9, volume_lots=1.0, entry=1, profit=-5.0),
        deal(3, 2, position_id=9, volume_lots=3.0, entry=2, profit=-5.0),
        deal(4, 3, position_id=9, volume_lots=2.0, entry=1, profit=-1.0),
    ]
    seen = []
    for one in book:
        realised.book_deal(ledger, counts, one)
        seen.append(counts["losses_in_a_row"])
    assert seen == [0, 0, 1, 2]
    assert ledger["open"] == {}


def test_the_largest_lot_reaches_no_limit_even_at_its_stop() -> None:
    rules = Rules(
        account=RiskAccount(initial_balance=10_000, high_water=10_000),
        limits=(Limit(name="daily", figure="daily_loss", limit=500.0, act=450.0, of="money"),),
    )
    desk = Desk(rules)
    desk.tell(operation(1, desk.now_ms - 40 * 86_400_000, 10_000))
    desk.hold()
    account_seen: list[RiskMetrics] = []
    desk.contracts(instrument())
    desk.quote(EURUSD=PRICES["EURUSD"])
    account_seen.append(desk.look(9_900))
    # 100 of the 450 are used. A stop 1 % (0.011001) away costs with the spread of 0.0002
    # 1,120.1 USD a lot: 350 / 1,120.1 = 0.312.
    assert account_seen[-1].largest_lot == {"EURUSD": 0.31}
    assert account_seen[-1].headroom == {"daily": pytest.approx(350)}
    seen = market()
    account = desk.risk.state["7:account"]
    none = largest_lots(
        Account.model_validate_json(account), replace(seen, prices={}), held_lots={},
        daily_deviations={}, rules=rules, references=References(), named={},
    )  # fmt: skip
    assert none == {}


def test_a_whole_account_with_everything_known() -> None:
    """All figures at once, through the handler, against the numbers worked out above."""
    desk = Desk(Rules(account=RiskAccount(initial_balance=10_000, high_water=10_000)))
    desk.tell(operation(1, desk.now_ms - 40 * 86_400_000, 10_000))
    desk.contracts(instrument(), instrument("XAUUSD", **GOLD))
    desk.quote(EURUSD=PRICES["EURUSD"], XAUUSD=PRICES["XAUUSD"])
    prices = walk(9, 800, 2)
    desk.closes("EURUSD", prices[:, 0])
    desk.closes("XAUUSD", prices[:, 1])
    desk.hold(
        position(1, stop_loss=1.0950), position(2, symbol="XAUUSD", side=1, volume_lots=0.1,
                                                stop_loss=2_010.5),
    )  # fmt: skip
    desk.mark((1, 1.1000, -20.0, -1.0), (2, 2_000.5, -30.0, 0.0))
    seen = desk.look(9_949, after_ms=10_000)
    named = seen.figures
    assert named["risk_to_stop"] == pytest.approx(500 + 100)
    assert named["exposure_gross"] == pytest.approx(110_000 + 20_005)
    assert named["leverage_used"] == pytest.approx(130_005 / 9_949, rel=1e-6)
    assert named["concentration_percent"] == pytest.approx(110_000 / 130_005 * 100)
    assert named["exposure_currency_net:XAU"] == pytest.approx(20_005)
    assert named["symbol_loss:XAUUSD"] == pytest.approx(30)
    assert named["position_loss_max"] == pytest.approx(30)
    assert named["tick_age_s"] == pytest.approx(10)
    assert named["symbol_spread_points:EURUSD"] == pytest.approx(20)
    hourly = prices[1:] / prices[:-1] - 1
    deviation = np.std(hourly @ np.array([110_000.0, -20_005.0]), ddof=1) * math.sqrt(24)
    assert named["var_99"] == pytest.approx(Z[0.99] * deviation, rel=1e-6)
    assert named["es_95"] == pytest.approx(TAIL[0.95] * deviation, rel=1e-6)
    assert named["var_historical_95"] is not None
    assert seen.exposure_by_currency["USD"] == pytest.approx(-110_000 + 20_005)
    assert seen.by_symbol["EURUSD"]["lots"] == 1.0
    assert seen.lots_open == pytest.approx(1.1)
    assert seen.unknown == ()
