"""Rows for binary COPY, built from entries without a database."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.candles import CandleBatch
from events.codec import EVENT_TYPES, PACKED_VERSIONS, encode
from events.log import BEGIN, Entry, EntryId, Lane, Slot, Stream
from events.marks import MARK_DTYPE, Marks
from events.offset import checksum_of
from events.postgres.batch import SinkBatch, build_batch
from events.postgres.binary_copy import (
    FIXED_TYPES,
    POSTGRES_EPOCH_MS,
    SIGNATURE,
    TIME_MAX_MS,
    TIME_MIN_MS,
    TRAILER,
    PackedTable,
    copy_chunks,
    timestamps,
)
from events.postgres.connection import where
from events.postgres.tables import TICKS, instant, text
from events.ticks import RATE_DTYPE, TICK_DTYPE, Mark, OffsetSource, TickBatch

SLOT = Slot("demo", "source", 0)
NUMBERS = {
    "timestamptz": st.integers(-(2**63), 2**63 - 1),
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "double precision": st.floats(width=64),
    "integer": st.integers(-(2**31), 2**31 - 1),
    "smallint": st.integers(-(2**15), 2**15 - 1),
}


class FixedIds:
    """Numbers without a database: a stream is 1 + its lane, every symbol is 9."""

    def stream(self, stream: Stream) -> int:
        return 1 + stream.lane

    def symbol(self, namespace: str, symbol: str) -> int:
        return 9

    def feed(self, stream: Stream, symbol: str) -> int:
        return 11


def entry(lane: Lane, type_: str, key: str, data: bytes, *, cause: str = "", ms: int = 5) -> Entry:
    return Entry(SLOT.stream(lane), EntryId(ms, 0), type_, key, data, cause)


def tick_entry(ticks: np.ndarray, *, ms: int = 5, cause: str = "") -> Entry:
    newest_ms = int(ticks["time_msc"].max(initial=0)) - 7_200_000
    batch = TickBatch("EURUSD", ticks, 7200, OffsetSource.LIVE, newest_ms, 2_000, Mark.LATE)
    made = encode(batch)
    return entry(made.lane, made.type, made.key, made.data, cause=cause, ms=ms)


def some_ticks(count: int) -> np.ndarray:
    ticks = np.zeros(count, TICK_DTYPE)
    ticks["time_msc"] = 1_700_000_000_123 + np.arange(count)
    ticks["time"] = ticks["time_msc"] // 1000
    ticks["bid"] = 1.5
    return ticks


def tick_rows(batch: SinkBatch) -> np.ndarray:
    return batch.packed["raw.ticks"][1]


@given(st.data())
def test_packed_rows_are_read_back_bit_by_bit(draw: st.DataObject) -> None:
    table = PackedTable("t", {f"c{index}": kind for index, kind in enumerate(FIXED_TYPES)})
    count = draw.draw(st.integers(0, 20))
    values = {
        name: np.array(
            draw.draw(st.lists(NUMBERS[kind], min_size=count, max_size=count)),
            np.dtype(FIXED_TYPES[kind]).newbyteorder("="),
        )
        for name, kind in zip(table.columns, FIXED_TYPES, strict=True)
    }
    packed = table.unpack(b"".join(copy_chunks([table.pack(count, values)])))
    for name, column in values.items():
        assert packed[name].astype(column.dtype).tobytes() == column.tobytes()


def test_a_row_has_the_layout_that_the_documentation_of_copy_gives() -> None:
    table = PackedTable("t", {"a": "bigint", "b": "double precision", "c": "smallint"})
    values = {"a": np.array([2**64 - 1], np.uint64), "b": np.array([-0.0]), "c": 7}
    sent = b"".join(copy_chunks([table.pack(1, values)]))
    row = struct.pack(">hiqidih", 3, 8, -1, 8, -0.0, 2, 7)
    assert sent == SIGNATURE + row + TRAILER


@pytest.mark.parametrize("broken", [b"", SIGNATURE, SIGNATURE + b"x" + TRAILER, b"x" * 40])
def test_bytes_that_are_no_copy_are_refused(broken: bytes) -> None:
    with pytest.raises(ValueError, match=r"COPY|rows"):
        TICKS.unpack(broken)


def test_rows_of_another_table_are_refused() -> None:
    one = PackedTable("t", {"a": "bigint"})
    packed = one.pack(1, {"a": 1})
    packed["_fields"] = 2
    with pytest.raises(ValueError, match="not of t"):
        one.unpack(b"".join(copy_chunks([packed])))


def test_times_are_microseconds_since_2000_and_clamped() -> None:
    times = np.array([POSTGRES_EPOCH_MS + 1, -(2**62), 2**62], np.int64)
    first, lowest, highest = timestamps(times).tolist()
    assert first == 1000
    assert lowest == (TIME_MIN_MS - POSTGRES_EPOCH_MS) * 1000
    assert highest == (TIME_MAX_MS - POSTGRES_EPOCH_MS) * 1000
    assert instant(2**62).year == 9999
    assert instant(-(2**62)).year == 1


def test_ticks_keep_prices_to_the_bit_and_volumes_above_the_signed_range() -> None:
    ticks = some_ticks(3)
    ticks["volume"] = [0, 2**63, 2**64 - 1]
    ticks["flags"] = [6, 0x80000406, 2**32 - 1]
    ticks["ask"] = [np.nan, np.inf, -0.0]
    rows = tick_rows(build_batch([tick_entry(ticks)], FixedIds()))
    assert rows["volume"].tolist() == [0, -(2**63), -1]
    assert rows["flags"].astype("<i4").view("<u4").tolist() == ticks["flags"].tolist()
    assert rows["ask"].astype("<f8").tobytes() == ticks["ask"].tobytes()


def test_rows_know_their_entry_and_the_header_of_their_batch() -> None:
    entries = [tick_entry(some_ticks(2), ms=5), tick_entry(some_ticks(3), ms=6)]
    rows = tick_rows(build_batch(entries, FixedIds()))
    assert rows["entry_ms"].tolist() == [5, 5, 6, 6, 6]
    assert rows["idx"].tolist() == [0, 1, 0, 1, 2]
    assert set(rows["recv_ms"]) == {2_000}
    assert set(rows["batch_bits"]) == {Mark.LATE + 256 * OffsetSource.LIVE}
    assert set(rows["feed_id"]) == {11}
    utc_ms = 1_700_000_000_123 - 7_200_000
    assert rows["time"][0] == (utc_ms - POSTGRES_EPOCH_MS) * 1000


@pytest.mark.parametrize(
    "odd",
    [
        tick_entry(some_ticks(0)),
        tick_entry(some_ticks(1), cause="{demo:risk:0}:high@1-0"),
        entry(Lane.LOW, "ticks.1", "EURUSD", tick_entry(some_ticks(1)).data),
    ],
    ids=["no ticks", "a cause", "another lane"],
)
def test_entries_that_rows_do_not_say_whole_keep_their_bytes(odd: Entry) -> None:
    batch = build_batch([odd], FixedIds())
    [row] = batch.rows["raw.exact_entries"]
    assert row[-4:] == (odd.type, odd.key, odd.cause, odd.data)
    assert not batch.dead


def without_a_time(ticks: np.ndarray) -> None:
    ticks["time"][2] = 17


def beyond_the_calendar(ticks: np.ndarray) -> None:
    ticks["time_msc"][1] = 2**60
    ticks["time"][1] = 2**60 // 1000


@pytest.mark.parametrize("spoil", [without_a_time, beyond_the_calendar])
def test_only_batches_with_odd_times_keep_their_bytes(spoil: Callable[[np.ndarray], None]) -> None:
    odd = some_ticks(4)
    spoil(odd)
    entries = [tick_entry(some_ticks(2), ms=1), tick_entry(odd, ms=2), tick_entry(some_ticks(1))]
    batch = build_batch(entries, FixedIds())
    assert [row[1] for row in batch.rows["raw.exact_entries"]] == [2]
    assert len(tick_rows(batch)) == 7


def test_a_batch_whose_event_time_is_not_its_newest_tick_keeps_its_bytes() -> None:
    odd = TickBatch("EURUSD", some_ticks(2), 7200, OffsetSource.LIVE, 1, 2_000)
    made = encode(odd)
    batch = build_batch([entry(made.lane, made.type, made.key, made.data)], FixedIds())
    assert batch.rows["raw.exact_entries"][0][-1] == made.data


def test_unreadable_entries_are_buried_with_the_reason_and_the_others_stored() -> None:
    good = tick_entry(some_ticks(1))
    bad = entry(Lane.NORMAL, "ticks.1", "EURUSD", good.data[:-1])
    unknown = entry(Lane.HIGH, "surprise.3", "", b"{}")
    candle = CandleBatch("EURUSD", "M7", np.zeros(1, RATE_DTYPE), 0, OffsetSource.LIVE, 1, 2)
    made = encode(candle)
    wrong_frame = entry(Lane.LOW, made.type, made.key, made.data)
    batch = build_batch([bad, good, unknown, wrong_frame], FixedIds())
    assert [place for place, _ in batch.dead] == [bad, unknown, wrong_frame]
    assert [row[6] for row in batch.rows["raw.dead_entries"]] == [
        bad.data,
        unknown.data,
        wrong_frame.data,
    ]
    assert "checksum" in batch.dead[0][1]
    assert len(tick_rows(batch)) == 1
    assert batch.ticks_by_stream == {str(good.stream): 1}


@pytest.mark.parametrize("value", ["NaN", "Infinity", '"a\\u0000b"'])
def test_json_that_a_database_refuses_is_stored_clean_and_kept_whole(value: str) -> None:
    data = f'{{"event_time_ms":1,"note":{value}}}'.encode()
    batch = build_batch([entry(Lane.NORMAL, "clock.1", "", data)], FixedIds())
    [row] = batch.rows["raw.events"]
    body, original = row[-2:]
    assert original == data
    assert json.loads(body, parse_constant=pytest.fail)["event_time_ms"] == 1
    assert "\\u0000" not in body


def test_text_never_holds_what_a_database_refuses() -> None:
    assert text("a\0b\ud800é") == "a\ufffdb?é"


@given(
    type_=st.sampled_from([f"{name}.1" for name in (*EVENT_TYPES, *PACKED_VERSIONS)]),
    key=st.text(max_size=12),
    data=st.one_of(
        st.binary(max_size=200),
        st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5)).map(
            lambda fields: json.dumps(fields).encode()
        ),
    ),
    lane=st.sampled_from(Lane),
)
def test_no_entry_can_stop_the_building_of_rows(
    type_: str, key: str, data: bytes, lane: Lane
) -> None:
    batch = build_batch([entry(lane, type_, key, data)], FixedIds())
    kept = [
        *batch.dead,
        *batch.rows.get("raw.events", ()),
        *batch.rows.get("raw.exact_entries", ()),
    ]
    assert kept or batch.packed


def test_marks_with_ticket_numbers_above_the_signed_range_keep_their_bits() -> None:
    rows = np.zeros(1, MARK_DTYPE)
    rows["ticket"] = 2**64 - 2
    made = encode(Marks(7, rows, 1, 2))
    batch = build_batch([entry(made.lane, made.type, made.key, made.data)], FixedIds())
    assert batch.packed["raw.marks"][1]["ticket"][0] == -2
    assert "raw.exact_entries" not in batch.rows


def test_a_checksum_tells_entries_apart_by_every_field() -> None:
    same = entry(Lane.HIGH, "clock.1", "k", b"{}")
    others = [
        entry(Lane.HIGH, "clock.2", "k", b"{}"),
        entry(Lane.HIGH, "clock.1", "K", b"{}"),
        entry(Lane.HIGH, "clock.1", "k", b"[]"),
        entry(Lane.HIGH, "clock.1", "k", b"{}", cause="x"),
        entry(Lane.HIGH, "clock.1k", "", b"{}"),
    ]
    assert checksum_of(same) not in {checksum_of(other) for other in others}
    assert checksum_of(same) == checksum_of(entry(Lane.LOW, "clock.1", "k", b"{}", ms=BEGIN.ms))
    assert 0 <= checksum_of(same) < 2**63


def test_a_database_is_named_without_its_password() -> None:
    assert where("postgresql://bob:geheim@db:5433/bridge") == "bob@db:5433/bridge"
    assert "geheim" not in where("postgresql://bob:geheim@[bad")
