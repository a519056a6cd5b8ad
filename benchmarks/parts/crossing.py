"""What the benchmarks of groups run: a handler, and the ticks it reads.

The handler is a strategy as people write them: two moving averages of every tick's price, kept in
its state, and a signal where they cross.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

import numpy as np

from consumers.runtime.handler import Handler, Inputs
from events.codec import encode
from events.decisions import TradeSignal
from events.log import SOURCE, Lane, Log, NewEntry, Slot, partition_of
from events.ticks import TICK_DTYPE, OffsetSource, TickBatch

NAMESPACE = "bench"
PARTITIONS = 4
SYMBOLS_PER_PARTITION = 2
PAIRS = (
    "EURUSD", "GBPUSD", "USDJPY", "AUDUSD", "USDCHF", "USDCAD", "NZDUSD", "EURGBP", "EURJPY",
    "GBPJPY", "AUDJPY", "CHFJPY", "EURCHF", "EURAUD", "EURCAD", "GBPCHF", "GBPAUD", "AUDNZD",
)  # fmt: skip
START_MS = 1_700_000_000_000
APPEND_ENTRIES = 500
FAST, SLOW = 2 / 13, 2 / 49


class Crossing(Handler):
    """A signal whenever the fast average of a symbol crosses its slow one."""

    types: ClassVar[frozenset[str]] = frozenset({"ticks"})
    inputs: ClassVar[Inputs] = Inputs(lanes=(Lane.CRITICAL, Lane.HIGH, Lane.NORMAL))

    def handle(self, event: TickBatch) -> Iterator[TradeSignal]:  # type: ignore[override] # of `types` alone
        fast, slow, above = self.state.get(event.symbol) or (0.0, 0.0, False)
        for tick in event:
            mid = (tick.bid + tick.ask) / 2
            fast = fast + FAST * (mid - fast) if fast else mid
            slow = slow + SLOW * (mid - slow) if slow else mid
            if (fast > slow) != above:
                above = not above
                yield TradeSignal(
                    event_time_ms=tick.event_time_ms,
                    strategy="crossing",
                    symbol=event.symbol,
                    target="long" if above else "short",
                )
        self.state[event.symbol] = [fast, slow, above]


class Counting(Handler):
    """The least that a handler does: one number per symbol, from the decoded event."""

    types: ClassVar[frozenset[str]] = frozenset({"ticks"})
    inputs: ClassVar[Inputs] = Crossing.inputs

    def handle(self, event: TickBatch) -> Iterable[TradeSignal]:  # type: ignore[override] # of `types` alone
        self.state[event.symbol] = self.state.get(event.symbol, 0) + len(event)
        return ()


def symbols() -> list[str]:
    """As many symbols in each partition, in turn."""
    of_partition = [
        [pair for pair in PAIRS if partition_of(pair, PARTITIONS) == number]
        for number in range(PARTITIONS)
    ]
    return [names[place] for place in range(SYMBOLS_PER_PARTITION) for names in of_partition]


def fill(log: Log, entries: int, ticks_per_entry: int, *, namespace: str = NAMESPACE) -> None:
    """Ticks of a random walk, as a producer appends them.

    Its averages cross 2.0 times in 100 ticks; those of real ticks did so 2.7 times (EURUSD), 2.3
    (NZDUSD, both of May 2014) and 1.7 (an hour of BTCUSD in February 2023).
    """
    log.open_namespace(namespace, PARTITIONS)
    claims = [
        log.claim(Slot(namespace, SOURCE, number), "bench", alive_within_s=0.1)
        for number in range(PARTITIONS)
    ]
    ticks = np.zeros(entries * ticks_per_entry, TICK_DTYPE)
    ticks["time_msc"] = START_MS + np.arange(len(ticks))
    ticks["time"] = ticks["time_msc"] // 1000
    ticks["bid"] = 1 + np.cumsum(np.random.default_rng(7).standard_normal(len(ticks))) * 1e-6
    ticks["ask"] = ticks["bid"] + 0.0001
    ticks["flags"] = 6
    names = symbols()
    waiting: list[list[NewEntry]] = [[] for _ in claims]
    for number in range(entries):
        part = ticks[number * ticks_per_entry : (number + 1) * ticks_per_entry]
        newest_ms = int(part["time_msc"][-1])
        symbol = names[number % len(names)]
        batch = TickBatch(symbol, part, 0, OffsetSource.LIVE, newest_ms, newest_ms)
        place = partition_of(symbol, PARTITIONS)
        waiting[place].append(encode(batch))
        if len(waiting[place]) == APPEND_ENTRIES:
            log.append(claims[place], waiting[place])
            waiting[place] = []
    for claim, rest in zip(claims, waiting, strict=True):
        if rest:
            log.append(claim, rest)
        log.release(claim)
