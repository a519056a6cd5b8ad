"""How many ticks a second pass through the tick cursor, in one thread.

    python benchmarks/tick_cursor.py [--json]

`catching up`: pages of 10,000 new ticks, each with the seconds before it again. `polling`: two
new ticks a poll behind 15 s of known ones, a window of 65 minutes. `comparing`: the same, and
every tenth answer brings a late tick. CPU time, best of several rounds, without the terminal.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np

from events.ticks import TICK_DTYPE, TickArray
from producers.ticks.cursor import TickCursor
from producers.ticks.state import CursorLimits

TICKS = 400_000
ROUNDS = 5
LATE_EVERY = 20


def store(ticks: int) -> TickArray:
    """About ten ticks a second, several of them in one millisecond."""
    rng = np.random.default_rng(1)
    rows = np.zeros(ticks, TICK_DTYPE)
    rows["time_msc"] = np.sort(rng.integers(0, ticks * 100, ticks)) + 1_700_000_000_000
    rows["time"] = rows["time_msc"] // 1000
    rows["bid"] = 1.1 + rng.integers(0, 1_000, ticks) / 1e5
    rows["ask"] = rows["bid"] + 1e-5
    rows["flags"] = 0x486
    return rows


def catching_up(rows: TickArray) -> tuple[int, int, float]:
    """(new ticks, calls, seconds)"""
    cursor = TickCursor(int(rows["time"][0]), limits=CursorLimits(page=10_000, warmup_tries=0))
    seconds, new, calls, took = rows["time"].copy(), 0, 0, 0.0
    while new < len(rows):
        from_s, count = cursor.request()
        begin = int(np.searchsorted(seconds, from_s))
        answer = rows[begin : begin + count]
        start = time.process_time()
        new += len(cursor.take(answer).new)
        cursor.cursor_text()
        cursor.commit()
        took += time.process_time() - start
        calls += 1
    return new, calls, took


def polling(rows: TickArray) -> tuple[int, int, float]:
    return _polling(rows[:60_000], None)


def comparing(rows: TickArray) -> tuple[int, int, float]:
    late = rows[:60_000].copy()
    known_at = np.arange(len(late))
    known_at[::LATE_EVERY] += 60
    return _polling(late, known_at)


def _polling(rows: TickArray, known_at: np.ndarray | None) -> tuple[int, int, float]:
    cursor = TickCursor(int(rows["time"][0]), limits=CursorLimits(warmup_tries=0))
    seconds, new, calls, took = rows["time"].copy(), 0, 0, 0.0
    for end in range(40_000, len(rows), 2):
        from_s, count = cursor.request()
        begin = int(np.searchsorted(seconds, from_s))
        answer = rows[begin:end]
        if known_at is not None:
            answer = answer[known_at[begin:end] <= end]
        answer = answer[:count].copy()
        start = time.process_time()
        taken = cursor.take(answer)
        cursor.cursor_text()
        cursor.commit()
        took += time.process_time() - start
        new += len(taken.new)
        calls += 1
    return new, calls, took


def best(work: Callable[[TickArray], tuple[int, int, float]], rows: TickArray) -> dict[str, float]:
    runs = [work(rows) for _ in range(ROUNDS)]
    new, calls, took = min(runs, key=lambda run: run[2])
    return {
        "million_ticks_per_s": round(new / took / 1e6, 2),
        "microseconds_per_call": round(took / calls * 1e6, 1),
        "calls": calls,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = store(TICKS)
    found = {work.__name__: best(work, rows) for work in (catching_up, polling, comparing)}
    if options.json:
        print(json.dumps(found))
        return
    for name, figures in found.items():
        print(
            f"{name.replace('_', ' '):12} {figures['million_ticks_per_s']:6.2f} M new ticks/s, "
            f"{figures['microseconds_per_call']:7.1f} µs a call ({figures['calls']} calls)"
        )


if __name__ == "__main__":
    main()
