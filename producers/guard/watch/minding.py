"""What a guard blocks and closes for by itself: references that nobody knows, windows of the
calendar."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

from events.rules import References, Rules, Verdict, WindowNow, unknown_for, windows_at
from producers.guard.voice import Voice
from producers.guard.watch.blocks import Block

REFERENCES, WINDOW = "references", "window"
CLOSED_MAX = 1_024
Held = Collection[str] | None


class Blocking(Protocol):
    """The guard, as far as this needs it."""

    def block(self, block: Block) -> None: ...
    def unblock(self, cause: str) -> bool: ...

    @property
    def voice(self) -> Voice: ...


class Closing(Blocking, Protocol):
    """The guard, as far as windows need it."""

    def close_ahead(self, window: str, reason: str, until_ms: int, symbol: str = "") -> None: ...
    def currencies(self, symbol: str) -> tuple[str, ...] | None: ...


class Owner(Closing, Protocol):
    """Who is told of everything that a watch concludes: the guard."""

    def breached(self, verdict: Verdict, *, since_ms: int, delay_ms: int) -> None: ...
    def dead_man_tripped(self, reason: str, *, flatten: bool) -> None: ...


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


class Windows:
    """Windows of the calendar as a guard keeps them: nothing is opened in one that blocks, nor
    ahead of one that closes; what is open then is closed, once for each window."""

    def __init__(self) -> None:
        self._blocking: set[str] = set()
        self._closed: dict[str, int] = {}
        """What was closed ahead of which window, until when it lasts."""

    def forget(self) -> None:
        """A human resumed: what still holds acts again."""
        self._closed.clear()

    def mind(self, owner: Closing, rules: Rules, held: Held, now_ms: int) -> None:
        """`held`: symbols of what is open; None: nobody knows."""
        found = windows_at(rules, now_ms) if rules.windows else ()
        blocks = _blocks(one for one in found if one.block)
        for cause in self._blocking - blocks.keys():
            owner.unblock(cause)
        self._blocking = set(blocks)
        for block in blocks.values():
            owner.block(block)
        self._closed = {key: until for key, until in self._closed.items() if until > now_ms}
        for window in found:
            if window.flatten and window.phase == "before":
                self._close(owner, window, held)

    def _close(self, owner: Closing, window: WindowNow, held: Held) -> None:
        for symbol in _to_close(owner, window, held):
            key = f"{window.window}/{window.begin_ms}/{symbol}"
            if key in self._closed or len(self._closed) >= CLOSED_MAX:
                continue
            self._closed[key] = window.until_ms
            owner.close_ahead(window.window, _named(window), window.until_ms, symbol)


def _to_close(owner: Closing, window: WindowNow, held: Held) -> Iterator[str]:
    """Symbols that are open and that it is about; "" is everything, open or not known."""
    if not window.symbols and not window.concerns:
        if held is None or held:
            yield ""
        return
    for symbol in sorted(held or ()):
        known = owner.currencies(symbol)
        # Nobody knows its currencies yet: the next look does.
        if known is not None and window.about(symbol, *known):
            yield symbol


def _blocks(windows: Iterable[WindowNow]) -> dict[str, Block]:
    """One for each window: of overlapping occurrences what they concern together."""
    found: dict[str, Block] = {}
    for one in windows:
        cause = f"{WINDOW}:{one.window}"
        block = Block(
            cause, _named(one), "guard", one.until_ms, symbols=one.symbols, concerns=one.concerns
        )
        if (other := found.get(cause)) is not None:
            both = {*block.concerns, *other.concerns} if block.concerns and other.concerns else ()
            later = max(block, other, key=lambda one: one.until_ms or 0)
            block = later._replace(concerns=tuple(sorted(both)))
        found[cause] = block
    return found


def _named(window: WindowNow) -> str:
    return f"{window.window} {window.name}".strip()
