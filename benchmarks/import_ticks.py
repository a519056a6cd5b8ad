"""Tick file -> Redis, beside what each half can do alone on the same machine.

    python benchmarks/import_ticks.py [FILE] [--repeat 20] [--rounds 3] [--json]

`bare` is pipelined XADD of the very entries that the import appends, prepared before the clock
starts: no file, no checks, no cursor. `read` is the file alone, to tick records. The import
does both and moves the file's cursor; an import can be no faster than the slower half. The
server is an embedded one, started for this run, which syncs every append to disk.
"""

from __future__ import annotations

import gzip
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from events.codec import encode
from events.embedded import servers
from events.log import NewEntry, partition_of
from events.redis import RedisLog, open_log
from events.settings import load
from events.tick_files import TickSource, check_ticks, guess_symbol, read_ticks
from events.ticks import Mark, OffsetSource, TickBatch
from producers.append import Writer
from producers.report import Report
from producers.tick_import import APPEND_ENTRIES, ENTRY_TICKS, ImportOptions, import_ticks

SAMPLE = Path(__file__).parents[1] / "tests" / "data" / "EURUSD_20140504-20140507.csv.gz"
PARTITIONS = 4


def larger_file(source: Path, repeat: int, folder: Path) -> TickSource:
    """The lines of a text file `repeat` times over, unpacked."""
    packed = source.read_bytes()
    text = gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed
    header, _, lines = text.partition(b"\n")
    file = folder / "ticks.csv"
    file.write_bytes(header + b"\n" + lines * repeat)
    return TickSource(guess_symbol(source), file)


@contextmanager
def emptied(url: str) -> Iterator[RedisLog]:
    log = open_log(url)
    try:
        log.client.flushall()
        yield log
    finally:
        log.close()


def read_s(source: TickSource) -> float:
    began = time.perf_counter()
    check_ticks(source.path, symbol=source.symbol)
    return time.perf_counter() - began


def prepared(source: TickSource) -> list[NewEntry]:
    """The entries of a file as the import appends them."""
    entries = []
    for chunk in read_ticks(source.path, symbol=source.symbol, on_error="keep"):
        for begin in range(0, len(chunk), ENTRY_TICKS):
            part = chunk[begin : begin + ENTRY_TICKS]
            batch = TickBatch(
                source.symbol, part, 0, OffsetSource.UNKNOWN, int(part["time_msc"].max()), 0,
                Mark.IMPORTED,
            )  # fmt: skip
            entries.append(encode(batch))
    return entries


def bare_s(url: str, entries: list[NewEntry]) -> float:
    with emptied(url) as log:
        began = time.perf_counter()
        for begin in range(0, len(entries), APPEND_ENTRIES):
            pipeline = log.client.pipeline(transaction=False)
            for entry in entries[begin : begin + APPEND_ENTRIES]:
                fields = {"type": entry.type, "key": entry.key, "data": entry.data}
                pipeline.xadd("{bench}:normal", fields)
            pipeline.execute()
        return time.perf_counter() - began


def import_s(url: str, source: TickSource, ticks: int, on_error: str) -> float:
    with emptied(url) as log:
        writer = Writer(
            log, "bench", PARTITIONS, holder="bench", report=Report(), alive_within_s=0.1
        )
        writer.open()
        options = ImportOptions(on_error="keep" if on_error == "keep" else "stop")
        began = time.perf_counter()
        (done,) = import_ticks(writer, [source], options=options)
        took_s = time.perf_counter() - began
        stream = writer.slot(partition_of(source.symbol, PARTITIONS)).streams()[2]
        assert done.appended == ticks
        assert log.info(stream).length >= ticks // ENTRY_TICKS
        writer.close()
    return took_s


@click.command()
@click.argument("file", default=SAMPLE, type=click.Path(exists=True, path_type=Path))
@click.option("--repeat", default=20, show_default=True, help="How often its lines are taken.")
@click.option("--rounds", default=3, show_default=True)
@click.option(
    "--on-error",
    type=click.Choice(["stop", "keep"]),
    default="stop",
    show_default=True,
    help="stop reads the whole file before it appends; keep does both at once.",
)
@click.option("--json", "as_json", is_flag=True)
def main(file: Path, repeat: int, rounds: int, on_error: str, as_json: bool) -> None:
    """Measure, print every round, and the ratios of the medians."""
    rates: dict[str, list[float]] = {"read": [], "bare": [], "import": []}
    with (
        tempfile.TemporaryDirectory(prefix="bridge-bench-") as folder,
        servers(load(bridge_state_dir=Path(folder) / "state"), postgres=False) as found,
    ):
        source = larger_file(file, repeat, Path(folder))
        entries = prepared(source)
        ticks = check_ticks(source.path)
        for _ in range(rounds):
            rates["read"].append(ticks / read_s(source))
            rates["bare"].append(ticks / bare_s(found.redis_url, entries))
            rates["import"].append(ticks / import_s(found.redis_url, source, ticks, on_error))
    median = {name: statistics.median(figures) for name, figures in rates.items()}
    ratios = {
        "import_to_bare": median["import"] / median["bare"],
        "import_to_slower_half": median["import"] / min(median["bare"], median["read"]),
    }
    if as_json:
        click.echo(json.dumps({"ticks": ticks, "ticks_per_s": rates, **ratios}))
        return
    click.echo(
        f"{ticks:,} ticks of {source.symbol}, {ENTRY_TICKS} per entry, --on-error {on_error}"
    )
    for name, figures in rates.items():
        cells = "  ".join(f"{one / 1e6:>6.2f}" for one in figures)
        click.echo(f"{name:<8}{cells}  M ticks/s")
    for name, ratio in ratios.items():
        click.echo(f"{name.replace('_', ' ')}: {ratio:.2f}")


if __name__ == "__main__":
    main()
