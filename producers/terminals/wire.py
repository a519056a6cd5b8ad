"""Frames between a host and its client: four bytes of length (big-endian), then msgpack.

Only plain values cross: numbers, text, bytes, tuples and maps. Four things of the MetaTrader5
module travel as tagged bytes: struct sequences (name and fields), tuples of them, tick and rate
arrays (the records as they lie in memory), and datetimes (ISO text). Nothing that is read here
can name a class or run code; sizes are bounded before memory is taken for them.
"""

from __future__ import annotations

import struct
from datetime import datetime
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple, Protocol

import msgpack
import numpy as np

from events.ticks import RATE_DTYPE, TICK_DTYPE
from producers.terminals.structs import STRUCTS

PROTOCOL_VERSION = 1
REQUEST_BYTES_MAX = 1 << 16
"""Longest frame towards a host: a call with its arguments."""
ANSWER_BYTES_MAX = 128 << 20
"""Longest frame from a host: two million ticks, or every symbol of a large broker."""
HELLO_BYTES_MAX = 1 << 16
TAG_DEPTH_MAX = 4
"""Structs inside structs; the module's own go two deep."""

_LENGTH = struct.Struct(">I")
_STRUCT, _TABLE, _TICKS, _RATES, _TIME = 1, 2, 3, 4, 5
_CALL_TYPES: tuple[type | tuple[type, ...], ...] = (
    int,
    str,
    tuple,
    dict,
    int,
    (int, float),
    (float, type(None)),
)
_ARRAYS = {_TICKS: TICK_DTYPE, _RATES: RATE_DTYPE}


class WireError(Exception):
    """What came over the wire is not a frame of ours, or what should go over it cannot."""


class FrameTooLarge(WireError):
    """A frame is longer than its limit."""


class Kind(IntEnum):
    """First field of every message."""

    HELLO = 0  # client: version, then what opens the line (a spec; a token)
    READY = 1  # host: version, facts about it (map)
    REFUSED = 2  # host: why it cannot or will not serve (and whether for good); the line ends
    CALL = 3  # client: id, method, args, kwargs, priority, timeout_s, begin_by_s
    STARTED = 4  # host: id; sent before the terminal is called
    ANSWER = 5  # host: id, value, error code, error text, utc_ms, took_ms
    FAULT = 6  # instead of an answer: id, hung | lost | not_sent, text
    BEAT = 7  # server: nothing; says that the line is alive


class CallMessage(NamedTuple):
    """A call as it was read, its parts checked."""

    id: int
    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    priority: int
    timeout_s: float
    begin_by_s: float | None
    """Not to be begun later than this, on the monotonic clock of the client's machine; a server
    elsewhere counts `timeout_s` from the arrival instead."""


class Readable(Protocol):
    """A pipe's or connection's reading end: none at its end, else 1 to `size` bytes."""

    def read(self, size: int, /) -> bytes | None: ...


class Writable(Protocol):
    """A pipe's or connection's writing end; says how much it took."""

    def write(self, data: bytes | memoryview, /) -> int | None: ...


def pack(message: tuple[Any, ...], *, bytes_max: int = ANSWER_BYTES_MAX) -> bytes:
    """One frame. Raises FrameTooLarge, or WireError for values that may not cross."""
    try:
        body: bytes = _packb(message)
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"cannot be sent: {error}") from error
    if len(body) > bytes_max:
        raise FrameTooLarge(f"a frame of {len(body)} bytes, {bytes_max} are allowed")
    return _LENGTH.pack(len(body)) + body


def unpack(body: bytes) -> tuple[Any, ...]:
    """The message of a frame's body. Raises WireError."""
    try:
        message = msgpack.unpackb(
            body, use_list=False, ext_hook=_decode, unicode_errors="surrogatepass"
        )
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise WireError(f"not a message: {error}") from error
    if not isinstance(message, tuple) or not message or not isinstance(message[0], int):
        raise WireError("not a message: no kind")
    return message


def read_call(message: tuple[Any, ...]) -> CallMessage:
    """The parts of a call. Raises WireError for anything else."""
    if message[0] != Kind.CALL or len(message) != 1 + len(_CALL_TYPES):
        raise WireError(f"expected a call, got kind {message[0]} of {len(message)} parts")
    parts = message[1:]
    if not all(isinstance(part, kind) for part, kind in zip(parts, _CALL_TYPES, strict=True)):
        raise WireError("a call with parts of the wrong types")
    call = CallMessage(*parts)
    if not all(isinstance(name, str) for name in call.kwargs):
        raise WireError("a call with names that are no text")
    return call


