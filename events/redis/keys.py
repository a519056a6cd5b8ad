"""Every key in Redis, in one place. All keys of a slot share its hash tag, hence one script."""

from __future__ import annotations

from events.log import Lane, Slot, Stream

NAMESPACES = "mt5-bridge:namespaces"
"""Set of the registered namespaces."""


def partitions(namespace: str) -> str:
    """Text: the number of partitions of a namespace, fixed when it was registered."""
    return f"{{{namespace}}}:partitions"


def meta(slot: Slot) -> str:
    """Hash: token, holder and beat of who may write; ms and seq of the newest id."""
    return f"{slot}:meta"


def cursors(slot: Slot) -> str:
    """Hash: feed -> cursor."""
    return f"{slot}:cursors"


def last(slot: Slot) -> str:
    """Hash: type:key -> data of the newest event that keeps its last state."""
    return f"{slot}:last"


def posted(slot: Slot) -> str:
    """Sorted set: keys of the newest posted entries, by time."""
    return f"{slot}:posted"


def lanes(slot: Slot) -> list[str]:
    return [str(Stream(slot, lane)) for lane in Lane]
