"""How long a task stands still when its worker leaves: told to (SIGTERM), or killed (kill -9).

    python -m benchmarks.handover [--lease 1.0] [--rounds 5] [--json]

Two workers share four tasks while a tick of each partition is appended every 5 ms. Then one of
them is told to stop, or killed. The pause of a task is the longest time from one of its commits to
the next around that moment; the longest of the tasks that the worker held is shown, which includes
the wait for a tick and the commit itself. The server is an embedded one, started for this run.
"""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import click

from benchmarks.parts.crossing import PARTITIONS, symbols
from benchmarks.parts.timed_worker import NAMESPACE, committed, tick_now, timed_worker
from events.embedded import servers
from events.log import SOURCE, Slot, partition_of
from events.redis import open_log
from events.settings import load

PACE_S = 0.005
SETTLE_S_MAX = 30.0
AFTER_S = 1.0
"""How long both are watched beyond the longest pause that may be."""
HANDOVER_S_MUST = 0.2


@contextmanager
def ticks_flow(url: str) -> Iterator[None]:
    """A tick of each partition every PACE_S, from a thread of its own."""
    log = open_log(url)
    claims = [
        log.claim(Slot(NAMESPACE, SOURCE, number), "bench", alive_within_s=0.1)
        for number in range(PARTITIONS)
    ]
    first = {partition_of(symbol, PARTITIONS): symbol for symbol in symbols()}
    ended = threading.Event()

    def feed() -> None:
        while not ended.wait(PACE_S):
            for claim in claims:
                log.append(claim, [tick_now(first[claim.slot.partition])])

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        log.close()


def slots_of(file: Path, *, since_ns: int) -> set[str]:
    return {slot for slot, _, done in committed(file) if done >= since_ns}


def wait_until_shared(files: list[Path]) -> None:
    """Until each worker commits for half of the tasks."""
    deadline = time.monotonic() + SETTLE_S_MAX
    while True:
        since_ns = time.monotonic_ns() - 500_000_000
        held = [slots_of(file, since_ns=since_ns) for file in files]
        if [len(one) for one in held] == [PARTITIONS // 2] * 2 and not held[0] & held[1]:
            return
        if time.monotonic() > deadline:
            raise click.ClickException(f"the tasks are not shared evenly: {held}")
        time.sleep(0.1)


def pause_s(url: str, folder: Path, how: int, lease_s: float) -> float:
    """The longest pause of the tasks of a worker that gets this signal."""
    files = [folder / f"{how}-{time.monotonic_ns()}-{number}" for number in range(2)]
    with ExitStack() as stack:
        stack.enter_context(ticks_flow(url))
        workers: list[subprocess.Popen[bytes]] = [
            stack.enter_context(timed_worker(url, "Echo", file, lease_s=lease_s)) for file in files
        ]
        wait_until_shared(files)
        told_ns = time.monotonic_ns()
        held = slots_of(files[0], since_ns=told_ns - 500_000_000)
        workers[0].send_signal(how)
        time.sleep(2 * lease_s + AFTER_S)
    commits = sorted((slot, done) for file in files for slot, _, done in committed(file))
    pauses = [
        (later - earlier) / 1e9
        for (slot, earlier), (same, later) in pairwise(commits)
        if slot == same and slot in held and later >= told_ns
    ]
    if {slot for slot, done in commits if done > told_ns + 2 * lease_s * 1e9} < held:
        raise click.ClickException("not all tasks were taken over in twice the lease")
    return max(pauses)


@click.command()
@click.option("--lease", "lease_s", default=1.0, show_default=True, help="Seconds.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(lease_s: float, rounds: int, as_json: bool) -> None:
    """Measure, print every round, and the medians."""
    kinds = {"told to stop": signal.SIGTERM}
    if hasattr(signal, "SIGKILL"):
        kinds["killed"] = signal.SIGKILL
    found: dict[str, list[float]] = {name: [] for name in kinds}
    with (
        tempfile.TemporaryDirectory(prefix="bridge-bench-") as folder,
        servers(load(bridge_state_dir=Path(folder) / "state"), postgres=False) as server,
    ):
        log = open_log(server.redis_url)
        log.open_namespace(NAMESPACE, PARTITIONS)
        log.close()
        for _ in range(rounds):
            for name, how in kinds.items():
                found[name].append(pause_s(server.redis_url, Path(folder), how, lease_s))
    if as_json:
        click.echo(json.dumps({"lease_s": lease_s, "pauses_s": found}))
        return
    must = {"told to stop": HANDOVER_S_MUST, "killed": 1.25 * lease_s + HANDOVER_S_MUST}
    for name, pauses in found.items():
        cells = "  ".join(f"{one:.3f}" for one in pauses)
        middle = statistics.median(pauses)
        click.echo(f"{name:<13}{cells}   median {middle:.3f} s (must: at most {must[name]:.2f})")


if __name__ == "__main__":
    main()
