"""Findings about Redis and PostgreSQL: reachable, and keeping what they are given."""

from __future__ import annotations

import time
from collections.abc import Iterator

from events.health.finding import Finding, bad, ok, warn
from events.log import LogError
from events.postgres import DatabaseError, current, where
from events.redis.facts import ServerFacts, server_facts
from events.settings import Settings

CLOCK_APART_S_MAX = 2.0
MEMORY_SHARE_WARN = 0.8
_NO_SERVER = "none is configured, and the embedded one does not run now"
_START = "`bridgectl up` starts it; or set {} to a server of your own"


def server_findings(settings: Settings) -> Iterator[Finding]:
    yield from redis_findings(settings.redis_url())
    yield from database_findings(settings.postgres_url())


def redis_findings(url: str | None) -> Iterator[Finding]:
    if url is None:
        yield warn("redis", _NO_SERVER, _START.format("REDIS_URL"))
        return
    try:
        facts = server_facts(url)
    except LogError as error:
        yield bad("redis", str(error), "start it, or correct REDIS_URL")
        return
    yield ok("redis", f"{facts.name} {facts.version} answers")
    yield from judged(facts, now_s=time.time())


def judged(facts: ServerFacts, *, now_s: float) -> Iterator[Finding]:
    """How the server keeps what it is given."""
    yield _durability(facts)
    if facts.maxmemory_bytes and facts.maxmemory_policy not in (None, "noeviction"):
        yield bad(
            "redis memory",
            f"maxmemory-policy is {facts.maxmemory_policy}: it would drop unread events",
            "CONFIG SET maxmemory-policy noeviction",
        )
    elif facts.maxmemory_bytes and facts.memory_used_bytes is not None:
        share = facts.memory_used_bytes / facts.maxmemory_bytes
        fact = f"{share:.0%} of {facts.maxmemory_bytes / (1 << 20):,.0f} MiB used"
        full = share > MEMORY_SHARE_WARN
        yield warn("redis memory", fact, "raise maxmemory") if full else ok("redis memory", fact)
    if facts.clock_s is not None and abs(facts.clock_s - now_s) > CLOCK_APART_S_MAX:
        yield warn(
            "redis clock",
            f"{facts.clock_s - now_s:+.1f} s from ours",
            "synchronise both machines' clocks",
        )


def _durability(facts: ServerFacts) -> Finding:
    subject = "redis disk"
    if facts.volatile:
        return bad(
            subject,
            "a stand-in that forgets everything when it stops",
            "for anything but a demonstration use Redis or Valkey (WSL2, Docker) and set REDIS_URL",
        )
    if facts.appendonly is None:
        return warn(subject, "the server does not tell its settings", "check appendonly there")
    if facts.appendonly != "yes":
        return bad(
            subject,
            "appendonly is off: a restart loses what was not stored yet",
            "CONFIG SET appendonly yes, and in redis.conf",
        )
    if facts.appendfsync != "always":
        return warn(
            subject,
            f"appendfsync is {facts.appendfsync}: a power failure may lose seconds (ticks are "
            "pulled again, account facts come from the spool)",
            "CONFIG SET appendfsync always",
        )
    return ok(subject, "appendonly with appendfsync always")


def database_findings(url: str | None) -> Iterator[Finding]:
    if url is None:
        yield warn("database", _NO_SERVER, _START.format("POSTGRES_HOST"))
        return
    try:
        state = current(url)
    except DatabaseError as error:
        yield bad("database", str(error), "start it, or correct POSTGRES_*")
        return
    kind = f"TimescaleDB {state.timescaledb}" if state.timescaledb else "plain PostgreSQL"
    yield ok("database", f"{where(url)} answers, {kind}")
    if state.current is None:
        yield warn("schema", "no tables yet", "`bridgectl up` or `bridgectl migrate` makes them")
    elif not state.ready:
        yield bad(
            "schema",
            f"has {state.current}, this program needs {state.newest}",
            "bridgectl migrate (or upgrade the program, where the database is newer)",
        )
    else:
        yield ok("schema", f"at {state.current}")
