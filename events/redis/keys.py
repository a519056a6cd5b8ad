"""Every key in Redis, in one place. All keys of a slot share its hash tag, hence one script."""

from __future__ import annotations

from events.log import Lane, Slot, Stream

NAMESPACES = "mt5-bridge:namespaces"
"""Set of the registered namespaces."""


def partitions(namespace: str) -> str:
    """Text: the number of partitions of a namespace, fixed when it was registered."""
    return f"{{{namespace}}}:partitions"


def origin(namespace: str) -> str:
    """Text: how a namespace came about, fixed when it was registered. Absent: by a producer."""
    return f"{{{namespace}}}:origin"


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


def writers(namespace: str) -> str:
    """Hash: group -> number of its tasks, of every group that derives into a namespace."""
    return f"{{{namespace}}}:writers"


def readers(namespace: str) -> str:
    """Set: `STREAM GROUP.TASK` of everyone whose offset holds back trimming."""
    return f"{{{namespace}}}:readers"


def workers(group: str) -> str:
    """Hash: worker -> heartbeat counter."""
    return f"mt5-bridge:{{{group}}}:workers"


def offsets(slot: Slot) -> str:
    """Hash: stream -> `ms-seq:entries:checksum`, how far a task has come."""
    return f"{slot}:offsets"


def state(slot: Slot) -> str:
    """Hash: key -> value of a task's state."""
    return f"{slot}:state"


def journal(slot: Slot) -> str:
    """Stream: what commits wrote down of the order they followed; ids are `COMMIT-1`."""
    return f"{slot}:journal"


def requests(slot: Slot) -> str:
    """Hash: what operators ask of a task, until it is done."""
    return f"{slot}:requests"


def snapshot(slot: Slot, place: int) -> list[str]:
    """Meta, offsets and state of one snapshot in the ring."""
    return [f"{slot}:snapshot:{place}:{part}" for part in ("meta", "offsets", "state")]


def derived(slot: Slot) -> str:
    """Set: places of entries whose outputs lie in an unordered group's slot."""
    return f"{slot}:derived"


def done_to(slot: Slot) -> str:
    """Hash: stream -> id up to which an unordered group has done every entry."""
    return f"{slot}:done_to"


def segments(slot: Slot) -> str:
    """Hash: `LANE:FIRST:LAST` -> what a segment file on disk holds of that lane, and where."""
    return f"{slot}:segments"


def spilled(slot: Slot) -> str:
    """Hash: lane -> last id that lies in a segment."""
    return f"{slot}:spilled"


def kept(slot: Slot) -> str:
    """Hash: name -> packed copies of entries that a writer needs to begin again."""
    return f"{slot}:kept"


def latches(namespace: str) -> str:
    """Hash: login -> the latch that is set on that account, `LOGIN:id` -> its id."""
    return f"{{{namespace}}}:latches"
