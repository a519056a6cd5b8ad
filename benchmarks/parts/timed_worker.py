"""A worker that writes down when each of its outputs was committed, to measure delays.

    python -m benchmarks.parts.timed_worker URL HANDLER FILE

Each line of FILE tells slot, when the cause was appended and when the commit was answered (both in
ns of the machine's monotonic clock, which all its processes share).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import click
import numpy as np

from benchmarks.parts.crossing import Crossing
from consumers.runtime.group import Group
from consumers.runtime.handler import Handler, Inputs, Order
from consumers.workers.ownership import LEASE_S
from consumers.workers.process import spare_what_is_loaded
from consumers.workers.taking import WorkerOptions
from consumers.workers.worker import Worker
from events.codec import AnyEvent, encode
from events.decisions import Command, TradeSignal
from events.log import Lane, NewEntry
from events.redis import open_log
from events.tasks import Commit
from events.ticks import TICK_DTYPE, OffsetSource, TickBatch

NAMESPACE = "bench"


class Echo(Handler):
    """One signal per tick. The tick's time is when it was appended, the signal's `valid_until_ms`
    carries it on."""

    types: ClassVar[frozenset[str]] = frozenset({"ticks"})

    def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
        assert isinstance(event, TickBatch)
        for tick in event:
            yield TradeSignal(
                event_time_ms=0, strategy="echo", symbol=event.symbol, target="flat",
                valid_until_ms=tick.server_time_ms,
            )  # fmt: skip


class Alarm(Handler):
    """One signal per command, and two averages of every tick beside: by priority, in one task."""

    order: ClassVar[Order] = Order.PRIORITY
    tasks: ClassVar[int | None] = 1
    inputs: ClassVar[Inputs] = Inputs(lanes=tuple(Lane))

    def setup(self) -> None:
        self.crossing = Crossing()
        self.crossing.state = self.state

    def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
        if isinstance(event, Command):
            yield TradeSignal(
                event_time_ms=0, strategy="alarm", symbol="", target="flat",
                valid_until_ms=int(event.command_id),
            )  # fmt: skip
        elif isinstance(event, TickBatch):
            for _ in self.crossing.handle(event):
                pass


HANDLERS = {handler.__name__: handler for handler in (Echo, Alarm)}


def tick_now(symbol: str) -> NewEntry:
    tick = np.zeros(1, TICK_DTYPE)
    tick["time_msc"] = time.monotonic_ns()
    return encode(TickBatch(symbol, tick, 0, OffsetSource.LIVE, 0, 0))


def command_now() -> NewEntry:
    now = str(time.monotonic_ns())
    return encode(Command(event_time_ms=0, command_id=now, verb="halt", issued_by="bench"))


@contextmanager
def timed_worker(
    url: str, handler: str, file: Path, *, lease_s: float = LEASE_S
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker as a process; gone at the end."""
    command = [sys.executable, "-m", "benchmarks.parts.timed_worker", url, handler, str(file)]
    command += ["--lease", str(lease_s)]
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def committed(file: Path) -> list[tuple[str, int, int]]:
    """What a worker wrote down: slot, appended at, committed at. It may be writing just now."""
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    return [(slot, int(one), int(other)) for slot, one, other in map(str.split, lines)]


def wait_for(file: Path, count: int, *, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while len(committed(file)) < count:
        if time.monotonic() > deadline:
            raise click.ClickException(f"{len(committed(file))} of {count} outputs were committed")
        time.sleep(0.02)


def percentiles(delays_ms: Sequence[float]) -> dict[str, float]:
    """Half are quicker than p50, 99 of 100 than p99."""
    p50, p99 = np.percentile(delays_ms, [50, 99])
    return {"p50_ms": float(p50), "p99_ms": float(p99), "max_ms": max(delays_ms)}


@click.command()
@click.argument("url")
@click.argument("handler", type=click.Choice(list(HANDLERS)))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--lease", "lease_s", default=LEASE_S)
def main(url: str, handler: str, file: Path, lease_s: float) -> None:
    """Work until told to stop."""
    log, beat_log = open_log(url), open_log(url)
    group = Group(f"bench-{handler.lower()}", HANDLERS[handler], namespaces=(NAMESPACE,))
    options = WorkerOptions(holder=f"bench:{os.getpid()}", lease_s=lease_s)
    worker = Worker(log, group, options, beat_log=beat_log)
    commit_plain = log.tasks.commit

    def stop(*_: Any) -> None:
        worker.stopping = True

    def commit(step: Commit) -> None:
        commit_plain(step)
        now = time.monotonic_ns()
        for output in step.outputs:
            told.write(
                f"{step.claim.slot} {json.loads(output.entry.data)['valid_until_ms']} {now}\n"
            )
        told.flush()

    signal.signal(signal.SIGTERM, stop)
    spare_what_is_loaded()  # as every worker does
    with file.open("w") as told:
        log.tasks.commit = commit  # type: ignore[method-assign] # to take the time
        worker.run()
    log.close()
    beat_log.close()


if __name__ == "__main__":
    main()
