"""Account events to risk figures: drawdown from the peak, loss of the server's day."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from consumers.runtime.handler import Handler, Inputs, Order
from events.codec import AnyEvent
from events.decisions import RiskMetrics
from events.log import Lane
from events.trading import Account, Book, Deal

DAY_MS = 86_400_000
DEAL_BALANCE = 2
"""MT5's DEAL_TYPE_BALANCE: a deposit or a withdrawal, neither profit nor loss."""


class RiskHandler(Handler):
    """One RiskMetrics per look at the account.

    The peak is the highest equity seen, the day's reference the first equity seen on a day of the
    server's clock. A deposit or withdrawal moves both, from the moment the account was first seen.
    """

    order: ClassVar[Order] = Order.PRIORITY
    inputs: ClassVar[Inputs] = Inputs(lanes=(Lane.CRITICAL, Lane.HIGH))
    tasks: ClassVar[int | None] = 1
    types: ClassVar[frozenset[str]] = frozenset({"account", "book", "deal"})

    def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
        if isinstance(event, Account):
            yield self._figures(event)
        elif isinstance(event, Book):
            self._of(event.login)["positions"] = len(event.positions)
        elif isinstance(event, Deal) and event.type == DEAL_BALANCE:
            self._move(event)

    def _figures(self, seen: Account) -> RiskMetrics:
        account = self._of(seen.login)
        day = (seen.event_time_ms + seen.offset_s * 1000) // DAY_MS
        if "peak" not in account:
            account |= {"peak": seen.equity, "since_ms": seen.event_time_ms}
        if account.get("day") != day:
            account |= {"day": day, "reference": seen.equity}
        account["peak"] = peak = max(account["peak"], seen.equity)
        return RiskMetrics(
            event_time_ms=seen.event_time_ms,
            login=seen.login,
            equity=seen.equity,
            balance=seen.balance,
            floating=seen.profit,
            margin_free=seen.margin_free,
            margin_level_percent=seen.margin_level_percent if seen.margin > 0 else None,
            drawdown_percent=(peak - seen.equity) / peak * 100 if peak > 0 else 0.0,
            daily_loss=max(0.0, account["reference"] - seen.equity),
            positions_open=account.get("positions", 0),
        )

    def _move(self, deal: Deal) -> None:
        account = self._of(deal.login)
        if "peak" in account and deal.event_time_ms >= account["since_ms"]:
            account["peak"] += deal.profit
            account["reference"] += deal.profit

    def _of(self, login: int) -> dict[str, Any]:
        account: dict[str, Any] = self.state.setdefault(f"account:{login}", {})
        return account
