"""A flood in the high lane: the low ones get their share, and critical entries wait for a batch."""

from __future__ import annotations

import random

import pytest

from consumers.runtime.handler import Order
from consumers.runtime.reading import LOW_SHARE, Reading
from events.log import BEGIN, Lane, NewEntry, Slot
from events.memory_log import MemoryLog
from tests.conftest import Seeds

SOURCE = Slot("demo", "source", 0)
BATCH = 50
ROUNDS = 200


@pytest.mark.parametrize("overload", [1.2, 3.0])
def test_low_lanes_get_their_share_of_a_flood(overload: float, seeds: Seeds) -> None:
    """More comes in high than a batch holds, for ever; everything else has something waiting."""
    chance = random.Random(seeds.first)
    log = MemoryLog(now_ms=lambda: 1_000)
    log.open_namespace("demo", 1)
    claim = log.claim(SOURCE, "feed", alive_within_s=0)
    reading = Reading(log, SOURCE.streams(), Order.PRIORITY, entries_max=BATCH)
    at = dict.fromkeys(SOURCE.streams(), BEGIN)
    handled = dict.fromkeys(Lane, 0)
    critical_waits = []
    log.append(claim, [NewEntry(lane, "x.1", "k", b"") for lane in (Lane.NORMAL, Lane.LOW)
                       for _ in range(500)])  # fmt: skip
    for _ in range(ROUNDS):
        flood = int(BATCH * overload)
        log.append(claim, [NewEntry(Lane.HIGH, "x.1", "k", b"")] * flood)
        for lane in (Lane.NORMAL, Lane.LOW):
            log.append(claim, [NewEntry(lane, "x.1", "k", b"")] * chance.randint(0, BATCH))
        if chance.random() < 0.2:
            log.append(claim, [NewEntry(Lane.CRITICAL, "x.1", "k", b"")])
        batch = reading.batch(at)
        waiting = log.info(SOURCE.stream(Lane.CRITICAL)).entries_added - handled[Lane.CRITICAL]
        for entry in batch:
            at[entry.stream] = entry.id
            handled[entry.stream.lane] += 1
        critical_waits.append(waiting - sum(e.stream.lane is Lane.CRITICAL for e in batch))
    everything = sum(handled.values())
    for lane in (Lane.NORMAL, Lane.LOW):
        assert handled[lane] >= 0.8 * LOW_SHARE / 2 * everything, handled
    assert handled[Lane.HIGH] >= everything / 2
    assert max(critical_waits) == 0, "critical entries are in the very next batch"
