"""One look at the account by the guard itself: few calls, bounded waiting, None where unknown."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any

from producers.terminals.interface import Priority, Reply, TerminalClient, TerminalLost

LOTS_EPSILON = 1e-9


@dataclass(frozen=True, slots=True)
class Look:
    """What the terminal answered. Everything is as of one moment, nearly: MetaTrader's answers
    are not one snapshot."""

    account: Any
    """AccountInfo, or None when it is unknown."""
    positions: tuple[Any, ...] | None
    orders: tuple[Any, ...] | None
    connected: bool
    """Whether the terminal has its broker."""
    utc_ms: int
    """The host's clock at the answer; 0 when there was none."""
    trouble: str = ""
    """Why something is unknown."""

    @property
    def login(self) -> int | None:
        return None if self.account is None else int(self.account.login)


def ends(request: Mapping[str, Any], position: Any) -> bool:
    """Whether a deal of this symbol, side and volume can do nothing but close the position."""
    try:
        lots = float(request.get("volume") or 0.0)
    except (TypeError, ValueError):
        return False
    return bool(
        request.get("symbol") == position.symbol
        and request.get("type") == 1 - position.type
        and 0.0 < lots <= position.volume + LOTS_EPSILON
    )


def look_at(
    client: TerminalClient, *, priority: Priority, within_s: float, timeout_s: float
) -> Look:
    """Ask for terminal, account, positions and orders; never waits longer than `within_s`.

    An EMERGENCY look does not wait behind a read: its client ends a host that is stuck in one.
    """
    asked: list[Future[Reply]] = []
    try:
        for method in ("terminal_info", "account_info", "positions_get", "orders_get"):
            asked.append(client.submit(method, priority=priority, timeout_s=timeout_s))
        replies = [_within(future, within_s) for future in asked]
    except (TerminalLost, FutureTimeout) as error:
        for future in asked:
            future.cancel()
        return Look(None, None, None, False, 0, trouble=_said(error, within_s))
    terminal, account, positions, orders = replies
    unknown = [reply.error for reply in replies if reply.unknown]
    return Look(
        account=None if account.unknown else account.value,
        positions=_rows(positions),
        orders=_rows(orders),
        connected=not terminal.unknown and bool(terminal.value.connected),
        utc_ms=account.utc_ms,
        trouble=f"the terminal answered {unknown[0][0]} {unknown[0][1]}" if unknown else "",
    )


def _within(future: Future[Reply], within_s: float) -> Reply:
    return future.result(timeout=within_s)


def _rows(reply: Reply) -> tuple[Any, ...] | None:
    return None if reply.unknown else tuple(reply.value)


def _said(error: Exception, within_s: float) -> str:
    if isinstance(error, FutureTimeout):
        return f"the terminal did not answer within {within_s:g} s"
    return str(error)
