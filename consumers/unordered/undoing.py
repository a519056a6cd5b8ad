"""Taking a group back that was refused before it did anything.

That a handler keeps state shows only when it handles an entry, and by then its group is registered
as one without an order. Left there it would hold back trimming, and could not be run in order.
"""

from __future__ import annotations

from collections.abc import Collection

from consumers.workers.taking import AnyGroup
from events.log import Lane, Log, Slot


def namespaces_with(log: Log, group: AnyGroup) -> frozenset[str]:
    """Where the group is known. Raises LogError."""
    return frozenset(name for name in log.namespaces() if group.name in log.tasks.writers(name))


def take_back(log: Log, group: AnyGroup, *, known: Collection[str]) -> tuple[str, ...]:
    """Forget the group where it was not `known` before, and derived nothing. Its workers must have
    ended. Returns the namespaces. Raises LogError."""
    specs = [spec for spec in group.specs(log) if spec.slot.namespace not in known]
    derived = {spec.slot.namespace for spec in specs if _derived(log, spec.slot)}
    forgotten = [spec for spec in specs if spec.slot.namespace not in derived]
    for spec in forgotten:
        log.tasks.leave(spec.reader, list(spec.inputs))
    namespaces = tuple(dict.fromkeys(spec.slot.namespace for spec in forgotten))
    for namespace in namespaces:
        log.tasks.close_group(namespace, group.name, outputs=True)  # there are none
    return namespaces


def _derived(log: Log, slot: Slot) -> bool:
    return any(log.info(slot.stream(lane)).entries_added for lane in Lane)