def read_frame(source: Readable, *, bytes_max: int) -> bytes | None:
    """The body of the next frame, None at the end. Raises FrameTooLarge, WireError, OSError."""
    head = _read_exactly(source, _LENGTH.size)
    if not head:
        return None
    if len(head) < _LENGTH.size:
        raise WireError("the line ended inside a frame")
    (length,) = _LENGTH.unpack(head)
    if length > bytes_max:
        raise FrameTooLarge(f"a frame of {length} bytes, {bytes_max} are allowed")
    body = _read_exactly(source, length)
    if len(body) < length:
        raise WireError("the line ended inside a frame")
    return body


def write_frame(sink: Writable, frame: bytes) -> None:
    """Write all of a frame; unbuffered files and sockets may take it in pieces."""
    rest = memoryview(frame)
    while rest:
        written = sink.write(rest)
        if not written:
            raise OSError("the line takes nothing more")
        rest = rest[written:]


def _read_exactly(source: Readable, size: int) -> bytes:
    """`size` bytes, fewer at the end of the line."""
    first = source.read(size) or b""
    if len(first) == size or not first:
        return first
    parts = [first]
    missing = size - len(first)
    while missing and (part := source.read(missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _packb(value: Any) -> bytes:
    # strict_types hands every tuple to _encode, which tells structs from plain ones.
    packed: bytes = msgpack.packb(
        value, default=_encode, strict_types=True, unicode_errors="surrogatepass"
    )
    return packed


def _encode(value: Any) -> Any:
    """What msgpack does not know by itself. Raises TypeError for anything that may not cross."""
    if isinstance(value, tuple):
        return _encode_tuple(value)
    if isinstance(value, np.ndarray):
        return _encode_array(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, datetime):
        return msgpack.ExtType(_TIME, value.isoformat().encode())
    if isinstance(value, int):  # enums and other heirs of plain types
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(f"a {type(value).__name__} may not cross to or from a terminal host")


def _encode_tuple(value: tuple[Any, ...]) -> Any:
    kind = type(value)
    if kind is not tuple:
        return msgpack.ExtType(_STRUCT, _packb([struct_name(kind), _fields(value)]))
    if value and type(value[0]) is not tuple and isinstance(value[0], tuple):
        first = type(value[0])
        if all(type(row) is first for row in value):
            rows = [_fields(row) for row in value]
            return msgpack.ExtType(_TABLE, _packb([struct_name(first), rows]))
    return list(value)


def struct_name(kind: type) -> str:
    """The name of a struct sequence, with or without its module's. Raises TypeError."""
    name = kind.__name__.rpartition(".")[2]
    if name not in STRUCTS:
        raise TypeError(f"struct {name} is not one of the MetaTrader5 module")
    return name


def _fields(value: tuple[Any, ...]) -> list[Any]:
    """The fields we know. A newer build may have added some in between: then take them by name."""
    ours = STRUCTS[struct_name(type(value))].FIELDS
    if len(value) == len(ours):
        return list(value)
    return [getattr(value, name, None) for name in ours]


def _encode_array(value: np.ndarray[Any, Any]) -> Any:
    for code, dtype in _ARRAYS.items():
        if value.dtype.names == dtype.names:
            return msgpack.ExtType(code, value.astype(dtype, copy=False).tobytes())
    raise TypeError(f"array of {value.dtype}: neither ticks nor rates")


def _decode(code: int, packed: bytes, depth: int = 1) -> Any:
    if code in _ARRAYS:
        return np.frombuffer(packed, _ARRAYS[code])
    if code == _TIME:
        return datetime.fromisoformat(packed.decode())
    if code not in (_STRUCT, _TABLE):
        raise ValueError(f"unknown tag {code}")
    if depth > TAG_DEPTH_MAX:  # each level costs stack of the C decoder too
        raise ValueError(f"structs nested deeper than {TAG_DEPTH_MAX}")
    inner = partial(_decode, depth=depth + 1)
    name, fields = msgpack.unpackb(
        packed, use_list=False, ext_hook=inner, unicode_errors="surrogatepass"
    )
    kind = STRUCTS.get(name)
    if kind is None:
        raise ValueError(f"unknown struct {name!r}")
    return kind(fields) if code == _STRUCT else tuple(map(kind, fields))
