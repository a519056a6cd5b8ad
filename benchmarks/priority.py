"""How long an event waits: ticks, and critical ones with and without a flood in lower lanes.

    python -m benchmarks.priority [--events 200] [--flood 100000] [--rounds 3] [--json]

Every round measures, on one server: `wake` (bare XADD in one process until XREAD BLOCK returns in
another), `tick` (a tick is appended until the signal it led to is committed), `idle` (a command in
the critical lane until its signal is committed, by a task that follows priorities) and `flood`
(the same while the normal and the low lane of that task are full). The flood is in the log before
the clock starts and lasts beyond the last command, or the round is refused. The server is an
embedded one, started for this run, which syncs every append and commit to disk.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.parts.timed_worker import (
    NAMESPACE,
    command_now,
    committed,
    percentiles,
    tick_now,
    timed_worker,
    wait_for,
)
from events.codec import encode
from events.embedded import servers
from events.log import SOURCE, Claim, Lane, Log, NewEntry, Slot
from events.redis import open_log
from events.redis.connect import connect
from events.settings import load
from events.ticks import TICK_DTYPE, OffsetSource, TickBatch

PACE_S = 0.01
START_S_MAX = 30.0
APPEND_ENTRIES = 500
WAKE = "bench:wake"
SLOT = Slot(NAMESPACE, SOURCE, 0)


def wake_delays(url: str, count: int) -> list[float]:
    """XADD here, XREAD BLOCK in another process; ms."""
    client = connect(url)
    client.delete(WAKE)
    command = [
        sys.executable,
        "-m",
        "benchmarks.priority",
        "--wait-at",
        url,
        "--events",
        str(count),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        for _ in range(count):
            time.sleep(PACE_S)
            client.xadd(WAKE, {"type": "x", "key": "", "data": time.monotonic_ns()})
        delays: list[float] = json.loads(reader.stdout.readline())
    client.close()
    return delays


def wait_at(url: str, count: int) -> None:
    """The other process of `wake_delays`."""
    client = connect(url)
    click.echo("ready")
    last = b"0-0"
    delays: list[float] = []
    while len(delays) < count:
        found = client.xread({WAKE: last}, block=2_000) or []
        now = time.monotonic_ns()
        rows = [row for _, of_stream in found for row in of_stream]
        delays += [(now - int(fields[b"data"])) / 1e6 for _, fields in rows]
        last = rows[-1][0] if rows else last
    click.echo(json.dumps(delays))


def delays_of(
    url: str, log: Log, claim: Claim, handler: str, file: Path, make: Callable[[], NewEntry],
    count: int,
) -> tuple[list[float], float]:  # fmt: skip
    """From append to commit, ms, and how long it took to send them all, in s."""
    with timed_worker(url, handler, file):
        log.append(claim, [make()])  # the first waits for the worker to be there
        wait_for(file, 1, within_s=START_S_MAX)
        began = time.monotonic()
        for _ in range(count):
            time.sleep(PACE_S)
            log.append(claim, [make()])
        took_s = time.monotonic() - began
        wait_for(file, count + 1, within_s=START_S_MAX)
    return [(done - at) / 1e6 for _, at, done in committed(file)[1:]], took_s


def flood(log: Log, claim: Claim, count: int) -> None:
    """Ticks in the normal lane and half as many, older ones, in the low lane."""
    tick = np.zeros(1, TICK_DTYPE)
    tick["bid"], tick["ask"] = 1.0, 1.0001
    batch = TickBatch("EURUSD", tick, 0, OffsetSource.LIVE, 0, 0)
    for history, entries in ((False, count), (True, count // 2)):
        some = [encode(batch, history=history)] * APPEND_ENTRIES
        for _ in range(entries // APPEND_ENTRIES):
            log.append(claim, some)


def flooded(
    url: str, log: Log, claim: Claim, folder: Path, count: int, size: int
) -> dict[str, Any]:
    """Delays of commands in a flood, and what of the flood was handled meanwhile."""
    flood(log, claim, size)
    task = Slot(NAMESPACE, "bench-alarm", 0)
    before = {stream.lane: at.entries for stream, at in log.tasks.peek(task).offsets.items()}
    delays, took_s = delays_of(url, log, claim, "Alarm", folder / "flood", command_now, count)
    done = {stream.lane: at for stream, at in log.tasks.peek(task).offsets.items()}
    for lane in (Lane.NORMAL, Lane.LOW):
        if lane not in done or done[lane].last >= log.info(SLOT.stream(lane)).last_id:
            raise click.ClickException(
                f"the {lane.label} lane ran empty after {took_s:.1f} s: use a larger --flood"
            )
    handled = {lane: done[lane].entries - before.get(lane, 0) for lane in (Lane.NORMAL, Lane.LOW)}
    return {
        **percentiles(delays),
        "entries_per_s": sum(handled.values()) / took_s,
        "low_share": handled[Lane.LOW] / sum(handled.values()),
    }


def one_round(events: int, flood_entries: int) -> dict[str, dict[str, Any]]:
    """All four on a server of their own."""
    with (
        tempfile.TemporaryDirectory(prefix="bridge-bench-") as name,
        servers(load(bridge_state_dir=Path(name) / "state"), postgres=False) as server,
    ):
        url, folder = server.redis_url, Path(name)
        log = open_log(url)
        log.open_namespace(NAMESPACE, 1)
        claim = log.claim(SLOT, "bench", alive_within_s=0.1)

        def delays(handler: str, make: Callable[[], NewEntry]) -> dict[str, float]:
            file = folder / handler
            return percentiles(delays_of(url, log, claim, handler, file, make, events)[0])

        found: dict[str, dict[str, Any]] = {
            "wake": percentiles(wake_delays(url, events)),
            "tick": delays("Echo", lambda: tick_now("EURUSD")),
            "idle": delays("Alarm", command_now),
            "flood": flooded(url, log, claim, folder, events, flood_entries),
        }
        log.close()
    return found


def summary(rounds: list[dict[str, dict[str, Any]]]) -> dict[str, float]:
    def ratio(name: str, other: str, figure: str) -> float:
        return statistics.median(one[name][figure] / one[other][figure] for one in rounds)

    return {
        "tick_to_wake_p50": ratio("tick", "wake", "p50_ms"),
        "tick_to_wake_p99": ratio("tick", "wake", "p99_ms"),
        "flood_to_idle_p50": ratio("flood", "idle", "p50_ms"),
        "flood_p99_ms": statistics.median(one["flood"]["p99_ms"] for one in rounds),
        "low_share": statistics.median(one["flood"]["low_share"] for one in rounds),
    }


MUST = {
    "tick_to_wake_p50": "at most 2", "tick_to_wake_p99": "at most 3",
    "flood_to_idle_p50": "at most 2", "flood_p99_ms": "at most 25", "low_share": "not 0",
}  # fmt: skip


@click.command()
@click.option("--events", default=200, show_default=True, help="Of each kind, one every 10 ms.")
@click.option("--flood", "flood_entries", default=150_000, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--json", "as_json", is_flag=True)
@click.option("--wait-at", "waiting_url", hidden=True)
def main(
    events: int, flood_entries: int, rounds: int, as_json: bool, waiting_url: str | None
) -> None:  # fmt: skip
    """Measure, print every round, and the medians of the ratios."""
    if waiting_url is not None:
        wait_at(waiting_url, events)
        return
    found = [one_round(events, flood_entries) for _ in range(rounds)]
    figures = summary(found)
    if as_json:
        click.echo(json.dumps({"rounds": found, **figures}))
        return
    for name in found[0]:
        cells = "   ".join(
            f"{one[name]['p50_ms']:>6.2f} {one[name]['p99_ms']:>6.2f}" for one in found
        )
        click.echo(f"{name:<6} p50 p99 in ms: {cells}")
    speeds = "  ".join(f"{one['flood']['entries_per_s']:,.0f}" for one in found)
    click.echo(f"entries of the flood handled per second: {speeds}")
    for name, figure in figures.items():
        click.echo(f"{name.replace('_', ' ')}: {figure:.2f} (must: {MUST[name]})")


if __name__ == "__main__":
    main()
