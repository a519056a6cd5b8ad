"""Text fields of many lines to numbers at once, without a Python step per line.

Eight characters are handled as one 64-bit word ("SIMD within a register"): a word is taken from
an overlapping view of the text, checked to hold digits, and its decimal value found with three
multiplications. Prices are exact: a mantissa below 2**53 divided by a power of ten up to 10**22
is the float64 nearest to the decimal text (W. D. Clinger, "How to Read Floating Point Numbers
Accurately", 1990). What does not fit (longer than 16 characters, exponents) goes through the
C library's conversion, which rounds correctly too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

PAD = 32
"""Bytes before and after the text, so that words around any field can be loaded."""
_WIDE_MAX = 32
_DAY_MS = 86_400_000
_EPOCH_DAY = date(1970, 1, 1).toordinal()


def _u64(value: int) -> np.uint64:
    return np.uint64(value)


_ONES, _HIGHS = _u64(0x0101010101010101), _u64(0x8080808080808080)
_ZEROS, _DOTS = _u64(0x3030303030303030), _u64(0x1E1E1E1E1E1E1E1E)  # '0'; '.' ^ '0'
_NINES_GAP = _u64(0x7676767676767676)  # 9 + 0x76 = 0x7f: anything above sets the high bit
_BYTE_INDEX = _u64(0x0001020304050607)
_KEEP = np.array([((1 << 8 * w) - 1) << (64 - 8 * w) for w in range(9)], np.uint64)
_TEN_POWERS = np.array([10**n for n in range(20)], np.uint64)
_TEN_POWERS_F = np.array([float(10**n) for n in range(23)])


@dataclass(frozen=True, slots=True)
class Text:
    """Bytes of some lines, with views of 1, 2 and 8 characters at every place."""

    bytes1: npt.NDArray[np.uint8]
    words2: npt.NDArray[np.uint16]
    words8: Words
    raw: bytes

    @classmethod
    def of(cls, lines: bytes) -> Text:
        raw = b"\0" * PAD + lines + b"\0" * PAD
        places = len(raw) - 7

        def view(dtype: str) -> npt.NDArray[Any]:
            return np.ndarray((places,), dtype, buffer=raw, strides=(1,))

        return cls(
            np.frombuffer(raw, np.uint8),
            view("<u2"),
            view("<u8"),
            raw,
        )


@dataclass(frozen=True, slots=True)
class Column:
    """One field of every line: where it begins and ends in the text."""

    text: Text
    starts: Ints
    ends: Ints

    @property
    def widths(self) -> Ints:
        return self.ends - self.starts

    @property
    def any_present(self) -> bool:
        """Whether any line has something in this field."""
        return not np.array_equal(self.starts, self.ends)

    def row(self, index: int) -> str:
        """One field as text, for messages and layouts."""
        return self.text.raw[self.starts[index] : self.ends[index]].decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Mantissas:
    """Decimal numbers as integers: value = mantissa / 10**decimals, unless `odd`."""

    mantissa: Words
    decimals: Ints
    negative: Bools
    odd: Bools
    """Not a plain decimal number of at most 16 characters (or empty)."""


def mantissas(column: Column) -> Mantissas:
    """Every field of a column as mantissa and decimals."""
    text, starts, ends = column.text, column.starts, column.ends
    negative = text.bytes1[starts] == ord("-")
    widths = ends - starts - negative
    odd = (widths <= 0) | (widths > 16)
    value, dot, decimals = _eight_digits(text, ends, np.minimum(widths, 8), odd)
    odd |= dot & (widths == 1)
    if len(widths) and int(widths.max()) > 8:
        kept = np.clip(widths - 8, 0, 8)
        upper, upper_dot, upper_decimals = _eight_digits(text, ends - 8, kept, odd)
        odd |= dot & upper_dot
        value += upper * np.where(dot, _TEN_POWERS[7], _TEN_POWERS[8])
        decimals = np.where(upper_dot, upper_decimals + 8, decimals)
    return Mantissas(value, decimals, negative, odd)


def _eight_digits(text: Text, ends: Ints, kept: Ints, odd: Bools) -> tuple[Words, Bools, Ints]:
    """The last `kept` (0..8) characters before `ends` as a number, without its dot.

    Marks fields with other characters in `odd`; returns (value, has a dot, digits after it).
    """
    words = text.words8[ends - 8]
    words ^= _ZEROS
    words &= _KEEP[kept]
    no_dot = words ^ _DOTS
    found = (no_dot - _ONES) & ~no_dot
    found &= _HIGHS
    lowest = (found & (~found + _u64(1))) >> _u64(7)
    dot = lowest != 0
    after = np.where(dot, 7 - ((lowest * _BYTE_INDEX) >> _u64(56)).astype(np.int64), 0)
    before = lowest - dot  # ones in the bytes before the dot
    closed = words & before
    closed <<= _u64(8)
    closed |= words & ~(before | (lowest * _u64(255)))
    odd |= (((closed + _NINES_GAP) | closed) & _HIGHS) != 0
    return _value_of_digits(closed), dot, after


def _value_of_digits(digits: Words) -> Words:
    """Eight bytes 0..9, the first in the lowest byte, as a number. Changes `digits`."""
    for multiplier, shift, mask in (
        (2561, 8, 0x00FF00FF00FF00FF),
        (6553601, 16, 0x0000FFFF0000FFFF),
        (42949672960001, 32, 0x00000000FFFFFFFF),
    ):
        digits *= _u64(multiplier)
        digits >>= _u64(shift)
        digits &= _u64(mask)
    return digits


def decimals(column: Column) -> tuple[Floats, Bools]:
    """Prices and volumes as the nearest float64, and which fields are no number.

    Empty fields give 0.0 and are not bad: the caller knows what an empty field means.
    """
    if not column.any_present:
        return np.zeros(len(column.starts)), np.zeros(len(column.starts), np.bool_)
    parts = mantissas(column)
    values = parts.mantissa.astype(np.float64) / _TEN_POWERS_F[parts.decimals]
    if parts.negative.any():
        values = np.where(parts.negative, -values, values)
    bad = parts.odd
    if bad.any():
        values[bad] = 0.0
        bad &= column.starts != column.ends
        _convert_odd(column, np.flatnonzero(bad), values, bad)
    return values, bad


def _convert_odd(column: Column, rows: Ints, values: Floats, bad: Bools) -> None:
    """Long or exponent forms, by the C library; what is no number stays marked."""
    starts, widths = column.starts[rows], column.widths[rows]
    places = starts[:, None] + np.arange(_WIDE_MAX)
    inside = np.arange(_WIDE_MAX) < widths[:, None]
    chars = column.text.bytes1[np.minimum(places, len(column.text.bytes1) - 1)]
    chars = np.where(inside, chars, 0).astype(np.uint8)
    allowed = np.zeros(256, np.bool_)
    allowed[list(b"0123456789.eE+-")] = True
    sound = (allowed[chars] | ~inside).all(axis=1) & (widths <= _WIDE_MAX)
    texts = np.ascontiguousarray(chars[sound]).view(f"S{_WIDE_MAX}").ravel()
    try:
        numbers = texts.astype(np.float64)
        numeric = np.isfinite(numbers)
    except ValueError:
        numbers, numeric = _convert_one_by_one(texts)
    fine = rows[sound][numeric]
    values[fine] = numbers[numeric]
    bad[fine] = False


def _convert_one_by_one(texts: npt.NDArray[np.bytes_]) -> tuple[Floats, Bools]:
    """Only for a block that holds a field which is no number: finds which."""
    numbers, numeric = np.zeros(len(texts)), np.zeros(len(texts), np.bool_)
    for index, text in enumerate(texts.tolist()):
        try:
            numbers[index] = float(text)
        except ValueError:
            continue
        numeric[index] = bool(np.isfinite(numbers[index]))
    return numbers, numeric


def whole_numbers(column: Column) -> tuple[Words, Bools]:
    """Unsigned integers of at most 16 digits, and which fields are none. Empty gives 0."""
    parts = mantissas(column)
    empty = column.starts == column.ends
    bad = (parts.odd & ~empty) | (parts.decimals > 0) | parts.negative
    return np.where(parts.odd, _u64(0), parts.mantissa), bad


def days_ms(column: Column) -> tuple[Ints, Bools]:
    """Dates `YYYY.MM.DD` (or with - or /) in the first ten characters of a field, as ms.

    A date is the same for many lines, so each run of equal dates is read once.
    """
    starts = column.starts
    if not len(starts):
        return np.zeros(0, np.int64), np.zeros(0, np.bool_)
    first, rest = column.text.words8[starts], column.text.words2[starts + 8]
    changed = np.flatnonzero((first[1:] != first[:-1]) | (rest[1:] != rest[:-1])) + 1
    heads = np.concatenate([np.zeros(1, np.int64), changed])
    known: dict[bytes, int] = {}
    days = np.empty(len(heads), np.int64)
    for index, start in enumerate(starts[heads].tolist()):
        text = column.text.raw[start : start + 10]
        if text not in known:
            known[text] = _day(text)
        days[index] = known[text]
    lengths = np.diff(np.append(heads, len(starts)))
    per_line = np.repeat(days, lengths)
    bad = (per_line < 0) | (column.widths < 10)
    return per_line * _DAY_MS, bad


def _day(text: bytes) -> int:
    """Days since 1970-01-01, or -1."""
    separators, digits = text[4:5] + text[7:8], text[:4] + text[5:7] + text[8:]
    if separators not in (b"..", b"--", b"//") or not digits.isdigit():
        return -1
    try:
        return date(int(text[:4]), int(text[5:7]), int(text[8:])).toordinal() - _EPOCH_DAY
    except ValueError:
        return -1


def times_of_day_ms(column: Column) -> tuple[Ints, Bools]:
    """`HH:MM:SS`, `HH:MM:SS.mmm` or with 1..9 digits of a second (cut to ms), as ms."""
    starts, widths = column.starts, column.widths
    words = column.text.words8[starts]
    words ^= _u64(0x30303A30303A3030)  # "00:00:00"
    bad = (((words + _NINES_GAP) | words) & _HIGHS) != 0
    bad |= (words & _u64(0x0000FF0000FF0000)) != 0
    pairs = words * _u64(10) + (words >> _u64(8))
    hours, minutes, seconds = (
        ((pairs >> _u64(shift)) & _u64(0xFF)).astype(np.int64) for shift in (0, 24, 48)
    )
    bad |= (hours >= 24) | (minutes >= 60) | (seconds >= 60)
    whole_ms = ((hours * 60 + minutes) * 60 + seconds) * 1000
    if (widths == 12).all():
        fraction_ms, bad_fraction = _three_digits_ms(column)
    else:
        bad |= (widths < 8) | (widths > 18) | (widths == 9)
        fraction_ms, bad_fraction = _fractions_ms(column, bad)
    return whole_ms + fraction_ms, bad | bad_fraction


def _three_digits_ms(column: Column) -> tuple[Ints, Bools]:
    """`.mmm` behind the eighth character of every field."""
    words = column.text.words8[column.starts + 4] >> _u64(32)
    words ^= _u64(0x3030302E)  # ".000"
    bad = (((words + (_NINES_GAP >> _u64(32))) | words) & _HIGHS) != 0
    bad |= (words & _u64(0xFF)) != 0
    value = ((words >> _u64(8)) & _u64(0xFF)) * _u64(100)
    value += ((words >> _u64(16)) & _u64(0xFF)) * _u64(10) + (words >> _u64(24))
    return value.astype(np.int64), bad


def _fractions_ms(column: Column, bad: Bools) -> tuple[Ints, Bools]:
    """Milliseconds of `.fff...` behind the eighth character; 0 where there is none."""
    present = (column.widths > 8) & ~bad
    if not present.any():
        return np.zeros(len(bad), np.int64), np.zeros(len(bad), np.bool_)
    begins = column.starts + 9
    dotted = column.text.bytes1[np.where(present, begins - 1, 0)] == ord(".")
    digits = Column(column.text, np.where(present, begins, 0), np.where(present, column.ends, 0))
    parts = mantissas(digits)
    count = np.clip(digits.widths, 0, 9)
    scaled = parts.mantissa * _TEN_POWERS[np.maximum(3 - count, 0)]
    cut = (scaled // _TEN_POWERS[np.maximum(count - 3, 0)]).astype(np.int64)
    wrong = present & (~dotted | parts.odd | (parts.decimals > 0) | parts.negative)
    return np.where(present, cut, 0), wrong


def equal_to(column: Column, wanted: bytes) -> Bools:
    """Which fields hold exactly these characters."""
    equal: Bools = column.widths == len(wanted)
    for index, char in enumerate(wanted):
        places = np.minimum(column.starts + index, len(column.text.bytes1) - 1)
        equal &= column.text.bytes1[places] == char
    return equal
