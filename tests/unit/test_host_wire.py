"""Frames between host and client: what goes in comes out, and nothing else gets through."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.ticks import RATE_DTYPE, TICK_DTYPE
from producers.terminals.structs import (
    STRUCTS,
    AccountInfo,
    OrderSendResult,
    SymbolInfo,
    TradePosition,
    TradeRequest,
)
from producers.terminals.wire import (
    FrameTooLarge,
    Kind,
    WireError,
    pack,
    read_frame,
    unpack,
    write_frame,
)


def crossed(value: Any) -> Any:
    """The value after a trip over the wire."""
    source = io.BytesIO(pack((int(Kind.ANSWER), value)))
    body = read_frame(source, bytes_max=1 << 24)
    assert body is not None
    return unpack(body)[1]


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda parts: st.lists(parts).map(tuple) | st.dictionaries(st.text(), parts),
    max_leaves=20,
)


@given(plain)
def test_plain_values_come_out_as_they_went_in(value: Any) -> None:
    assert crossed(value) == value


@pytest.mark.parametrize("kind", STRUCTS.values(), ids=STRUCTS)
def test_every_struct_keeps_its_type_and_fields(kind: Any) -> None:
    values = tuple(f"field {at}" for at in range(kind.n_fields))
    one = crossed(kind(values))
    assert type(one) is kind
    assert tuple(one) == values
    many = crossed((kind(values), kind(values)))
    assert [type(row) for row in many] == [kind, kind]
    assert many == (kind(values), kind(values))


def test_a_struct_inside_a_struct_survives() -> None:
    result = OrderSendResult.of(retcode=10009, request=TradeRequest.of(symbol="EURUSD", volume=0.1))
    again = crossed(result)
    assert type(again.request) is TradeRequest
    assert again.request.symbol == "EURUSD"


def test_none_an_empty_tuple_and_an_empty_array_stay_three_things() -> None:
    assert crossed(None) is None
    assert crossed(()) == ()
    empty = crossed(np.empty(0, TICK_DTYPE))
    assert isinstance(empty, np.ndarray)
    assert len(empty) == 0


@pytest.mark.parametrize("dtype", [TICK_DTYPE, RATE_DTYPE])
def test_arrays_cross_byte_for_byte(dtype: np.dtype[Any]) -> None:
    rows = np.frombuffer(np.random.default_rng(7).bytes(600), dtype)
    again = crossed(rows)
    assert again.dtype == dtype
    assert again.tobytes() == rows.tobytes()


def test_an_array_with_padding_or_another_byte_order_is_brought_into_shape() -> None:
    aligned = np.dtype({"names": TICK_DTYPE.names, "formats": [">i8"] * 8}, align=True)
    rows = np.zeros(3, aligned)
    rows["time_msc"] = [1, 2, 3]
    again = crossed(rows)
    assert again.dtype == TICK_DTYPE
    assert again["time_msc"].tolist() == [1, 2, 3]


def test_numpy_scalars_enums_and_datetimes_become_plain() -> None:
    class Side(IntEnum):
        BUY = 0

    when = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    value = {"volume": np.float64(0.1), "type": Side.BUY, "n": np.int64(5), "b": np.bool_(True)}
    assert crossed(value) == {"volume": 0.1, "type": 0, "n": 5, "b": True}
    assert crossed((when, when.replace(tzinfo=None))) == (when, when.replace(tzinfo=None))


def test_a_struct_of_a_newer_build_is_taken_by_the_names_we_know() -> None:
    newer = type(
        "AccountInfo",
        (tuple,),
        {name: property(lambda self, name=name: f"value of {name}") for name in AccountInfo.FIELDS},
    )
    again = crossed(newer(range(40)))
    assert type(again) is AccountInfo
    assert again.balance == "value of balance"


@pytest.mark.parametrize("value", [object(), {1, 2}, 2**64, np.zeros(3), io.BytesIO])
def test_other_objects_may_not_cross(value: object) -> None:
    with pytest.raises(WireError, match="cannot be sent"):
        pack((int(Kind.ANSWER), value))


def test_a_frame_over_its_limit_is_refused_on_both_sides() -> None:
    with pytest.raises(FrameTooLarge):
        pack((int(Kind.CALL), b"x" * 100), bytes_max=100)
    frame = pack((int(Kind.CALL), b"x" * 100))
    with pytest.raises(FrameTooLarge):
        read_frame(io.BytesIO(frame), bytes_max=100)


def test_a_length_that_lies_takes_no_memory() -> None:
    with pytest.raises(FrameTooLarge):
        read_frame(io.BytesIO(b"\xff\xff\xff\xff"), bytes_max=1 << 20)


@given(st.binary(max_size=300))
def test_noise_is_an_error_and_nothing_worse(noise: bytes) -> None:
    try:
        message = unpack(noise)
    except WireError:
        return
    assert isinstance(message, tuple)


@pytest.mark.parametrize(
    "tagged",
    [
        msgpack.ExtType(99, b""),
        msgpack.ExtType(3, b"not 60 bytes"),
        msgpack.ExtType(1, msgpack.packb(["os.system", [1]])),
        msgpack.ExtType(1, msgpack.packb(["Tick", [1]])),
        msgpack.ExtType(5, b"yesterday"),
    ],
)
def test_unknown_or_damaged_tags_are_refused(tagged: msgpack.ExtType) -> None:
    with pytest.raises(WireError):
        unpack(msgpack.packb([5, tagged]))


def test_tags_nested_without_end_are_refused() -> None:
    nested = msgpack.ExtType(1, b"\x00")
    for _ in range(5000):
        nested = msgpack.ExtType(1, msgpack.packb(["Tick", [nested]]))
    with pytest.raises(WireError):
        unpack(msgpack.packb([5, nested]))


def test_a_line_that_ends_inside_a_frame_is_an_error_one_that_ends_between_is_not() -> None:
    frame = pack((int(Kind.BEAT),))
    assert read_frame(io.BytesIO(b""), bytes_max=100) is None
    for cut in range(1, len(frame)):
        with pytest.raises(WireError, match="inside a frame"):
            read_frame(io.BytesIO(frame[:cut]), bytes_max=100)


@given(st.binary(min_size=1, max_size=200), st.integers(1, 7))
def test_frames_survive_being_read_and_written_in_pieces(content: bytes, piece: int) -> None:
    class Pieces(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, piece))

        def write(self, part: Any, /) -> int:
            return super().write(bytes(part)[:piece])

    line = Pieces()
    write_frame(line, pack((int(Kind.CALL), content)))
    line.seek(0)
    body = read_frame(line, bytes_max=1000)
    assert body is not None
    assert unpack(body) == (Kind.CALL, content)


def test_a_large_broker_s_symbols_fit_an_answer() -> None:
    symbols = tuple(SymbolInfo.of(name=f"SYMBOL{n}", description="x" * 60) for n in range(2000))
    assert crossed(symbols) == symbols


def test_text_that_is_no_clean_unicode_survives() -> None:
    position = TradePosition.of(comment="broken \udc80 text", symbol="EURUSD")
    assert crossed(position) == position
