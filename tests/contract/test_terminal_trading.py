"""What every terminal that carries out requests does with them, as the module documents it."""

from __future__ import annotations

from typing import Any

import pytest

from producers.terminals import constants as mt5
from tests.contract import terminal_cases as cases
from tests.contract.terminal_cases import SYMBOL, TerminalUnderTest
from tests.contract.test_terminal import FAR, deal_request, made, need, under_test

__all__ = ["made", "under_test"]  # fixtures


@pytest.fixture
def trading(under_test: TerminalUnderTest) -> Any:
    need(under_test, cases.TRADE)
    return under_test.terminal


def done(terminal: Any, **changes: Any) -> Any:
    result = terminal.order_send(deal_request(**changes))
    assert result.retcode == mt5.TRADE_RETCODE_DONE, result
    return result


def test_a_close_names_its_position_and_is_refused_once_it_is_gone(trading: Any) -> None:
    ticket = done(trading, volume=0.3).order
    opposite = done(trading, type=1, volume=0.1)  # without a position it opens another one
    assert {p.ticket for p in trading.positions_get()} == {ticket, opposite.order}
    more = trading.order_send(deal_request(type=1, volume=0.4, position=ticket))
    assert more.retcode == mt5.TRADE_RETCODE_INVALID_CLOSE_VOLUME
    done(trading, type=1, volume=0.1, position=ticket)
    (left,) = trading.positions_get(ticket=ticket)
    assert left.volume == pytest.approx(0.2)
    done(trading, type=1, volume=0.2, position=ticket)
    again = trading.order_send(deal_request(type=1, volume=0.2, position=ticket))
    assert again.retcode == mt5.TRADE_RETCODE_POSITION_CLOSED
    deals = trading.history_deals_get(position=ticket)
    assert [(deal.type, deal.entry, deal.volume) for deal in deals] == [
        (0, mt5.DEAL_ENTRY_IN, 0.3), (1, mt5.DEAL_ENTRY_OUT, 0.1), (1, mt5.DEAL_ENTRY_OUT, 0.2),
    ]  # fmt: skip
    assert len({deal.ticket for deal in deals}) == 3


def test_opposite_positions_close_each_other_without_a_charge(trading: Any) -> None:
    buy, sell = done(trading, volume=0.3).order, done(trading, type=1, volume=0.1).order
    request = {"action": mt5.TRADE_ACTION_CLOSE_BY, "position": buy, "position_by": sell}
    result = trading.order_send(request)
    assert result.retcode == mt5.TRADE_RETCODE_DONE
    (left,) = trading.positions_get()
    assert (left.ticket, left.volume) == (buy, pytest.approx(0.2))
    both = trading.history_deals_get(ticket=result.order)
    assert [(deal.entry, deal.commission) for deal in both] == [(mt5.DEAL_ENTRY_OUT_BY, 0.0)] * 2
    assert {deal.position_id for deal in both} == {buy, sell}
    assert trading.order_send(request).retcode == mt5.TRADE_RETCODE_POSITION_CLOSED


def test_stops_are_set_together_and_what_is_left_out_is_removed(trading: Any) -> None:
    ticket = done(trading).order
    bid = trading.symbol_info_tick(SYMBOL).bid
    stops = {"sl": round(bid - 0.05, 5), "tp": round(bid + 0.05, 5)}
    change = {"action": mt5.TRADE_ACTION_SLTP, "symbol": SYMBOL, "position": ticket}
    assert trading.order_send({**change, **stops}).retcode == mt5.TRADE_RETCODE_DONE
    assert trading.order_send({**change, **stops}).retcode == mt5.TRADE_RETCODE_NO_CHANGES
    assert trading.order_send({**change, "sl": stops["sl"]}).retcode == mt5.TRADE_RETCODE_DONE
    (position,) = trading.positions_get()
    assert (position.sl, position.tp) == (stops["sl"], 0.0)


def test_money_is_conserved_from_deal_to_deal(trading: Any) -> None:
    for side in (0, 1, 0):
        done(trading, type=side, volume=0.2)
    for position in trading.positions_get()[:2]:
        done(trading, type=1 - position.type, volume=position.volume, position=position.ticket)
    account, (position,) = trading.account_info(), trading.positions_get()
    deals = trading.history_deals_get(0, FAR)
    total = sum(deal.profit + deal.swap + deal.commission + deal.fee for deal in deals)
    assert round(total, 2) == account.balance
    assert account.profit == pytest.approx(position.profit + position.swap, abs=0.005)
    assert account.equity == pytest.approx(account.balance + account.profit, abs=0.005)
    assert account.margin_free == pytest.approx(account.equity - account.margin, abs=0.005)
    assert account.margin_level == pytest.approx(account.equity / account.margin * 100, abs=0.01)
