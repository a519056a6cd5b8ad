"""A strategy as a handler of the log: the same loop, commits, replay and dead letters as others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from consumers.runtime.handler import Beginning, Given, Handler, Inputs, LooksBack
from consumers.strategies.running.instances import Casting, Instances
from consumers.strategies.running.loading import Loaded, load_strategy
from consumers.strategies.running.traits import traits_of
from events.codec import AnyEvent, decode_data
from events.decisions import TradeSignal
from events.executing import StrategyBegan, TargetState
from events.log import BEGIN, SOURCE, EntryId, Lane, Stream
from events.ticks import TickBatch
from events.trading import Book

LAYOUT = 2
"""Of what is stored of a strategy; another one is another version of every strategy."""
SINCE, LEVELS = "since", "levels"
"""Names in the state: up to which entry it only warms up, and what it was told when it began."""
OWN = frozenset({SINCE, LEVELS})


class StrategyHandler(Handler):
    """Runs one strategy; made by `handler_of`.

    An entry at which the strategy raises becomes a dead letter and halts the task in front of it:
    what the entry did to its indicators is dropped, and nothing is done on until somebody corrects
    the file, or drops the entry. Other strategies are groups of their own.
    """

    loaded: ClassVar[Loaded]
    casting: ClassVar[Casting]

    def setup(self) -> None:
        """Raises StrategyFailed, NotStorable."""
        instances = self._instances = Instances(self.casting)
        instances.mute = True
        since = self.state.get(SINCE)
        self._since = BEGIN if since is None else EntryId(*since)
        """What lies up to here only warms it up."""
        self._tell([decode_data(*level) for level in self.state.get(LEVELS, ())])
        instances.restore({name: self.state[name] for name in self.state if name not in OWN})

    def _tell(self, levels: Sequence[AnyEvent]) -> None:
        """How everything stood where it began."""
        for event in levels:
            self._instances.deliver(event)
        books = [one for one in levels if isinstance(one, Book)]
        targets = [one for one in levels if isinstance(one, TargetState)]
        newest = max(books, key=lambda one: one.event_time_ms, default=None)
        self._instances.hold(newest, targets)

    def handle(self, event: AnyEvent) -> Iterable[TradeSignal]:
        """The signals that follow. Raises StrategyFailed."""
        entry, instances = self.entry, self._instances
        instances.mute = entry is not None and entry.id <= self._since
        if not isinstance(event, TickBatch):
            return instances.deliver(event)
        if not instances.wants(event.symbol):
            return ()
        return instances.take(event, entry.place if entry is not None else "")

    def remember(self) -> None:
        """Raises NotStorable."""
        for name, told in self._instances.remember().items():
            self.state[name] = told
        if LEVELS in self.state:  # they are in what was remembered
            del self.state[LEVELS]

    @classmethod
    def looks_back(cls, stream: Stream, partitions: int) -> LooksBack | None:
        """As far as the strategy needs to be warm."""
        from consumers.strategies.warming import looks_back, need_of  # asked once per task

        casting = cls.casting
        if stream.slot.writer != SOURCE:
            return None
        traits = traits_of(casting.strategy, casting.parameters)
        need = need_of(
            casting.strategy, casting.parameters, casting.wanted,
            ticks=traits.ticks or traits.arrays,
            timeframes=traits.timeframes if traits.bars else (),
        )  # fmt: skip
        return looks_back(need, casting.wanted, stream, partitions)

    @classmethod
    def begins(cls, beginning: Beginning) -> Given:
        """With the facts of its symbols and the account as they are, and a word in the log."""
        casting, since = cls.casting, beginning.since
        wanted = frozenset(casting.wanted)
        levels = [
            list(level)
            for level in beginning.levels
            if not (level.type.startswith("instrument.") and wanted) or level.key in wanted
        ]
        told = StrategyBegan(
            event_time_ms=since.ms, strategy=casting.name, task=beginning.task,
            version=beginning.version, code=cls.loaded.code, checksum=cls.loaded.checksum,
            symbols=casting.wanted, parameters=dict(casting.parameters),
            after={str(stream): str(id_) for stream, id_ in sorted(beginning.after.items())},
            since=str(since), entries_back=beginning.entries_back,
        )  # fmt: skip
        return Given({SINCE: list(since), LEVELS: levels}, (told,))


def handler_of(
    loaded: Loaded,
    *,
    name: str = "",
    symbols: tuple[str, ...] = (),
) -> type[StrategyHandler]:
    """The handler class of a strategy; its signals are known by `name`."""
    traits = traits_of(loaded.strategy, loaded.parameters)
    casting = Casting(loaded.strategy, name or loaded.name, symbols, loaded.parameters)
    types = {"ticks", "instrument"}
    lanes = [Lane.HIGH, Lane.NORMAL]
    if traits.timer_ms:
        types.add("clock")
    if traits.looks_at_account:
        types |= {"account", "deal", "contracts"}
    levels = {"instrument"}
    if traits.looks_at_account:
        levels |= {"account", "book", "execute:target"}
    if traits.bars and traits.warm_up:
        types.add("candles")
        lanes.append(Lane.LOW)
    body = {
        "__module__": loaded.strategy.__module__,
        "__doc__": loaded.strategy.__doc__,
        "loaded": loaded,
        "casting": casting,
        "levels": frozenset(levels),
        "tasks": 1 if traits.together else None,
        "types": frozenset(types),
        "halts_on": frozenset(types),
        "inputs": Inputs(lanes=tuple(lanes), account=traits.looks_at_account),
        "version": _version(loaded, casting),
    }
    return type(loaded.strategy.__name__, (StrategyHandler,), body)


def with_texts(handler: type[StrategyHandler], texts: Mapping[str, str]) -> type[StrategyHandler]:
    """The same strategy with other parameters; `symbols` are those it runs for. Raises
    BadStrategy."""
    of, casting = handler.loaded, handler.casting
    own = {name: text for name, text in texts.items() if name != "symbols"}
    named = texts.get("symbols")
    symbols = casting.symbols if named is None else tuple(filter(None, named.split(",")))
    loaded = load_strategy(of.code, {**of.parameters, **own})
    return handler_of(loaded, name=casting.name, symbols=symbols)


def named(handler: type[StrategyHandler], name: str) -> type[StrategyHandler]:
    """The same strategy, whose signals are known by another name."""
    return handler_of(handler.loaded, name=name, symbols=handler.casting.symbols)


def _version(loaded: Loaded, casting: Casting) -> str:
    """Other code, parameters or symbols lead to another one: the state is then derived again."""
    told = [casting.name, sorted(casting.symbols), sorted(casting.parameters.items())]
    digest = hashlib.blake2b(
        json.dumps([loaded.checksum, told]).encode(), digest_size=8
    ).hexdigest()
    return f"strategy.{LAYOUT}+{digest}"
