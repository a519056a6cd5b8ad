"""Who may send orders: asked right before an order leaves for the host, not when it was queued."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from producers.terminals import constants as mt5
from producers.terminals.interface import Priority, Reply


class OrderGate(Protocol):
    """Says why an `order_send` must not go out now; None: it may. Must return at once.

    `by_guard`: the guard itself asks, who closes what others opened.
    """

    def __call__(self, request: Mapping[str, Any], by_guard: bool) -> str | None: ...


def may_open(request: Mapping[str, Any]) -> bool:
    """Whether a request could open or enlarge anything: all that is not plainly the end of a
    position or of a pending order, or a change of its stops.

    A deal with `position` closes that position (MQL5 reference, MqlTradeRequest); moving a
    pending order brings it nearer to the market, so it counts as opening.
    """
    action = request.get("action")
    if action == mt5.TRADE_ACTION_DEAL:
        return not request.get("position")
    return action not in (
        mt5.TRADE_ACTION_SLTP, mt5.TRADE_ACTION_REMOVE, mt5.TRADE_ACTION_CLOSE_BY
    )  # fmt: skip


class GatedClient(Protocol):
    """A HostClient, as far as the guard's own way to it needs to know."""

    def submit_call(
        self,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        priority: Priority = ...,
        timeout_s: float | None = ...,
        by_guard: bool = ...,
    ) -> Future[Reply]: ...


class GuardsWay:
    """A `TerminalClient` over a HostClient whose orders the gate lets pass. For the guard alone.

    `close` does nothing: the client belongs to whoever opened it.
    """

    def __init__(self, client: GatedClient) -> None:
        self._client = client

    def submit(
        self,
        method: str,
        *args: Any,
        priority: Priority = Priority.EMERGENCY,
        timeout_s: float | None = None,
        **kwargs: Any,
    ) -> Future[Reply]:
        """See `TerminalClient.submit`."""
        return self._client.submit_call(
            method, args, kwargs, priority=priority, timeout_s=timeout_s, by_guard=True
        )

    def call(
        self,
        method: str,
        *args: Any,
        priority: Priority = Priority.EMERGENCY,
        timeout_s: float | None = None,
        **kwargs: Any,
    ) -> Reply:
        """See `TerminalClient.call`."""
        return self.submit(method, *args, priority=priority, timeout_s=timeout_s, **kwargs).result()

    def close(self) -> None:
        """The client is not ours to close."""
