"""Which share of a feed's ticks common ways of capturing keep, beside the multiset cursor.

    python benchmarks/capture_loss.py [FILE ...] [--json]

The rivals are computed on the file. A poller that takes the latest tick every 100 ms keeps the
last tick of each interval; one that sleeps 100 ms between calls has longer intervals, by the time
of its calls (25 ms here: some symbols on one terminal). A de-duplicator by `time_msc` keeps one
tick of each millisecond, one by whole rows keeps one of identical rows, and one that asks for
`time > last` after a page cut at N rows loses what shares the last second. The cursor is run: it
reads the file page by page from a recorded terminal, re-reading as it does live.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from events.tick_files import guess_symbol, load_ticks
from events.ticks import TickArray
from producers.terminals.recorded import RecordedOptions, RecordedTerminal
from producers.ticks.cursor import TickCursor

Times = npt.NDArray[np.int64]

SAMPLES = Path(__file__).parents[1] / "tests" / "data"
POLL_MS, CALL_MS = 100, 25
PAGE_TICKS = 1_000
PULLS_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Kept:
    """How many ticks of a file each way of capturing keeps."""

    symbol: str
    ticks: int
    latest_tick_poller: float
    """Mean over all phases of the interval."""
    sleeping_poller: float
    second_after_page: int
    time_msc_deduplicator: int
    row_deduplicator: int
    cursor: int
    cursor_in_order: bool
    """Whether the cursor's ticks equal the file byte for byte."""

    def percent(self, name: str) -> float:
        return 100.0 * float(getattr(self, name)) / self.ticks


WAYS = {
    "latest_tick_poller": f"latest tick every {POLL_MS} ms",
    "sleeping_poller": f"the same, with calls of {CALL_MS} ms",
    "second_after_page": f"pages of {PAGE_TICKS}, then time > last",
    "time_msc_deduplicator": "unique time_msc",
    "row_deduplicator": "unique rows",
    "cursor": "multiset cursor (ours)",
}


def measure(file: Path) -> Kept:
    """Read a file and count what each way keeps. Raises TickFileError."""
    symbol, ticks = guess_symbol(file), load_ticks(file)
    captured = captured_by_cursor(file, symbol)
    times = np.sort(ticks["time_msc"])
    return Kept(
        symbol=symbol,
        ticks=len(ticks),
        latest_tick_poller=_polled(times, POLL_MS),
        sleeping_poller=_polled(times, POLL_MS + CALL_MS),
        second_after_page=_after_pages(np.sort(ticks["time"])),
        time_msc_deduplicator=_distinct(times),
        row_deduplicator=len(set(ticks.tolist())),
        cursor=len(captured),
        cursor_in_order=captured.tobytes() == ticks.tobytes(),
    )


def _polled(times_ms: Times, interval_ms: int) -> float:
    """Ticks that are the newest at some poll, as the mean over the phases of the interval."""
    kept = [_distinct((times_ms + phase) // interval_ms) for phase in range(interval_ms)]
    return float(np.mean(kept))


def _distinct(ordered: Times) -> int:
    return int(np.count_nonzero(ordered[1:] != ordered[:-1])) + 1


def _after_pages(times_s: Times) -> int:
    kept = at = 0
    while at < len(times_s):
        page = times_s[at : at + PAGE_TICKS]
        kept += len(page)
        at = int(np.searchsorted(times_s, page[-1], side="right"))
    return kept


def captured_by_cursor(file: Path, symbol: str) -> TickArray:
    """Everything a reader with the multiset cursor takes from a recorded terminal."""
    terminal = RecordedTerminal(
        RecordedOptions(files=(f"{symbol}={file}",), speed="max", clock="UTC")
    )
    terminal.initialize()
    cursor, parts = TickCursor(0), []
    for _ in range(PULLS_MAX):
        from_s, count = cursor.request()
        taken = cursor.take(terminal.copy_ticks_from(symbol, from_s, count, -1))
        cursor.commit()
        parts.append(taken.new)
        idle = not (len(taken.new) or taken.more or taken.warming)
        if idle and terminal.finished():
            break
    return np.concatenate(parts)


def table(results: Sequence[Kept]) -> str:
    lines = [f"{'kept of all ticks':<32}" + "".join(f"{kept.symbol:>12}" for kept in results)]
    lines += [f"{'ticks':<32}" + "".join(f"{kept.ticks:>12,}" for kept in results)]
    for name, title in WAYS.items():
        cells = "".join(f"{kept.percent(name):>10.2f} %" for kept in results)
        lines.append(f"{title:<32}{cells}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="tick files (default: the samples)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    chosen = parser.parse_args(arguments)
    results = [measure(file) for file in chosen.files or sorted(SAMPLES.glob("*.csv.gz"))]
    if chosen.json:
        shares = [
            asdict(kept) | {"percent": {name: kept.percent(name) for name in WAYS}}
            for kept in results
        ]
        print(json.dumps({"poll_ms": POLL_MS, "page_ticks": PAGE_TICKS, "files": shares}))
    else:
        print(table(results))
    return 0 if all(kept.cursor_in_order for kept in results) else 1


if __name__ == "__main__":
    sys.exit(main())
