"""A client that looks like the MetaTrader5 module: for scripts, and for one test of all kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from producers.terminals.interface import (
    CALLS,
    CALLS_HOST,
    CALLS_STATE,
    Priority,
    TerminalClient,
    TerminalHung,
    TerminalLost,
)

LOST = -10002
HUNG = -10005


class TerminalFacade:
    """A `Terminal` whose calls go to a host. Not for several threads: `last_error` is one.

    Where a client raises, the module has None (False where it answers yes or no) and an error.
    """

    def __init__(self, client: TerminalClient, *, priority: Priority = Priority.ACCOUNT) -> None:
        self._client = client
        self._priority = priority
        self._error = (1, "Success")
        self._utc_ms = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in CALLS and name not in CALLS_HOST:
            raise AttributeError(f"a terminal has no {name}")

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._call(name, args, kwargs)

        call.__name__ = name
        return call

    def last_error(self) -> tuple[int, str]:
        return self._error

    def utc_now_ms(self) -> int:
        """The host's clock at the last answer."""
        return self._utc_ms

    def _call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            reply = self._client.call(method, *args, priority=self._priority, **kwargs)
        except TerminalLost as error:
            self._error = (HUNG if isinstance(error, TerminalHung) else LOST, str(error))
            yes_or_no = method in CALLS_STATE and method != "shutdown"
            return False if yes_or_no else None
        self._error, self._utc_ms = reply.error, reply.utc_ms
        return reply.value
