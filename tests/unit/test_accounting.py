"""The account's arithmetic: known figures, and laws that hold for any run of fills."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.accounting import (
    BUY,
    SELL,
    BookedDeal,
    Contract,
    Entry,
    Fill,
    Ledger,
    Leg,
    MarginMode,
    MissingRate,
    OpenPosition,
    Rates,
    RefusedFill,
    Valuation,
    account_figures,
    stop_out_first,
    swap_nights,
    symbol_margin,
)
from events.accounting.contract import CalcMode, SwapMode
from events.accounting.conversion import currency_pairs
from events.market import Instrument

EURUSD = Contract(
    symbol="EURUSD", calc_mode=CalcMode.FOREX, contract_size=100_000, point=1e-5, tick_size=1e-5,
    currency_base="EUR", currency_profit="USD", currency_margin="EUR", margin_hedged=100_000,
    swap_mode=SwapMode.POINTS, swap_long=-7.0, swap_short=3.0,
)  # fmt: skip
GOLD = Contract(
    symbol="XAUUSD", calc_mode=CalcMode.CFD_LEVERAGE, contract_size=100, point=0.01,
    tick_size=0.01, currency_base="XAU", currency_profit="USD", currency_margin="USD",
)  # fmt: skip


def profit_of(position: OpenPosition, volume_lots: float, price: float) -> float:
    return float(EURUSD.profit(position.side, volume_lots, position.price_open, price))


def commission_of(symbol: str, volume_lots: float, entry: Entry) -> float:
    return -3.5 * volume_lots


def fill_of(side: int, volume_lots: float, price: float, number: int, position: int = 0) -> Fill:
    return Fill(
        symbol="EURUSD", side=side, volume_lots=volume_lots, price=price, order=number,
        time_ms=number * 1000, position=position,
    )  # fmt: skip


def booked(ledger: Ledger, fill: Fill, ticket: int) -> BookedDeal:
    return ledger.book(fill, ticket=ticket, profit_of=profit_of, commission_of=commission_of)


def ledger_of(mode: MarginMode, deposit: float = 10_000.0) -> Ledger:
    ledger = Ledger(mode)
    ledger.apply(BookedDeal(ticket=1, type=2, time_ms=0, profit=deposit))
    return ledger


# Figures ---------------------------------------------------------------------------------------


def test_a_lot_of_forex_needs_its_size_over_leverage() -> None:
    assert EURUSD.margin(1.0, 1.10, 100) == pytest.approx(1000)  # EUR
    assert GOLD.margin(1.0, 2000.0, 100) == pytest.approx(2000)  # USD


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (CalcMode.FOREX_NO_LEVERAGE, 200.0),
        (CalcMode.CFD, 200.0 * 50),
        (CalcMode.CFD_INDEX, 200.0 * 50),
        (CalcMode.EXCHANGE_STOCKS, 200.0 * 50),
        (CalcMode.COLLATERAL, 0.0),
    ],
)
def test_margin_of_other_calculation_modes(mode: CalcMode, expected: float) -> None:
    contract = Contract("X", mode, 100, 0.01, 0.01, "USD", "USD", "USD")
    assert contract.margin(2.0, 50.0, 100) == pytest.approx(expected)


def test_futures_pay_by_initial_margin_and_tick_value() -> None:
    future = Contract(
        "ES", CalcMode.EXCHANGE_FUTURES, 1, 0.01, 0.25, "USD", "USD", "USD",
        tick_value=12.5, margin_initial=13_000,
    )  # fmt: skip
    assert future.margin(2, 5000.0, 100) == 26_000
    assert future.profit(BUY, 2, 5000.0, 5001.0) == pytest.approx(100.0)
    assert future.profit(SELL, 2, 5000.0, 5001.0) == pytest.approx(-100.0)


def test_profit_works_on_arrays_as_on_numbers() -> None:
    closes = np.array([1.10, 1.11, 1.09])
    many = EURUSD.profit(SELL, 0.5, 1.10, closes)
    assert many.tolist() == [EURUSD.profit(SELL, 0.5, 1.10, float(c)) for c in closes]


def test_a_contract_of_an_instrument_event() -> None:
    seen = Instrument(
        event_time_ms=0, recv_time_ms=0, symbol="EURUSD", broker_symbol="EURUSD.x", digits=5,
        point=1e-5, tick_size=1e-5, contract_size=100_000, volume_min_lots=0.01,
        volume_max_lots=100, volume_step_lots=0.01, currency_base="EUR", currency_profit="USD",
    )  # fmt: skip
    contract = Contract.of(seen)
    assert contract.currency_margin == "EUR"
    assert contract.profit(BUY, 1.0, 1.1, 1.2) == pytest.approx(10_000)


@pytest.mark.parametrize(
    ("mode", "long", "expected"),
    [
        (SwapMode.POINTS, -7.0, (-14.0, "USD")),
        (SwapMode.CURRENCY_BASE, -7.0, (-14.0, "EUR")),
        (SwapMode.CURRENCY_MARGIN, -7.0, (-14.0, "EUR")),
        (SwapMode.CURRENCY_DEPOSIT, -7.0, (-14.0, "")),
        (SwapMode.INTEREST_CURRENT, -3.6, (-0.01 * 240_000 / 100, "USD")),
        (SwapMode.INTEREST_OPEN, -3.6, (-0.01 * 220_000 / 100, "USD")),
        (SwapMode.DISABLED, -7.0, (0.0, "")),
        (SwapMode.REOPEN_BID, -7.0, (0.0, "")),
    ],
)
def test_swap_of_a_night(mode: SwapMode, long: float, expected: tuple[float, str]) -> None:
    contract = Contract(
        "EURUSD", CalcMode.FOREX, 100_000, 1e-5, 1e-5, "EUR", "USD", "EUR",
        swap_mode=mode, swap_long=long,
    )  # fmt: skip
    amount, currency = contract.swap(BUY, 2.0, price_now=1.2, price_open=1.1)
    assert amount == pytest.approx(expected[0])
    assert currency == expected[1]


def test_a_week_has_seven_nights_of_swap() -> None:
    for rollover in (3, 5):
        assert sum(swap_nights(day, rollover) for day in range(7)) == 7
    assert [swap_nights(day, 3) for day in range(7)] == [0, 1, 1, 3, 1, 1, 0]


def test_a_hedge_pays_for_its_uncovered_part_and_the_covered_one_once() -> None:
    legs = [Leg(BUY, 2.0, 1.10, 1.1), Leg(SELL, 1.5, 1.12, 1.1)]
    margin = symbol_margin(EURUSD, legs, leverage=100, hedging=True)
    assert margin == pytest.approx((0.5 + 1.5) * 1000 * 1.1)
    larger = Contract(
        "EURUSD", CalcMode.FOREX, 100_000, 1e-5, 1e-5, "EUR", "USD", "EUR",
        margin_hedged_use_leg=True,
    )  # fmt: skip
    assert symbol_margin(larger, legs, leverage=100, hedging=True) == pytest.approx(2000 * 1.1)
    free = Contract("EURUSD", CalcMode.FOREX, 100_000, 1e-5, 1e-5, "EUR", "USD", "EUR")
    assert symbol_margin(free, legs, leverage=100, hedging=True) == pytest.approx(500 * 1.1)


def test_margin_without_hedging_is_the_sum() -> None:
    legs = [Leg(BUY, 2.0, 1.10, 1.0)]
    assert symbol_margin(EURUSD, legs, leverage=50, hedging=False) == pytest.approx(4000)
    assert symbol_margin(EURUSD, [], leverage=50, hedging=True) == 0.0


def test_currencies_convert_directly_inverted_or_over_the_dollar() -> None:
    pairs = currency_pairs(
        [("EURUSD", "EUR", "USD"), ("USDJPY", "USD", "JPY"), ("ACME", "USD", "USD")]
    )
    quotes = {"EURUSD": (1.10, 1.12), "USDJPY": (150.0, 151.0)}
    rates = Rates(pairs, quotes.get)
    assert rates.rate("EUR", "USD", side=BUY) == 1.10
    assert rates.rate("EUR", "USD", side=SELL) == 1.12
    assert rates.rate("USD", "EUR", side=BUY) == pytest.approx(1 / 1.12)
    assert rates.rate("EUR", "JPY", side=BUY) == pytest.approx(1.10 * 150)
    assert rates.rate("USD", "USD", side=BUY) == 1.0
    assert rates.symbols("JPY", "EUR") == ("USDJPY", "EURUSD")
    with pytest.raises(MissingRate, match="CHF"):
        rates.rate("CHF", "USD", side=BUY)


def test_the_biggest_loser_goes_first_in_a_stop_out() -> None:
    values = [Valuation(1, -5.0, 0.0), Valuation(2, -4.0, -3.0), Valuation(3, 9.0, 0.0)]
    assert stop_out_first(values) == 2
    assert stop_out_first([]) is None


def test_margin_level_and_stop_out() -> None:
    figures = account_figures(
        balance=1000.0, credit=100.0, margin=500.0, digits=2,
        valuations=[Valuation(1, -845.0, -5.0)],
    )  # fmt: skip
    assert (figures.equity, figures.margin_free) == (250.0, -250.0)
    assert figures.margin_level_percent == 50.0
    assert figures.stopped_out(mode=0, level=50.0)
    assert not figures.stopped_out(mode=0, level=49.0)
    assert figures.stopped_out(mode=1, level=250.0)
    empty = account_figures(balance=0.0, credit=0.0, margin=0.0, valuations=[], digits=2)
    assert empty.margin_level_percent == 0.0
    assert not empty.stopped_out(mode=0, level=50.0)  # nothing is open: not bankrupt


# What deals do -----------------------------------------------------------------------------


def test_netting_adds_reduces_and_reverses() -> None:
    ledger = ledger_of(MarginMode.NETTING)
    opened = booked(ledger, fill_of(BUY, 1.0, 1.10, 11), 2)
    booked(ledger, fill_of(BUY, 1.0, 1.12, 12), 3)
    (position,) = ledger.positions.values()
    assert (position.volume_lots, position.price_open) == (2.0, pytest.approx(1.11))
    reduced = booked(ledger, fill_of(SELL, 0.5, 1.13, 13), 4)
    assert (reduced.entry, reduced.profit) == (Entry.OUT, pytest.approx(1000.0))
    reversed_ = booked(ledger, fill_of(SELL, 2.0, 1.11, 14), 5)
    assert reversed_.entry is Entry.IN_OUT
    assert reversed_.position_id == opened.position_id
    assert (position.identifier, position.ticket) == (11, 14)
    assert (position.side, position.volume_lots, position.price_open) == (SELL, 0.5, 1.11)
    closed = booked(ledger, fill_of(BUY, 0.5, 1.11, 15), 6)
    assert closed.entry is Entry.OUT
    assert not ledger.positions


def test_hedging_keeps_both_directions_and_closes_by_ticket() -> None:
    ledger = ledger_of(MarginMode.HEDGING)
    booked(ledger, fill_of(BUY, 1.0, 1.10, 11), 2)
    booked(ledger, fill_of(SELL, 1.0, 1.11, 12), 3)
    assert len(ledger.positions) == 2
    part = booked(ledger, fill_of(SELL, 0.4, 1.12, 13, position=11), 4)
    assert (part.entry, part.position_id) == (Entry.OUT, 11)
    assert ledger.positions[11].volume_lots == 0.6
    assert ledger.positions[11].ticket == 11


@pytest.mark.parametrize(
    "fill",
    [
        fill_of(SELL, 1.5, 1.12, 13, position=11),  # more than it holds
        fill_of(BUY, 1.0, 1.12, 13, position=11),  # the same side
        fill_of(SELL, 1.0, 1.12, 13, position=99),  # unknown
        fill_of(SELL, 0.0, 1.12, 13),
        fill_of(SELL, 1.0, 0.0, 13),
    ],
)
def test_a_refused_fill_changes_nothing(fill: Fill) -> None:
    ledger = ledger_of(MarginMode.HEDGING)
    booked(ledger, fill_of(BUY, 1.0, 1.10, 11), 2)
    before = deepcopy(ledger)
    with pytest.raises(RefusedFill):
        booked(ledger, fill, 3)
    assert ledger == before


def test_close_by_takes_the_profit_once_and_leaves_the_rest() -> None:
    ledger = ledger_of(MarginMode.HEDGING)
    booked(ledger, fill_of(BUY, 1.0, 1.10, 11), 2)
    booked(ledger, fill_of(SELL, 0.4, 1.12, 12), 3)
    first, second = ledger.positions[11], ledger.positions[12]
    deals = ledger.close_by(first, second, order=13, tickets=(4, 5), time_ms=9, profit_of=profit_of)
    assert [deal.entry for deal in deals] == [Entry.OUT_BY] * 2
    assert [deal.profit for deal in deals] == [pytest.approx(800.0), 0.0]
    assert list(ledger.positions) == [11]
    assert ledger.positions[11].volume_lots == 0.6
    with pytest.raises(RefusedFill):
        ledger.close_by(first, first, order=14, tickets=(6, 7), time_ms=9, profit_of=profit_of)


def test_swap_reaches_the_balance_with_the_closing_deals() -> None:
    ledger = ledger_of(MarginMode.HEDGING)
    booked(ledger, fill_of(BUY, 0.9, 1.10, 11), 2)
    ledger.charge_swap(11, -10.0)
    part = booked(ledger, fill_of(SELL, 0.3, 1.10, 12, position=11), 3)
    rest = booked(ledger, fill_of(SELL, 0.6, 1.10, 13, position=11), 4)
    assert part.swap == -3.33
    assert part.swap + rest.swap == pytest.approx(-10.0)


def test_balance_and_credit_operations() -> None:
    ledger = ledger_of(MarginMode.HEDGING, 500.0)
    ledger.apply(BookedDeal(ticket=2, type=3, time_ms=0, profit=50.0))
    ledger.apply(BookedDeal(ticket=3, type=2, time_ms=0, profit=-100.0))
    ledger.apply(BookedDeal(ticket=4, type=15, time_ms=0, profit=1.23))
    assert (ledger.balance, ledger.credit) == (401.23, 50.0)


# Laws ------------------------------------------------------------------------------------------

steps = st.lists(
    st.tuples(
        st.integers(0, 1), st.integers(1, 500), st.integers(90_000, 130_000), st.integers(0, 9)
    ),
    min_size=1,
    max_size=40,
)


def run_of(
    mode: MarginMode, moves: list[tuple[int, int, int, int]]
) -> tuple[Ledger, list[BookedDeal]]:
    """A ledger after any run of fills; in hedging mode half of them close what is open."""
    ledger = ledger_of(mode)
    deals = []
    for number, (side, lots, price, choice) in enumerate(moves, start=11):
        volume, position = lots / 100, 0
        if mode is MarginMode.HEDGING and choice % 2 and ledger.positions:
            held = list(ledger.positions.values())[choice % len(ledger.positions)]
            side, position = 1 - held.side, held.ticket
            volume = min(volume, held.volume_lots)
        if choice == 7:
            for identifier in ledger.positions:
                ledger.charge_swap(identifier, -1.11 * volume)
        deals.append(booked(ledger, fill_of(side, volume, price / 1e5, number, position), number))
    return ledger, deals


@pytest.mark.parametrize("mode", list(MarginMode))
@given(moves=steps)
@settings(max_examples=60, deadline=None)
def test_deals_sum_up_to_the_balance_to_the_cent(
    mode: MarginMode, moves: list[tuple[int, int, int, int]]
) -> None:
    ledger, deals = run_of(mode, moves)
    cents = round(sum(round(deal.amount * 100) for deal in deals))
    assert round(ledger.balance * 100) == 1_000_000 + cents


@pytest.mark.parametrize("mode", list(MarginMode))
@given(moves=steps)
@settings(max_examples=60, deadline=None)
def test_the_deals_alone_rebuild_positions_and_balance(
    mode: MarginMode, moves: list[tuple[int, int, int, int]]
) -> None:
    ledger, deals = run_of(mode, [(s, v, p, c if c != 7 else 8) for s, v, p, c in moves])
    rebuilt = ledger_of(mode)
    rebuilt.apply_all(deals)
    assert rebuilt == ledger


@pytest.mark.parametrize("mode", list(MarginMode))
@given(moves=steps, last=st.integers(90_000, 130_000))
@settings(max_examples=60, deadline=None)
def test_realised_and_floating_profit_are_what_the_fills_are_worth(
    mode: MarginMode, moves: list[tuple[int, int, int, int]], last: int
) -> None:
    """Independent of averaging, reversing and partial closing: cash flows at the last price."""
    ledger, deals = run_of(mode, moves)
    worth = sum(
        (1 if deal.type == BUY else -1) * deal.volume_lots * (last / 1e5 - deal.price) * 100_000
        for deal in deals
    )
    floating = sum(profit_of(p, p.volume_lots, last / 1e5) for p in ledger.positions.values())
    realised = sum(deal.profit for deal in deals)
    assert realised + floating == pytest.approx(worth, abs=0.005 * len(deals) + 1e-4)


@given(moves=steps, last=st.integers(90_000, 130_000))
@settings(max_examples=50, deadline=None)
def test_equity_is_balance_credit_and_floating(
    moves: list[tuple[int, int, int, int]], last: int
) -> None:
    ledger, _ = run_of(MarginMode.HEDGING, moves)
    values = [
        Valuation(p.identifier, round(profit_of(p, p.volume_lots, last / 1e5), 2), p.swap)
        for p in ledger.positions.values()
    ]
    figures = account_figures(
        balance=ledger.balance, credit=ledger.credit, margin=123.45, valuations=values, digits=2
    )
    assert round(figures.equity * 100) == round(
        (figures.balance + figures.credit + figures.profit) * 100
    )
    assert figures.margin_free == pytest.approx(figures.equity - figures.margin, abs=0.005)
