"""Appending single ticks: entries per second through the log's script, beside bare XADD.

    python -m benchmarks.append [--entries 20000] [--calls 2000] [--rounds 5] [--json]

`bare` is pipelined XADD of the same fields, 200 in a pipeline; `many` is 200 entries in one call of
the log (token and ids checked and drawn in the server, the feed's cursor moved), `one` is one entry
per call, each of which waits for the disk. The entries are prepared before the clock starts. Beside
each stands the processor time of the server per entry. The server is an embedded one, started for
this run, which syncs every append to disk.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from events.codec import encode
from events.embedded import servers
from events.log import SOURCE, Claim, CursorMove, NewEntry, Slot
from events.redis import RedisLog, open_log
from events.settings import load
from events.ticks import TICK_DTYPE, OffsetSource, TickBatch

NAMESPACE, FEED = "bench", "ticks:EURUSD"
TOGETHER = 200
MUST = {"many": 100_000}


def ticks(count: int) -> list[NewEntry]:
    tick = np.zeros(1, TICK_DTYPE)
    tick["bid"], tick["ask"] = 1.0, 1.0001
    return [encode(TickBatch("EURUSD", tick, 0, OffsetSource.LIVE, n, n)) for n in range(count)]


def append_bare(log: RedisLog, entries: list[NewEntry]) -> None:
    for begin in range(0, len(entries), TOGETHER):
        pipeline = log.client.pipeline(transaction=False)
        for entry in entries[begin : begin + TOGETHER]:
            fields = {"type": entry.type, "key": entry.key, "data": entry.data}
            pipeline.xadd("{bench}:normal", fields)
        pipeline.execute()


def append_all(log: RedisLog, claim: Claim, entries: list[NewEntry], together: int) -> None:
    cursor = log.cursors(claim.slot).get(FEED, "")
    for number, begin in enumerate(range(0, len(entries), together)):
        move = CursorMove(FEED, cursor, f"{together}-{number}")
        done = log.append(claim, entries[begin : begin + together], [move])
        cursor = done.cursors[FEED]


def measured(log: RedisLog, count: int, work: Callable[[], None]) -> dict[str, float]:
    """Entries per second, and microseconds of the server's processor per entry."""

    def server_s() -> float:
        cpu: dict[str, Any] = log.client.info("cpu")
        return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])

    before, began = server_s(), time.perf_counter()
    work()
    took_s = time.perf_counter() - began
    return {"per_s": count / took_s, "server_us": (server_s() - before) / count * 1e6}


@click.command()
@click.option("--entries", default=40_000, show_default=True)
@click.option("--calls", default=4_000, show_default=True, help="Of one entry each.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(entries: int, calls: int, rounds: int, as_json: bool) -> None:
    """Measure, print every round, and the medians."""
    prepared = ticks(entries)
    found: dict[str, list[dict[str, float]]] = {"bare": [], "many": [], "one": []}
    with (
        tempfile.TemporaryDirectory(prefix="bridge-bench-") as folder,
        servers(load(bridge_state_dir=Path(folder) / "state"), postgres=False) as server,
    ):
        log = open_log(server.redis_url)
        for _ in range(rounds):
            log.client.flushall()
            log.open_namespace(NAMESPACE, 1)
            claim = log.claim(Slot(NAMESPACE, SOURCE, 0), "bench", alive_within_s=0.1)
            works: dict[str, tuple[int, Callable[[], None]]] = {
                "bare": (entries, lambda: append_bare(log, prepared)),
                "many": (entries, lambda: append_all(log, claim, prepared, TOGETHER)),  # noqa: B023 - called in this round
                "one": (calls, lambda: append_all(log, claim, prepared[:calls], 1)),  # noqa: B023 - called in this round
            }
            for name, (count, work) in works.items():
                found[name].append(measured(log, count, work))
        log.close()
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, figures in found.items():
        cells = "  ".join(f"{one['per_s']:>8,.0f}" for one in figures)
        middle = statistics.median(one["per_s"] for one in figures)
        server_us = statistics.median(one["server_us"] for one in figures)
        must = f" (must: {MUST[name]:,})" if name in MUST else ""
        click.echo(
            f"{name:<5}{cells}  median {middle:,.0f} entries/s{must}; server {server_us:.1f} us"
        )


if __name__ == "__main__":
    main()
