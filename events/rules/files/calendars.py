"""Calendar files: moments at which something is published, as CSV or TOML."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from events.rules.files.lines import Unreadable, located_toml
from events.rules.model import TIMES_MAX

BYTES_MAX = 1_048_576
_TIME_COLUMNS = ("time", "at", "datetime")
_NAME_COLUMNS = ("name", "event", "title")
_CONCERNS_COLUMNS = ("concerns", "currency", "currencies", "symbols")


def read_calendar(path: Path, *, zone: str) -> list[dict[str, Any]]:
    """Moments of a file as `Moment` takes them. Times without an offset are in `zone`.

    CSV has a header with `time` (such as 2026-12-04T08:30, or columns `date` and `time`), and may
    have `name` and `concerns` (currencies or symbols with spaces or / between). TOML has
    `[[times]]` with `at`, `name`, `concerns`, and may set `zone`. Raises Unreadable, OSError.
    """
    if path.stat().st_size > BYTES_MAX:
        raise Unreadable(f"larger than {BYTES_MAX} bytes")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable("no UTF-8 text") from error
    rows = _of_toml(text, zone) if path.suffix.lower() == ".toml" else _of_csv(text, zone)
    moments = []
    for moment in rows:
        moments.append(moment)
        if len(moments) > TIMES_MAX:
            raise Unreadable(f"more than {TIMES_MAX} moments")
    if not moments:
        raise Unreadable("names no moments")
    return moments


def _of_csv(text: str, zone: str) -> Iterator[dict[str, Any]]:
    lines = [
        (number, line)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.startswith("#")
    ]
    reader = csv.DictReader((line for _, line in lines), skipinitialspace=True)
    columns = [name.strip().lower() for name in reader.fieldnames or []]
    if not set(columns) & set(_TIME_COLUMNS):
        raise Unreadable("has no column `time`: the first line names the columns", 1)
    reader.fieldnames = columns
    for row in reader:
        at = _first(row, _TIME_COLUMNS)
        if "date" in columns and row.get("date"):
            at = f"{row['date'].strip()}T{at}"
        concerns = _first(row, _CONCERNS_COLUMNS).replace("/", " ").split()
        yield {
            "at_ms": _moment_ms(at, zone, lines[min(reader.line_num, len(lines)) - 1][0]),
            "name": _first(row, _NAME_COLUMNS),
            "concerns": [one for one in concerns if one.lower() != "all"],
        }


def _of_toml(text: str, zone: str) -> Iterator[dict[str, Any]]:
    located = located_toml(text)
    rows = located.content.get("times", [])
    zone = str(located.content.get("zone", zone))
    for index, row in enumerate(rows if isinstance(rows, list) else []):
        line = located.line(("times", index))
        if not isinstance(row, dict) or "at" not in row:
            raise Unreadable("a moment needs `at`", line)
        concerns = row.get("concerns", [])
        yield {
            "at_ms": _moment_ms(row["at"], zone, line),
            "name": str(row.get("name", "")),
            "concerns": concerns if isinstance(concerns, list) else str(concerns).split(),
        }


def _first(row: dict[str, Any], columns: tuple[str, ...]) -> str:
    return next((str(row[name]).strip() for name in columns if row.get(name)), "")


def _moment_ms(given: Any, zone: str, line: int) -> int:
    try:
        at = given if isinstance(given, datetime) else datetime.fromisoformat(str(given))
        at = at if at.tzinfo else at.replace(tzinfo=ZoneInfo(zone))
    except (ValueError, KeyError, OSError) as error:
        reason = f"{given!r} is no time: write such as 2026-12-04T08:30, in {zone or 'UTC'}"
        raise Unreadable(reason, line) from error
    return int(at.timestamp() * 1000)
