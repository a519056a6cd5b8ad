"""Levels of group `analytics` in a span, from the log; what left the log, from the database."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from consumers.trades.recorded import Stored, newest_first
from events.analytics import Analytics, SpreadHour
from events.codec import BadEvent, UnknownEvent, decode, split_type
from events.log import Entry, Lane, Log, Slot

ANALYTICS = "analytics"
"""The group that derives them."""
LOOKED_AT_MAX = 500_000
"""Entries of a terminal that are looked through."""
LATE_MS = 24 * 3_600_000
"""A level is told that long before its hour at most, by the times of its events."""
KINDS = (Analytics, SpreadHour)
Level = Analytics | SpreadHour


@dataclass(frozen=True, slots=True)
class Wanted:
    """Hours that began within [from_ms, until_ms) (UTC)."""

    from_ms: int
    until_ms: int
    symbols: frozenset[str] = frozenset()

    def takes(self, level: Level) -> bool:
        inside = self.from_ms <= level.hour_ms < self.until_ms
        return inside and (not self.symbols or level.symbol in self.symbols)


@dataclass(frozen=True, slots=True)
class Levels:
    """Every wanted level of a terminal as it was told last, by its hour."""

    terminal: str
    trading: tuple[Analytics, ...]
    spreads: tuple[SpreadHour, ...]
    cut: str = ""
    """Why not everything was looked at, or empty."""


def recorded(log: Log, namespace: str, wanted: Wanted, *, stored: Stored | None = None) -> Levels:
    """The newest level of each key. What the log holds is newer than what `stored` holds of the
    same key. Raises LogUnavailable."""
    newest: dict[tuple[str, str], Level] = {}
    cut = ""
    streams = [
        Slot(namespace, ANALYTICS, number).stream(Lane.LOW)
        for number in range(log.tasks.writers(namespace).get(ANALYTICS, 0))
    ]
    entries = chain.from_iterable(newest_first(log, stream) for stream in streams)
    for looked, entry in enumerate(entries):
        if looked == LOOKED_AT_MAX:
            cut = f"looked at {LOOKED_AT_MAX} entries; there is more"
            break
        _keep(newest, entry)
    if stored is not None:
        since_ms = max(0, wanted.from_ms - LATE_MS)
        for entry in chain.from_iterable(stored(stream, since_ms) for stream in streams):
            _keep(newest, entry)
    levels = [one for one in newest.values() if wanted.takes(one)]
    levels.sort(key=lambda one: (one.hour_ms, one.key))
    return Levels(
        namespace,
        tuple(one for one in levels if isinstance(one, Analytics) and one.trades),
        tuple(one for one in levels if isinstance(one, SpreadHour)),
        cut,
    )


def _keep(newest: dict[tuple[str, str], Level], entry: Entry) -> None:
    """Read an entry whose key was not seen; older ones of the same key are not even decoded."""
    try:
        name, _ = split_type(entry.type)
        if (name, entry.key) in newest or name not in {kind.TYPE for kind in KINDS}:
            return
        event = decode(entry)
    except (BadEvent, UnknownEvent):
        return
    if isinstance(event, KINDS):
        newest[name, entry.key] = event
