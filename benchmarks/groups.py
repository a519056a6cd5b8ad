"""Read, handle and commit: entries per second of a group, beside bare XREAD and FastStream.

    python -m benchmarks.groups [--entries 100000] [--batched 24000] [--rounds 5] [--json]

The log is filled before the clock starts. Every round runs, one after the other and each in
processes of its own: `bare` (XREAD of all the entries with our client, parsed by redis-py and
thrown away), `count` (a worker whose handler only counts: what reading, decoding and committing
cost), `one` (a worker of a group: read, decode, handle, commit state, signals and offsets),
`two` (two workers that share its tasks) and, for single ticks, `faststream` (a FastStream
subscriber of one of these streams: XREADGROUP, the same arithmetic, signals published, entries
acknowledged). Each worker takes a few seconds, so that beginning and end, where one of two works
alone, weigh little: they were a tenth of a run of one second. Ratios are medians over the rounds
of the ratio within a round. The server is an embedded one, started for this run, which syncs
every append and commit to disk.
"""

from __future__ import annotations

import asyncio
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

from benchmarks.parts.crossing import NAMESPACE, PARTITIONS, Counting, Crossing, fill
from consumers.runtime.group import Group
from consumers.runtime.handler import Handler
from consumers.runtime.reading import BATCH_ENTRIES_MAX
from consumers.runtime.state import State
from consumers.runtime.task import TaskRun
from consumers.workers.process import spare_what_is_loaded
from events.embedded import servers
from events.log import SOURCE, Lane, Slot, Stream
from events.redis import open_log
from events.redis.connect import connect
from events.settings import load
from events.ticks import TickBatch

TICKS_PER_BATCH = 100
FASTSTREAM_ENTRIES = 6_000
"""Enough to see its speed; all of them would take it a minute."""
MIRROR_S = 1.0
PART_S_MAX = 120.0

Begin = Callable[[], None]


def ticks_stream(partition: int) -> Stream:
    return Stream(Slot(NAMESPACE, SOURCE, partition), Lane.NORMAL)


def read_bare(url: str, tasks: list[int], batch: int, begin: Begin) -> int:
    """The entries of some partitions, as redis-py gives them."""
    client = connect(url)
    client.ping()
    begin()
    entries = 0
    for number in tasks:
        stream, last = str(ticks_stream(number)), b"0-0"
        while found := client.xread({stream: last}, count=batch):
            rows = found[0][1]
            entries, last = entries + len(rows), rows[-1][0]
    client.close()
    return entries


def run_tasks(
    url: str, name: str, handler: type[Handler], tasks: list[int], batch: int, begin: Begin
) -> int:
    """The tasks of one worker, in turn, until nothing is left to read."""
    log = open_log(url)
    group = Group(name, handler, namespaces=(NAMESPACE,))
    runs = []
    for spec in group.specs(log):
        if spec.slot.partition in tasks:
            log.tasks.join(spec.reader, spec.inputs)
            taken = log.tasks.acquire(spec.slot, "bench", seen="")
            assert taken is not None
            runs.append(TaskRun(log, group, spec, *taken, entries_max=batch))
    spare_what_is_loaded()  # as every worker does
    begin()
    entries, mirror_at, left = 0, time.monotonic() + MIRROR_S, list(runs)
    while left:
        for run in list(left):
            step = run.step()
            entries += step.entries
            assert not step.failed
            if not step.entries:
                left.remove(run)
        if time.monotonic() >= mirror_at:
            mirror_at += MIRROR_S
            for run in runs:
                run.mirror()
    for run in runs:
        run.mirror()
        run.release()
    log.close()
    return entries


def run_faststream(url: str, name: str, count: int, batch: int, begin: Begin) -> int:
    """A subscriber as its documentation shows it, of `count` entries of the first partition."""
    try:
        from faststream.redis import RedisBroker, RedisStreamMessage, StreamSub
    except ImportError as error:
        raise click.ClickException("faststream is missing: pip install -e '.[bench]'") from error

    broker = RedisBroker(url, logger=None)
    handler = Crossing()
    handler.state = State()
    stream = str(ticks_stream(0))
    ended = asyncio.Event()
    seen = 0

    async def parsed(message: Any, original: Any) -> Any:
        message["data"][b"__data__"] = message["data"][b"data"]
        return await original(message)

    subscription = StreamSub(stream, group=name, consumer="bench", last_id="0", max_records=batch)

    @broker.subscriber(stream=subscription, parser=parsed)
    async def on_ticks(body: bytes, message: RedisStreamMessage) -> None:
        nonlocal seen
        symbol = message.raw_message["data"][b"key"].decode()
        for signal in handler.handle(TickBatch.from_bytes(symbol, body)):
            await broker.publish(signal.model_dump_json(), stream=f"{name}:signals")
        seen += 1
        if seen >= count:
            ended.set()

    async def run() -> None:
        await broker.connect()
        begin()
        await broker.start()
        await asyncio.wait_for(ended.wait(), PART_S_MAX)

    async def all_of_it() -> None:
        try:
            await run()
            say("ended", entries=seen)
        finally:
            await broker.stop()

    asyncio.run(all_of_it())
    return seen


def say(word: str, **more: Any) -> None:
    click.echo(json.dumps({"word": word, "at_s": time.monotonic(), **more}))


def wait_for_start() -> None:
    """All processes of a part begin together."""
    say("ready")
    sys.stdin.readline()
    say("began")


def work(part: str, url: str, name: str, tasks: list[int], batch: int) -> None:
    """One process of a part; tells when it began and ended."""
    if part == "bare":
        say("ended", entries=read_bare(url, tasks, batch, wait_for_start))
    elif part == "faststream":
        there = open_log(url).info(ticks_stream(0)).length
        run_faststream(url, name, min(FASTSTREAM_ENTRIES, there), batch, wait_for_start)
    else:
        handler = Counting if part == "count" else Crossing
        say("ended", entries=run_tasks(url, name, handler, tasks, batch, wait_for_start))


