"""What a guard makes of a command before it does anything. Pure."""

from __future__ import annotations

from typing import Literal, NamedTuple

from events.decisions import Command, LimitBreach
from events.rules import Limit, Verdict

Via = Literal["socket", "link", "operator", "risk", "guard"]
"""How it came: the guard's own socket, the link of a far terminal, the operators' lane of the log,
the lane of group risk, or from the guard itself."""

AGE_MAX_MS = 300_000
"""A command from the log that names no time of expiry expires so long after it was given."""
REASON_CHARS_MAX = 500
CLOSING_ALREADY = "already closing"
"""In the answer to a command whose work another flatten does."""
CLOSED = "the guard does not know its account yet"
"""Begins every answer until it does; nothing may be opened then, and nothing can be closed."""


class Answer(NamedTuple):
    """What became of a command. `text` says why, or what happens now."""

    accepted: bool
    text: str
    repeated: bool = False
    """Answered before: nothing was done this time."""


class Judged(NamedTuple):
    """obey: do it. refuse: say no. stale: too late to close anything, so block and page."""

    what: Literal["obey", "refuse", "stale"]
    text: str = ""


def judge_command(command: Command, *, login: int, via: Via, now_ms: int) -> Judged:
    """Whether a command may be carried out on this account now."""
    if command.verb == "backfill":
        return Judged("refuse", "backfill is not the guard's: nothing was done")
    if command.login is not None and command.login != login:
        return Judged(
            "refuse", f"it is meant for account {command.login}, this guard stops {login}"
        )
    try:
        scope_of(command)
    except ValueError as error:
        return Judged("refuse", str(error))
    if command.verb == "resume":
        return _judge_resume(command, login=login, via=via, now_ms=now_ms)
    if not _expired(command, via=via, now_ms=now_ms) or command.verb == "halt":
        return Judged("obey")  # a late halt does no harm: it only keeps trades from beginning
    if command.verb == "block":
        # The end of a block holds whenever it is heard: what was blocked after it follows it.
        over = via == "risk" and ends_a_block(command)
        return Judged("obey") if over else Judged("refuse", "it has expired")
    return Judged("stale", f"the {command.verb} came {_late(command, now_ms)}")


def _judge_resume(command: Command, *, login: int, via: Via, now_ms: int) -> Judged:
    if via in ("risk", "guard"):
        return Judged("refuse", "only a human resumes: bridgectl resume")
    if _expired(command, via=via, now_ms=now_ms):
        return Judged("refuse", f"the resume came {_late(command, now_ms)}: give it again")
    typed = command.arguments.get("typed_login")
    if typed is None or str(typed) != str(login):
        return Judged(
            "refuse", f"the account number typed is {typed}, not that of this account: type it anew"
        )
    return Judged("obey")


def _expired(command: Command, *, via: Via, now_ms: int) -> bool:
    expires_ms = command.expires_ms
    if expires_ms is None:
        if via in ("socket", "guard"):
            return False
        expires_ms = command.event_time_ms + AGE_MAX_MS
    return now_ms > expires_ms


def _late(command: Command, now_ms: int) -> str:
    expires_ms = command.expires_ms or command.event_time_ms + AGE_MAX_MS
    return f"{(now_ms - expires_ms) / 1000:.0f} s after it expired"


def scope_of(command: Command) -> str:
    """`account`, `magic=N` or `symbol=NAME`. Raises ValueError."""
    magic, symbol = command.arguments.get("magic"), command.arguments.get("symbol")
    if magic is not None and symbol:
        raise ValueError("give magic or symbol, not both")
    if magic is not None:
        if isinstance(magic, bool) or not str(magic).isdecimal():
            raise ValueError(f"magic {magic!r} is no whole number")
        return f"magic={int(magic)}"
    return f"symbol={symbol}" if symbol else "account"


def until_of(command: Command) -> int | None:
    """When what is asked for ends by itself (UTC, ms). None, and so for whatever is no number: a
    human ends it."""
    until_ms = command.arguments.get("until_ms")
    try:
        return None if until_ms is None else int(until_ms)
    except (TypeError, ValueError, OverflowError):
        return None


def ends_a_block(command: Command) -> bool:
    """Whether a block is over as it begins, by the clock of whoever says so: its cause ends."""
    until_ms = until_of(command)
    return until_ms is not None and until_ms <= command.event_time_ms


def reason_of(command: Command) -> str:
    """Its reason, bounded, else the limit it names, else its verb."""
    given = command.arguments.get("reason") or command.arguments.get("breach") or command.verb
    return str(given)[:REASON_CHARS_MAX]


def breach_of(
    verdict: Verdict, *, login: int, now_ms: int, delay_ms: int, breach_id: str
) -> LimitBreach:
    """A hard limit that the guard itself saw reached, as an event."""
    return LimitBreach(
        event_time_ms=now_ms,
        login=login,
        limit=verdict.limit,
        level="act",
        action=verdict.action.value,
        figures=dict(verdict.figures),
        threshold=verdict.threshold,
        value=verdict.value,
        lock=verdict.lock.value,
        locked_until_ms=verdict.locked_until_ms,
        delay_ms=delay_ms,
        detail="hard limit, seen by the guard itself",
        breach_id=breach_id,
    )


def reduction_of(
    limit: Limit, verdict: Verdict, *, login: int, now_ms: int, breach_id: str
) -> Command:
    """What a hard limit that reduces asks for, in the words of a command; it goes by the id of its
    breach, since no log holds it."""
    arguments = {
        "reason": f"{verdict.limit} reached",
        "breach": verdict.limit,
        "reduce": limit.reduce.model_dump(mode="json") if limit.reduce is not None else {},
    }
    if limit.scope == "magic" and limit.magic is not None:
        arguments["magic"] = str(limit.magic)
    elif limit.scope == "symbol":
        arguments["symbol"] = verdict.key.partition(":")[2] or limit.symbol
    return Command(
        event_time_ms=now_ms,
        command_id=breach_id,
        verb="reduce",
        issued_by="guard",
        arguments=arguments,
        login=login,
    )
