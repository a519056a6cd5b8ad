"""A terminal opened for a producer: its host's client, and the guard beside it.

Opened before the log: a guard needs none, and must not wait for one.
"""

from __future__ import annotations

from typing import Any

from events.settings import Settings, TerminalSettings
from producers.guard.assembly import GUARDED, any_keeper_of
from producers.guard.far_keeper import FarKeeper
from producers.guard.keeper import GuardKeeper
from producers.pollers.connection import Connection
from producers.terminals.attach import Attachment
from producers.terminals.client import HostClient, HostLimits, HostState, open_client
from producers.terminals.history_host import open_two_hosts, wants_history_host
from producers.terminals.interface import TerminalClient
from producers.terminals.spec import TerminalSpec


class OpenedTerminal:
    """Client and guard of one terminal. Close it."""

    def __init__(
        self,
        settings: Settings,
        terminal: TerminalSettings,
        spec: TerminalSpec,
        *,
        symbols: tuple[str, ...],
        guarded: bool = True,
    ) -> None:
        """Starts the host, and the guard where this kind has one. Raises GuardHeld, BadSettings,
        LogError (its journal)."""
        self.spec = spec
        self.watch = HostWatch()
        attachment = Attachment(spec, symbols=symbols, aliases=terminal.aliases)
        limits = HostLimits(call_s=settings.worker_timeout)
        self.client: HostClient = open_client(
            spec, limits=limits, attach=attachment, on_state=self.watch
        )
        self.two_hosts = open_two_hosts(
            spec, self.client, limits=limits, wanted=wants_history_host(settings, spec)
        )
        self.keeper: GuardKeeper | FarKeeper | None = None
        try:
            if guarded and spec.kind in GUARDED:
                self.keeper = any_keeper_of(settings, terminal, spec, self.client)
                self.keeper.start()
        except BaseException:
            self.close()
            raise

    @property
    def asked(self) -> TerminalClient:
        """Whom pollers ask: the host, or that and a second one for deep history."""
        return self.two_hosts or self.client

    def facts(self) -> dict[str, Any]:
        """What the producer's state tells of the host."""
        state = self.client.state()
        return {
            "calls": state.calls,
            "call_timeouts": state.timeouts,
            "host_restarts": state.restarts,
            "queue_length": state.queue_length,
        }

    def close(self) -> None:
        """The guard first: it may still be closing positions through the host."""
        try:
            if self.keeper is not None:
                self.keeper.close()
        finally:
            if self.two_hosts is not None:
                self.two_hosts.close()
            self.client.close()

    def __enter__(self) -> OpenedTerminal:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class HostWatch:
    """Tells the connection when a host ended. Called in the client's thread."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self._timeouts = 0

    def __call__(self, state: HostState) -> None:
        hung, self._timeouts = state.timeouts > self._timeouts, state.timeouts
        if state.state == "down" and self.connection is not None:
            self.connection.host_ended(hung=hung, detail=state.last_error)
