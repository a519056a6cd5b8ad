"""The EMA cross on M1 bars, here and in backtesting.py, backtrader and vectorbt.

Conventions of all: M1 bars of the bid without spread; the crossing of a closed bar is filled at the
open of the next; netting, a fixed volume, no costs. A strategy of ours is not told the first bar,
which may have begun before the ticks did: the others are not given it. backtrader's averages begin
with a simple one, so it is compared with averages of ours that do the same.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.peers.agreement import differences, told

FAST, SLOW = "20", "80"
MINUTE_MS = 60_000
RUN_S_MAX = 3_600
SEEDS = {"backtesting": "first", "backtrader": "sma", "vectorbt": "first"}
PEER_RUN = Path(__file__).parent / "bars_run.py"


def bars_of(columns: Mapping[str, Any]) -> dict[str, Any]:
    """M1 bars of the bid of ticks that go forward in time; times are their openings."""
    minutes = columns["time_ms"] // MINUTE_MS
    first = np.flatnonzero(np.diff(minutes, prepend=minutes[0] - 1))
    bid = columns["bid"]
    last = np.append(first[1:], len(bid)) - 1
    return {
        "time_ms": minutes[first] * MINUTE_MS,
        "open": bid[first],
        "high": np.maximum.reduceat(bid, first),
        "low": np.minimum.reduceat(bid, first),
        "close": bid[last],
    }


def _run(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S_MAX, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:3])} failed:\n{done.stderr.strip()[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def compare_bars(
    columns: Mapping[str, Any], folder: Path, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """One row per tool: trades of both, and bars per second of the median round."""
    bars = bars_of(columns)
    whole, later = str(folder / "bars.npz"), str(folder / "later_bars.npz")
    np.savez(whole, **bars)
    np.savez(later, **{name: column[1:] for name, column in bars.items()})
    asked = ["--fast", FAST, "--slow", SLOW]
    own = [sys.executable, "-m", "benchmarks.peers.own_run", whole, *asked, "--mode", "on_bar"]
    found = []
    for tool, seed in SEEDS.items():
        theirs, ours = [], []
        for _ in range(options.rounds):
            theirs.append(_run([options.bars_python, str(PEER_RUN), tool, later, *asked]))
            ours.append(_run([*own, "--seed", seed]))
        apart = differences(ours[0]["trades"], theirs[0]["trades"], name=tool)
        found.append(
            {
                "tool": tool, "version": theirs[0]["version"], "bars": len(bars["time_ms"]),
                "agree": not apart, "differences": told(apart),
                "their_trades": theirs[0]["trades"], "trades": len(theirs[0]["trades"]),
                "own_trades": len(ours[0]["trades"]),
                "net": sum(one["net"] for one in theirs[0]["trades"]),
                "own_net": sum(one["net"] for one in ours[0]["trades"]),
                "bars_per_s": median(one["bars"] / one["seconds"] for one in theirs),
                "own_per_s": median(len(bars["time_ms"]) / one["seconds"] for one in ours),
            }
        )  # fmt: skip
    return found
