"""What happens to a simulated account by itself: prices that jump, stops, nights, other people."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from events.accounting import Contract
from producers.terminals import constants as mt5
from producers.terminals.simulated import Fault, SimulatedTerminal, TraderOptions
from producers.terminals.simulated.market.rates import bars_of_ticks
from tests.unit.test_simulated_broker import (
    FAR,
    HEDGING,
    NETTING,
    START,
    TO_MIDNIGHT_MS,
    balanced,
    deals_of,
    opened,
    send,
    spec_of,
    terminal_of,
)

SERVER_S = START // 1000 + 7200


def price_of(terminal: SimulatedTerminal, symbol: str = "EURUSD") -> float:
    return float(terminal.symbol_info_tick(symbol).bid)


# Prices ----------------------------------------------------------------------------------------


def test_a_gap_moves_ticks_bars_and_the_account_and_ends_when_cleared() -> None:
    terminal, calm = terminal_of(), terminal_of()
    opened(terminal, volume=2.0)
    before = price_of(terminal)
    terminal.inject("price_jump", symbols=["EURUSD"], percent=-2.0)
    for one in (terminal, calm):
        one.advance(120_000)
    fell = price_of(terminal) / price_of(calm) - 1
    assert fell == pytest.approx(-0.02, abs=1e-5)
    assert terminal.account_info().profit == pytest.approx(-2 * 0.02 * before * 1e5, rel=0.02)
    assert price_of(terminal, "XAUUSD") == price_of(calm, "XAUUSD")
    assert terminal.symbol_info("EURUSD").bid == price_of(terminal)
    terminal.clear("price_jump")
    for one in (terminal, calm):
        one.advance(120_000)
    assert price_of(terminal) == price_of(calm)
    minute = START // 60_000 * 60 + 7200
    bars = terminal.copy_rates_range("EURUSD", mt5.TIMEFRAME_M1, minute, minute + 240)
    ticks = terminal.copy_ticks_range("EURUSD", minute, minute + 239, mt5.COPY_TICKS_ALL)
    made = bars_of_ticks(ticks)
    for name in ("time", "open", "high", "low", "close"):
        np.testing.assert_array_equal(bars[name][:3], made[name][:3])


def test_a_slide_takes_its_time_and_prices_stay_on_their_grid() -> None:
    terminal, calm = terminal_of(), terminal_of()
    terminal.inject("price_jump", symbols=["EURUSD"], points=1000, seconds=100, for_s=300)
    shifts = []
    for _ in range(5):
        for one in (terminal, calm):
            one.advance(50_000)
        shifts.append(round((price_of(terminal) - price_of(calm)) * 1e5))
    assert 300 < shifts[0] < 500
    assert shifts[1:] == [pytest.approx(1000, abs=30), 1000, 1000, 1000]
    rows = terminal.copy_ticks_range("EURUSD", SERVER_S, SERVER_S + 250, -1)
    assert (np.round(rows["bid"], 5) == rows["bid"]).all()
    terminal.advance(60_000)
    calm.advance(60_000)
    assert price_of(terminal) == price_of(calm)


@pytest.mark.parametrize("side", [0, 1], ids=["buy", "sell"])
def test_a_gap_over_a_stop_fills_where_the_price_is(side: int) -> None:
    terminal = terminal_of()
    tick = terminal.symbol_info_tick("EURUSD")
    sign = -1 if side == 0 else 1
    stop = round((tick.bid if side == 0 else tick.ask) + sign * 0.001, 5)
    ticket = opened(terminal, type=side, sl=stop).order
    terminal.inject("price_jump", symbols=["EURUSD"], percent=sign * 1.0)
    terminal.advance(60_000)
    assert terminal.positions_get() == ()
    closing = terminal.history_deals_get(position=ticket)[-1]
    assert (closing.reason, closing.comment) == (mt5.DEAL_REASON_SL, f"[sl {stop:g}]")
    beyond = (closing.price - stop) * sign
    assert beyond > 0.005  # a gap: the level was never there to be had
    assert balanced(terminal)


@pytest.mark.parametrize(
    ("mode", "level", "holds"),
    [
        (mt5.ACCOUNT_STOPOUT_MODE_PERCENT, 50.0, lambda a: a.margin_level > 50),
        (mt5.ACCOUNT_STOPOUT_MODE_MONEY, 2000.0, lambda a: a.equity > 2000),
    ],
    ids=["percent", "money"],
)
def test_a_stop_out_closes_the_biggest_losers_first(mode: int, level: float, holds: Any) -> None:
    account = {"balance": 5000.0, "margin_so_mode": mode, "margin_so_so": level}
    terminal = terminal_of(account=account)
    tickets = [opened(terminal, volume=lots).order for lots in (0.5, 1.5, 1.0)]
    terminal.inject("price_jump", symbols=["EURUSD"], percent=-1.2, seconds=60)
    terminal.advance(120_000)
    closed = [d for d in deals_of(terminal) if d.reason == mt5.DEAL_REASON_SO]
    assert closed
    assert [deal.position_id for deal in closed][:1] == [tickets[1]]
    assert all(deal.comment.startswith("so: ") for deal in closed)
    account_now = terminal.account_info()
    assert terminal.positions_total() == 0 or holds(account_now)
    assert balanced(terminal)


def test_jumps_that_were_planned_and_injected_are_found_again(tmp_path: Path) -> None:
    file = str(tmp_path / "memory.jsonl")
    plan = (
        Fault(kind="price_jump", at_s=60, symbols=("XAUUSD",), percent=3.0),
        Fault(kind="balance", at_s=60, amount=250.0, text="bonus"),
    )
    terminal = terminal_of(memory=file, faults=plan)
    terminal.inject("price_jump", symbols=["EURUSD"], percent=-2.0, for_s=600)
    terminal.inject("foreign_position", symbols=["XAUUSD"], count=2)
    terminal.advance(120_000)
    seen = price_of(terminal), price_of(terminal, "XAUUSD"), terminal.account_info()
    again = terminal_of(memory=file, faults=plan)
    assert (price_of(again), price_of(again, "XAUUSD"), again.account_info()) == seen
    again.advance(120_000)
    assert again.positions_total() == 2
    assert [deal.profit for deal in deals_of(again) if deal.type == 2] == [100_000.0, 250.0]
    assert price_of(again, "XAUUSD") > seen[1] * 0.99


# Nights ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [NETTING, HEDGING], ids=["netting", "hedging"])
@pytest.mark.parametrize("swap_mode", [7, 8], ids=["current", "bid"])
def test_reopening_for_swap_changes_the_ticket_and_keeps_the_identifier(
    mode: int, swap_mode: int
) -> None:
    spec = spec_of("EURUSD", swap_mode=swap_mode, swap_long=-7.0, swap_short=3.0)
    terminal = terminal_of(
        account={"margin_mode": mode}, symbols=(spec, "USDJPY"), selected=("EURUSD",)
    )
    bid = price_of(terminal)
    first = opened(terminal, sl=round(bid - 0.1, 5), magic=9, comment="held")
    terminal.advance(TO_MIDNIGHT_MS + 1000)
    (position,) = terminal.positions_get()
    assert position.identifier == first.order != position.ticket
    assert (position.magic, position.comment, position.sl, position.swap) == (
        9, "held", round(bid - 0.1, 5), 0.0,
    )  # fmt: skip
    entry, leaving, coming = terminal.history_deals_get(position=first.order)
    assert {leaving.reason, coming.reason} == {mt5.DEAL_REASON_ROLLOVER}
    assert (leaving.entry, coming.entry) == (mt5.DEAL_ENTRY_OUT, mt5.DEAL_ENTRY_IN)
    assert coming.price - leaving.price == pytest.approx(3 * 7e-5)  # Wednesday: three nights
    assert (coming.order, entry.order) == (position.ticket, first.order)
    assert send(terminal, type=1, position=first.order).retcode == mt5.TRADE_RETCODE_POSITION_CLOSED
    terminal.advance(400_000)  # over the break after midnight
    opened(terminal, type=1, position=position.ticket)
    assert terminal.positions_get() == ()
    assert balanced(terminal)


@pytest.mark.parametrize(
    ("side", "swap", "expected"), [(0, -7.0, 1.10007), (0, 7.0, 1.09993), (1, 3.0, 1.10003)]
)
def test_a_reopened_price_is_worse_by_a_negative_swap(
    side: int, swap: float, expected: float
) -> None:
    contract = Contract(
        symbol="EURUSD", calc_mode=0, contract_size=1e5, point=1e-5, tick_size=1e-5,
        currency_base="EUR", currency_profit="USD", currency_margin="EUR", swap_mode=7,
        swap_long=swap, swap_short=swap,
    )  # fmt: skip
    assert contract.reopened(side, 1.1, 1) == pytest.approx(expected)


def test_a_week_charges_seven_nights() -> None:
    terminal = terminal_of()
    opened(terminal)
    terminal.advance(7 * 86_400_000)
    per_night = spec_of("EURUSD").swap_long * 1e-5 * 100_000
    assert terminal.positions_get()[0].swap == pytest.approx(7 * per_night)


# Money -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("charged_on", "entry", "leaving"),
    [("both", -7.0, -7.0), ("in", -7.0, 0.0), ("out", 0.0, -7.0)],
)
def test_commission_is_charged_where_the_broker_charges_it(
    charged_on: str, entry: float, leaving: float
) -> None:
    spec = spec_of("EURUSD", commission_on=charged_on, commission_per_lot=3.5, fee_per_deal=0.25)
    terminal = terminal_of(symbols=(spec,), selected=("EURUSD",))
    ticket = opened(terminal, volume=2.0).order
    opened(terminal, type=1, position=ticket, volume=2.0)
    deals = terminal.history_deals_get(position=ticket)
    assert [(deal.commission, deal.fee) for deal in deals] == [(entry, -0.25), (leaving, -0.25)]
    assert balanced(terminal)


def test_deposits_credits_and_dividends_are_deals_without_a_position() -> None:
    terminal = terminal_of()
    opened(terminal)
    floating = terminal.account_info().profit
    operations = {2: -20_000.0, 3: 500.0, 15: 12.34}
    for type_, amount in operations.items():
        terminal.inject("balance", code=type_, amount=amount, text=f"operation {type_}")
    account = terminal.account_info()
    commission = -3.5
    assert account.balance == round(80_012.34 + commission, 2)
    assert (account.credit, account.profit) == (500.0, floating)
    found = {deal.type: deal for deal in deals_of(terminal) if deal.comment.startswith("operation")}
    assert {type_: deal.profit for type_, deal in found.items()} == operations
    assert {(deal.symbol, deal.position_id, deal.volume) for deal in found.values()} == {
        ("", 0, 0.0)
    }
    assert balanced(terminal)


@pytest.mark.parametrize("currency", ["EUR", "JPY", "CHF"])
def test_profit_follows_the_rate_of_its_currency(currency: str) -> None:
    terminal = terminal_of(account={"currency": currency, "balance": 1e7})
    ticket = opened(terminal, symbol="XAUUSD").order
    before = terminal.order_calc_profit(0, "XAUUSD", 1.0, 2000.0, 2001.0)
    pair = {"EUR": "EURUSD", "JPY": "USDJPY", "CHF": "USDCHF"}[currency]
    terminal.inject("price_jump", symbols=[pair], percent=10.0)
    terminal.advance(60_000)
    after = terminal.order_calc_profit(0, "XAUUSD", 1.0, 2000.0, 2001.0)
    assert after / before == pytest.approx(1 / 1.1 if pair.startswith("EUR") else 1.1, rel=0.01)
    opened(terminal, symbol="XAUUSD", type=1, position=ticket)
    assert balanced(terminal)


# Others ----------------------------------------------------------------------------------------


def test_other_people_open_place_and_close() -> None:
    terminal = terminal_of()
    ours = opened(terminal, symbol="XAUUSD", magic=42).order
    terminal.inject("foreign_position", symbols=["EURUSD", "USDJPY"], lots=0.2, side=1, count=3)
    terminal.inject("foreign_order", symbols=["EURUSD"], lots=0.3, points=5000)
    book = terminal.positions_get()
    theirs = [p for p in book if p.ticket != ours]
    assert len(theirs) == 6
    assert {(p.magic, p.reason, p.volume, p.type) for p in theirs} == {(0, 0, 0.2, 1)}
    (order,) = terminal.orders_get()
    assert (order.magic, order.type, order.volume_current) == (0, mt5.ORDER_TYPE_BUY_LIMIT, 0.3)
    assert len(terminal.requests()) == 1  # theirs came from elsewhere
    terminal.inject("foreign_close", symbols=["EURUSD"])
    assert {p.symbol for p in terminal.positions_get()} == {"USDJPY", "XAUUSD"}
    terminal.inject("foreign_close")
    assert terminal.positions_get() == ()
    assert balanced(terminal)


def test_what_the_broker_refuses_other_people_does_not_happen() -> None:
    saturday = int(datetime(2025, 11, 22, 12, tzinfo=UTC).timestamp() * 1000)
    terminal = terminal_of(start_utc_ms=saturday, account={"balance": 100.0})
    terminal.inject("foreign_position", symbols=["EURUSD"])
    terminal.inject("foreign_position", symbols=["BTCUSD"], lots=50.0)
    terminal.inject("foreign_position", symbols=["nowhere"])
    assert terminal.positions_get() == ()


def test_a_planned_position_opens_at_its_moment_whoever_looks() -> None:
    plan = (Fault(kind="foreign_position", at_s=90, symbols=("EURUSD",)),)
    often, once = terminal_of(faults=plan), terminal_of(faults=plan)
    for _ in range(300):
        often.advance(1000)
        often.positions_get()
    once.advance(300_000)
    assert often.positions_get() == once.positions_get()
    assert once.positions_get()[0].time_msc == START + 7_200_000 + 90_000


def test_a_trader_beside_the_faults_leaves_the_books_in_order() -> None:
    terminal = terminal_of(
        trader=TraderOptions(every_s=3.0, pending_share=0.5), liquidity_lots=0.03,
        faults=(Fault(kind="price_jump", at_s=300, symbols=("EURUSD",), percent=-1, seconds=60),),
    )  # fmt: skip
    for _ in range(30):
        terminal.advance(30_000)
        assert balanced(terminal)
    assert terminal.history_deals_total(0, FAR) > 100
