"""The same EMA cross over the same ticks here and in NautilusTrader: trades, and ticks per second.

pip install nautilus_trader==1.221.0 in an environment of its own; then

python -m benchmarks.backtest_peers --nautilus-python ENV/bin/python --ticks EURUSD.csv.gz

Conventions of both: the price of the averages lies between bid and ask; an average begins with its
first input and counts after `fast` and `slow` ticks; a crossing closes what is open and opens the
other side, two market orders, filled at the bid or ask of the very tick, without latency and
slippage; netting, 0.1 lots, no swap, 0.35 USD commission for each order. The tools take turns, each
in a process of its own with its ticks in memory; only the run is timed, by the processor's clock
and the wall's. Exits with 1 when a trade differs.

With --bars-python also on M1 bars beside backtesting.py, backtrader and vectorbt.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.peers.agreement import differences, told
from benchmarks.peers.bars import compare_bars
from events.tick_files import load_ticks
from events.ticks import TickArray

EXCERPT = Path("tests/data/EURUSD_20140504-20140507.csv.gz")
WEEK_MS = 7 * 86_400_000
COMMISSION = "0.35"
RUN_S_MAX = 3_600
PEER_RUN = Path(__file__).parent / "peers" / "nautilus_run.py"
OWN = [sys.executable, "-m", "benchmarks.peers.own_run"]


def read_columns(path: Path, *, times: int) -> dict[str, Any]:
    """Time (UTC as the file has it), bid and ask of the ticks that hold both, in order of time;
    `times` over, each a whole number of weeks later."""
    rows: TickArray = load_ticks(path)
    rows = rows[(rows["bid"] > 0) & (rows["ask"] > 0)]
    rows = rows[np.argsort(rows["time_msc"], kind="stable")]
    span_ms = int(rows["time_msc"][-1] - rows["time_msc"][0]) if len(rows) else 0
    step_ms = -(-(span_ms + 1) // WEEK_MS) * WEEK_MS
    shifts = np.repeat(np.arange(times) * step_ms, len(rows))
    return {
        "time_ms": np.tile(rows["time_msc"], times) + shifts,
        "bid": np.tile(rows["bid"], times),
        "ask": np.tile(rows["ask"], times),
    }


def run(command: Sequence[str]) -> dict[str, Any]:
    """What a tool printed. Raises SystemExit when it failed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S_MAX, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:3])} failed:\n{done.stderr.strip()[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def speed(runs: Sequence[dict[str, Any]], clock: str) -> float:
    """Ticks per second of the median run."""
    return median(one["ticks"] / one[clock] for one in runs)


def compare(ticks: str, cross: str, options: argparse.Namespace) -> dict[str, Any]:
    """One pair of averages: both tools in turn, `options.rounds` times."""
    fast, _, slow = cross.partition("/")
    asked = [ticks, "--fast", fast, "--slow", slow, "--commission", COMMISSION]
    theirs, ours, arrays = [], [], []
    for _ in range(options.rounds):
        theirs.append(run([options.nautilus_python, str(PEER_RUN), *asked]))
        ours.append(run([*OWN, *asked]))
        arrays.append(run([*OWN, *asked, "--mode", "on_ticks"]))
    name = f"NautilusTrader {theirs[0]['version']}"
    found = differences(ours[0]["trades"], theirs[0]["trades"], name=name)
    found += differences(ours[0]["trades"], arrays[0]["trades"], name="on_ticks")
    ratios = [
        mine["ticks"] / mine["cpu_s"] / (other["ticks"] / other["cpu_s"])
        for mine, other in zip(ours, theirs, strict=True)
    ]
    return {
        "cross": cross, "ticks": ours[0]["ticks"], "trades": len(ours[0]["trades"]),
        "agree": not found, "differences": told(found), "peer": name,
        "net": round(sum(one["net"] for one in ours[0]["trades"]), 2),
        "net_peer": round(sum(one["net"] for one in theirs[0]["trades"]), 2),
        "peer_per_s": speed(theirs, "seconds"), "peer_per_cpu_s": speed(theirs, "cpu_s"),
        "on_tick_per_s": speed(ours, "seconds"), "on_tick_per_cpu_s": speed(ours, "cpu_s"),
        "on_ticks_per_s": speed(arrays, "seconds"), "on_ticks_per_cpu_s": speed(arrays, "cpu_s"),
        "their_trades": theirs[0]["trades"], "ratio": median(ratios),
        "ratios": [round(one, 2) for one in ratios],
    }  # fmt: skip


def record(found: dict[str, Any], path: Path) -> None:
    """Their trades, one per line, so that tests can compare without the tools."""
    told = {f"{one['peer']}, EMA {one['cross']}": one for one in found.get("ticks", [])}
    told |= {f"{one['tool']} {one['version']}, M1 bars": one for one in found.get("bars", [])}
    lines = [
        f'"{name}": [\n' + ",\n".join(json.dumps(trade) for trade in one["their_trades"]) + "\n]"
        for name, one in told.items()
    ]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


def looked(ticks: str, rounds: int) -> dict[str, Any]:
    """What the walk over arrays costs where a strategy does next to nothing."""
    runs = [run([*OWN, ticks, "--mode", "looking"]) for _ in range(rounds)]
    return {"per_s": speed(runs, "seconds"), "per_cpu_s": speed(runs, "cpu_s")}


def shown(one: dict[str, Any]) -> str:
    """A comparison for people."""
    agree = "agree trade by trade" if one["agree"] else f"DIFFER: {one['differences']}"
    return (
        f"EMA {one['cross']}, {one['ticks']:,} ticks, {one['trades']:,} trades, net "
        f"{one['net']:,.2f} USD here and {one['net_peer']:,.2f} there: {agree}\n"
        f"  {one['peer']}: {one['peer_per_s']:,.0f} ticks/s"
        f" ({one['peer_per_cpu_s']:,.0f} per CPU second)\n"
        f"  on_tick: {one['on_tick_per_s']:,.0f} ticks/s"
        f" ({one['on_tick_per_cpu_s']:,.0f} per CPU second), {one['ratio']:.1f} times that"
        f" (rounds: {', '.join(map(str, one['ratios']))})\n"
        f"  on_ticks: {one['on_ticks_per_s']:,.0f} ticks/s"
        f" ({one['on_ticks_per_cpu_s']:,.0f} per CPU second)"
    )


def arguments() -> argparse.Namespace:
    """Options of the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nautilus-python", help="interpreter with nautilus_trader")
    parser.add_argument(
        "--bars-python", help="interpreter with backtesting, backtrader and vectorbt"
    )
    parser.add_argument("--ticks", type=Path, default=EXCERPT, help="MT5 export, CSV or Parquet")
    parser.add_argument("--times", type=int, default=1, help="ticks of the file so many times over")
    parser.add_argument(
        "--cross", action="append", metavar="FAST/SLOW", help="default 5000/20000 and 500/2000"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--record", type=Path, help="store the other tools' trades (for tests)")
    options = parser.parse_args()
    if not options.nautilus_python and not options.bars_python:
        parser.error("name an interpreter: --nautilus-python or --bars-python")
    return options


def main() -> None:
    """See the top of this file."""
    options = arguments()
    columns = read_columns(options.ticks, times=options.times)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        if options.nautilus_python:
            ticks = str(Path(folder) / "ticks.npz")
            np.savez(ticks, **columns)
            crosses = options.cross or ["5000/20000", "500/2000"]
            found["ticks"] = [compare(ticks, cross, options) for cross in crosses]
            found["looking"] = looked(ticks, options.rounds)
        if options.bars_python:
            found["bars"] = compare_bars(columns, Path(folder), options)
    if options.record:
        record(found, options.record)
    if options.json:
        print(json.dumps(found))
    else:
        _show(found)
    if not all(one["agree"] for one in [*found.get("ticks", []), *found.get("bars", [])]):
        raise SystemExit(1)


def _show(found: dict[str, Any]) -> None:
    for one in found.get("ticks", []):
        print(shown(one))
    if "looking" in found:
        walk = found["looking"]
        print(
            f"on_ticks that only looks: {walk['per_s']:,.0f} ticks/s"
            f" ({walk['per_cpu_s']:,.0f} per CPU second)"
        )
    for one in found.get("bars", []):
        agree = "agree" if one["agree"] else f"DIFFER: {one['differences']}"
        print(
            f"{one['tool']} {one['version']}, {one['bars']:,} M1 bars: {one['bars_per_s']:,.0f} "
            f"bars/s ({one['own_per_s']:,.0f} here), {one['trades']:,} trades "
            f"({one['own_trades']:,} here), net {one['net']:,.2f} ({one['own_net']:,.2f}): {agree}"
        )


if __name__ == "__main__":
    main()
