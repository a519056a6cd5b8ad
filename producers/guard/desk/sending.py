"""A command of a human on its way to the guard: its socket, else the log; and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from events.codec import AnyEvent, BadEvent, UnknownEvent, decode_data
from events.decisions import Command
from events.guarding import FlattenEnded, GuardState
from events.log import LogError
from events.origin import refuse_unless_live
from events.settings import Settings, TerminalSettings
from producers.guard.assembly import log_opener
from producers.guard.commands import CLOSING_ALREADY, Answer
from producers.guard.options import guard_folder
from producers.guard.ways.asking import RESUME_ANSWER_S, GuardLine, NoGuard
from producers.guard.ways.posting import PostedCommand
from producers.guard.ways.progress import line_of

LOOK_S = 0.1
LOG_ANSWER_S = 10.0
Way = Literal["socket", "log", "direct"]
Tell = Callable[[str], None]
"""Takes a line of progress."""


class NobodyHeard(RuntimeError):
    """A command reached nobody. The message names causes and cure."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a command. `accepted` None: nobody can say yet."""

    command: Command
    terminal: str
    way: Way
    accepted: bool | None
    text: str
    state: GuardState | None = None
    ended: FlattenEnded | None = None

    @property
    def good(self) -> bool:
        """Whether what was asked for is so: a flatten must have ended FLAT."""
        if self.command.verb == "flatten":
            return self.ended is not None and self.ended.state == "FLAT"
        return self.accepted is True

    def to_json(self) -> dict[str, Any]:
        """For scripts."""
        ended = self.ended
        return {
            "verb": self.command.verb,
            "command_id": self.command.command_id,
            "terminal": self.terminal,
            "way": self.way,
            "accepted": self.accepted,
            "text": self.text,
            "state": ended.state if ended else self.state.state if self.state else None,
            "latched": self.state.latched if self.state else None,
            "positions": ended.positions if ended else self.state.positions if self.state else None,
            "orders": ended.orders if ended else None,
            "breach_to_flat_ms": ended.breach_to_flat_ms if ended else None,
            "verified_ms": ended.verified_ms if ended else None,
            "left": [
                one.model_dump(mode="json")
                for one in (ended.outcomes if ended else ())
                if one.outcome not in ("closed", "cancelled")
            ],
        }


def send(
    settings: Settings, terminal: TerminalSettings, command: Command, *, wait_s: float, tell: Tell
) -> Outcome:
    """The guard's socket, else the log. `wait_s`: for the end of a flatten.

    Raises NobodyHeard when neither way is open.
    """
    try:
        with GuardLine(guard_folder(settings.state_dir, terminal.name)) as line:
            return _by_socket(line, terminal, command, wait_s=wait_s, tell=tell)
    except NoGuard as error:
        tell(f"the guard's socket: {error}; trying the log")
        why = str(error)
    try:
        return _by_log(settings, terminal, command, wait_s=wait_s, tell=tell)
    except LogError as error:
        raise NobodyHeard(
            f"{command.verb} reached nobody: {why}; the log: {error}. Start the bridge, or go to "
            f"the terminal itself: bridgectl {command.verb} --terminal {terminal.name} --direct"
        ) from error


def _by_socket(
    line: GuardLine, terminal: TerminalSettings, command: Command, *, wait_s: float, tell: Tell
) -> Outcome:
    """Raises NoGuard; posting the same command to the log afterwards does no harm."""
    _, row = line.state()
    if command.arguments.get("stop_flatten"):
        tell(f"stopping what is closed now; the answer may take up to {RESUME_ANSWER_S:g} s")
    answer = line.tell(command)
    tell(f"by the guard's socket: {answer.text}")
    ended = None
    if command.verb == "flatten" and answer.accepted:
        ended = watch_flatten(line.hear, row, wait_s=wait_s, tell=tell, of=awaited(command, answer))
    state, _ = line.state()
    return Outcome(command, terminal.name, "socket", answer.accepted, answer.text, state, ended)


def awaited(command: Command, answer: Answer) -> str:
    """Whose flatten ends what was asked for; empty: whichever is under way already."""
    return "" if CLOSING_ALREADY in answer.text else command.command_id


def ends_it(ended: FlattenEnded, of: str) -> bool:
    """Whether a flatten is the one of a command, or took it over. An older guard does not tell."""
    return not of or not ended.command_id or of in (ended.command_id, *ended.took_over)


def watch_flatten(
    hear: Callable[[int], list[Any]], after_row: int, *, wait_s: float, tell: Tell, of: str
) -> FlattenEnded | None:
    """Show what a guard tells until the flatten of a command ends; None when it did not in
    time."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        rows = hear(after_row)
        for row in rows:
            after_row = row.row
            try:
                event = decode_data(row.type, row.key, row.data)
            except (UnknownEvent, BadEvent):
                continue
            if text := line_of(event):
                tell(text)
            if isinstance(event, FlattenEnded) and ends_it(event, of):
                return event
        if not rows:
            time.sleep(LOOK_S)
    return None


def _by_log(
    settings: Settings, terminal: TerminalSettings, command: Command, *, wait_s: float, tell: Tell
) -> Outcome:
    """Raises LogError."""
    log = log_opener(settings)()
    try:
        if terminal.namespace not in log.namespaces():
            raise LogError(f"the log holds no terminal called {terminal.namespace!r}")
        refuse_unless_live(log, terminal.namespace, who="a guard")
        posted = PostedCommand(log, terminal.namespace, command)
        tell("by the log: posted")
        if command.verb != "flatten":
            obeyed = posted.obeyed(LOG_ANSWER_S)
            text = (
                "obeyed" if obeyed else f"no guard showed within {LOG_ANSWER_S:g} s that it obeyed"
            )
            return Outcome(command, terminal.name, "log", obeyed or None, text)
        ended = _flatten_of(posted.events(wait_s), tell, of=command.command_id)
        text = f"{ended.state}" if ended else "no flatten ended in time: is a guard running?"
        return Outcome(command, terminal.name, "log", bool(ended) or None, text, None, ended)
    finally:
        log.close()


def _flatten_of(events: Iterator[AnyEvent], tell: Tell, *, of: str) -> FlattenEnded | None:
    """By the log nobody answers: one of the whole account may have done it in its place."""
    for event in events:
        if text := line_of(event):
            tell(text)
        if isinstance(event, FlattenEnded) and (event.scope == "account" or ends_it(event, of)):
            return event
    return None
