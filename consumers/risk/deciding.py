"""From decisions to events: what a limit says, and what the guard is asked to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from events.codec import AnyEvent
from events.decisions import Command, LimitBreach
from events.rules import Action, Decision, Limit, Rules

COMMAND_LIFE_MS = 60_000
"""A guard that hears of a command later than this must not close anything on it."""
ISSUED_BY = "risk"
EQUITY_UNKNOWN = "equity_unknown"
"""What stands in place of a limit's name when equity cannot be read for too long."""
Verb = Literal["halt", "flatten", "resume", "backfill", "block", "reduce"]


@dataclass(frozen=True, slots=True)
class Moment:
    """When something is decided, about which account, and on which entry."""

    now_ms: int
    login: int
    place: str


def events_of(decision: Decision, rules: Rules, at: Moment) -> Iterator[AnyEvent]:
    """What follows from one decision; a wish to read again is the guard's to fulfil."""
    if decision.kind in ("warn", "act"):
        breach = breach_of(decision, at)
        yield breach
        if decision.kind == "act":
            yield from _asked(decision, rules.limit(decision.limit), breach.breach_id, at)
    elif decision.kind == "cleared":
        limit = next((one for one in rules.limits if one.name == decision.limit), None)
        if limit is not None and limit.action == Action.BLOCK:
            yield unblock(_cause(limit, decision.key), decision.detail, at)
    elif decision.kind == "unknown":
        breach = breach_of(decision, at)
        yield breach
        yield block(
            EQUITY_UNKNOWN, f"equity is unknown: {decision.detail}", at, breach_id=breach.breach_id
        )
    elif decision.kind == "known":
        yield unblock(EQUITY_UNKNOWN, decision.detail, at)


def breach_of(decision: Decision, at: Moment) -> LimitBreach:
    """A limit that was reached, with the figures and entries it was decided on."""
    return LimitBreach(
        event_time_ms=at.now_ms,
        login=at.login,
        limit=decision.limit or EQUITY_UNKNOWN,
        level="warn" if decision.kind == "warn" else "act",
        action=decision.action.value,
        figures=dict(decision.figures),
        threshold=decision.threshold,
        value=decision.value,
        lock=decision.lock.value,
        locked_until_ms=decision.locked_until_ms,
        entries=decision.entries or (at.place,),
        delay_ms=decision.delay_ms,
        detail=decision.detail,
        breach_id=f"{ISSUED_BY}/{at.login}/{decision.limit or EQUITY_UNKNOWN}/{decision.key}/"
        f"{decision.kind}/{at.place}",
    )


def reduce_again(limit: Limit, decision_key: str, at: Moment) -> Command:
    """The next step of a reduction that closes one position after the other."""
    return _command("reduce", _cause(limit, decision_key), f"{limit.name} is still reached", at,
                    **_scope(limit, decision_key), **_how(limit), breach=limit.name)  # fmt: skip


def block(cause: str, reason: str, at: Moment, *, until_ms: int | None = None,
          **more: Any) -> Command:  # fmt: skip
    """No new trades while `cause` lasts, or until a time."""
    return _command("block", cause, reason, at, until_ms=until_ms, **more)


def unblock(cause: str, reason: str, at: Moment) -> Command:
    """A cause is over: a block that ends now."""
    return _command("block", cause, reason, at, until_ms=at.now_ms)


def flatten_ahead(cause: str, reason: str, at: Moment, *, until_ms: int,
                  symbol: str = "") -> Command:  # fmt: skip
    """Close ahead of a window; the latch ends with it. Of a symbol it alone is stopped."""
    scope = {"symbol": symbol, "hold": "symbol"} if symbol else {}
    return _command("flatten", cause, reason, at, lock="until_reset", until_ms=until_ms, **scope)


def _asked(decision: Decision, limit: Limit, breach_id: str, at: Moment) -> Iterator[Command]:
    value = f"{decision.value:.2f}" if decision.value is not None else "unknown"
    reason = f"{limit.name}: {decision.key} is {value}, limit {decision.threshold:.2f}"
    cause, until_ms = _cause(limit, decision.key), decision.locked_until_ms
    breach = {"breach": limit.name, "breach_id": breach_id}
    if limit.action == Action.BLOCK:
        yield block(cause, reason, at, until_ms=until_ms, **breach)
    elif limit.action == Action.REDUCE:
        yield _command("reduce", cause, reason, at, **_scope(limit, decision.key), **_how(limit),
                       **breach)  # fmt: skip
    elif limit.action == Action.FLATTEN:
        yield _command(
            "flatten", cause, reason, at, **_scope(limit, decision.key), **breach,
            lock=decision.lock.value, until_ms=until_ms,
        )  # fmt: skip


def _cause(limit: Limit, key: str) -> str:
    """Each subject of a limit begins and ends by itself."""
    subject = key.partition(":")[2]
    return f"limit:{limit.name}:{subject}" if subject else f"limit:{limit.name}"


def _scope(limit: Limit, key: str) -> dict[str, Any]:
    if limit.scope == "magic" and limit.magic is not None:
        return {"magic": str(limit.magic)}
    if limit.scope == "symbol":
        return {"symbol": key.partition(":")[2] or limit.symbol}
    return {}


def _how(limit: Limit) -> dict[str, Any]:
    return {"reduce": limit.reduce.model_dump(mode="json") if limit.reduce is not None else {}}


def _command(verb: Verb, cause: str, reason: str, at: Moment, **arguments: Any) -> Command:
    given = {name: value for name, value in arguments.items() if value is not None}
    # What one entry asks for twice (of two symbols, or an end and a new beginning) is two commands:
    # a guard obeys each id once.
    about = "/".join(str(given[name]) for name in ("symbol", "magic", "until_ms") if name in given)
    return Command(
        event_time_ms=at.now_ms,
        command_id=f"risk/{at.login}/{verb}/{cause}/{about or '-'}/{at.place}",
        verb=verb,
        issued_by=ISSUED_BY,
        expires_ms=at.now_ms + COMMAND_LIFE_MS,
        arguments={"cause": cause, "reason": reason, **given},
        login=at.login,
    )
