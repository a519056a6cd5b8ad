"""Carrying a command out, once it was judged: what the guard does, and what it answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from events.decisions import Command
from events.latch import UnreachedLatches
from events.log import LogError
from events.rules import Verdict
from events.views.moments import utc_text
from producers.guard.commands import (
    CLOSING_ALREADY,
    Answer,
    Via,
    ends_a_block,
    judge_command,
    reason_of,
    scope_of,
    until_of,
)
from producers.guard.jobs import Job
from producers.guard.journal import Journal
from producers.guard.latching import StillLatched
from producers.guard.voice import Voice
from producers.guard.watch.blocks import OF_RISK, Block

if TYPE_CHECKING:  # it is handed in
    from producers.guard.guard import Guard

RESUME_STOP_S = 20.0
"""How long a resume waits for a flatten that it stops."""
CAUSE_CHARS_MAX = 128
NAMES_MAX = 1_000


class Answers:
    """What was answered to each command, so that it is obeyed once. Thread-safe."""

    def __init__(self, journal: Journal, voice: Voice) -> None:
        self._journal, self._voice = journal, voice
        self._unwritten: dict[str, tuple[bool, str]] = {}
        """What the journal could not take."""

    def of(self, command_id: str) -> Answer | None:
        """What was answered before, if anything."""
        try:
            known = self._journal.command(command_id) or self._unwritten.get(command_id)
        except LogError as error:  # a disk that fails must not keep a halt from holding
            self._voice.alert("critical", "guard", str(error))
            known = self._unwritten.get(command_id)
        return None if known is None else Answer(*known, repeated=True)

    def keep(self, command: Command, answer: Answer) -> None:
        """Write down what is answered."""
        try:
            self._journal.take_command(
                command.command_id,
                verb=command.verb,
                by=command.issued_by,
                accepted=answer.accepted,
                text=answer.text,
            )
        except LogError as error:
            self._unwritten[command.command_id] = (answer.accepted, answer.text)
            self._voice.alert("critical", "guard", f"a command is not written down: {error}")


def obey(guard: Guard, command: Command, via: Via) -> Answer:
    """Do what a command asks, or say why not; at once. A resume is `resume`'s."""
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
    if command.verb == "block":
        return _block(guard, command, via)
    # What set a command of group risk off lies before it; virtual clocks do not tell.
    since_ms = guard.wall_ms()
    if not guard.options.virtual:
        since_ms = min(command.event_time_ms, since_ms)
    reducing = command if command.verb == "reduce" else None
    job = Job(scope_of(command), reason, by, since_ms, command.command_id, reducing)
    if reducing is not None:
        return Answer(True, "reducing" if guard.jobs.add(job) else CLOSING_ALREADY)
    if via == "risk" and command.verb == "flatten" and _for_a_while(command):
        symbol, until_ms = str(command.arguments["symbol"]), until_of(command)
        guard.block(Block(f"{_cause(command, via)}/{symbol}", reason, by, until_ms, symbol))
        doing = "closing" if guard.jobs.add(job) else CLOSING_ALREADY
        return Answer(True, f"no new trades in {symbol}, {doing}")
    latch = guard.latch(
        reason, by, lock=str(command.arguments.get("lock", "manual")),
        until_ms=until_of(command), command_id=command.command_id,
    )  # fmt: skip
    if command.verb == "halt":
        return Answer(True, f"halted: no new trades on {guard.login} (latch {latch.latch_id})")
    added = guard.jobs.add(job._replace(latch_id=latch.latch_id))
    doing = "closing" if added else CLOSING_ALREADY
    return Answer(True, f"latched, {doing}: {job.scope} (latch {latch.latch_id})")


def resume(guard: Guard, command: Command, via: Via) -> Answer:
    """A human ends the latch. Waits for a flatten that is to be stopped, and for the log: called
    without any lock."""
    judged = judge_command(command, login=guard.login, via=via, now_ms=guard.wall_ms())
    if judged.what != "obey":
        return Answer(False, judged.text)
    since = guard.latched_so_often
    if guard.jobs.running is not None and not command.arguments.get("stop_flatten"):
        return Answer(False, "a flatten runs: wait for its end, or add --stop-flatten")
    reached = still_reached(guard.watch.reached())
    if reached and not command.arguments.get("despite"):
        return Answer(
            False,
            f"still reached: {reached}; all would be closed again at once. Wait for the reset, "
            "correct the rules or what they measure from (bridgectl risk reference set), or add "
            "--despite",
        )
    guard.jobs.cancel()
    if not guard.jobs.wait_idle(RESUME_STOP_S):
        return Answer(False, "the flatten does not stop yet: try again")
    try:
        held = guard.latching.clear(
            guard.latches or (UnreachedLatches() if guard.follows_log else None),
            by=command.issued_by, command_id=command.command_id, last=guard.freeing(since),
        )  # fmt: skip
    except StillLatched as error:
        return Answer(False, str(error))
    guard.voice.resolve("latch", f"resumed by {command.issued_by}")
    left = [block.reason for block in guard.blocks.all()]
    text = "trading is free" if held else "there was no latch; trading is free"
    if left:
        text = f"resumed, but still blocked: {'; '.join(left)}"
    if reached:
        text += f"; still reached, so it acts again at the next look: {reached}"
    return Answer(True, text)


def still_reached(verdicts: Iterable[Verdict]) -> str:
    """Limits, where they stand, and until when they hold."""
    return "; ".join(
        f"{one.limit}: {one.key} is {one.value:.2f}, limit {one.threshold:.2f}"
        + (f" (until {utc_text(one.locked_until_ms)})" if one.locked_until_ms else "")
        for one in verdicts
    )


def _block(guard: Guard, command: Command, via: Via) -> Answer:
    cause, reason = _cause(command, via), reason_of(command)
    if ends_a_block(command):
        guard.unblock(cause)
        return Answer(True, f"no longer blocked: {reason}")
    block = Block(
        cause, reason, command.issued_by, until_of(command),
        symbols=_names(command, "symbols"), concerns=_names(command, "concerns"),
    )  # fmt: skip
    guard.block(block)
    only = f" in {', '.join(block.only)}" if block.only else ""
    return Answer(True, f"new trades are blocked{only}")


def _names(command: Command, argument: str) -> tuple[str, ...]:
    """Symbols or currencies that a block is about; what is no list of names is about all."""
    given = command.arguments.get(argument)
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        return ()
    return tuple(given[:NAMES_MAX])


def _for_a_while(command: Command) -> bool:
    """Whether a symbol is closed ahead of a window: it alone is stopped, until the window ends."""
    held = command.arguments.get("hold") == "symbol" and command.arguments.get("symbol")
    return bool(held) and until_of(command) is not None


def _cause(command: Command, via: Via) -> str:
    """Group risk names what a block is about, and ends it by a block of this cause until now."""
    cause = command.arguments.get("cause")
    return f"{OF_RISK}{cause}"[:CAUSE_CHARS_MAX] if via == "risk" and cause else "command"
