"""The simulated broker: orders to deals in virtual time, whoever looks and whenever."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from producers.terminals import constants as mt5
from producers.terminals.simulated import (
    AccountOptions,
    SimulatedOptions,
    SimulatedTerminal,
    TraderOptions,
)
from producers.terminals.simulated.symbols import CATALOGUE

START = 1_763_553_600_000  # Wednesday 19 November 2025, 12:00 UTC
FAR = START // 1000 + 10**8
NETTING, HEDGING = 0, 2


def terminal_of(*, account: dict[str, Any] | None = None, **changes: Any) -> SimulatedTerminal:
    fixed: dict[str, Any] = {
        "start_utc_ms": START, "speed": 0, "account": AccountOptions(**(account or {})),
        "selected": ("EURUSD", "USDJPY", "XAUUSD", "BTCUSD"),
    }  # fmt: skip
    terminal = SimulatedTerminal(SimulatedOptions(**{**fixed, **changes}))
    assert terminal.initialize()
    return terminal


def send(terminal: SimulatedTerminal, **fields: Any) -> Any:
    request = {"action": mt5.TRADE_ACTION_DEAL, "symbol": "EURUSD", "volume": 1.0, "type": 0,
               "type_filling": mt5.ORDER_FILLING_IOC}  # fmt: skip
    result = terminal.order_send({**request, **fields})
    assert result is not None, terminal.last_error()
    return result


def opened(terminal: SimulatedTerminal, **fields: Any) -> Any:
    result = send(terminal, **fields)
    assert result.retcode == mt5.TRADE_RETCODE_DONE, result
    return result


def sums_of_deals(terminal: SimulatedTerminal) -> float:
    deals = terminal.history_deals_get(0, FAR)
    return round(sum(d.profit + d.swap + d.commission + d.fee for d in deals), 2)


def test_a_buy_opens_at_the_ask_and_is_valued_at_the_bid() -> None:
    terminal = terminal_of()
    tick = terminal.symbol_info_tick("EURUSD")
    result = opened(terminal, magic=2**63 + 5, comment="hello")
    (position,) = terminal.positions_get()
    assert result.price == position.price_open == tick.ask
    assert position.price_current == tick.bid
    assert position.profit == pytest.approx((tick.bid - tick.ask) * 100_000, abs=0.01)
    assert (position.magic, position.reason) == (2**63 + 5, mt5.POSITION_REASON_EXPERT)
    (deal,) = terminal.history_deals_get(position=position.identifier)
    assert deal.commission == -3.5
    assert deal.time == START // 1000 + 7200  # the broker's clock


def test_netting_keeps_one_position_which_reverses_under_its_identifier() -> None:
    terminal = terminal_of(account={"margin_mode": NETTING})
    first = opened(terminal)
    opened(terminal, volume=0.5)
    (position,) = terminal.positions_get()
    assert (position.volume, position.ticket) == (1.5, first.order)
    turned = opened(terminal, type=1, volume=2.0)
    (position,) = terminal.positions_get()
    assert (position.type, position.volume) == (1, 0.5)
    assert (position.identifier, position.ticket) == (first.order, turned.order)
    assert terminal.history_deals_get(ticket=turned.order)[0].entry == mt5.DEAL_ENTRY_INOUT


def test_hedging_closes_partly_by_ticket_and_by_an_opposite_position() -> None:
    terminal = terminal_of(account={"margin_mode": HEDGING})
    buy = opened(terminal)
    sell = opened(terminal, type=1, volume=0.4)
    assert terminal.positions_total() == 2
    opened(terminal, type=1, volume=0.3, position=buy.order)
    assert terminal.positions_get(ticket=buy.order)[0].volume == 0.7
    closed = opened(terminal, action=mt5.TRADE_ACTION_CLOSE_BY, position=buy.order,
                    position_by=sell.order)  # fmt: skip
    (left,) = terminal.positions_get()
    assert (left.ticket, left.volume) == (buy.order, 0.3)
    by = terminal.history_deals_get(ticket=closed.order)
    assert [deal.entry for deal in by] == [mt5.DEAL_ENTRY_OUT_BY] * 2
    assert [deal.commission for deal in by] == [0.0, 0.0]
    assert terminal.account_info().balance == sums_of_deals(terminal)


@pytest.mark.parametrize("fault", [{"volume": 2.0}, {"type": 0}, {"symbol": "USDJPY"}])
def test_a_bad_close_is_refused(fault: dict[str, Any]) -> None:
    terminal = terminal_of()
    ticket = opened(terminal).order
    result = send(terminal, **{"type": 1, "position": ticket, **fault})
    assert result.retcode in (mt5.TRADE_RETCODE_INVALID_CLOSE_VOLUME, mt5.TRADE_RETCODE_INVALID)
    assert terminal.positions_get()[0].volume == 1.0


def test_fifo_accounts_close_the_oldest_first() -> None:
    terminal = terminal_of(account={"fifo_close": True})
    older, newer = opened(terminal, volume=0.1).order, opened(terminal, volume=0.1).order
    close = {"type": 1, "volume": 0.1}
    assert send(terminal, position=newer, **close).retcode == mt5.TRADE_RETCODE_FIFO_CLOSE
    assert send(terminal, position=older, **close).retcode == mt5.TRADE_RETCODE_DONE


def test_stop_and_target_close_positions_between_two_polls() -> None:
    terminal = terminal_of()
    for points in (30, 60, 90):
        ask = terminal.symbol_info_tick("EURUSD").ask
        gap = points * 1e-5 + 20e-5
        opened(terminal, volume=0.1, sl=round(ask - gap, 5), tp=round(ask + gap, 5))
    terminal.advance(24 * 3_600_000)
    assert terminal.positions_get() == ()
    closing = [d for d in terminal.history_deals_get(0, FAR) if d.entry == mt5.DEAL_ENTRY_OUT]
    assert {deal.reason for deal in closing} <= {mt5.DEAL_REASON_SL, mt5.DEAL_REASON_TP}
    assert len(closing) == 3
    for deal in closing:
        assert deal.comment.startswith(("[sl ", "[tp "))
        at_ms = deal.time_msc
        rows = terminal.copy_ticks_range("EURUSD", at_ms // 1000, at_ms // 1000 + 1, -1)
        assert deal.price in rows[rows["time_msc"] == at_ms]["bid"]
    assert terminal.account_info().balance == sums_of_deals(terminal)


def test_pending_orders_fill_when_reached_or_expire() -> None:
    terminal = terminal_of()
    ask = terminal.symbol_info_tick("EURUSD").ask
    pending = {"action": mt5.TRADE_ACTION_PENDING, "volume": 0.1, "type_filling": 2}
    near = opened(terminal, type=mt5.ORDER_TYPE_BUY_STOP, price=round(ask + 1e-4, 5), **pending)
    limit = opened(terminal, type=mt5.ORDER_TYPE_BUY_STOP_LIMIT, price=round(ask + 1e-4, 5),
                   stoplimit=round(ask - 5e-3, 5), **pending)  # fmt: skip
    expiry = terminal.symbol_info_tick("EURUSD").time + 600
    far = opened(terminal, type=mt5.ORDER_TYPE_SELL_LIMIT, price=round(ask * 1.2, 5),
                 type_time=mt5.ORDER_TIME_SPECIFIED, expiration=expiry, **pending)  # fmt: skip
    today = opened(terminal, type=mt5.ORDER_TYPE_BUY_LIMIT, price=round(ask * 0.8, 5),
                   type_time=mt5.ORDER_TIME_DAY, **pending)  # fmt: skip
    terminal.advance(24 * 3_600_000)
    states = {o.ticket: o for o in terminal.history_orders_get(0, FAR)}
    assert states[far.order].state == mt5.ORDER_STATE_EXPIRED
    assert states[far.order].time_done == expiry
    assert states[today.order].state == mt5.ORDER_STATE_EXPIRED
    assert states[today.order].time_done % 86_400 == 0
    assert states[near.order].state == mt5.ORDER_STATE_FILLED
    assert states[near.order].position_id == near.order
    waiting = {order.ticket: order for order in terminal.orders_get()}
    if limit.order in waiting:
        assert waiting[limit.order].type == mt5.ORDER_TYPE_BUY_LIMIT
    else:
        assert states[limit.order].state == mt5.ORDER_STATE_FILLED


def test_a_pending_order_is_changed_and_one_that_is_not_is_told() -> None:
    terminal = terminal_of()
    ask = terminal.symbol_info_tick("EURUSD").ask
    low = round(ask * 0.9, 5)
    order = opened(terminal, action=mt5.TRADE_ACTION_PENDING, price=low,
                   type=mt5.ORDER_TYPE_BUY_LIMIT, type_filling=2).order  # fmt: skip
    change = {"action": mt5.TRADE_ACTION_MODIFY, "order": order, "price": round(low - 0.01, 5)}
    assert opened(terminal, **change)
    assert terminal.orders_get()[0].price_open == round(low - 0.01, 5)
    assert send(terminal, **change).retcode == mt5.TRADE_RETCODE_NO_CHANGES


def test_stops_of_a_position_are_set_changed_and_kept_apart_from_the_price() -> None:
    terminal = terminal_of()
    ticket = opened(terminal).order
    bid = terminal.symbol_info_tick("EURUSD").bid
    change = {"action": mt5.TRADE_ACTION_SLTP, "position": ticket, "sl": round(bid - 0.01, 5),
              "tp": round(bid + 0.01, 5)}  # fmt: skip
    assert opened(terminal, **change)
    (position,) = terminal.positions_get()
    assert (position.sl, position.tp) == (change["sl"], change["tp"])
    assert send(terminal, **change).retcode == mt5.TRADE_RETCODE_NO_CHANGES
    wrong = {**change, "sl": round(bid + 0.01, 5)}
    assert send(terminal, **wrong).retcode == mt5.TRADE_RETCODE_INVALID_STOPS


def test_swap_is_charged_at_server_midnight_and_thrice_on_wednesday() -> None:
    terminal = terminal_of()
    opened(terminal, symbol="EURUSD")
    per_night = CATALOGUE["EURUSD"].swap_long * 1e-5 * 100_000
    to_midnight_ms = 10 * 3_600_000  # server 14:00
    terminal.advance(to_midnight_ms - 1000)
    assert terminal.positions_get()[0].swap == 0.0
    terminal.advance(2000)
    assert terminal.positions_get()[0].swap == pytest.approx(3 * per_night)
    terminal.advance(86_400_000)
    (position,) = terminal.positions_get()
    assert position.swap == pytest.approx(4 * per_night)
    account = terminal.account_info()
    assert account.profit == pytest.approx(position.profit + position.swap, abs=0.01)
    assert account.equity == pytest.approx(account.balance + account.profit, abs=0.01)


def test_a_stop_out_closes_the_biggest_loser_until_the_level_holds() -> None:
    terminal = terminal_of(account={"balance": 1400.0, "margin_so_so": 50.0, "leverage": 500})
    now, later = (
        terminal.market.last_tick("XAUUSD", START + hours * 3_600_000)["bid"][0]
        for hours in (0, 48)
    )
    losing = mt5.ORDER_TYPE_BUY if later < now else mt5.ORDER_TYPE_SELL
    assert abs(later - now) > 12  # 1,200 USD a lot
    opened(terminal, symbol="XAUUSD", type=losing, volume=1.0)
    opened(terminal, symbol="EURUSD", type=0, volume=0.1)
    for _ in range(48):
        terminal.advance(3_600_000)
        account = terminal.account_info()
        assert account.margin == 0 or account.margin_level > 45  # closed at the level, not later
        if terminal.positions_total() < 2:
            break
    assert [position.symbol for position in terminal.positions_get()] == ["EURUSD"]
    deals = terminal.history_deals_get(0, FAR)
    stopped = [deal for deal in deals if deal.reason == mt5.DEAL_REASON_SO]
    assert stopped
    assert stopped[0].comment.startswith("so: ")
    assert terminal.account_info().balance == sums_of_deals(terminal)


@pytest.mark.parametrize(
    ("changes", "fields", "retcode"),
    [
        ({"trade_mode": 0}, {}, mt5.TRADE_RETCODE_TRADE_DISABLED),
        ({"trade_mode": 1}, {"type": 1}, mt5.TRADE_RETCODE_LONG_ONLY),
        ({"trade_mode": 2}, {"type": 0}, mt5.TRADE_RETCODE_SHORT_ONLY),
        ({"trade_mode": 3}, {}, mt5.TRADE_RETCODE_CLOSE_ONLY),
        ({"order_mode": 126}, {}, mt5.TRADE_RETCODE_INVALID_ORDER),
        ({"volume_limit": 0.5}, {}, mt5.TRADE_RETCODE_LIMIT_VOLUME),
        ({"filling_mode": 1}, {"type_filling": 1}, mt5.TRADE_RETCODE_INVALID_FILL),
        ({"execution_mode": 1}, {}, mt5.TRADE_RETCODE_INVALID_PRICE),
        ({"execution_mode": 1}, {"price": 0.5}, mt5.TRADE_RETCODE_REQUOTE),
        ({"stops_level": 900}, {"sl": 0.5}, mt5.TRADE_RETCODE_DONE),
        ({"stops_level": 90_000}, {"sl": 0.5}, mt5.TRADE_RETCODE_INVALID_STOPS),
        ({"filling_mode": 0, "execution_mode": 3}, {"type_filling": 2}, mt5.TRADE_RETCODE_DONE),
    ],
)
def test_the_rules_of_a_symbol(
    changes: dict[str, Any], fields: dict[str, Any], retcode: int
) -> None:
    spec = CATALOGUE["EURUSD"].model_copy(update=changes)
    terminal = terminal_of(symbols=(spec,), selected=("EURUSD",))
    assert send(terminal, **fields).retcode == retcode


def test_a_closed_market_takes_no_orders() -> None:
    saturday = int(datetime(2025, 11, 22, 12, tzinfo=UTC).timestamp() * 1000)
    terminal = terminal_of(start_utc_ms=saturday)
    assert send(terminal).retcode == mt5.TRADE_RETCODE_MARKET_CLOSED
    assert send(terminal, symbol="BTCUSD", volume=0.1).retcode == mt5.TRADE_RETCODE_DONE


def test_orders_are_limited_in_number() -> None:
    terminal = terminal_of(account={"limit_orders": 1})
    price = round(terminal.symbol_info_tick("EURUSD").ask * 0.9, 5)
    pending = {"action": mt5.TRADE_ACTION_PENDING, "type": 2, "price": price, "volume": 0.1}
    assert send(terminal, **pending).retcode == mt5.TRADE_RETCODE_DONE
    assert send(terminal, **pending).retcode == mt5.TRADE_RETCODE_LIMIT_ORDERS


def test_with_an_execution_time_the_answer_precedes_the_deal() -> None:
    terminal = terminal_of(execution_ms=800)
    result = send(terminal)
    assert (result.retcode, result.deal) == (mt5.TRADE_RETCODE_PLACED, 0)
    assert terminal.positions_total() == 0
    assert terminal.orders_get()[0].ticket == result.order
    terminal.advance(800)
    assert terminal.positions_get()[0].ticket == result.order
    assert terminal.orders_get() == ()


def test_profit_in_another_currency_is_converted() -> None:
    terminal = terminal_of(account={"currency": "EUR"}, symbols=("XAUUSD",), selected=("XAUUSD",))
    profit = terminal.order_calc_profit(0, "XAUUSD", 1.0, 2000.0, 2001.0)
    assert 70 < profit < 120  # 100 USD in EUR, though EURUSD is not offered
    assert terminal.order_calc_margin(0, "XAUUSD", 1.0, 2000.0) > 0


def test_a_background_trader_trades_the_same_whenever_anybody_looks() -> None:
    trader = TraderOptions(every_s=5.0, flash_share=0.4, pending_share=0.3, hold_max_s=40.0)
    often, once = (terminal_of(trader=trader, seed=9) for _ in range(2))
    seen: set[int] = set()
    for _ in range(1200):
        often.advance(500)
        seen |= {position.identifier for position in often.positions_get()}
    once.advance(600_000)
    deals = once.history_deals_get(0, FAR)
    assert deals == often.history_deals_get(0, FAR)
    assert once.account_info() == often.account_info()
    assert once.history_orders_get(0, FAR) == often.history_orders_get(0, FAR)
    assert len(deals) > 100
    unseen = {deal.position_id for deal in deals if deal.position_id} - seen
    assert len(unseen) > 10  # opened and closed between two looks: only the deals tell
    assert once.account_info().balance == sums_of_deals(once)
    assert sum(d.volume for d in deals if d.entry == 0 and d.type < 2) == pytest.approx(
        sum(d.volume for d in deals if d.entry == 1)
        + sum(position.volume for position in once.positions_get())
    )


def test_what_happened_at_the_broker_while_he_was_away_shows_after_the_reconnect() -> None:
    terminal = terminal_of(trader=TraderOptions(every_s=3.0, flash_share=0.5))
    terminal.advance(30_000)
    terminal.inject("disconnect", for_s=60)
    known = terminal.history_deals_total(0, FAR)
    account = terminal.account_info()
    terminal.advance(59_000)
    assert terminal.history_deals_total(0, FAR) == known
    assert terminal.account_info() == account
    terminal.advance(2000)
    missed = terminal.history_deals_get(0, FAR)[known:]
    assert len(missed) > 10
    assert min(deal.time_msc for deal in missed) < START + 7_200_000 + 60_000
    assert terminal.account_info().balance == sums_of_deals(terminal)


def test_a_trader_survives_a_weekend() -> None:
    friday = int(datetime(2025, 11, 21, 21, 50, tzinfo=UTC).timestamp() * 1000)
    trader = TraderOptions(every_s=60.0, hold_max_s=300.0, symbols=("EURUSD",))
    terminal = terminal_of(start_utc_ms=friday, trader=trader)
    terminal.advance(49 * 3_600_000)
    late = [d for d in terminal.history_deals_get(0, FAR) if d.time_msc > friday + 48 * 3_600_000]
    assert any(deal.entry == 0 for deal in late)
    assert any(deal.entry == 1 for deal in late)
