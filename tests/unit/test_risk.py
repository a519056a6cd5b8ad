"""Risk figures from account events."""

from __future__ import annotations

from typing import Any

import pytest

from consumers.risk import RiskHandler
from consumers.runtime.state import State
from events.decisions import RiskMetrics
from events.trading import Account, Book, Deal, Position

HOUR_MS = 3_600_000
MIDNIGHT_MS = 1_700_006_400_000 - 3 * HOUR_MS
"""A midnight of a server whose clock is 3 hours ahead of UTC."""


def handler() -> RiskHandler:
    made = RiskHandler()
    made.state = State()
    return made


def seen(risk: RiskHandler, at_ms: int, equity: float, **more: Any) -> RiskMetrics:
    facts = {
        "event_time_ms": at_ms, "recv_time_ms": at_ms, "offset_s": 3 * 3600, "login": 7,
        "server": "demo", "currency": "EUR", "trade_mode": 0, "margin_mode": 2, "leverage": 100,
        "balance": 10_000.0, "credit": 0.0, "profit": equity - 10_000.0, "equity": equity,
        "margin": 0.0, "margin_free": equity, "margin_level_percent": 0.0, **more,
    }  # fmt: skip
    [figures] = risk.handle(Account(**facts))
    assert isinstance(figures, RiskMetrics)
    return figures


def deposit(at_ms: int, amount: float) -> Deal:
    return Deal(
        event_time_ms=at_ms, recv_time_ms=at_ms, login=7, ticket=1, order=0, position_id=0,
        symbol="", type=2, entry=0, reason=0, volume_lots=0.0, price=0.0, profit=amount,
        commission=0.0, swap=0.0, fee=0.0, time_server_ms=at_ms,
    )  # fmt: skip


def test_drawdown_is_measured_from_the_highest_equity() -> None:
    risk = handler()
    assert seen(risk, MIDNIGHT_MS, 10_000).drawdown_percent == 0
    assert seen(risk, MIDNIGHT_MS + 1, 12_000).drawdown_percent == 0
    assert seen(risk, MIDNIGHT_MS + 2, 9_000).drawdown_percent == pytest.approx(25)


def test_the_days_loss_begins_anew_at_the_servers_midnight() -> None:
    risk = handler()
    seen(risk, MIDNIGHT_MS - 2, 10_000)
    assert seen(risk, MIDNIGHT_MS - 1, 9_700).daily_loss == pytest.approx(300)
    assert seen(risk, MIDNIGHT_MS, 9_600).daily_loss == 0
    assert seen(risk, MIDNIGHT_MS + 1, 9_550).daily_loss == pytest.approx(50)


def test_no_margin_in_use_is_no_level_of_zero() -> None:
    risk = handler()
    assert seen(risk, MIDNIGHT_MS, 10_000).margin_level_percent is None
    with_margin = seen(risk, MIDNIGHT_MS, 10_000, margin=500.0, margin_level_percent=2_000.0)
    assert with_margin.margin_level_percent == 2_000


def test_a_withdrawal_is_no_drawdown_and_a_deposit_before_our_time_is_no_peak() -> None:
    risk = handler()
    seen(risk, MIDNIGHT_MS, 10_000)
    assert list(risk.handle(deposit(MIDNIGHT_MS - 1, 10_000))) == []
    assert seen(risk, MIDNIGHT_MS + 1, 10_000).drawdown_percent == 0
    list(risk.handle(deposit(MIDNIGHT_MS + 2, -4_000)))
    after = seen(risk, MIDNIGHT_MS + 3, 6_000)
    assert (after.drawdown_percent, after.daily_loss) == (0, 0)


def test_open_positions_come_from_the_book() -> None:
    risk = handler()
    position = Position(
        ticket=1, identifier=1, symbol="EURUSD", side=0, volume_lots=1.0, price_open=1.1,
        time_ms=0, time_server_ms=0,
    )  # fmt: skip
    list(risk.handle(Book(event_time_ms=0, recv_time_ms=0, login=7, positions=(position,))))
    assert seen(risk, MIDNIGHT_MS, 10_000).positions_open == 1
