"""The tick cursor on the simulated terminal itself: whatever it does, every tick arrives once."""

from __future__ import annotations

import os
import random
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from events.ticks import TICK_DTYPE, TickArray
from producers.terminals.simulated import SimulatedOptions, SimulatedTerminal, TickOptions
from producers.ticks.cursor import TickCursor
from producers.ticks.state import CursorLimits

SEED = int(os.environ.get("TEST_SEED", "1"))
RUNS = 4
RUNS_LONG = 300
WEDNESDAY = int(datetime(2025, 11, 19, 12, tzinfo=UTC).timestamp() * 1000)
BEFORE_STEP_BACK = int(datetime(2025, 11, 2, 4, 45, tzinfo=UTC).timestamp() * 1000)
"""75 minutes before the server's clock is put back from 09:00 to 08:00."""
WARM_UP_POLLS = 220  # of 20 s, to a minute and a half before the clock is put back
SYMBOL = "BTCUSD"


class Reader:
    """Polls one symbol through a cursor and keeps what it takes."""

    def __init__(self, terminal: SimulatedTerminal, limits: CursorLimits) -> None:
        self.terminal = terminal
        self.begin_s = terminal.symbol_info_tick(SYMBOL).time + 1
        offset_s = terminal.server_clock.offset_s(terminal.clock.utc_ms())
        self.begin_utc_ms = (self.begin_s - offset_s) * 1000
        self.cursor = TickCursor(self.begin_s, limits=limits)
        self.kept: list[TickArray] = []

    def poll(self) -> None:
        """One poll: pages until there are no more; unknown answers are asked for again."""
        quote = self.terminal.symbol_info_tick(SYMBOL)
        if quote is not None:
            self.cursor.quote_seen(quote.time_msc)
        for _ in range(200):
            from_s, count = self.cursor.request()
            try:
                rows = self.terminal.copy_ticks_from(SYMBOL, from_s, count, -1)
            except SystemError:
                rows = None
            if rows is None:
                self.terminal.initialize()
                return
            taken = self.cursor.take(rows)
            if len(taken.new):
                self.kept.append(taken.new.copy())
                self.cursor.commit()
            if not taken.more:
                return
        raise AssertionError("a poll does not come to its end")


def terminal_of(start_utc_ms: int, ticks: TickOptions, seed: int) -> SimulatedTerminal:
    options = SimulatedOptions(
        seed=seed, start_utc_ms=start_utc_ms, speed=0, symbols=(SYMBOL,), ticks=ticks
    )
    terminal = SimulatedTerminal(options)
    assert terminal.initialize()
    return terminal


def counted(rows: TickArray) -> Counter[bytes]:
    """Rows as a multiset; undocumented flag bits, which may change, left out."""
    plain = rows.copy()
    plain["flags"] &= 0x7E
    return Counter(row.tobytes() for row in plain)


def verdict(reader: Reader, until_utc_ms: int) -> tuple[int, int, int]:
    """(lost, doubled, all) of the ticks that came since the first poll and before a moment.

    Ticks of the first showing of a repeated hour that are older than the first poll may come or
    not: nobody can tell them from those of its second showing.
    """
    terminal = reader.terminal
    kept = np.concatenate([np.empty(0, TICK_DTYPE), *reader.kept])
    now_s = terminal.server_clock.server_ms(terminal.clock.utc_ms()) // 1000
    low, high = min(reader.begin_s, now_s - 3600), max(reader.begin_s + 7200, now_s + 1)
    shown = counted(terminal.truth(SYMBOL, low * 1000, high * 1000))
    own = terminal.market.ticks(SYMBOL, reader.begin_utc_ms, until_utc_ms)
    wanted = counted(terminal.feed.labelled(own)) & shown  # holes are never shown
    got = counted(kept)
    return sum((wanted - got).values()), sum((got - shown).values()), sum(wanted.values())


def trouble(rng: random.Random, terminal: SimulatedTerminal) -> None:
    """Let something happen."""
    kind: str
    arguments: dict[str, Any]
    kind, arguments = rng.choice(
        [
            ("none", {"methods": ["copy_ticks_from"], "calls_max": 2}),
            ("empty", {"methods": ["copy_ticks_from"], "calls_max": 1}),
            ("partial", {"methods": ["copy_ticks_from"], "calls_max": 1}),
            ("system_error", {"methods": ["copy_ticks_from"], "calls_max": 1}),
            ("ipc_lost", {}),
            ("disconnect", {"for_s": rng.uniform(1, 90), "seconds": rng.uniform(0, 6)}),
            ("hole", {"for_s": rng.uniform(1, 20)}),
            ("tick_ahead", {"for_s": 20.0, "seconds": rng.uniform(0.1, 2.0)}),
            ("tick_behind", {"for_s": 20.0, "seconds": rng.uniform(0.1, 2.0)}),
        ]
    )
    terminal.inject(kind, **arguments)


def run(seed: int) -> tuple[int, int, int]:
    rng = random.Random(seed)
    start = rng.choice([WEDNESDAY, BEFORE_STEP_BACK])
    ticks = TickOptions(
        rate=rng.choice([1.0, 4.0]) if start == WEDNESDAY else 0.2,
        same_ms_share=0.2,
        identical_share=0.05,
        bursts_per_hour=20,
        burst_ticks=rng.choice([0, 200, 2000] if start == WEDNESDAY else [0, 50]),
        late_share=0.05,
        late_max_ms=6000,
        flag_bits_live=rng.choice([0, 0x80]),
        zero_price_share=0.005,
        zero_time_share=rng.choice([0.0, 0.01]),
    )
    terminal = terminal_of(start, ticks, seed)
    limits = CursorLimits(page=rng.choice([50, 1000, 10_000]), settle_s=200)
    reader = Reader(terminal, limits)
    for _ in range(WARM_UP_POLLS if start == BEFORE_STEP_BACK else 0):
        terminal.advance(20_000)
        reader.poll()
    for _ in range(rng.randint(60, 180)):
        terminal.advance(rng.choice([50, 100, 500, 2000, 9000]))
        if rng.random() < 0.05:
            trouble(rng, terminal)
        reader.poll()
    until_utc_ms = terminal.clock.utc_ms()
    for _ in range(60):  # quiet, so that everything late has come and is looked for
        terminal.advance(6000)
        reader.poll()
    return verdict(reader, until_utc_ms)


def check(seeds: range) -> None:
    total = 0
    for number in seeds:
        seed = SEED * 100_003 + number
        lost, doubled, ticks = run(seed)
        assert (lost, doubled) == (0, 0), f"TEST_SEED={SEED}, seed {seed}"
        total += ticks
    assert total > 500 * len(seeds)


def test_every_tick_of_the_simulated_terminal_arrives_once() -> None:
    check(range(RUNS))


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_every_tick_of_many_simulated_terminals_arrives_once() -> None:
    check(range(RUNS, RUNS_LONG))
