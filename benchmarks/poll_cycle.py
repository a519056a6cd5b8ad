"""How long one look at every symbol takes, against a terminal whose calls take a while.

    python benchmarks/poll_cycle.py [--latency-ms 20] [--cycles 5] [--json]

One cycle is `symbol_info_tick` and `copy_ticks_from` of every symbol, appended to a log in memory.
*Sequential* makes one call after the other; *parallel* is the producer's sweep. Two terminals:

  near   every call takes the latency inside the terminal, which serves one call at a time (a
         native one): no client can be faster than calls x latency
  far    the terminal is quick, its answers travel for the latency (a machine elsewhere): calls
         may overlap, and the sweep stays flat
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from events.clock_rules import ClockRule
from events.memory_log import MemoryLog
from producers.clock.broker_clock import BrokerClock
from producers.pollers.connection import Attached
from producers.pollers.context import ProducerOptions
from producers.producer import Producer
from producers.terminals.client import HostClient, HostLimits, open_client
from producers.terminals.constants import COPY_TICKS_ALL
from producers.terminals.spec import TerminalSpec

COUNTS = (4, 10, 100)
BASES = ("BTCUSD", "ETHUSD")
CLOCK = "fixed+3h"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--latency-ms", type=float, default=20.0)
    parser.add_argument("--cycles", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = [
        measured(kind, count, arguments.latency_ms, arguments.cycles)
        for kind in ("near", "far")
        for count in COUNTS
    ]
    if arguments.json:
        print(json.dumps({"latency_ms": arguments.latency_ms, "rows": rows}))
        return
    print(
        f"latency of one call {arguments.latency_ms:g} ms; median of {arguments.cycles} cycles, ms"
    )
    print(
        f"{'terminal':8} {'symbols':>8} {'calls x latency':>16} {'sequential':>11} {'parallel':>9}"
    )
    for row in rows:
        print(
            f"{row['terminal']:8} {row['symbols']:8} {row['bound_ms']:16.0f} "
            f"{row['sequential_ms']:11.0f} {row['parallel_ms']:9.0f}"
        )


def measured(kind: str, count: int, latency_ms: float, cycles: int) -> dict[str, Any]:
    """One line of the table."""
    symbols = names(count)
    options: dict[str, Any] = {
        "symbols": list(BASES),
        "suffixes": sorted({name[6:] for name in symbols}),
        "selected": list(symbols),
        "clock": CLOCK,
    }
    if kind == "near":
        options["latency_ms"] = latency_ms
    spec = TerminalSpec(
        name="trial",
        kind="simulated",
        options=options,
        link_latency_ms=latency_ms if kind == "far" else 0.0,
    )
    client = open_client(spec, limits=HostLimits(in_flight_max=2 * count))
    with tempfile.TemporaryDirectory() as folder:
        producer = build(client, symbols, Path(folder))
        try:
            client.call("initialize")
            producer.prepare()
            assert producer.connection.try_to_come_up(), producer.report.incidents
            for _ in range(4):  # a first start looks twice before it believes
                cycle(producer)
            sequential = median_ms(cycles, lambda: one_by_one(client, symbols))
            parallel = median_ms(cycles, lambda: cycle(producer))
        finally:
            producer.stop()
            client.close()
    return {
        "terminal": kind,
        "symbols": count,
        "bound_ms": 2 * count * latency_ms,
        "sequential_ms": round(sequential, 1),
        "parallel_ms": round(parallel, 1),
    }


def names(count: int) -> tuple[str, ...]:
    return tuple(f"{BASES[n % 2]}.{n // 2}" for n in range(count))


def build(client: HostClient, symbols: tuple[str, ...], folder: Path) -> Producer:
    options = ProducerOptions(
        namespace="trial",
        terminal="trial",
        kind="simulated",
        symbols=symbols,
        state_dir=folder,
        holder="benchmark",
        copy_interval_s=3_600.0,
        price_interval_s=30.0,  # how long a sweep waits for a call: here, for all
        workers=4,
    )
    return Producer(
        options,
        client,
        MemoryLog(),
        attach=lambda: Attached({symbol: symbol for symbol in symbols}),
        clock=BrokerClock(ClockRule.parse(CLOCK)),
    )


def cycle(producer: Producer) -> None:
    """Every symbol once: the quote, and the ticks behind it."""
    for poller in producer.tick_pollers:
        for feed in poller.feeds:
            feed.quote = ()  # as if it had changed
    # Groups are swept by workers of their own, as the scheduler does it.
    with ThreadPoolExecutor(len(producer.tick_pollers)) as workers:
        list(workers.map(lambda poller: poller.sweep(), producer.tick_pollers))


def one_by_one(client: HostClient, symbols: tuple[str, ...]) -> None:
    now_s = int(time.time())
    for symbol in symbols:
        client.call("symbol_info_tick", symbol)
        client.call("copy_ticks_from", symbol, now_s, 1_000, COPY_TICKS_ALL)


def median_ms(cycles: int, work: Callable[[], None]) -> float:
    times = []
    for _ in range(cycles):
        begun = time.perf_counter()
        work()
        times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times)


if __name__ == "__main__":
    main()
