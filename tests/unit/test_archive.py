"""The archive: entries as Parquet and back, and all places read as one source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.archive.chunk import ChunkOf, read_chunk, verify_chunk
from events.archive.errors import ArchiveError, ChunkDamaged
from events.archive.folder import ArchiveFolder
from events.archive.source import EntrySource, Wanted
from events.archive.stream_reading import Hole
from events.archive.times import Times, times_of
from events.candles import CandleBatch
from events.codec import encode
from events.log import (
    BEGIN,
    END,
    Entry,
    EntryId,
    Lane,
    NewEntry,
    Slot,
    Stream,
)
from events.memory_log import MemoryLog
from events.operations import ClockTick
from events.ticks import RATE_DTYPE, TICK_DTYPE, Mark, OffsetSource, TickBatch

SLOT = Slot("demo", "source", 0)
NORMAL, LOW = SLOT.stream(Lane.NORMAL), SLOT.stream(Lane.LOW)
FACTS = ChunkOf(before=0, partitions=1, slots=1, origin="live")
T0 = 1_700_000_000_000


def ticks(count: int, *, from_ms: int = T0, step_ms: int = 100, price: float = 1.1) -> np.ndarray:
    rows = np.zeros(count, TICK_DTYPE)
    rows["time_msc"] = from_ms + step_ms * np.arange(count)
    rows["time"] = rows["time_msc"] // 1000
    rows["bid"] = price + 0.0001 * np.arange(count)
    rows["ask"] = rows["bid"] + 0.0002
    rows["flags"] = 6
    return rows


def batch(rows: np.ndarray, symbol: str = "EURUSD", *, offset_s: int = 7_200) -> TickBatch:
    newest = int(rows["time_msc"].max()) - offset_s * 1000 if len(rows) else 0
    return TickBatch(symbol, rows, offset_s, OffsetSource.LIVE, newest, newest + 40, Mark.LATE)


def placed(new: Sequence[NewEntry], stream: Stream = NORMAL, *, first_ms: int = T0) -> list[Entry]:
    return [
        Entry(stream, EntryId(first_ms + n // 3, n % 3), one.type, one.key, one.data, one.cause)
        for n, one in enumerate(new)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> ArchiveFolder:
    return ArchiveFolder(tmp_path / "archive")


@st.composite
def tick_batches(draw: st.DrawFn) -> NewEntry:
    """Whatever a terminal may ever give, and what nobody's terminal gives."""
    count = draw(st.integers(0, 4))
    rows = np.zeros(count, TICK_DTYPE)
    floats = st.floats() | st.sampled_from([0.0, -0.0, 1.1, float("nan"), float("-inf")])
    for row in range(count):
        time_msc = draw(st.integers(-(2**40), 2**42))
        for name in ("bid", "ask", "last", "volume_real"):
            rows[row][name] = draw(floats)
        rows[row]["volume"] = draw(st.integers(0, 2**64 - 1))
        rows[row]["flags"] = draw(st.integers(0, 2**32 - 1))
        rows[row]["time_msc"] = time_msc
        rows[row]["time"] = time_msc // 1000 + draw(st.sampled_from([0, 0, 0, 1]))
    made = TickBatch(
        draw(st.sampled_from(["EURUSD", "#Ünï", ""])), rows, draw(st.integers(-50_000, 50_000)),
        draw(st.sampled_from(OffsetSource)), draw(st.integers(-(2**40), 2**42)),
        draw(st.integers(0, 2**42)), Mark(draw(st.integers(0, 7))),
    )  # fmt: skip
    return encode(made, history=draw(st.booleans()))


texts = st.text(st.characters(codec="utf-8"), max_size=12)
anything = st.builds(NewEntry, st.just(Lane.NORMAL), texts, texts, st.binary(max_size=40), texts)


@settings(max_examples=60)
@given(new=st.lists(tick_batches() | anything, min_size=1, max_size=12))
def test_whatever_is_archived_comes_back_to_the_byte(
    tmp_path_factory: pytest.TempPathFactory, new: list[NewEntry]
) -> None:
    folder = ArchiveFolder(tmp_path_factory.mktemp("archive"))
    entries = placed(new)
    chunk = folder.write(entries, FACTS)
    assert list(read_chunk(chunk)) == entries
    assert folder.chunks(NORMAL) == [chunk]
    verify_chunk(chunk)


