"""Seeded runs of the tick cursor against a model terminal: nothing lost, nothing twice."""

from __future__ import annotations

import os
import random

import pytest

from producers.ticks.state import CursorLimits
from tests.simulation.tick_world import (
    CursorReader,
    Feed,
    UniqueRows,
    latest_tick,
    newer_millisecond,
    newer_second,
    run_rival,
    verdict,
)

SEED = int(os.environ.get("TEST_SEED", "1"))
RUNS = 40
RUNS_LONG = 400


def small(page: int, **more: int) -> CursorLimits:
    """Limits in proportion to runs of minutes instead of days."""
    settings = {
        "page": page, "reread_s": 10, "deep_s": 40, "deep_every": 8, "silence_s": 15,
        "settle_s": 60, "keep_s": 400, "warmup_tries": 3,
    }  # fmt: skip
    return CursorLimits(**{**settings, **more})


def check_runs(page: int, runs: int) -> None:
    restarted = ticks = 0
    for run in range(runs):
        seed = SEED * 1_000_003 + run * 10 + page
        feed = Feed(seed)
        model = feed.model()
        reader = CursorReader(model, random.Random(seed + 1), small(page))
        reader.run(feed.end_ms)
        found = verdict(model, reader.kept)
        assert (found.lost, found.doubled) == (0, 0), f"TEST_SEED={SEED}, run {run}, seed {seed}"
        restarted += reader.restarted
        ticks += found.total
    assert restarted > runs
    assert ticks > 300 * runs


@pytest.mark.parametrize("page", [3, 10, 50, 1_000])
def test_nothing_is_lost_or_doubled_in_randomised_runs(page: int) -> None:
    check_runs(page, RUNS // 4)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("page", [3, 10, 50, 1_000])
def test_nothing_is_lost_or_doubled_in_many_randomised_runs(page: int) -> None:
    check_runs(page, RUNS_LONG // 4)


def check_clock_put_back(runs: int, *, by_label: bool, hints: bool) -> None:
    for run in range(runs):
        seed = SEED * 1_000_003 + run
        feed = Feed(seed, seconds=1_000, step_back_s=400, by_label=by_label)
        model = feed.model()
        limits = small(50, keep_s=1_000)
        reader = CursorReader(model, random.Random(seed), limits, hints=hints)
        reader.run(feed.end_ms)
        found = verdict(model, reader.kept)
        assert (found.lost, found.doubled) == (0, 0), f"TEST_SEED={SEED}, run {run}, seed {seed}"


STORES = pytest.mark.parametrize(
    "by_label", [False, True], ids=["stored as it came", "stored by time"]
)
HINTS = pytest.mark.parametrize("hints", [True, False], ids=["quotes told", "quotes not told"])


@STORES
@HINTS
def test_a_clock_put_back_neither_loses_nor_doubles(by_label: bool, hints: bool) -> None:
    check_clock_put_back(2, by_label=by_label, hints=hints)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@STORES
@HINTS
def test_a_clock_put_back_holds_in_many_runs(by_label: bool, hints: bool) -> None:
    check_clock_put_back(20, by_label=by_label, hints=hints)


@STORES
def test_ticks_after_a_clock_was_put_back_are_not_all_late(by_label: bool) -> None:
    feed = Feed(SEED, seconds=1_000, step_back_s=400, by_label=by_label, outage=False)
    model = feed.model()
    reader = CursorReader(model, random.Random(SEED), small(50, keep_s=1_000), restarts=False)
    cursor = reader.run(feed.end_ms)
    assert cursor.stats.steps_back >= 1
    assert reader.late < 0.3 * len(model.truth)


def test_a_clock_put_forward_neither_loses_nor_doubles() -> None:
    for run in range(8):
        seed = SEED * 1_000_003 + run
        feed = Feed(seed, step_forward_s=3_600)
        model = feed.model()
        reader = CursorReader(model, random.Random(seed), small(50))
        reader.run(feed.end_ms)
        found = verdict(model, reader.kept)
        assert (found.lost, found.doubled) == (0, 0), f"TEST_SEED={SEED}, run {run}, seed {seed}"


@pytest.mark.parametrize(
    ("rival", "most"),
    [
        (newer_millisecond, 0.97),
        (newer_second, 0.80),
        (UniqueRows, 0.90),
        (latest_tick, 0.40),
    ],
    ids=["time_msc > last", "time > last", "unique rows", "latest tick"],
)
def test_the_checker_goes_red_for_readers_that_keep_less(rival: object, most: float) -> None:
    kept = total = 0
    for run in range(4):
        feed = Feed(SEED * 1_000_003 + run)
        model = feed.model()
        poll = rival() if isinstance(rival, type) else rival
        found = verdict(model, run_rival(model, poll, feed.end_ms, run))  # type: ignore[arg-type]  # either kind of rival
        assert found.lost > 0
        kept += found.total - found.lost
        total += found.total
    assert kept / total < most
    print(f"{rival}: {kept / total:.1%}")  # noqa: T201  # the figure is wanted with -s
