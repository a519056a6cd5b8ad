"""Redis and PostgreSQL that come from pip, for whoever has no servers of their own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from events.embedded.keeping import Keeper
from events.embedded.postgres import EmbeddedPostgres
from events.embedded.server import EmbeddedError, EmbeddedServer
from events.embedded.valkey import EmbeddedValkey
from events.embedded.volatile import VolatileRedis
from events.settings import Settings

__all__ = [
    "EmbeddedError",
    "EmbeddedPostgres",
    "EmbeddedServer",
    "EmbeddedValkey",
    "Servers",
    "VolatileRedis",
    "servers",
    "stop_orphans",
]


@dataclass(frozen=True, slots=True)
class Servers:
    """Where log and database are, and of what kind: `configured`, `embedded` or `volatile`."""

    redis_url: str
    postgres_url: str
    redis_kind: str
    postgres_kind: str

    @property
    def volatile(self) -> bool:
        """Whether the log is forgotten when the servers stop."""
        return self.redis_kind == "volatile"


@contextmanager
def servers(settings: Settings, *, redis: bool = True, postgres: bool = True) -> Iterator[Servers]:
    """The servers to use: those configured; for what is not, embedded ones, which are started
    here (or used, where they run already) and stopped at the end by whoever started them.

    An address is "" for what was not asked for. Raises EmbeddedError.
    """
    with ExitStack() as stack:
        redis_url, redis_kind = settings.redis_url() or "", "configured"
        if redis and not settings.redis_configured:
            redis_url, redis_kind = _started(stack, _redis_here(settings))
        postgres_url, postgres_kind = settings.postgres_url() or "", "configured"
        if postgres and not settings.postgres_configured:
            postgres_url, postgres_kind = _started(stack, EmbeddedPostgres(settings.state_dir))
        yield Servers(
            redis_url=redis_url if redis else "",
            postgres_url=postgres_url if postgres else "",
            redis_kind=redis_kind,
            postgres_kind=postgres_kind,
        )


def stop_orphans(settings: Settings) -> tuple[str, ...]:
    """Stop embedded servers of this state folder whose owners died; their names.

    Raises EmbeddedError.
    """
    found: list[EmbeddedServer] = []
    if not settings.redis_configured:
        found.append(_redis_here(settings))
    if not settings.postgres_configured:
        found.append(EmbeddedPostgres(settings.state_dir))
    return tuple(server.name for server in found if server.stop_orphan())


def _redis_here(settings: Settings) -> EmbeddedServer:
    if sys.platform == "win32":
        return VolatileRedis(settings.state_dir)
    return EmbeddedValkey(settings.state_dir)


def _started(stack: ExitStack, server: EmbeddedServer) -> tuple[str, str]:
    stack.callback(server.stop)
    url = server.start()
    keeper = Keeper(server)
    keeper.start()
    stack.callback(keeper.stop)
    return url, "volatile" if server.volatile else "embedded"
