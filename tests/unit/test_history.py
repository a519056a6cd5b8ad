"""A terminal's past on its way into the archive."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.archive.folder import ArchiveFolder
from events.archive.source import EntrySource, Wanted
from events.candles import CandleBatch
from events.clock_rules import ClockRule
from events.codec import decode
from events.ticks import RATE_DTYPE, RateArray, TickArray, TickBatch
from producers.history.batches import Feed
from producers.history.fetching import Fetched, HistoryFetch, Span, uncovered
from producers.history.into_archive import IntoArchive
from tests.unit.test_archive import ticks

RULE = ClockRule.parse("America/New_York+7h")
BEGIN = 1_715_000_000_000 // IntoArchive.ticks_step_ms * IntoArchive.ticks_step_ms
HOUR_MS = 3_600_000


class Killed(Exception):
    """Stands for the end of the process."""


class MadeUp:
    """A terminal with a tick every 20 s, two of each, that may die with each question."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self._chance = chance
        self.asked: list[tuple[str, int, int]] = []
        self.rows = np.repeat(ticks(20_000, from_ms=BEGIN, step_ms=20_000), 2)

    def _ask(self, what: str, begin: int, until: int) -> None:
        if self._chance is not None and self._chance.random() < 0.4:
            raise Killed
        self.asked.append((what, begin, until))

    def ticks(self, symbol: str, from_server_ms: int, until_server_ms: int) -> TickArray:
        self._ask(symbol, from_server_ms, until_server_ms)
        times = self.rows["time_msc"]
        found: TickArray = self.rows[(times >= from_server_ms) & (times < until_server_ms)]
        return found

    def candles(
        self, symbol: str, timeframe: str, from_server_ms: int, until_server_ms: int
    ) -> RateArray:
        self._ask(f"{symbol}:{timeframe}", from_server_ms, until_server_ms)
        times = np.arange(from_server_ms // 1000, until_server_ms // 1000, 60)
        bars = np.zeros(len(times), RATE_DTYPE)
        bars["time"] = times
        return bars


def fetch(past: MadeUp, folder: ArchiveFolder, feed: Feed, begin: int, until: int) -> Fetched:
    target = IntoArchive(folder, "demo", 2)
    (done,) = HistoryFetch(past, target, clock=RULE, now_ms=lambda: 1).run(
        [Span(feed, begin, until)]
    )
    return done


def of(folder: ArchiveFolder, symbol: str) -> TickArray:
    found = [decode(e) for e in EntrySource(None, folder).entries(Wanted("demo"))]
    mine = [one.ticks for one in found if isinstance(one, TickBatch) and one.symbol == symbol]
    return np.concatenate(mine)


@pytest.mark.parametrize("seed", range(4))
def test_a_fetch_that_dies_goes_on_without_loss_or_doubles(tmp_path: Path, seed: int) -> None:
    folder = ArchiveFolder(tmp_path / "archive")
    past = MadeUp(random.Random(seed))
    until = BEGIN + 50 * HOUR_MS
    for symbol in ("EURUSD", "GBPUSD"):
        for _ in range(500):
            try:
                with folder.writing("demo"):
                    fetch(past, folder, Feed(symbol), BEGIN + HOUR_MS, until)
                break
            except Killed:
                continue
    times = past.rows["time_msc"]
    whole = past.rows[(times >= BEGIN + HOUR_MS) & (times < until)]
    for symbol in ("EURUSD", "GBPUSD"):
        assert of(folder, symbol).tobytes() == whole.tobytes(), f"seed {seed}"
    assert len(past.asked) == len(set(past.asked)), "no span is asked for twice"


def test_what_is_there_is_skipped_and_wider_spans_are_completed(tmp_path: Path) -> None:
    folder = ArchiveFolder(tmp_path / "archive")
    past = MadeUp()
    middle = BEGIN + 10 * HOUR_MS
    fetch(past, folder, Feed("EURUSD"), middle, middle + 5 * HOUR_MS)
    again = fetch(past, folder, Feed("EURUSD"), middle, middle + 5 * HOUR_MS)
    assert (again.steps, again.already_ms) == (0, 5 * HOUR_MS)
    wider = fetch(past, folder, Feed("EURUSD"), BEGIN, BEGIN + 20 * HOUR_MS)
    assert wider.already_ms == 5 * HOUR_MS
    times = past.rows["time_msc"]
    assert of(folder, "EURUSD").tobytes() == past.rows[times < BEGIN + 20 * HOUR_MS].tobytes()


def test_candles_are_fetched_under_the_offset_of_their_time(tmp_path: Path) -> None:
    folder = ArchiveFolder(tmp_path / "archive")
    march = 1_710_000_000_000 // 60_000 * 60_000  # 9 March 2024: the next night clocks change
    fetch(MadeUp(), folder, Feed("EURUSD", "M1"), march, march + 12 * HOUR_MS)
    fetch(MadeUp(), folder, Feed("EURUSD", "M1"), march + 72 * HOUR_MS, march + 73 * HOUR_MS)
    found = [decode(e) for e in EntrySource(None, folder).entries(Wanted("demo"))]
    bars = [one for one in found if isinstance(one, CandleBatch)]
    assert {one.offset_s for one in bars} == {2 * 3600, 3 * 3600}
    assert sum(len(one) for one in bars) == 13 * 60
    assert [one.event_time_ms for one in bars] == sorted(one.event_time_ms for one in bars)


def test_a_market_that_was_closed_leaves_no_file(tmp_path: Path) -> None:
    folder = ArchiveFolder(tmp_path / "archive")
    done = fetch(MadeUp(), folder, Feed("EURUSD"), BEGIN - 30 * HOUR_MS, BEGIN)
    assert (done.rows, done.chunks, done.empty_steps) == (0, 0, done.steps)


spans = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=8)


@given(spans, st.integers(0, 60), st.integers(1, 40))
def test_what_is_not_covered_is_exactly_the_rest(
    drawn: list[tuple[int, int]], begin: int, size: int
) -> None:
    covered = sorted((first, first + length) for first, length in drawn)
    rest = {
        at for first, end in uncovered(covered, begin, begin + size) for at in range(first, end)
    }
    there = {at for first, end in covered for at in range(first, end)}
    assert rest == set(range(begin, begin + size)) - there
