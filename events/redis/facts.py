"""What a Redis server is and how it keeps what it is given, for `doctor` and the live view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from redis.cluster import RedisCluster
from redis.exceptions import ResponseError

from events.redis.connect import connect
from events.redis.errors import errors_translated
from events.redis.scripts import understands_shebang


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """`None` where the server does not tell (managed servers forbid CONFIG)."""

    name: str
    version: str
    volatile: bool
    """A stand-in that forgets everything when it stops."""
    appendonly: str | None
    appendfsync: str | None
    maxmemory_bytes: int | None
    maxmemory_policy: str | None
    memory_used_bytes: int | None
    clock_s: float | None
    """The server's UTC clock."""


def server_facts(url: str, *, reply_timeout_s: float = 5.0) -> ServerFacts:
    """Ask the server (of a cluster: one node). Raises LogUnavailable or LogError."""
    client = connect(url, reply_timeout_s=reply_timeout_s)
    try:
        with errors_translated():
            volatile = not isinstance(client, RedisCluster) and not understands_shebang(client)
            if volatile:  # it hangs up after every error, so it is asked nothing it may not know
                return ServerFacts("stand-in", "fakeredis", True, *([None] * 6))
            info = _asked(client, "info") or {}
            seconds, micros = client.time()
            return ServerFacts(
                name="Valkey" if "valkey_version" in info else "Redis",
                version=str(info.get("valkey_version") or info.get("redis_version") or "unknown"),
                volatile=False,
                appendonly=_setting(client, "appendonly"),
                appendfsync=_setting(client, "appendfsync"),
                maxmemory_bytes=_number(info.get("maxmemory")),
                maxmemory_policy=_text(info.get("maxmemory_policy")),
                memory_used_bytes=_number(info.get("used_memory")),
                clock_s=int(seconds) + int(micros) / 1e6,
            )
    finally:
        client.close()


def _asked(client: Any, command: str) -> dict[str, Any] | None:
    try:
        answer: dict[str, Any] = client.execute_command(command.upper())
    except ResponseError:
        return None
    return answer


def _setting(client: Any, name: str) -> str | None:
    try:
        found = client.config_get(name)
    except ResponseError:
        return None
    return _text(found.get(name))


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value.decode() if isinstance(value, bytes) else str(value)


def _number(value: Any) -> int | None:
    return None if value is None else int(value)
