"""The doors to tick files: read, check, load, and tell the symbol."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from events.tick_files.delimited import delimited_ticks, first_symbol
from events.tick_files.errors import TickFileError
from events.tick_files.parquet import parquet_ticks
from events.tick_files.source import BLOCK_BYTES, is_parquet
from events.ticks import TICK_DTYPE, TickArray

OnError = Literal["stop", "keep"]
SYMBOL_CHARS_MAX = 31
"""Longest symbol name in MT5."""

_log = logging.getLogger(__name__)
_ENDINGS = re.compile(r"(\.(csv|txt|tsv|gz|parquet|pq))+$", re.IGNORECASE)
_SPAN = re.compile(r"[_\-. ]+(\d{4}([-._]?\d\d.*)?|ticks?|quotes?)$", re.IGNORECASE)
_SYMBOL = re.compile(r"[A-Za-z0-9#$&!@^][A-Za-z0-9._#$&!@^+\-]*")


class TickSource(NamedTuple):
    """A file and the symbol whose ticks it holds."""

    symbol: str
    path: Path


def read_ticks(
    path: Path | str,
    *,
    symbol: str | None = None,
    on_error: OnError = "stop",
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[TickArray]:
    """Ticks of a file in chunks of some ten thousand rows, every row, in the file's order.

    `symbol` picks rows where the file has a symbol column. A malformed or cut file: with
    `on_error="stop"` the whole file is looked through first and nothing is given; with "keep"
    the rows before the fault are given. Both raise TickFileError (file, line, reason).
    """
    file = Path(path)
    if on_error == "stop":
        check_ticks(file, symbol=symbol, block_bytes=block_bytes)
    yield from _chunks(file, symbol, block_bytes)


def check_ticks(
    path: Path | str, *, symbol: str | None = None, block_bytes: int = BLOCK_BYTES
) -> int:
    """Count the ticks of a file. Raises TickFileError at its first fault."""
    return sum(len(chunk) for chunk in _chunks(Path(path), symbol, block_bytes))


def load_ticks(
    path: Path | str, *, symbol: str | None = None, on_error: OnError = "stop"
) -> TickArray:
    """A whole file as one array (60 bytes per tick). With "keep" a fault is logged as a warning
    and the rows before it are returned; with "stop" it raises TickFileError."""
    chunks: list[TickArray] = []
    try:
        chunks.extend(_chunks(Path(path), symbol, BLOCK_BYTES))
    except TickFileError as error:
        if on_error == "stop":
            raise
        _log.warning("%s: the %d ticks before it are kept", error, error.rows)
    return np.concatenate(chunks) if chunks else np.zeros(0, TICK_DTYPE)


def parse_source(text: str) -> TickSource:
    """`SYMBOL=FILE` or `FILE`. Raises TickFileError when the file's name shows no symbol."""
    symbol, equals, file = text.partition("=")
    if equals and _SYMBOL.fullmatch(symbol) and not Path(text).exists():
        return TickSource(symbol, Path(file))
    return TickSource(guess_symbol(text), Path(text))


def guess_symbol(path: Path | str) -> str:
    """The symbol in a file's name (`EURUSD_20140504-20140507.csv.gz`, `ticks_XAUUSD.parquet`),
    or in the symbol column of a CSV. Raises TickFileError when there is none."""
    file = Path(path)
    name = _ENDINGS.sub("", file.name)
    name = re.sub(r"^(ticks?|quotes?)[_\-. ]+", "", name, flags=re.IGNORECASE)
    while (shorter := _SPAN.sub("", name)) != name:
        name = shorter
    if file.is_file() and not is_parquet(file):
        name = first_symbol(file) or name
    if not _SYMBOL.fullmatch(name) or len(name) > SYMBOL_CHARS_MAX:
        raise TickFileError(file, "its name shows no symbol: give it as SYMBOL=FILE")
    return name


def _chunks(path: Path, symbol: str | None, block_bytes: int) -> Iterator[TickArray]:
    if is_parquet(path):
        return parquet_ticks(path, symbol=symbol)
    return delimited_ticks(path, symbol=symbol, block_bytes=block_bytes)
