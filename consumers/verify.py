"""Verify ticks: what the terminal says now, against what the log and the database hold.

Ticks are compared as multisets: identical rows count, order does not. `flags` are compared in
their documented bits only (the others differ between two answers of the same terminal).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from rich.table import Table

from events.ticks import FLAGS_DOCUMENTED, TICK_DTYPE, TickArray

HOUR_MS = 3_600_000
WINDOW_MS = 24 * HOUR_MS
"""Compared at once: bounds memory and the size of a terminal's answer."""

_MIX = np.uint64(0x9E3779B97F4A7C15)
_COUNTS = ("truth", "found", "missing", "doubled", "altered", "unexpected")


class TickSource(Protocol):
    """Where ticks of a symbol can be asked for: a terminal, the log, the database."""

    def ticks(self, symbol: str, from_server_ms: int, until_server_ms: int) -> TickArray:
        """Every tick with from <= time_msc < until (server clock), in any order."""
        ...


TruthSource = TickSource
"""The terminal's own answer, pulled again."""


@dataclass(frozen=True, slots=True)
class HourCheck:
    """One symbol and hour. `hour_server_ms` is its beginning on the server's clock.

    `altered` have the same time but other values, `unexpected` are ticks that the terminal
    does not know.
    """

    hour_server_ms: int
    truth: int
    found: int
    missing: int
    doubled: int
    altered: int
    unexpected: int

    @property
    def ok(self) -> bool:
        return not (self.missing or self.doubled or self.altered or self.unexpected)


@dataclass(frozen=True, slots=True)
class SymbolCheck:
    """One symbol in one place (`log`, `database`) over a span of the server's clock."""

    place: str
    symbol: str
    from_server_ms: int
    until_server_ms: int
    hours: tuple[HourCheck, ...]

    def total(self, count: str) -> int:
        return sum(getattr(hour, count) for hour in self.hours)

    @property
    def ok(self) -> bool:
        return all(hour.ok for hour in self.hours)


@dataclass(frozen=True, slots=True)
class Verification:
    """What was compared, and how it came out."""

    checks: tuple[SymbolCheck, ...] = ()
    not_checked: Mapping[str, str] = field(default_factory=dict)
    """Symbol -> why nothing could be said about it."""

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    def total(self, count: str, place: str | None = None) -> int:
        """Sum of a count (see HourCheck) over all symbols of a place, or of all places."""
        return sum(c.total(count) for c in self.checks if place is None or c.place == place)

    def as_json(self) -> dict[str, Any]:
        places = list(dict.fromkeys(check.place for check in self.checks))
        return {
            "ok": self.ok,
            "places": {
                place: {count: self.total(count, place) for count in _COUNTS} for place in places
            },
            "checks": [
                {
                    "place": check.place,
                    "symbol": check.symbol,
                    "from_server_ms": check.from_server_ms,
                    "until_server_ms": check.until_server_ms,
                    **{count: check.total(count) for count in _COUNTS},
                    "hours": [asdict(hour) for hour in check.hours],
                }
                for check in self.checks
            ],
            "not_checked": dict(self.not_checked),
        }

    def table(self) -> Table:
        """For people: a line per symbol and place, and one for every hour with differences."""
        table = Table(title="Ticks against the terminal (server time)", title_justify="left")
        for name in ("place", "symbol", "hour"):
            table.add_column(name)
        for name in _COUNTS:
            table.add_column(name, justify="right")
        for check in self.checks:
            totals = [str(check.total(count)) for count in _COUNTS]
            table.add_row(check.place, check.symbol, "all", *totals)
            for hour in check.hours:
                if not hour.ok:
                    when = f"{_when(hour.hour_server_ms)}"
                    table.add_row("", "", when, *(str(getattr(hour, c)) for c in _COUNTS))
        for symbol, why in self.not_checked.items():
            table.add_row("", symbol, why, *([""] * len(_COUNTS)))
        return table


def verify_ticks(
    truth: TruthSource,
    places: Mapping[str, TickSource],
    spans: Mapping[str, tuple[int, int]],
) -> Verification:
    """Compare every symbol of `spans` (symbol -> from, until in server ms) in every place.

    Spans should begin and end where everything is known to be there: not before the first tick
    asked for, and before the newest millisecond of a living feed. `span_of` finds them.
    """
    checks = []
    for symbol, (from_ms, until_ms) in spans.items():
        hours: dict[str, dict[int, HourCheck]] = {place: {} for place in places}
        for begin_ms in range(from_ms - from_ms % WINDOW_MS, until_ms, WINDOW_MS):
            window = max(begin_ms, from_ms), min(begin_ms + WINDOW_MS, until_ms)
            expected = truth.ticks(symbol, *window)
            for place, source in places.items():
                found = source.ticks(symbol, *window)
                hours[place] |= {hour.hour_server_ms: hour for hour in compare(expected, found)}
        checks += [
            SymbolCheck(place, symbol, from_ms, until_ms, tuple(by_hour.values()))
            for place, by_hour in hours.items()
        ]
    unknown = {symbol: "empty span" for symbol, (first, last) in spans.items() if first >= last}
    return Verification(tuple(checks), unknown)


