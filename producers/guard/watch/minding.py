"""What a guard blocks for by itself: references that nobody knows, windows of the calendar."""

from __future__ import annotations

from typing import Protocol

from events.rules import References, Rules, unknown_for, windows_at
from producers.guard.voice import Voice
from producers.guard.watch.blocks import Block

REFERENCES, WINDOW = "references", "window"


class Blocking(Protocol):
    """The guard, as far as this needs it."""

    def block(self, block: Block) -> None: ...
    def unblock(self, cause: str) -> bool: ...

    @property
    def voice(self) -> Voice: ...


def mind_references(
    owner: Blocking, rules: Rules, references: References | None, terminal: str
) -> None:
    """Nothing is opened while a hard limit rests on something that nobody knows."""
    unknown = unknown_for(rules, references) if references is not None else ()
    if not unknown:
        if owner.unblock(REFERENCES):
            owner.voice.resolve(REFERENCES, "every reference of a hard limit is known")
        return
    text = f"unknown, so a worst case holds and nothing is opened: {', '.join(unknown)}"
    owner.block(Block(REFERENCES, text, "guard"))
    owner.voice.alert(
        "critical", REFERENCES, text, cure=f"bridgectl risk reference set --terminal {terminal}"
    )


def mind_windows(owner: Blocking, rules: Rules, now_ms: int) -> None:
    """Nothing is opened in a window that blocks, nor ahead of one that closes."""
    blocking = [one for one in windows_at(rules, now_ms) if one.block] if rules.windows else []
    if not blocking:
        owner.unblock(WINDOW)
        return
    last = max(blocking, key=lambda one: one.until_ms)
    owner.block(Block(WINDOW, f"{last.window} {last.name}".strip(), "guard", last.until_ms))
