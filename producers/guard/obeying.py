"""Carrying a command out, once it was judged: what the guard does, and what it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from events.decisions import Command
from events.latch import UnreachedLatches
from producers.guard.commands import (
    Answer,
    Via,
    ends_a_block,
    judge_command,
    reason_of,
    scope_of,
    until_of,
)
from producers.guard.jobs import Job
from producers.guard.latching import StillLatched
from producers.guard.watch.blocks import Block

if TYPE_CHECKING:  # it is handed in
    from producers.guard.guard import Guard

RESUME_STOP_S = 20.0
"""How long a resume waits for a flatten that it stops."""
OF_RISK = "risk:"
"""Begins the causes of blocks that group risk asked for."""
CAUSE_CHARS_MAX = 128


def obey(guard: Guard, command: Command, via: Via) -> Answer:
    """Do what a command asks, or say why not."""
    # Group risk draws expiry from the terminal's clock, people from the computer's.
    now_ms = guard.now_ms() if via == "risk" else guard.wall_ms()
    judged = judge_command(command, login=guard.login, via=via, now_ms=now_ms)
    if judged.what == "refuse":
        return Answer(False, judged.text)
    reason, by = reason_of(command), command.issued_by
    if judged.what == "stale":
        guard.block(Block("stale", f"{judged.text}: {reason}", by))
        guard.voice.alert(
            "critical", "stale_command", f"{judged.text}; new trades are blocked: {reason}",
            cure="look at the account; then bridgectl flatten or bridgectl resume",
        )  # fmt: skip
        return Answer(False, f"{judged.text}: nothing is closed, new trades are blocked")
    if command.verb == "resume":
        return _resume(guard, command)
    if command.verb == "block":
        cause, until_ms = _cause(command, via), until_of(command)
        if ends_a_block(command):
            guard.unblock(cause)
            return Answer(True, f"no longer blocked: {reason}")
        guard.block(Block(cause, reason, by, until_ms))
        return Answer(True, "new trades are blocked")
    # What set a command of group risk off lies before it; virtual clocks do not tell.
    since_ms = guard.wall_ms()
    if not guard.options.virtual:
        since_ms = min(command.event_time_ms, since_ms)
    reducing = command if command.verb == "reduce" else None
    job = Job(scope_of(command), reason, by, since_ms, command.command_id, reducing)
    if reducing is not None:
        return Answer(True, "reducing" if guard.jobs.add(job) else "already closing")
    if via == "risk" and command.verb == "flatten" and _for_a_while(command):
        symbol, until_ms = str(command.arguments["symbol"]), until_of(command)
        guard.block(Block(f"{_cause(command, via)}/{symbol}", reason, by, until_ms, symbol))
        doing = "closing" if guard.jobs.add(job) else "already closing"
        return Answer(True, f"no new trades in {symbol}, {doing}")
    latch = guard.latch(
        reason, by, lock=str(command.arguments.get("lock", "manual")),
        until_ms=until_of(command), command_id=command.command_id,
    )  # fmt: skip
    if command.verb == "halt":
        return Answer(True, f"halted: no new trades on {guard.login} (latch {latch.latch_id})")
    doing = "closing" if guard.jobs.add(job) else "already closing"
    return Answer(True, f"latched, {doing}: {job.scope} (latch {latch.latch_id})")


def _resume(guard: Guard, command: Command) -> Answer:
    if guard.jobs.running is not None and not command.arguments.get("stop_flatten"):
        return Answer(False, "a flatten runs: wait for its end, or add --stop-flatten")
    guard.jobs.cancel()
    if not guard.jobs.wait_idle(RESUME_STOP_S):
        return Answer(False, "the flatten does not stop yet: try again")
    try:
        held = guard.latching.clear(
            guard.latches or (UnreachedLatches() if guard.follows_log else None),
            by=command.issued_by, command_id=command.command_id,
        )  # fmt: skip
    except StillLatched as error:
        return Answer(False, str(error))
    guard.unblock_all()
    guard.free()
    guard.voice.resolve("latch", f"resumed by {command.issued_by}")
    left = [block.reason for block in guard.blocks.all()]
    text = "trading is free" if held else "there was no latch; trading is free"
    return Answer(True, text if not left else f"resumed, but still blocked: {'; '.join(left)}")


def _for_a_while(command: Command) -> bool:
    """Whether a symbol is closed ahead of a window: it alone is stopped, until the window ends."""
    held = command.arguments.get("hold") == "symbol" and command.arguments.get("symbol")
    return bool(held) and until_of(command) is not None


def _cause(command: Command, via: Via) -> str:
    """Group risk names what a block is about, and ends it by a block of this cause until now."""
    cause = command.arguments.get("cause")
    return f"{OF_RISK}{cause}"[:CAUSE_CHARS_MAX] if via == "risk" and cause else "command"
