"""The strategy objects of one task, and everything they are told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from consumers.strategies.authoring.signal import Signal
from consumers.strategies.authoring.strategy import Strategy, Surroundings, live_in
from consumers.strategies.running.bar_feed import BarFeed
from consumers.strategies.running.holdings import Holdings
from consumers.strategies.running.part import Part, ask, guarded, tell_bar
from consumers.strategies.running.remembering import Prices, remember_around, restore_around
from consumers.strategies.running.singly import FEW_TICKS, told_singly
from consumers.strategies.running.tick_run import TickRun
from consumers.strategies.running.traits import Traits, traits_of
from consumers.strategies.running.walking import (
    Happening,
    OnTick,
    Said,
    StrategyFailed,
    Walking,
)
from events.candles import CandleBatch
from events.codec import AnyEvent
from events.decisions import TradeSignal
from events.executing import TargetState
from events.market import Contracts, Instrument
from events.operations import ClockTick
from events.ticks import TickBatch
from events.trading import Account, Book, Deal

TOGETHER = ""
"""Under this name the one object of a strategy over several symbols is kept."""
HEDGING = 2
"""Margin mode of accounts that hold several positions in one symbol."""


@dataclass(frozen=True, slots=True)
class Casting:
    """Which strategy is run, under which name, for which symbols, with which parameters."""

    strategy: type[Strategy]
    name: str
    """What its signals are known by; its group is `strategy.NAME`."""
    symbols: tuple[str, ...] = ()
    """Empty: those the strategy names, or every symbol that has ticks."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    instruments: Mapping[str, Instrument] = field(default_factory=dict)
    """Facts that are known before the first event."""

    @property
    def wanted(self) -> tuple[str, ...]:
        """Symbols it is for; empty: every one there is."""
        return self.symbols or tuple(self.parameters.get("symbols", self.strategy.symbols))


