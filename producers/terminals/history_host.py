"""Deep history through a host of its own: a cold history call takes half a minute, and neither
ticks nor an emergency may stand behind it.

A second process attaches to the same terminal (native: the same program; classic: a second
connection). What asks for deep history goes there, everything else to the live host. Where the
second host cannot be had the live one serves both, and that is said once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from threading import Lock
from typing import Any, Protocol

from events.settings import Settings
from producers.terminals.attach import Attachment, WrongAccount
from producers.terminals.attach.account import Attached
from producers.terminals.client import HostClient, HostLimits, HostState, open_client
from producers.terminals.client.life import AttachLine
from producers.terminals.interface import HistoryLost, Priority, Reply, TerminalLost
from producers.terminals.spec import TerminalSpec

logger = logging.getLogger(__name__)

CALLS_MARKET = frozenset(
    {"copy_rates_from", "copy_rates_from_pos", "copy_rates_range", "copy_ticks_from",
     "copy_ticks_range"}
)  # fmt: skip
CALLS_DEEP = CALLS_MARKET | {
    "history_deals_get", "history_deals_total", "history_orders_get", "history_orders_total",
}  # fmt: skip
"""What may wait for the broker's server, for as long as that takes."""
KINDS = frozenset({"native", "classic"})
"""Terminals that two processes can use at once."""
PATIENCE_S = 60.0
"""A second host that did not serve for so long is done without, until it serves."""


class ServedClient(Protocol):
    """What a terminal server asks of the way to its terminal."""

    def state(self) -> HostState: ...

    def submit_call(
        self,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        priority: Priority = ...,
        timeout_s: float | None = None,
        on_started: Callable[[], None] | None = None,
    ) -> Future[Reply]: ...


class TwoHosts:
    """A `TerminalClient` over a live host and one for history. Thread-safe.

    `open_history` opens the second client when it is first needed; closing this object closes
    that one only. A failure of the second host is HistoryLost: the terminal is not down for it.
    """

    def __init__(
        self,
        live: HostClient,
        open_history: Callable[[], HostClient],
        *,
        methods: frozenset[str] = CALLS_DEEP,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.live = live
        self._open_history = open_history
        self._methods, self._patience_s, self._clock = methods, patience_s, clock
        self._lock = Lock()
        self._history: HostClient | None = None
        self._closed = self._told = False
        self._served_at = 0.0

    @property
    def history(self) -> HostClient | None:
        """The second host's client; None before the first call for deep history."""
        return self._history

    def state(self) -> HostState:
        """Of the live host."""
        return self.live.state()

    def submit(
        self,
        method: str,
        *args: Any,
        priority: Priority = Priority.ACCOUNT,
        timeout_s: float | None = None,
        **kwargs: Any,
    ) -> Future[Reply]:
        """As HostClient.submit."""
        return self.submit_call(method, args, kwargs, priority=priority, timeout_s=timeout_s)

    def submit_call(
        self,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        priority: Priority = Priority.ACCOUNT,
        timeout_s: float | None = None,
        on_started: Callable[[], None] | None = None,
    ) -> Future[Reply]:
        """As HostClient.submit_call."""
        client = self.live
        if priority == Priority.HISTORY and method in self._methods:
            client = self._chosen()
        future = client.submit_call(
            method, args, kwargs, priority=priority, timeout_s=timeout_s, on_started=on_started
        )
        return future if client is self.live else _told_apart(future)

    def call(
        self,
        method: str,
        *args: Any,
        priority: Priority = Priority.ACCOUNT,
        timeout_s: float | None = None,
        **kwargs: Any,
    ) -> Reply:
        """`submit` and wait. Raises TerminalLost (HistoryLost, TerminalHung, NotSent)."""
        return self.submit(method, *args, priority=priority, timeout_s=timeout_s, **kwargs).result()

    def close(self) -> None:
        """End the second host; the live one stays its owner's."""
        with self._lock:
            self._closed, history = True, self._history
        if history is not None:
            history.close()

    def __enter__(self) -> TwoHosts:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _chosen(self) -> HostClient:
        """Who serves deep history now."""
        with self._lock:
            if self._closed:
                return self.live
            now = self._clock()
            if self._history is None:
                self._history, self._served_at = self._open_history(), now
            state = self._history.state()
            if state.state == "up":
                self._served_at = now
                if self._told:
                    logger.warning("%s: deep history has its own host again", self.live.name)
                    self._told = False
                return self._history
            if now - self._served_at < self._patience_s:
                return self._history
            if not self._told:
                self._told = True
                logger.warning(
                    "%s: the host for deep history cannot be had (%s): the live one serves it, "
                    "and what is asked of it may wait behind history",
                    self.live.name, state.last_error or state.state,
                )  # fmt: skip
            return self.live


def open_two_hosts(
    spec: TerminalSpec, live: HostClient, *, limits: HostLimits, wanted: bool = True
) -> TwoHosts | None:
    """A second host for the terminal of `live`, where its kind allows that; None where not.

    A simulated terminal is one of these where its clock is the computer's, and its history then
    follows from the options: the account stays with the live host.
    """
    if not wanted or not (spec.kind in KINDS or shares_its_time(spec)):
        return None
    fields: dict[str, Any] = {"name": f"{spec.name}-history", "password": None}
    methods = CALLS_DEEP
    if spec.kind == "simulated":
        fields["options"] = {**spec.options, "memory": None, "trader": None}
        methods = CALLS_MARKET
    second = spec.model_copy(update=fields)

    def opened() -> HostClient:
        attach = _SameAccount(second, live)
        return open_client(second, limits=replace(limits, emergency_wait_s=None), attach=attach)

    return TwoHosts(live, opened, methods=methods)


def wants_history_host(settings: Settings, spec: TerminalSpec) -> bool:
    """What HISTORY_HOST says; by itself a simulated terminal has none: a second
    one would follow its faults by a clock of its own."""
    if settings.history_host == "auto":
        return spec.kind in KINDS
    return settings.history_host == "on"


def shares_its_time(spec: TerminalSpec) -> bool:
    """Whether two simulated terminals of these options show the same market at the same moment."""
    options = spec.options
    return (
        spec.kind == "simulated"
        and options.get("start_utc_ms") is None
        and float(options.get("speed", 1.0)) == 1.0
    )


class _SameAccount:
    """Attaches without logging in, and only to the account that the live host found."""

    def __init__(self, spec: TerminalSpec, live: HostClient) -> None:
        self._attachment, self._live = Attachment(spec), live

    def __call__(self, line: AttachLine) -> Attached:
        attached = self._attachment(line)
        seen = getattr(self._live.attached, "account", None)
        if seen is not None and seen.login != attached.account.login:
            raise WrongAccount(
                f"the host for deep history sees account {attached.account.login}, the live one "
                f"{seen.login}: log the terminal in to the right one"
            )
        return attached


def _told_apart(asked: Future[Reply]) -> Future[Reply]:
    """The same answer, with errors that say which host failed."""
    told: Future[Reply] = Future()
    told.add_done_callback(lambda done: asked.cancel() if done.cancelled() else None)

    def pass_on(done: Future[Reply]) -> None:
        if done.cancelled():
            told.cancel()
            return
        if not told.set_running_or_notify_cancel():
            return
        error = done.exception()
        if error is None:
            told.set_result(done.result())
        elif isinstance(error, TerminalLost):
            told.set_exception(HistoryLost(str(error)))
        else:
            told.set_exception(error)

    asked.add_done_callback(pass_on)
    return told
