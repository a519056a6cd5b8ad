"""Tick files as arrays of MT5's own tick records.

Read are MT5's tick export, CSV with named columns (both also gzip-packed, UTF-8 or UTF-16), and
Parquet. Times are given as the file has them: a real export carries the *server's* wall clock;
whoever knows that a file is in UTC converts (`producers.terminals.recorded`, `tick_import`).
"""

from events.tick_files.errors import TickFileError
from events.tick_files.reading import (
    TickSource,
    check_ticks,
    guess_symbol,
    load_ticks,
    parse_source,
    read_ticks,
)

__all__ = [
    "TickFileError",
    "TickSource",
    "check_ticks",
    "guess_symbol",
    "load_ticks",
    "parse_source",
    "read_ticks",
]