def span_of(
    source: TickSource, symbol: str, *, ended: bool, from_server_ms: int = -(2**62)
) -> tuple[int, int] | None:
    """From the first to the last tick that a place holds, or None when it holds none.

    The newest millisecond of a feed that has not `ended` is left out: more ticks may share it.
    Ticks without a time (time_msc 0) are left out.
    """
    times = source.ticks(symbol, from_server_ms, 2**62)["time_msc"]
    times = times[times > 0]
    if not len(times):
        return None
    return int(times.min()), int(times.max()) + (1 if ended else 0)


def compare(truth: TickArray, found: TickArray) -> list[HourCheck]:
    """Two sets of ticks of one symbol, hour by hour, as multisets. Hours without ticks are
    left out."""
    times = np.concatenate([truth["time_msc"], found["time_msc"]])
    if not len(times):
        return []
    prints = np.concatenate([_fingerprints(truth), _fingerprints(found)])
    of_truth = np.arange(len(times)) < len(truth)
    order = np.lexsort((prints, times))
    times, prints, of_truth = times[order], prints[order], of_truth[order]

    rows = _starts((times[1:] != times[:-1]) | (prints[1:] != prints[:-1]))
    in_truth = np.add.reduceat(of_truth.astype(np.int64), rows)
    in_found = np.add.reduceat((~of_truth).astype(np.int64), rows)
    lacking = np.maximum(in_truth - in_found, 0)
    surplus = np.maximum(in_found - in_truth, 0)
    strange = np.where(in_truth == 0, surplus, 0)

    row_times = times[rows]
    moments = _starts(row_times[1:] != row_times[:-1])
    by_moment = {
        name: np.add.reduceat(counts, moments)
        for name, counts in (
            ("truth", in_truth),
            ("found", in_found),
            ("lacking", lacking),
            ("doubled", surplus - strange),
            ("strange", strange),
        )
    }
    altered = np.minimum(by_moment["lacking"], by_moment["strange"])
    counts = {
        "truth": by_moment["truth"],
        "found": by_moment["found"],
        "missing": by_moment["lacking"] - altered,
        "doubled": by_moment["doubled"],
        "altered": altered,
        "unexpected": by_moment["strange"] - altered,
    }
    return _by_hour(row_times[moments], counts)


def _by_hour(
    times: npt.NDArray[np.int64], counts: Mapping[str, npt.NDArray[np.int64]]
) -> list[HourCheck]:
    hours = times // HOUR_MS
    starts = _starts(hours[1:] != hours[:-1])
    sums = {name: np.add.reduceat(values, starts).tolist() for name, values in counts.items()}
    return [
        HourCheck(hour * HOUR_MS, **{name: values[index] for name, values in sums.items()})
        for index, hour in enumerate(hours[starts].tolist())
    ]


def _starts(changes: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Where runs of equal values begin, from where neighbours differ."""
    return np.concatenate([np.zeros(1, np.int64), np.flatnonzero(changes) + 1])


def _fingerprints(ticks: TickArray) -> npt.NDArray[np.uint64]:
    """64 bits over everything that makes a tick what it is, beside its time."""
    prints = np.zeros(len(ticks), np.uint64)
    flags = (ticks["flags"] & FLAGS_DOCUMENTED).astype(np.uint64)
    columns: Sequence[npt.NDArray[Any]] = [
        np.ascontiguousarray(ticks[name]).view(np.uint64)
        for name in ("bid", "ask", "last", "volume", "volume_real")
    ]
    for column in (*columns, flags):
        prints = (prints ^ column) * _MIX
        prints ^= prints >> np.uint64(29)
    return prints


def no_ticks() -> TickArray:
    """What a source answers for a symbol it does not know."""
    return np.zeros(0, TICK_DTYPE)


def _when(server_ms: int) -> str:
    return datetime.fromtimestamp(server_ms / 1000, UTC).strftime("%Y-%m-%d %H:00")