def test_ticks_are_columns_for_any_parquet_tool(folder: ArchiveFolder) -> None:
    import pyarrow.parquet as parquet

    rows = ticks(500)
    new = [encode(batch(rows[n : n + 50], s)) for n in range(0, 500, 50) for s in ("A", "B")]
    chunk = folder.write(placed(new), FACTS)
    assert chunk.ticks == 1_000
    table = parquet.read_table(folder.root / "demo" / "ticks")
    assert table.num_rows == 1_000
    assert table.column("symbol").to_pylist() == ["A"] * 500 + ["B"] * 500
    assert table.column("bid").to_pylist()[:500] == rows["bid"].tolist()
    utc_ms = [int(one.timestamp() * 1000 + 0.5) for one in table.column("time").to_pylist()]
    assert utc_ms[:500] == (rows["time_msc"] - 7_200_000).tolist()


def test_an_archived_tick_of_history_takes_few_bytes(folder: ArchiveFolder) -> None:
    chance = np.random.default_rng(7)
    count = 60_000
    rows = ticks(count)
    rows["time_msc"] = T0 + np.cumsum(chance.exponential(300, count).astype(np.int64))
    rows["time"] = rows["time_msc"] // 1000
    rows["bid"] = np.round(1.08 + np.cumsum(chance.normal(0, 2e-5, count)), 5)
    rows["ask"] = np.round(rows["bid"] + 1e-5 * chance.integers(5, 15, count), 5)
    new = [encode(batch(rows[n : n + 1_000])) for n in range(0, count, 1_000)]
    chunk = folder.write(placed(new), FACTS)
    assert chunk.size_bytes / count < 10


def test_times_are_read_without_decoding() -> None:
    rows = ticks(3, from_ms=T0)
    entry = encode(batch(rows))
    assert times_of(entry.type, entry.data) == Times(T0 - 7_200_000, T0 + 200 - 7_200_000)
    bars = np.zeros(2, RATE_DTYPE)
    bars["time"] = [T0 // 1000, T0 // 1000 + 60]
    candles = encode(CandleBatch("A", "M1", bars, 3_600, OffsetSource.LIVE, T0, T0))
    assert times_of(candles.type, candles.data) == Times(T0 - 3_600_000, T0)
    clock = encode(ClockTick(event_time_ms=T0))
    assert times_of(clock.type, clock.data) == Times(T0, T0)
    assert times_of("foreign.0", b"\0\1") is None
    assert times_of("ticks.1", b"short") is None


def test_a_damaged_file_is_named_and_not_believed(folder: ArchiveFolder) -> None:
    entries = placed([encode(batch(ticks(200)))] * 5)
    chunk = folder.write(entries, FACTS)
    whole = chunk.path.read_bytes()
    assert chunk.ticks_path is not None
    chunk.ticks_path.unlink()
    with pytest.raises(ChunkDamaged, match="damaged"):
        verify_chunk(chunk)
    chunk = folder.write(entries, FACTS)
    chunk.path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ChunkDamaged, match=chunk.path.name):
        folder.chunks(NORMAL)
    other = folder.write(placed([encode(ClockTick(event_time_ms=T0))] * 5), FACTS)
    assert other.path == chunk.path
    folder.write(placed([encode(ClockTick(event_time_ms=T0 + 1))] * 5), FACTS)
    with pytest.raises(ChunkDamaged, match="checksum"):
        verify_chunk(other)


def test_nobody_else_writes_meanwhile(folder: ArchiveFolder) -> None:
    unfinished = folder.root / "demo" / "entries" / "x.parquet.part"
    unfinished.parent.mkdir(parents=True)
    unfinished.write_bytes(b"torn")
    with folder.writing("demo"):
        assert not unfinished.exists(), "what a dead writer left"
        other = ArchiveFolder(folder.root)
        with pytest.raises(ArchiveError, match="another program"), other.writing("demo"):
            pass
    with folder.writing("demo"):
        pass


