"""The one factory of Redis clients: retries off, protocol pinned, time-outs named.

redis-py repeats a command by itself after a lost connection (10 times in 8.x), which doubles what
it appends. Here nothing is repeated: a time-out means "outcome unknown", and the log is asked.

URLs: redis://, rediss:// (TLS), unix://, redis+sentinel://host:port,host:port/service/db,
redis+cluster://host:port (rediss+sentinel, rediss+cluster for TLS). User and password as usual.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry
from redis.sentinel import Sentinel

from events.log import LogError

CONNECT_TIMEOUT_S = 2.0
REPLY_TIMEOUT_S = 5.0
BLOCK_MS_MAX = 2_000
"""Longest blocking read; well below REPLY_TIMEOUT_S, which would break it."""
SENTINEL_PORT = 26379
REDIS_PORT = 6379

Client = Any
"""redis.Redis or redis.cluster.RedisCluster: redis-py's types unite sync and async replies."""


def connect(url: str, *, reply_timeout_s: float = REPLY_TIMEOUT_S) -> Client:
    """A client for the URL; nothing is sent yet. Raises LogError for a URL of no known form."""
    parts = urlsplit(url)
    options: dict[str, Any] = {
        "socket_timeout": reply_timeout_s,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "protocol": 2,
        "decode_responses": False,
    }
    if parts.scheme in {"redis", "rediss", "unix"}:
        return redis.Redis.from_url(url, **options)
    scheme, _, kind = parts.scheme.partition("+")
    if scheme in {"redis", "rediss"} and kind in {"sentinel", "cluster"}:
        options |= _credentials(parts.username, parts.password)
        options |= _tls_options(scheme, dict(parse_qsl(parts.query)))
        if kind == "cluster":
            return _connect_cluster(parts.netloc, options)
        return _connect_sentinel(parts.netloc, parts.path, options)
    raise LogError(
        f"{_without_password(url)!r} is no Redis URL: use redis://, rediss://, unix://, "
        "redis+sentinel://HOST:PORT/SERVICE or redis+cluster://HOST:PORT"
    )


def _connect_cluster(netloc: str, options: dict[str, Any]) -> Client:
    options.pop("retry_on_error")
    make_node: Any = ClusterNode  # redis-py has no types here
    nodes = [make_node(host, port) for host, port in _hosts(netloc, REDIS_PORT)]
    return RedisCluster(startup_nodes=nodes, **options)


def _connect_sentinel(netloc: str, path: str, options: dict[str, Any]) -> Client:
    service, _, database = path.strip("/").partition("/")
    if not service:
        raise LogError("a Sentinel URL names its service: redis+sentinel://HOST:PORT/SERVICE")
    sentinel_options = {
        name: options[name]
        for name in ("socket_timeout", "socket_connect_timeout", "retry", "protocol")
    }
    make: Any = Sentinel  # redis-py has no types here
    sentinel = make(_hosts(netloc, SENTINEL_PORT), sentinel_kwargs=sentinel_options)
    return sentinel.master_for(service, db=int(database or 0), **options)


def _hosts(netloc: str, port_default: int) -> list[tuple[str, int]]:
    hosts = []
    for host in netloc.rpartition("@")[2].split(","):
        name, colon, port = host.rpartition(":")
        hosts.append((name, int(port)) if colon else (host, port_default))
    return hosts


def _credentials(username: str | None, password: str | None) -> dict[str, Any]:
    found = {"username": username, "password": password}
    return {name: unquote(text) for name, text in found.items() if text}


def _tls_options(scheme: str, query: dict[str, str]) -> dict[str, Any]:
    if scheme != "rediss":
        return {}
    allowed = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs"}
    return {"ssl": True} | {name: text for name, text in query.items() if name in allowed}


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def take_replies_as_they_come(client: Client) -> None:
    """Reply shapes differ by version and protocol, and parsing them into dicts costs a third of
    the time of a read: the three reading commands are parsed by the log."""
    for command in ("XREAD", "XRANGE", "XREVRANGE"):
        client.response_callbacks.pop(command, None)
