"""The supervised way to a terminal, near or far."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace

from producers.terminals.client.host_client import HostClient, HostState
from producers.terminals.client.life import Attach, AttachLine
from producers.terminals.client.limits import HostLimits
from producers.terminals.client.link import Link, LocalLink
from producers.terminals.client.remote_link import RemoteLink
from producers.terminals.spec import TerminalSpec

__all__ = ["Attach", "AttachLine", "HostClient", "HostLimits", "HostState", "open_client"]

IN_FLIGHT_FAR = 32


def open_client(
    spec: TerminalSpec,
    *,
    limits: HostLimits | None = None,
    attach: Attach | None = None,
    on_state: Callable[[HostState], None] | None = None,
) -> HostClient:
    """A client of the terminal that `spec` names: its own host process, or a terminal server.

    Returns at once; the first host starts in the background (`wait_until_up`). For deep history
    open a second client of the same spec: it has a second host.
    """

    limits = limits or HostLimits()
    if limits.in_flight_max is None and (spec.kind == "remote" or spec.link_latency_ms):
        limits = replace(limits, in_flight_max=IN_FLIGHT_FAR)
    session = secrets.token_hex(16)

    def open_link() -> Link:
        if spec.kind == "remote":
            return RemoteLink(spec, session=session)
        return LocalLink(spec)

    return HostClient(open_link, name=spec.name, limits=limits, attach=attach, on_state=on_state)
