"""Captured ticks against the truth: what is missing, doubled, altered, unexpected."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from consumers.tick_places import LogTicks
from consumers.verify import HOUR_MS, Verification, compare, no_ticks, span_of, verify_ticks
from events.codec import encode
from events.log import SOURCE, Lane, NewEntry, Slot, partition_of
from events.memory_log import MemoryLog
from events.ticks import TICK_DTYPE, OffsetSource, TickArray, TickBatch

DAY_MS = 24 * HOUR_MS


def ticks(*rows: tuple[int, float]) -> TickArray:
    """Ticks of (time_msc, bid)."""
    made = np.zeros(len(rows), TICK_DTYPE)
    for index, (time_msc, bid) in enumerate(rows):
        made["time_msc"][index], made["bid"][index] = time_msc, bid
    made["time"] = made["time_msc"] // 1000
    made["flags"] = 6
    return made


@dataclass
class Fixed:
    """A source that holds these ticks of every symbol."""

    held: TickArray

    def ticks(self, symbol: str, from_server_ms: int, until_server_ms: int) -> TickArray:
        times = self.held["time_msc"]
        return self.held[(times >= from_server_ms) & (times < until_server_ms)]


def counts(truth: TickArray, found: TickArray) -> dict[str, int]:
    """Missing, doubled, altered, unexpected over all hours, without zeros."""
    names = ("missing", "doubled", "altered", "unexpected")
    hours = compare(truth, found)
    sums = {name: sum(getattr(hour, name) for hour in hours) for name in names}
    return {name: count for name, count in sums.items() if count}


def test_equal_sets_in_another_order_show_no_difference() -> None:
    truth = ticks((5, 1.0), (5, 1.0), (5, 2.0), (9, 1.0))
    assert counts(truth, truth[::-1]) == {}


def test_identical_rows_count() -> None:
    truth = ticks((5, 1.0), (5, 1.0), (5, 1.0))
    assert counts(truth, truth[:1]) == {"missing": 2}
    assert counts(truth[:1], truth) == {"doubled": 2}


def test_a_changed_value_is_altered_and_a_changed_time_is_missing_and_unexpected() -> None:
    truth = ticks((5, 1.0), (9, 1.0))
    assert counts(truth, ticks((5, 1.5), (9, 1.0))) == {"altered": 1}
    assert counts(truth, ticks((6, 1.0), (9, 1.0))) == {"missing": 1, "unexpected": 1}
    assert counts(truth, ticks((5, 1.5), (5, 1.6), (9, 1.0))) == {"altered": 1, "unexpected": 1}


@pytest.mark.parametrize("name", ["bid", "ask", "last", "volume", "volume_real"])
def test_every_value_counts(name: str) -> None:
    truth, found = ticks((5, 1.0)), ticks((5, 1.0))
    found[name] += 1
    assert counts(truth, found) == {"altered": 1}


def test_only_documented_flags_count() -> None:
    truth, found = ticks((5, 1.0)), ticks((5, 1.0))
    found["flags"] |= 0x400 | 0x80
    assert counts(truth, found) == {}
    found["flags"] ^= 0x2
    assert counts(truth, found) == {"altered": 1}


def test_differences_stand_in_their_hour() -> None:
    truth = ticks((5, 1.0), (HOUR_MS, 1.0), (HOUR_MS * 3, 1.0), (HOUR_MS * 3, 1.0))
    first, second, third = compare(truth, truth[[0, 2, 2, 3]])
    assert (first.hour_server_ms, first.ok) == (0, True)
    assert (second.hour_server_ms, second.missing, second.found) == (HOUR_MS, 1, 0)
    assert (third.hour_server_ms, third.doubled, third.truth) == (3 * HOUR_MS, 1, 2)
    assert compare(no_ticks(), no_ticks()) == []
    assert counts(no_ticks(), ticks((5, 1.0))) == {"unexpected": 1}


ROWS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([1.0, 2.0])), max_size=12)


@given(truth=ROWS, found=ROWS)
def test_the_vectorised_comparison_agrees_with_counters(
    truth: list[tuple[int, float]], found: list[tuple[int, float]]
) -> None:
    wanted, had = Counter(truth), Counter(found)
    doubled = sum(max(0, had[row] - wanted[row]) for row in wanted)
    missing = altered = unexpected = 0
    for time_msc in {row[0] for row in (*truth, *found)}:
        lacking = sum((wanted - had)[row] for row in wanted if row[0] == time_msc)
        strange = sum(had[row] for row in had if row[0] == time_msc and row not in wanted)
        altered += min(lacking, strange)
        missing += max(0, lacking - strange)
        unexpected += max(0, strange - lacking)
    expected = dict(missing=missing, doubled=doubled, altered=altered, unexpected=unexpected)
    assert counts(ticks(*truth), ticks(*found)) == {k: v for k, v in expected.items() if v}


def test_a_span_over_days_is_compared_whole_and_told_in_json_and_table() -> None:
    truth = ticks(*((day * DAY_MS + 5, 1.0) for day in range(4)))
    spans = {"EURUSD": (5, 3 * DAY_MS + 6), "NZDUSD": (9, 9)}
    places = {"log": Fixed(truth), "database": Fixed(truth[1:])}
    result = verify_ticks(Fixed(truth), places, spans)
    assert not result.ok
    assert result.total("missing", "log") == 0
    assert result.total("missing", "database") == 1
    assert result.total("truth", "log") == 4
    facts = json.loads(json.dumps(result.as_json()))
    assert facts["places"]["database"]["missing"] == 1
    assert facts["not_checked"] == {"NZDUSD": "empty span"}
    console = Console(width=120)
    with console.capture() as shown:
        console.print(result.table())
    assert "1970-01-01 00:00" in shown.get()
    assert Verification().ok


def test_the_newest_moment_of_a_living_feed_is_left_out() -> None:
    held = ticks((0, 1.0), (7, 1.0), (9, 1.0))
    assert span_of(Fixed(held), "EURUSD", ended=False) == (7, 9)
    assert span_of(Fixed(held), "EURUSD", ended=True) == (7, 10)
    assert span_of(Fixed(no_ticks()), "EURUSD", ended=True) is None


def test_ticks_of_the_log_come_from_both_lanes_of_their_partition() -> None:
    log = MemoryLog()
    log.open_namespace("demo", 4)
    slot = Slot("demo", SOURCE, partition_of("EURUSD", 4))
    claim = log.claim(slot, "test", alive_within_s=0.1)

    def batch(symbol: str, *rows: tuple[int, float]) -> TickBatch:
        return TickBatch(symbol, ticks(*rows), 0, OffsetSource.LIVE, 1, 1)

    log.append(claim, [encode(batch("EURUSD", (1, 1.0)), history=True)])
    before = {stream: log.info(stream).last_id for stream in slot.streams()}
    log.append(claim, [encode(batch("EURUSD", (5, 1.0), (6, 1.0))), encode(batch("OTHER", (7, 1)))])
    log.append(claim, [NewEntry(Lane.NORMAL, "ticks.1", "EURUSD", b"broken")])
    source = LogTicks(log, "demo", 4)
    assert sorted(source.ticks("EURUSD", -(2**62), 2**62)["time_msc"].tolist()) == [1, 5, 6]
    assert source.ticks("EURUSD", 5, 6)["time_msc"].tolist() == [5]
    assert len(source.ticks("GBPUSD", 0, 100)) == 0
    newer = LogTicks(log, "demo", 4, after=before)
    assert newer.ticks("EURUSD", 0, 100)["time_msc"].tolist() == [5, 6]