class Rows:
    """A database that holds some of the entries."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries

    def streams(self, namespace: str) -> list[Stream]:
        return sorted({entry.stream for entry in self.entries})

    def between(self, stream: Stream, after: EntryId, before: EntryId) -> Iterator[Entry]:
        return (e for e in self.entries if e.stream == stream and after < e.id < before)


def grown_log(count: int) -> tuple[MemoryLog, list[Entry]]:
    """A log whose lanes are filled in turn."""
    now = iter(range(T0, T0 + 10 * count))
    log = MemoryLog(now_ms=lambda: next(now))
    log.open_namespace("demo", 1)
    log.tasks.open_group("demo", "risk", 1)
    claim = log.claim(SLOT, "me", alive_within_s=0)
    for number in range(count):
        clock = encode(ClockTick(event_time_ms=T0 + number))
        tick = encode(batch(ticks(2, from_ms=T0 + number)), history=number % 3 == 0)
        log.append(claim, [clock, tick])
    found = [entry for lane in Lane for entry in log.between(SLOT.stream(lane), count_max=10_000)]
    return log, sorted(found, key=lambda entry: entry.id)


@settings(max_examples=80)
@given(data=st.data())
def test_places_that_each_hold_a_part_read_as_the_whole_log(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    log, whole = grown_log(data.draw(st.integers(1, 30)))
    folder = ArchiveFolder(tmp_path_factory.mktemp("archive"))
    stored: list[Entry] = []
    lost: list[Entry] = []
    for lane in Lane:
        stream = SLOT.stream(lane)
        mine = [entry for entry in whole if entry.stream == stream]
        trimmed = data.draw(st.integers(0, len(mine)))
        at = 0
        while at < len(mine):
            size = data.draw(st.integers(1, 9))
            part = mine[at : at + size]
            place = data.draw(st.sampled_from(["chunk", "database", "both", "nowhere"]))
            if place in ("chunk", "both"):
                folder.write(part, ChunkOf(at, 1, 1, "live"))
            if place in ("database", "both"):
                stored += part
            if place == "nowhere":
                lost += [entry for entry in part if mine.index(entry) < trimmed]
            at += size
        if trimmed:
            log.retained.trim(stream, mine[trimmed - 1].id.next(), ())
    source = EntrySource(log, folder, Rows(stored))
    found = list(source.entries(Wanted("demo")))
    assert found == [entry for entry in whole if entry not in lost]
    assert sum(hole.entries or 0 for hole in source.holes) == len(lost)


def test_only_what_is_wanted_is_read_and_told(folder: ArchiveFolder) -> None:
    log, whole = grown_log(40)
    clocks = [entry for entry in whole if entry.type == "clock.1"]
    mine = [entry for entry in whole if entry.stream == NORMAL]
    folder.write(mine[10:20], ChunkOf(10, 1, 1, "live"))
    log.retained.trim(NORMAL, mine[30].id, ())
    source = EntrySource(log, folder)
    late = Wanted("demo", lanes=(Lane.NORMAL,), from_ms=T0 + 35)
    assert [e for e in source.entries(late) if e.type == "clock.1"] == clocks[35:]
    assert source.holes == [], "what is missing was before"
    assert list(source.entries(Wanted("demo", lanes=(Lane.NORMAL,)))) == mine[10:20] + mine[30:]
    assert [(hole.after, hole.entries) for hole in source.holes] == [(BEGIN, 10), (mine[19].id, 10)]
    assert "are nowhere" in str(source.holes[0])
    again = source.entries(Wanted("demo", lanes=(Lane.NORMAL,)), after={NORMAL: mine[12].id})
    assert next(again) == mine[13]


class Trimming(MemoryLog):
    """Loses entries between two pages of whoever reads."""

    on_read: int = 0

    def between(
        self, stream: Stream, first: EntryId = BEGIN, last: EntryId = END, *, count_max: int
    ) -> list[Entry]:
        found = super().between(stream, first, last, count_max=count_max)
        if self.on_read and stream == NORMAL and found:
            self.on_read -= 1
            middle = found[len(found) // 2].id
            self.retained.trim(stream, middle, ())
            return super().between(stream, first, last, count_max=count_max)
        return found


@pytest.mark.parametrize("archived", [True, False])
def test_what_leaves_the_log_while_it_is_read_is_found_or_told(
    folder: ArchiveFolder, archived: bool
) -> None:
    now = iter(range(T0, T0 + 10_000))
    log = Trimming(now_ms=lambda: next(now))
    log.open_namespace("demo", 1)
    claim = log.claim(SLOT, "me", alive_within_s=0)
    for number in range(50):
        log.append(claim, [encode(ClockTick(event_time_ms=T0 + number))])
    mine = log.between(NORMAL, count_max=100)
    log.on_read = 1
    if archived:
        folder.write(mine, ChunkOf(0, 1, 1, "live"))
    source = EntrySource(log, folder)
    found = list(source.entries(Wanted("demo")))
    missing: list[Hole] = source.holes
    assert len(found) + sum(hole.entries or 0 for hole in missing) == 50
    assert found == [entry for entry in mine if entry in found], "in order, each once"
    assert bool(missing) is not archived