class Instances:
    """The strategy objects of one task: one per symbol, or one over all of them.

    `run` handles ticks, `deliver` everything else; both give `TradeSignal`s. An object is made
    with the first tick of its symbol: facts of it are known by then. While `mute`, what is said
    is dropped: what happened before a strategy was enabled only warms it up.
    """

    def __init__(self, casting: Casting) -> None:
        self.casting = casting
        self.traits: Traits = traits_of(casting.strategy, casting.parameters)
        self.mute = False
        self._around = Surroundings(instruments=dict(casting.instruments))
        self._holdings = Holdings(casting.name)
        self._parts: dict[str, Part] = {}
        self._prices: dict[str, Prices] = {}
        self._walking: Walking | None = None
        self._facts_new = self._account_new = True  # since they were remembered last
        self._wanted = frozenset(casting.wanted)
        for symbol in sorted(self._wanted):
            self._holdings.know(symbol)

    def wants(self, symbol: str) -> bool:
        """Whether its ticks are for it."""
        return not self._wanted or symbol in self._wanted

    def strategies(self) -> Mapping[str, Strategy]:
        """The objects by symbol; one over several symbols lies under the empty name."""
        return {symbol: part.strategy for symbol, part in self._parts.items()}

    def run(
        self, run: TickRun, first: int = 0, stop: int | None = None
    ) -> tuple[int, list[TradeSignal]]:
        """Handle ticks from `first` on; stops right behind the first tick at which a signal is
        given, or at `stop`. Returns the index of the next tick, and the signals.

        A run is to be walked to its end before another one begins, or is remembered: bars of all
        of it were built when it was begun. Raises StrategyFailed.
        """
        end = len(run) if stop is None else min(stop, len(run))
        walking = self._walking
        if walking is None or walking.run is not run or walking.at != first:
            walking = self._begin(run, first)
        while True:
            at, said = walking.go(end)
            signals = self._told(run, said) if said and not self.mute else []
            if signals or at >= end:
                return at, signals

    def run_all(self, run: TickRun) -> list[TradeSignal]:
        """Handle a whole run, whatever is said in it."""
        found: list[TradeSignal] = []
        at = 0
        while at < len(run):
            at, signals = self.run(run, at)
            found += signals
        return found

    def take(self, batch: TickBatch, place: str = "") -> list[TradeSignal]:
        """A batch of the log, the same as a run of it: few ticks are cheaper one by one."""
        if len(batch) > FEW_TICKS or self.traits.arrays:
            return self.run_all(TickRun.of(batch, place))
        self._note()
        symbol, traits, found = batch.symbol, self.traits, list[TradeSignal]()
        for price in batch:
            if price.bid <= 0 or price.ask <= 0:  # as a run leaves them out
                continue
            part = self._part_of(symbol)
            feed = self._feed(part, symbol) if traits.bars else None
            facts = self._around.instruments.get(symbol)
            said = told_singly(price, part, feed, facts, traits)
            self._prices[symbol] = (price.bid, price.ask)
            for signal in said if not self.mute else ():
                of = self._checked_part(signal)
                if self._is_warm(of):
                    prices = self._prices.get(signal.symbol)
                    found.append(self._event(of, signal, price.event_time_ms, prices))
            if traits.warm_up and not traits.bars and part.ticks_seen < traits.warm_up:
                part.ticks_seen += 1
        return found

    def _begin(self, run: TickRun, first: int) -> Walking:
        self._note()
        told = run if first == 0 else run.part(first, len(run))
        happenings: list[Happening] = []
        on_tick: dict[str, OnTick] = {}
        for symbol in filter(self.wants, run.symbols):
            part = self._part_of(symbol)
            part.dirty = True
            if self.traits.bars:
                happenings += self._bars(part, symbol, told, first)
            if self.traits.ticks:
                on_tick[symbol] = part.strategy.on_tick
        if self.traits.arrays:
            happenings += self._arrays(told, first)
        if len(happenings) > 1:
            happenings.sort(key=lambda one: (one.at, one.order))
        self._walking = Walking(
            run, first, on_tick=on_tick, happenings=happenings, generates=self.traits.generates
        )
        return self._walking

    def _bars(self, part: Part, symbol: str, told: TickRun, first: int) -> Iterator[Happening]:
        feed = self._feed(part, symbol)
        closed = feed.closed_by(told, self._around.instruments.get(symbol))
        for order, (index, bar) in enumerate(closed):
            yield Happening(first + index, order, partial(tell_bar, part, feed, bar))

    def _arrays(self, told: TickRun, first: int) -> Iterator[Happening]:
        """What `on_ticks` says about the whole run, each at its tick."""
        for name, part in list(self._parts.items()):
            of = filter(self.wants, told.symbols) if self.traits.together else (name,)
            chosen = told.indexes_among(of)
            if chosen is not None and not len(chosen):
                continue
            seen = told if chosen is None else told.picked(chosen)
            last = 0
            for order, signal in enumerate(self.said_of_arrays(name, part, seen)):
                at = signal.at
                if at is None or not last <= at < len(seen):
                    raise StrategyFailed(
                        f"on_ticks gave a signal with at={at!r}: it takes the index of a tick, "
                        f"0 to {len(seen) - 1}, in ascending order"
                    )
                last = at
                index = at if chosen is None else int(chosen[at])
                yield Happening(first + index, order, partial(tuple, (signal,)))

    def said_of_arrays(self, name: str, part: Part, seen: TickRun) -> Sequence[Signal]:
        """What `on_ticks` of the part of that name says about ticks. Raises StrategyFailed."""
        return [signal for _, signal in ask(part, "on_ticks", part.strategy.on_ticks, seen)]

    def _told(self, run: TickRun, said: Sequence[Said]) -> list[TradeSignal]:
        found = []
        for at, signal in said:
            part = self._checked_part(signal)
            if self._is_warm(part, run, at + 1):
                prices = self._prices_at(run, at, signal.symbol)
                found.append(self._event(part, signal, int(run.time_ms[at]), prices))
        return found

    def _is_warm(self, part: Part, run: TickRun | None = None, stop: int = 0) -> bool:
        """Whether it has seen enough, with the ticks of a run up to `stop`."""
        needed = self.traits.warm_up
        if not needed:
            return True
        if self.traits.bars:
            return bool(part.bars) and all(feed.seen >= needed for feed in part.bars.values())
        if part.ticks_seen >= needed or run is None or self._walking is None:
            return part.ticks_seen >= needed
        return part.ticks_seen + self._count(part, run, self._walking.noted, stop) > needed

    def _count(self, part: Part, run: TickRun, begin: int, stop: int) -> int:
        """Ticks of a part's symbols from `begin` to `stop`."""
        if run.symbol is None:
            return stop - begin
        wanted = [
            number
            for number, symbol in enumerate(run.symbols)
            if self.wants(symbol) and self._part_of(symbol) is part
        ]
        return int(np.isin(run.symbol[begin:stop], wanted).sum())

    def deliver(self, event: AnyEvent) -> list[TradeSignal]:
        """Account, deals, the clock, facts and older candles; the signals that follow.

        Raises StrategyFailed.
        """
        self._note()
        if isinstance(event, Account):
            said = self._on_account(event)
        elif isinstance(event, Deal):
            said = self._on_deal(event)
        elif isinstance(event, ClockTick):
            said = self._on_clock(event.event_time_ms)
        elif isinstance(event, CandleBatch):
            said = self._on_candles(event)
        else:
            said = self._learn(event)
        found = []
        for part, signal in said:
            self._checked_part(signal)
            if not self.mute and self._is_warm(part):
                prices = self._prices.get(signal.symbol)
                found.append(self._event(part, signal, event.event_time_ms, prices))
        return found

    def hold(self, book: Book | None, targets: Sequence[TargetState]) -> None:
        """What it holds already where it begins, as the book and group execute tell it."""
        account = self._around.account
        if account is not None:
            self._holdings.begin(book, [one for one in targets if one.login == account.login])
            self._around.positions |= self._holdings.lots()

    def _learn(self, event: AnyEvent) -> list[tuple[Part, Signal]]:
        facts: tuple[Instrument, ...] = ()
        if isinstance(event, Instrument):
            facts = (event,)
        elif isinstance(event, Contracts):
            facts = event.instruments
        for one in facts:
            if self.wants(one.symbol):
                self._around.instruments[one.symbol], self._facts_new = one, True
        return []

    def _on_account(self, event: Account) -> list[tuple[Part, Signal]]:
        self._around.account, self._account_new = event, True
        self._holdings.hedging = event.margin_mode == HEDGING
        if not self.traits.account:
            return []
        parts = list(self._parts.values())
        return [pair for p in parts for pair in ask(p, "on_account", p.strategy.on_account, event)]

    def _on_deal(self, event: Deal) -> list[tuple[Part, Signal]]:
        if not event.symbol or not self.wants(event.symbol):
            return []
        self._holdings.know(event.symbol)
        said: list[tuple[Part, Signal]] = []
        for fill in self._holdings.book(event):
            self._around.positions[fill.symbol, fill.leg] = fill.position
            part = self._parts.get(TOGETHER if self.traits.together else fill.symbol)
            if part is not None and self.traits.trades:
                said += ask(part, "on_trade", part.strategy.on_trade, fill)
        return said

    def _on_clock(self, time_ms: int) -> list[tuple[Part, Signal]]:
        if not self.traits.timer_ms:
            return []
        reached = time_ms - time_ms % self.traits.timer_ms
        said: list[tuple[Part, Signal]] = []
        for part in list(self._parts.values()):
            before = part.timer_ms
            if before is None or reached > before:
                part.timer_ms, part.dirty = reached, True
            if before is not None and reached > before:
                said += ask(part, "on_timer", part.strategy.on_timer, reached)
        return said

    def _on_candles(self, event: CandleBatch) -> list[tuple[Part, Signal]]:
        """Candles of the terminal's history, for a strategy that is not warm yet."""
        if not self.traits.bars or not self.wants(event.symbol):
            return []
        part = self._part_of(event.symbol)
        feed = self._feed(part, event.symbol)
        if feed.seen < self.traits.warm_up:
            for bar in feed.older(event):
                ask(part, "on_bar", part.strategy.on_bar, bar)
        return []  # what is said about history is no signal

    def _checked_part(self, signal: Signal) -> Part:
        if not self.wants(signal.symbol):
            raise StrategyFailed(
                f"a signal for {signal.symbol}, which is not among its symbols: "
                f"{', '.join(sorted(self._wanted))}"
            )
        return self._part_of(signal.symbol)

    def _event(
        self, part: Part, signal: Signal, time_ms: int, prices: Prices | None
    ) -> TradeSignal:
        self._holdings.know(signal.symbol, signal.leg)
        return part.event(signal, name=self.casting.name, time_ms=time_ms, prices=prices)

    def _prices_at(self, run: TickRun, index: int, symbol: str) -> Prices | None:
        """The newest prices of a symbol at a tick of a run."""
        if run.symbol_of(index) != symbol:
            found = run.indexes_of(symbol)
            before = 0 if found is None else int(np.searchsorted(found, index, "right"))
            if found is None or not before:
                return self._prices.get(symbol)
            index = int(found[before - 1])
        return float(run.bid[index]), float(run.ask[index])

    def _note(self) -> None:
        """Keep what is known of prices, and how much was seen, of the run that is under way."""
        walking = self._walking
        if walking is None or walking.noted >= walking.at:
            return
        run, begun, at = walking.run, walking.noted, walking.at
        walking.noted = at
        symbols = [*filter(self.wants, run.symbols)]
        for symbol in symbols:
            prices = self._prices_at(run, at - 1, symbol)
            if prices is not None:
                self._prices[symbol] = prices
        if self.traits.warm_up and not self.traits.bars:
            for part in {id(one): one for one in map(self._part_of, symbols)}.values():
                if part.ticks_seen < self.traits.warm_up:
                    part.ticks_seen += self._count(part, run, begun, at)

    def _part_of(self, symbol: str) -> Part:
        return self._part(TOGETHER if self.traits.together else symbol)

    def _part(self, name: str) -> Part:
        part = self._parts.get(name)
        if part is None:
            part = self._parts[name] = Part(guarded("setup", name, partial(self.made, name)))
            if name:
                self._holdings.know(name)
        return part

    def made(self, symbol: str) -> Strategy:
        """A fresh object for a symbol, set up."""
        values = {**self.casting.parameters}
        if self.traits.together:
            values["symbols"] = self.casting.wanted
        made = self.casting.strategy()
        return live_in(made, symbol=symbol, surroundings=self._around, values=values)

    def _feed(self, part: Part, symbol: str) -> BarFeed:
        feed = part.bars.get(symbol)
        if feed is None:
            feed = part.bars[symbol] = BarFeed(symbol, self.traits.timeframes)
        return feed

    def remember(self) -> dict[str, Any]:
        """Everything as plain values, by name; of objects (`part:SYMBOL`), facts and the account
        those that are new since it was asked last. Raises NotStorable."""
        self._note()
        told = remember_around(
            self._around, self._holdings, self._prices,
            facts=self._facts_new, account=self._account_new,
        )  # fmt: skip
        self._facts_new = self._account_new = False
        for name, part in self._parts.items():
            if part.dirty:
                told[f"part:{name}"] = part.remember()
        return told

    def restore(self, stored: Mapping[str, Any]) -> None:
        """Go on from everything that `remember` told, the newest of each name. Raises
        NotStorable."""
        self._walking = None
        self._prices = restore_around(stored, self._around, self._holdings)
        for name, told in sorted(stored.items()):
            kind, _, symbol = name.partition(":")
            if kind == "part":
                self._part(symbol).restore(told, self.traits.timeframes)
