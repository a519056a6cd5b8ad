"""Redis -> group persist -> PostgreSQL, beside a bare COPY of the same prepared bytes.

    python benchmarks/persist.py [--ticks 2000000] [--batch 1000] [--workers 1] [--rounds 3]

Both store the same rows into the same table in transactions of the same size, turn by turn on
the same servers (embedded ones, durable, started for this run). The bare COPY has its bytes
ready; persist reads entries, checks them, builds rows, stores them and moves the offset.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

import click
import numpy as np

from consumers.persist import PersistGroup, PersistOptions, all_slots
from consumers.persist.reading import portions
from events.codec import encode
from events.embedded import servers
from events.log import SOURCE, Entry, Slot, partition_of
from events.postgres import Sink, connect, migrate
from events.postgres.binary_copy import SIGNATURE, TRAILER
from events.postgres.tables import TICKS
from events.redis import open_log
from events.settings import load
from events.ticks import TICK_DTYPE, OffsetSource, TickBatch

SYMBOLS = ("EURUSD", "GBPUSD", "USDJPY", "AUDUSD", "XAUUSD", "BTCUSD")
PARTITIONS = 4
START_MS = 1_700_000_000_000


def fill_log(url: str, count: int, batch_ticks: int) -> None:
    """`count` ticks of SYMBOLS in turn, in batches of one symbol."""
    chance = np.random.default_rng(7)
    log = open_log(url)
    log.open_namespace("bench", PARTITIONS)
    claims = [
        log.claim(Slot("bench", SOURCE, number), "bench", alive_within_s=0.1)
        for number in range(PARTITIONS)
    ]
    for index in range(count // batch_ticks):
        symbol = SYMBOLS[index % len(SYMBOLS)]
        ticks = np.zeros(batch_ticks, TICK_DTYPE)
        ticks["time_msc"] = START_MS + (index * batch_ticks + np.arange(batch_ticks)) * 10
        ticks["time"] = ticks["time_msc"] // 1000
        ticks["bid"] = 1 + chance.random(batch_ticks)
        ticks["ask"] = ticks["bid"] + 0.0001
        ticks["flags"] = 6
        newest_ms = int(ticks["time_msc"][-1]) - 7_200_000
        batch = TickBatch(symbol, ticks, 7200, OffsetSource.LIVE, newest_ms, newest_ms)
        log.append(claims[partition_of(symbol, PARTITIONS)], [encode(batch)])
    log.close()


def prepared(redis_url: str, dsn: str) -> tuple[list[bytes], int]:
    """What a bare COPY sends: the log's ticks as whole COPY messages, one per transaction."""
    log = open_log(redis_url)
    sink = Sink(dsn, "bench", holder="bench")
    messages: list[bytes] = []
    rows = 0
    for number in range(PARTITIONS):
        for stream in Slot("bench", SOURCE, number).streams():
            for portion in portions({stream: log.between(stream, count_max=10**7)}):
                rows += _add(messages, sink, portion)
    sink.close()
    log.close()
    return messages, rows


def _add(messages: list[bytes], sink: Sink, portion: list[Entry]) -> int:
    table = sink.build(portion).packed[TICKS.name][1]
    messages.append(SIGNATURE + table.tobytes() + TRAILER)
    return len(table)


def emptied(dsn: str) -> None:
    """The same start for every round."""
    with connect(dsn, application="bench") as connection:
        connection.execute("TRUNCATE raw.ticks")
        connection.execute("DELETE FROM raw.offsets")
        connection.execute("CHECKPOINT")


def bare_s(dsn: str, messages: list[bytes]) -> float:
    emptied(dsn)
    with connect(dsn, application="bench") as connection:
        began = time.perf_counter()
        for message in messages:
            with (
                connection.transaction(),
                connection.cursor() as cursor,
                cursor.copy(TICKS.copy_in) as copy,
            ):
                copy.write(message)
        return time.perf_counter() - began


def persist_s(redis_url: str, dsn: str, rows: int, workers: int) -> float:
    emptied(dsn)
    options = PersistOptions(
        dsn, lambda: open_log(redis_url), all_slots(["bench"]), "bench", until_idle=True
    )
    group = PersistGroup(options, workers=workers)
    began = time.perf_counter()
    group.start()
    if not group.join(600):
        raise click.ClickException("persist did not end within 600 s")
    took_s = time.perf_counter() - began
    if group.progress().ticks != rows:
        raise click.ClickException(f"{group.progress().ticks} of {rows} ticks were stored")
    return took_s


@click.command()
@click.option("--ticks", "count", default=2_000_000, show_default=True)
@click.option("--batch", "batch_ticks", default=1_000, show_default=True, help="Ticks per entry.")
@click.option("--workers", default=1, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(count: int, batch_ticks: int, workers: int, rounds: int, as_json: bool) -> None:
    """Measure, print every round, and the ratio of the medians."""
    with (
        tempfile.TemporaryDirectory(prefix="bridge-bench-") as folder,
        servers(load(bridge_state_dir=Path(folder))) as found,
    ):
        migrate(found.postgres_url)
        fill_log(found.redis_url, count, batch_ticks)
        messages, rows = prepared(found.redis_url, found.postgres_url)
        bare: list[float] = []
        persist: list[float] = []
        for _ in range(rounds):
            bare.append(rows / bare_s(found.postgres_url, messages))
            persist.append(rows / persist_s(found.redis_url, found.postgres_url, rows, workers))
    ratio = statistics.median(persist) / statistics.median(bare)
    if as_json:
        figures = {"bare_rows_per_s": bare, "persist_rows_per_s": persist, "ratio": ratio}
        click.echo(json.dumps({"rows": rows, "batch": batch_ticks, "workers": workers, **figures}))
        return
    click.echo(f"{rows} rows, {batch_ticks} ticks per entry, {workers} worker(s)")
    for name, figures_ in (("bare COPY", bare), ("persist  ", persist)):
        click.echo(f"{name}  " + "  ".join(f"{one:>9,.0f}" for one in figures_) + "  rows/s")
    click.echo(f"ratio of medians {ratio:.2f} (must: 0.7)")


if __name__ == "__main__":
    main()
