"""Events survive the log to the byte; old versions stay readable; foreign bytes are named."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from events import codec
from events.candles import CandleBatch
from events.codec import EVENT_TYPES, BadEvent, UnknownEvent, decode, decode_data, encode
from events.log import BEGIN, Entry, Lane, NewEntry, Slot
from events.marks import MARK_DTYPE, Marks
from events.operations import ClockChanged, TerminalDown
from events.ticks import (
    BATCH_TICKS_MAX,
    RATE_DTYPE,
    TICK_DTYPE,
    CorruptBatch,
    Mark,
    OffsetSource,
    TickBatch,
)
from events.trading import Deal

GOLDEN = Path(__file__).parent.parent / "data" / "golden_entries.jsonl"
SLOT = Slot("demo", "source", 0)

int64 = st.integers(-(2**62), 2**62)
doubles = st.floats(allow_nan=True, allow_infinity=True, width=64)
tick_rows = st.tuples(
    int64, doubles, doubles, doubles, st.integers(0, 2**64 - 1), int64,
    st.integers(0, 2**32 - 1), doubles,
)  # fmt: skip


def at_its_place(new: NewEntry) -> Entry:
    return Entry(SLOT.stream(new.lane), BEGIN, new.type, new.key, new.data, new.cause)


def batch(rows: list[tuple[Any, ...]], **more: Any) -> TickBatch:
    fields: dict[str, Any] = {
        "symbol": "EURUSD", "offset_s": 10_800, "offset_source": OffsetSource.LIVE,
        "event_time_ms": 1, "recv_time_ms": 2,
    }  # fmt: skip
    return TickBatch(ticks=np.array(rows, TICK_DTYPE), **(fields | more))


@given(
    rows=st.lists(tick_rows, max_size=20),
    offset_s=st.integers(-86_400, 86_400),
    source=st.sampled_from(OffsetSource),
    marks=st.sampled_from([Mark.NONE, Mark.LATE, Mark.BACKFILL | Mark.LATE, Mark.IMPORTED]),
)
def test_tick_batches_survive_to_the_byte(
    rows: list[tuple[Any, ...]], offset_s: int, source: OffsetSource, marks: Mark
) -> None:
    sent = batch(rows, offset_s=offset_s, offset_source=source, marks=marks)
    for history in (False, True):
        new = encode(sent, history=history, cause="x@1-1")
        assert new.lane is (Lane.LOW if history else Lane.NORMAL)
        found = decode(at_its_place(new))
        assert isinstance(found, TickBatch)
        assert found.to_bytes() == sent.to_bytes()
        assert found.ticks.tobytes() == sent.ticks.tobytes()
        assert (found.offset_s, found.offset_source, found.marks) == (offset_s, source, marks)


@given(position=st.integers(0, 151), bit=st.integers(0, 7))
def test_a_flipped_bit_in_the_ticks_is_noticed(position: int, bit: int) -> None:
    data = bytearray(batch([(1, 1.1, 1.2, 0, 0, 1000, 6, 0)] * 2).to_bytes())
    header_bytes = len(data) - 120
    place = header_bytes + position if position < 120 else 20 + (position - 120) % 8
    data[place] ^= 1 << bit
    with pytest.raises(CorruptBatch):
        TickBatch.from_bytes("EURUSD", bytes(data))


def test_a_batch_knows_utc_and_the_price_of_each_tick() -> None:
    one = batch([(3600, 1.1, 1.3, 0, 0, 3_600_250, 6, 0.0)], offset_s=3600)
    assert one.utc_ms().tolist() == [250]
    [price] = one
    assert (price.mid, round(price.spread, 9), price.event_time_ms) == (
        1.2000000000000002,
        0.2,
        250,
    )


def test_a_batch_that_is_too_long_or_of_another_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match="fit no batch"):
        batch([(0, 0, 0, 0, 0, 0, 0, 0)] * (BATCH_TICKS_MAX + 1)).to_bytes()
    with pytest.raises(CorruptBatch, match="no tick batch"):
        TickBatch.from_bytes("EURUSD", b"short")


@given(rows=st.lists(st.tuples(st.integers(0, 2**64 - 1), doubles, doubles, doubles), max_size=9))
def test_marks_survive_to_the_byte(rows: list[tuple[Any, ...]]) -> None:
    sent = Marks(7, np.array(rows, MARK_DTYPE), 1, 2, 3, OffsetSource.ASSUMED)
    found = decode(at_its_place(encode(sent)))
    assert isinstance(found, Marks)
    assert found.to_bytes() == sent.to_bytes()


def test_candles_survive_and_read_as_rows() -> None:
    rows = np.array([(7200, 1.0, 2.0, 0.5, 1.5, 10, 3, 0)], RATE_DTYPE)
    sent = CandleBatch("EURUSD", "H1", rows, 7200, OffsetSource.LIVE, 1, 2)
    found = decode(at_its_place(encode(sent)))
    assert isinstance(found, CandleBatch)
    assert (found.symbol, found.timeframe) == ("EURUSD", "H1")
    [candle] = found
    assert (candle.time_ms, candle.high, candle.tick_volume) == (0, 2.0, 10)


plain = st.none() | st.booleans() | int64 | st.text()


def json_strategy(kind: type[BaseModel]) -> st.SearchStrategy[Any]:
    free = {"rules", "arguments"} & kind.model_fields.keys()
    return st.builds(kind, **{name: st.dictionaries(st.text(), plain) for name in free})


# Pydantic's models are built as values are drawn: a busy machine is slow at it, not the test.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(EVENT_TYPES)))
def test_every_json_event_survives(data: st.DataObject, name: str) -> None:
    event = data.draw(json_strategy(EVENT_TYPES[name]))
    again = decode(at_its_place(encode(event)))
    assert type(again) is type(event)
    assert encode(again).data == encode(event).data


def test_big_numbers_travel_as_text() -> None:
    ticket = 2**63 + 1
    deal = Deal(
        event_time_ms=0, recv_time_ms=0, login=1, ticket=ticket, order=1, position_id=2,
        symbol="EURUSD", type=0, entry=0, reason=0, volume_lots=0.1, price=1.1, profit=0,
        commission=0, swap=0, fee=0, time_server_ms=0,
    )  # fmt: skip
    new = encode(deal)
    assert json.loads(new.data)["ticket"] == str(ticket)
    found = decode(at_its_place(new))
    assert isinstance(found, Deal)
    assert found.ticket == ticket


def test_levels_are_kept_as_last_state_and_facts_are_not() -> None:
    down = TerminalDown(event_time_ms=1, terminal="t", reason="lost")
    assert encode(down).last == encode(down).data
    assert encode(batch([])).last is None


@pytest.mark.parametrize(
    ("type_", "data", "error", "says"),
    [
        ("nothing.1", b"{}", UnknownEvent, "not known"),
        ("deal.99", b"{}", UnknownEvent, "upgrade"),
        ("ticks.2", b"", UnknownEvent, "newer"),
        ("ticks", b"", UnknownEvent, "name.version"),
        ("deal.1", b"{}", BadEvent, "deal.1 cannot be read"),
        ("deal.1", b"\xff", BadEvent, "deal.1 cannot be read"),
        ("ticks.1", b"abc", BadEvent, "no tick batch"),
    ],
)
def test_what_cannot_be_read_is_named(
    type_: str, data: bytes, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as raised:
        decode_data(type_, "k", data, place="s@1-1")
    if "name.version" not in says:
        assert "s@1-1" in str(raised.value)


def test_an_older_version_passes_through_its_upcasters(monkeypatch: pytest.MonkeyPatch) -> None:
    class ClockChangedLater(ClockChanged):
        VERSION = 3

    monkeypatch.setitem(EVENT_TYPES, "clock_changed", ClockChangedLater)
    rename = {"clock_rule": "rule"}
    monkeypatch.setitem(
        codec.UPCASTERS,
        ("clock_changed", 1),
        lambda fields: {rename.get(name, name): value for name, value in fields.items()},
    )
    old = {
        "event_time_ms": 1, "server": "S", "clock_rule": "UTC", "offset_s": 0,
        "offset_source": "live",
    }  # fmt: skip
    found = decode_data("clock_changed.1", "S", json.dumps(old).encode())
    assert isinstance(found, ClockChangedLater)
    assert found.rule == "UTC"


def golden() -> list[dict[str, str]]:
    return [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]


def test_the_golden_entries_cover_every_type() -> None:
    """`python -m tests.golden` adds what is missing."""
    types = {row["type"].rpartition(".")[0] for row in golden()}
    assert types == set(EVENT_TYPES) | set(codec.PACKED_VERSIONS)


@pytest.mark.parametrize("row", golden(), ids=lambda row: str(row["type"]))
def test_entries_written_by_earlier_versions_are_still_read(row: dict[str, str]) -> None:
    """The file only ever grows: these bytes lie in users' logs."""
    data = base64.b64decode(row["data"])
    event = decode_data(row["type"], row["key"], data)
    again = event.model_dump(mode="json") if isinstance(event, BaseModel) else event.to_bytes()
    if isinstance(again, bytes):
        assert again == data
    else:
        assert kept_of(again, json.loads(data)) == json.loads(data)


def kept_of(found: Any, written: Any) -> Any:
    """What was found of what was written, without the fields that parts gained since."""
    if isinstance(written, dict):
        return {name: kept_of(found[name], value) for name, value in written.items()}
    if isinstance(written, list) and len(found) == len(written):
        return [kept_of(one, value) for one, value in zip(found, written, strict=True)]
    return found
