"""How a namespace came about. What was not written by a terminal's producer is the past: nothing
that acts on an account, or wakes people, may follow it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from events.log import LogError

if TYPE_CHECKING:
    from events.log import Log

Origin = Literal["live", "import", "replay", "backtest"]
"""Written by a terminal's producer, from files, from recorded events played again, or by a
backtest."""
LIVE: Origin = "live"
ORIGINS: tuple[Origin, ...] = get_args(Origin)


class NotLive(LogError):
    """A namespace holds the past; whoever follows terminals alone leaves it be."""


def check_origin(namespace: str, origin: Origin, found: Origin) -> None:
    """Raises LogError when the namespace came about in a way that does not go with `origin`."""
    if origin not in ORIGINS:
        raise LogError(f"{origin!r} is no origin of a namespace: one of {', '.join(ORIGINS)}")
    if found != origin and (origin, found) != ("import", LIVE):
        raise LogError(
            f"namespace {namespace!r} holds what came by {found}, not {origin}: choose another name"
        )


def origin_of(text: str | bytes | None) -> Origin:
    """The origin as it is stored; what an older version did not store is live. Raises LogError
    for one that this version does not know."""
    name = text.decode() if isinstance(text, bytes) else text or LIVE
    for origin in ORIGINS:
        if name == origin:
            return origin
    raise LogError(f"a namespace of origin {name!r}: this version knows {', '.join(ORIGINS)}")


def refuse_unless_live(log: Log, namespace: str, *, who: str) -> None:
    """Raises NotLive, naming `who` asks, for a namespace that is no terminal's own."""
    if (origin := log.origin(namespace)) != LIVE:
        raise NotLive(
            f"namespace {namespace!r} came by {origin}: {who} follows only what a terminal's "
            "producer writes"
        )
