"""The newest alerts of every terminal, as they stand in the log."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from consumers.alerts.delivery import WATCH
from events.alerts import Alert
from events.codec import BadEvent, UnknownEvent, decode
from events.log import Lane, Log, Slot

LOOKED_AT_MAX = 2_000
"""Entries of each terminal among which open alerts are looked for."""


@dataclass(frozen=True, slots=True)
class Told:
    """An alert, where it stands, and of which terminal it is."""

    terminal: str
    place: str
    alert: Alert

    def to_json(self) -> dict[str, Any]:
        fields = self.alert.model_dump(mode="json")
        return {"terminal": self.terminal, "place": self.place, **fields}


def newest_alerts(
    log: Log, *, namespaces: Collection[str] = (), count_max: int, only_open: bool = False
) -> list[Told]:
    """The newest first, of these terminals or all; with `only_open` those that are not over, each
    as it was told last. Raises LogError."""
    found: list[Told] = []
    for name in log.namespaces():
        if not namespaces or name in namespaces:
            told = _of(log, name, LOOKED_AT_MAX if only_open else count_max)
            found += _still_open(told) if only_open else told
    found.sort(key=lambda one: one.alert.event_time_ms, reverse=True)
    return found[:count_max]


def _of(log: Log, namespace: str, count_max: int) -> list[Told]:
    """Newest first."""
    stream = Slot(namespace, WATCH, 0).stream(Lane.HIGH)
    found = []
    for entry in log.newest(stream, count_max=count_max):
        try:
            event = decode(entry)
        except (BadEvent, UnknownEvent):
            continue
        if isinstance(event, Alert):
            found.append(Told(namespace, entry.place, event))
    return found


def _still_open(told: list[Told]) -> list[Told]:
    latest: dict[str, Told] = {}
    for one in told:
        latest.setdefault(one.alert.key, one)
    return [one for one in latest.values() if not one.alert.resolved]
