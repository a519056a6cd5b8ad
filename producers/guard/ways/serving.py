"""Calls for a guard in plain values, as its socket and the link of a far terminal carry them."""

from __future__ import annotations

from typing import Any, Protocol

from events.decisions import Command, ReferenceSet, RulesSet
from events.guarding import GuardState
from events.rules import Rules
from producers.guard.commands import Answer, Via
from producers.guard.journal import HeardRow

HEARD_LATELY_S = 5.0
"""A bridge that heard the log within so long hears for the guard too."""


class Told(Protocol):
    """Who answers: the keeper of a guard, near or far."""

    def tell(self, command: Command, via: Via = "socket") -> Answer: ...
    def hear(self, after_row: int, count_max: int = 500) -> list[HeardRow]: ...
    def state(self) -> GuardState | None: ...
    def newest_row(self) -> int: ...
    def identity(self) -> str: ...
    def heard_log(self) -> None: ...
    def state_reference(self, stated: ReferenceSet) -> bool: ...
    def offer_rules(self, rules: Rules, told: RulesSet) -> bool:
        """Rules of somebody who has no file here; False: there are others."""
        ...


def serve_call(told: Told, method: str, args: tuple[Any, ...], *, via: Via) -> Any:
    """One call: guard_tell(command, via), guard_hear(after, count, log silent for s),
    guard_state(), guard_set(event).

    Raises ValueError for what cannot be read, LogError for what could not be written down.
    """
    if method == "guard_tell":
        # Over the link come commands of the log's lanes too: whose they are decides about resume.
        named: Any = args[1] if via == "link" and len(args) > 1 else via
        if named not in ("socket", "link", "operator", "risk"):
            raise ValueError(f"no command comes by {named!r}")
        return list(told.tell(Command.model_validate_json(str(args[0])), named))
    if method == "guard_hear":
        after_row, count_max, silent_s = int(args[0]), int(args[1]), (*args, None)[2]
        if silent_s is not None and float(silent_s) < HEARD_LATELY_S:
            told.heard_log()
        return [list(row) for row in told.hear(after_row, count_max)]
    if method == "guard_state":
        state = told.state()
        text = state.model_dump_json() if state is not None else ""
        return [text, told.newest_row(), told.identity()]
    if method == "guard_set" and args[0] == ReferenceSet.TYPE:
        return told.state_reference(ReferenceSet.model_validate_json(str(args[1])))
    if method == "guard_set" and args[0] == RulesSet.TYPE:
        event = RulesSet.model_validate_json(str(args[1]))
        return told.offer_rules(Rules.model_validate(event.rules), event)
    raise ValueError(f"the guard has no {method}")
