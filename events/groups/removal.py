"""Removing a group for good, so that it holds back nothing any more."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from events.groups.readers import WATCH_S, Reader, collect, group_of
from events.log import Log, LogError, Slot, Stream
from events.retention import SegmentFolder


class StillRunning(LogError):
    """A group whose workers live is not removed."""


class NoSuchGroup(LogError):
    """Nobody of that name reads or derives anything."""


@dataclass(frozen=True, slots=True)
class Removed:
    """What was taken away."""

    group: str
    namespaces: tuple[str, ...]
    readers: tuple[str, ...]
    streams: int
    """Places in streams that it gave up."""
    outputs: bool


def remove(
    log: Log,
    group: str,
    *,
    namespaces: Collection[str] = (),
    outputs: bool = False,
    folder: SegmentFolder | None = None,
    watch_s: float = WATCH_S,
    sleep: Callable[[float], None] = time.sleep,
) -> Removed:
    """Remove a group from these namespaces (all when none are given): its places in streams,
    offsets, state, journal; with `outputs` also what it derived, in the log and in `folder`.

    Raises StillRunning, NoSuchGroup, LogError.
    """
    everybody = collect(log, namespaces=namespaces, watch_s=watch_s, sleep=sleep)
    readers = [one for one in everybody if one.group == group]
    _check_stopped(group, readers)
    chosen = [name for name in log.namespaces() if not namespaces or name in namespaces]
    deriving = [name for name in chosen if group in _groups(log, name)]
    if not readers and not deriving:
        raise NoSuchGroup(
            f"no group is called {group!r} there: known are {_known(log, chosen) or 'none yet'}"
        )
    streams = 0
    for reader in readers:
        places = [Stream.parse(lane.stream) for lane in reader.lanes]
        log.tasks.leave(reader.name, places)
        streams += len(places)
    for name in deriving:
        slots = [Slot(name, group, task) for task in range(log.tasks.writers(name)[group])]
        spans = log.retained.spans(slots) if outputs and folder is not None else {}
        log.tasks.close_group(name, group, outputs=outputs)
        for each in spans.values():
            assert folder is not None, "asked for above"
            folder.delete(each)
    touched = sorted({*deriving, *(reader.namespace for reader in readers)})
    names = tuple(sorted({reader.name for reader in readers}))
    return Removed(group, tuple(touched), names, streams, outputs)


def _check_stopped(group: str, readers: Sequence[Reader]) -> None:
    living = sorted({reader.holder or reader.name for reader in readers if reader.alive})
    if living:
        raise StillRunning(
            f"group {group} runs ({', '.join(living)}): stop its workers first, then remove it"
        )


def _known(log: Log, namespaces: Sequence[str]) -> str:
    found = {group for name in namespaces for group in _groups(log, name)}
    for name in namespaces:
        for readers in log.tasks.readers(name).values():
            found |= {group_of(reader) for reader in readers}
    return ", ".join(sorted(found))


def _groups(log: Log, namespace: str) -> set[str]:
    return set(log.tasks.writers(namespace)) - {"source", "operator"}
