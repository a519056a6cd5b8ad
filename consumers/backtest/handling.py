"""Live handlers in a backtest: events go round among them, the broker model and the strategy.

The handlers are those that `consume` runs, called the same way; only what lies around them is
missing: nothing is packed, stored or read between two events, since a run that dies is simply
begun again. `tests/unit/test_backtest_live.py` tells what a backtest told its handlers to groups
over a log, with tasks taken over in between, and holds them to the same events.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from consumers.runtime.handler import Handler
from consumers.runtime.state import State
from events.codec import MARKS, AnyEvent
from events.event import Event
from events.log import ACCOUNT_PARTITION, SOURCE, Entry, EntryId, Lane, Slot, Stream
from events.marks import Marks

ROUNDS_MAX = 10_000
"""More events from one tick: strategy and broker answer each other without end."""
NAMESPACE = "backtest"


class Endless(RuntimeError):
    """One tick led to more events than any strategy needs."""


def type_of(event: AnyEvent) -> str:
    """The name of an event's type."""
    if isinstance(event, Event):
        return event.TYPE
    return MARKS if isinstance(event, Marks) else "ticks"


class Driven:
    """One handler with its state in memory."""

    def __init__(self, name: str, handler: Handler) -> None:
        self.name, self.handler = name, handler
        self.types = handler.types
        handler.state = State()
        handler.setup()

    def handle(self, event: AnyEvent, entry: Entry) -> Iterable[AnyEvent]:
        """What follows from an event. Raises whatever the handler raises."""
        self.handler.entry = entry
        return self.handler.handle(event)


class Round:
    """Hands every event to whoever wants it, and what follows from it again, in order.

    `react` sees each event first: it carries intents and commands out at the broker model, and
    gives back what happened there.
    """

    def __init__(
        self, handlers: Sequence[Driven], *, react: Callable[[AnyEvent], Sequence[AnyEvent]]
    ) -> None:
        self._react = react
        self._by_type: dict[str, list[Driven]] = {}
        for driven in handlers:
            for name in driven.types:
                self._by_type.setdefault(name, []).append(driven)
        self._stream = Stream(Slot(NAMESPACE, SOURCE, ACCOUNT_PARTITION), Lane.HIGH)
        self._count = 0

    def take(self, events: Iterable[AnyEvent]) -> None:
        """Everything that follows, until nothing does. Raises Endless."""
        waiting = deque(events)
        for _ in range(ROUNDS_MAX):
            if not waiting:
                return
            event = waiting.popleft()
            waiting.extend(self._react(event))
            name = type_of(event)
            wanted = self._by_type.get(name)
            if wanted is None:
                continue
            entry = self._entry(event, name)
            for driven in wanted:
                waiting.extend(driven.handle(event, entry))
        raise Endless(
            f"one tick led to more than {ROUNDS_MAX} events: the strategy answers its own fills"
        )

    def _entry(self, event: AnyEvent, name: str) -> Entry:
        """Where the event would lie in a log: handlers tell by it what they decided on."""
        self._count += 1
        return Entry(self._stream, EntryId(event.event_time_ms, self._count), f"{name}.1", "", b"")