def rate(part: str, url: str, name: str, batch: int, workers: int = 1) -> float:
    """Entries per second of one part, from the first process' start to the last one's end."""
    children = []
    for number in range(workers):
        tasks = ",".join(map(str, range(number, PARTITIONS, workers)))
        command = [sys.executable, "-m", "benchmarks.groups", "--part", part, "--url", url]
        command += ["--name", name, "--tasks", tasks, "--batch", str(batch)]
        children.append(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
    try:
        told = [json.loads(child.stdout.readline() or "{}") for child in children]
        if any(not one for one in told):
            raise click.ClickException(f"{part} did not begin")
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        lines = [child.communicate(timeout=PART_S_MAX)[0].splitlines() for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    words = [{one["word"]: one for one in map(json.loads, part_lines)} for part_lines in lines]
    if any("ended" not in one for one in words):
        raise click.ClickException(f"{part} did not end well")
    took_s = max(w["ended"]["at_s"] for w in words) - min(w["began"]["at_s"] for w in words)
    return float(sum(w["ended"]["entries"] for w in words) / took_s)


def rounds_of(
    url: str, label: str, rounds: int, batch: int, *, faststream: bool
) -> dict[str, list[float]]:
    """Entries per second of every part and round."""
    log = open_log(url)
    found: dict[str, list[float]] = {"bare": [], "count": [], "one": [], "two": []}
    for number in range(rounds):
        found["bare"].append(rate("bare", url, "", batch))
        rates: dict[str, list[float]] = {}
        # One worker before and after two: a machine whose speed drifts shifts both alike.
        for turn, (part, workers) in enumerate((("count", 1), ("one", 1), ("two", 2), ("one", 1))):
            name = f"{label}-{part}-{number}-{turn}"
            log.tasks.open_group(NAMESPACE, name, PARTITIONS)
            rates.setdefault(part, []).append(rate(part, url, name, batch, workers))
        for part, each in rates.items():
            found[part].append(statistics.mean(each))
        if faststream:
            name = f"{label}-fast-{number}"
            found.setdefault("faststream", []).append(rate("faststream", url, name, batch))
    log.close()
    return found


def ratios_of(found: dict[str, list[float]]) -> dict[str, float]:
    def median(upper: str, lower: str) -> float:
        pairs = zip(found[upper], found[lower], strict=True)
        return statistics.median(one / other for one, other in pairs)

    ratios = {
        "count_to_bare": median("count", "bare"),
        "one_to_bare": median("one", "bare"),
        "two_to_one": median("two", "one"),
    }
    if "faststream" in found:
        ratios["one_to_faststream"] = median("one", "faststream")
    return ratios


MUST: dict[str, dict[str, float | None]] = {
    "single": {
        "count_to_bare": 0.5,
        "one_to_bare": 0.5,
        "two_to_one": 1.3,
        "one_to_faststream": 25.0,
    },
    "batched": {"two_to_one": 1.8},
}


def measured(label: str, entries: int, ticks: int, rounds: int, batch: int) -> dict[str, Any]:
    """One table: its entries on a server of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="bridge-bench-") as folder,
        servers(load(bridge_state_dir=Path(folder) / "state"), postgres=False) as server,
    ):
        log = open_log(server.redis_url)
        fill(log, entries, ticks)
        log.close()
        found = rounds_of(server.redis_url, label, rounds, batch, faststream=label == "single")
    return {
        "entries": entries, "ticks_per_entry": ticks, "entries_per_s": found, **ratios_of(found)
    }  # fmt: skip


def show(label: str, table: dict[str, Any]) -> None:
    ticks = table["ticks_per_entry"]
    click.echo(f"{label}: {table['entries']:,} entries of {ticks} tick(s), thousand ticks/s")
    for name, figures in table["entries_per_s"].items():
        cells = "  ".join(f"{one * ticks / 1e3:>8,.1f}" for one in figures)
        middle = statistics.median(figures) * ticks / 1e3
        click.echo(f"  {name:<11}{cells}   median {middle:,.1f}")
    for name, must in MUST[label].items():
        wanted = "" if must is None else f" (must: {must:g})"
        click.echo(f"  {name.replace('_', ' ')}: {table[name]:.2f}{wanted}")


@click.command()
@click.option("--entries", default=100_000, show_default=True, help="Of one tick each; 0: none.")
@click.option(
    "--batched", default=24_000, show_default=True, help="Entries of 100 ticks each; 0: none."
)
@click.option("--rounds", default=5, show_default=True)
@click.option("--batch", default=BATCH_ENTRIES_MAX, show_default=True, help="Entries per read.")
@click.option("--json", "as_json", is_flag=True)
@click.option("--part", hidden=True)
@click.option("--url", hidden=True)
@click.option("--name", hidden=True, default="")
@click.option("--tasks", hidden=True, default="")
def main(
    entries: int, batched: int, rounds: int, batch: int, as_json: bool, part: str | None,
    url: str, name: str, tasks: str,
) -> None:  # fmt: skip
    """Measure, print every round, and the median ratios."""
    if part is not None:
        work(part, url, name, [int(number) for number in tasks.split(",")], batch)
        return
    wanted = {"single": (entries, 1), "batched": (batched, TICKS_PER_BATCH)}
    tables = {
        label: measured(label, count, ticks, rounds, batch)
        for label, (count, ticks) in wanted.items()
        if count
    }
    if as_json:
        click.echo(json.dumps({"batch": batch, **tables}))
        return
    for label, table in tables.items():
        show(label, table)


if __name__ == "__main__":
    main()
