"""Carries out trade requests on a trade server."""

from __future__ import annotations

from events import mt5
from events.accounting import RefusedFill
from events.broker import rules
from events.broker.orders import BrokerOrder
from events.broker.requests import Outcome, Request
from events.broker.server import TradeServer


def carry_out(server: TradeServer, request: Request, *, refused: int = 0) -> Outcome:
    """Do what a request asks, or say by which rule it is refused. `refused` is a return code given
    without looking."""
    retcode = refused or rules.retcode_of(server, request)
    if retcode:
        return Outcome(retcode)
    action = {
        mt5.TRADE_ACTION_DEAL: _deal,
        mt5.TRADE_ACTION_PENDING: _pending,
        mt5.TRADE_ACTION_SLTP: _stops,
        mt5.TRADE_ACTION_MODIFY: _modify,
        mt5.TRADE_ACTION_REMOVE: _remove,
        mt5.TRADE_ACTION_CLOSE_BY: _close_by,
    }[request.action]
    try:
        return action(server, request)
    except RefusedFill:
        return Outcome(mt5.TRADE_RETCODE_REJECT)


def _deal(server: TradeServer, request: Request) -> Outcome:
    order = _order(server, request)
    order.position_ticket = request.position
    deal = server.submit(order)
    if deal is None:
        return Outcome(mt5.TRADE_RETCODE_PLACED, order=order.ticket)
    whole = deal.volume_lots >= request.volume
    return Outcome(
        mt5.TRADE_RETCODE_DONE if whole else mt5.TRADE_RETCODE_DONE_PARTIAL,
        order=order.ticket, deal=deal.ticket, volume=deal.volume_lots, price=deal.price,
    )  # fmt: skip


def _pending(server: TradeServer, request: Request) -> Outcome:
    order = _order(server, request)
    order.type_filling = mt5.ORDER_FILLING_RETURN
    server.submit(order)
    return Outcome(mt5.TRADE_RETCODE_DONE, order=order.ticket, volume=request.volume)


def _stops(server: TradeServer, request: Request) -> Outcome:
    position = rules.position_of(server, request)
    assert position is not None
    position.stop_loss, position.take_profit = request.sl, request.tp
    position.time_update_ms = server.server_ms
    server.touch_position(position)
    return Outcome(mt5.TRADE_RETCODE_DONE)


def _modify(server: TradeServer, request: Request) -> Outcome:
    order = server.orders[request.order]
    order.price_open = request.price or order.price_open
    order.price_stoplimit = request.stoplimit or order.price_stoplimit
    order.stop_loss, order.take_profit = request.sl, request.tp
    order.type_time, order.time_expiration_s = request.type_time, request.expiration
    server.touch(order)
    return Outcome(mt5.TRADE_RETCODE_DONE, order=order.ticket)


def _remove(server: TradeServer, request: Request) -> Outcome:
    order = server.orders[request.order]
    server.drop(order, mt5.ORDER_STATE_CANCELED)
    return Outcome(mt5.TRADE_RETCODE_DONE, order=order.ticket)


def _close_by(server: TradeServer, request: Request) -> Outcome:
    first = server.ledger.by_ticket(request.position)
    second = server.ledger.by_ticket(request.position_by)
    assert first is not None
    assert second is not None
    deal, _ = server.close_by(
        first, second, magic=request.magic, reason=mt5.ORDER_REASON_EXPERT,
        comment=request.comment,
    )  # fmt: skip
    return Outcome(
        mt5.TRADE_RETCODE_DONE, order=deal.order, deal=deal.ticket, volume=deal.volume_lots,
        price=deal.price,
    )  # fmt: skip


def _order(server: TradeServer, request: Request) -> BrokerOrder:
    return BrokerOrder(
        ticket=server.new_ticket(),
        symbol=request.symbol,
        type=request.type,
        volume_initial=request.volume,
        volume_current=request.volume,
        price_open=request.price if request.action == mt5.TRADE_ACTION_PENDING else 0.0,
        price_stoplimit=request.stoplimit,
        stop_loss=request.sl,
        take_profit=request.tp,
        time_setup_ms=server.server_ms,
        type_time=request.type_time,
        type_filling=request.type_filling,
        time_expiration_s=request.expiration,
        magic=request.magic,
        reason=mt5.ORDER_REASON_EXPERT,
        comment=request.comment,
    )
