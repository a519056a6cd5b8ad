"""A strategy as a handler of the log: the same loop, commits, replay and dead letters as others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import ClassVar

from consumers.runtime.handler import Handler, Inputs
from consumers.strategies.running.instances import Casting, Instances
from consumers.strategies.running.loading import Loaded, load_strategy
from consumers.strategies.running.tick_run import TickRun
from consumers.strategies.running.traits import traits_of
from events.codec import AnyEvent
from events.decisions import TradeSignal
from events.log import Lane
from events.ticks import TickBatch

LAYOUT = 1
"""Of what is stored of a strategy; another one is another version of every strategy."""


class StrategyHandler(Handler):
    """Runs one strategy; made by `handler_of`.

    An entry at which the strategy raises becomes a dead letter and halts the task in front of it:
    what the entry did to its indicators is dropped, and nothing is done on until somebody corrects
    the file, or drops the entry. Other strategies are groups of their own.
    """

    loaded: ClassVar[Loaded]
    casting: ClassVar[Casting]
    since_ms: ClassVar[int] = 0
    """Signals on entries that were appended before it are dropped: they only warm it up."""

    def setup(self) -> None:
        """Raises StrategyFailed, NotStorable."""
        self._instances = Instances(self.casting)
        self._instances.restore({name: self.state[name] for name in self.state})

    def handle(self, event: AnyEvent) -> Iterable[TradeSignal]:
        """The signals that follow. Raises StrategyFailed."""
        entry, instances = self.entry, self._instances
        instances.mute = entry is not None and entry.id.ms < self.since_ms
        if not isinstance(event, TickBatch):
            return instances.deliver(event)
        if not instances.wants(event.symbol):
            return ()
        return instances.run_all(TickRun.of(event, entry.place if entry is not None else ""))

    def remember(self) -> None:
        """Raises NotStorable."""
        for name, told in self._instances.remember().items():
            self.state[name] = told


def handler_of(
    loaded: Loaded,
    *,
    name: str = "",
    symbols: tuple[str, ...] = (),
    since_ms: int = 0,
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
    if traits.bars and traits.warm_up:
        types.add("candles")
        lanes.append(Lane.LOW)
    body = {
        "__module__": loaded.strategy.__module__,
        "__doc__": loaded.strategy.__doc__,
        "loaded": loaded,
        "casting": casting,
        "since_ms": since_ms,
        "tasks": 1 if traits.together else None,
        "types": frozenset(types),
        "halts_on": frozenset(types),
        "inputs": Inputs(lanes=tuple(lanes), account=traits.looks_at_account),
        "version": _version(loaded, casting, since_ms),
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
    return handler_of(loaded, name=casting.name, symbols=symbols, since_ms=handler.since_ms)


def named(handler: type[StrategyHandler], name: str) -> type[StrategyHandler]:
    """The same strategy, whose signals are known by another name."""
    return handler_of(
        handler.loaded, name=name, symbols=handler.casting.symbols, since_ms=handler.since_ms
    )


def _version(loaded: Loaded, casting: Casting, since_ms: int) -> str:
    """Other code, parameters or symbols lead to another one: the state is then derived again."""
    told = [casting.name, sorted(casting.symbols), sorted(casting.parameters.items()), since_ms]
    digest = hashlib.blake2b(
        json.dumps([loaded.checksum, told]).encode(), digest_size=8
    ).hexdigest()
    return f"strategy.{LAYOUT}+{digest}"
