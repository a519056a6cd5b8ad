"""Places of entries as people write them."""

from __future__ import annotations

from collections.abc import Collection

from events.log import Entry, EntryId, Lane, Log, Slot, Stream
from events.views import lines

LAST = "last:"


class UnknownPlace(ValueError):
    """A text that names no entry. The message says how to write one."""


def read_place(text: str) -> tuple[Stream, EntryId]:
    """Read `{NS:WRITER:N}:LANE@MS-SEQ`; the braces may be left out, as shells like them.

    Raises UnknownPlace.
    """
    stream, _, id_ = text.strip().rpartition("@")
    slot, _, lane = stream.rpartition(":")
    try:
        return Stream(Slot.parse(slot), Lane[lane.upper()]), EntryId.parse(id_)
    except (ValueError, KeyError) as error:
        raise UnknownPlace(
            f"{text!r} names no entry: write NAMESPACE:WRITER:PARTITION:LANE@MS-SEQ, such as "
            f"'demo:source:0:normal@1795408609110-0', or {LAST}TYPE for the newest of a type"
        ) from error


def newest_of_type(log: Log, type_: str, namespaces: Collection[str] = ()) -> Entry:
    """The newest entry of a type (with or without version), whoever wrote it.

    Raises UnknownPlace.
    """
    ends = {
        stream: log.info(stream).last_id
        for name in sorted(set(namespaces) or log.namespaces())
        for writer, slots in log.tasks.writers(name).items()
        for number in range(slots)
        for stream in Slot(name, writer, number).streams()
    }
    found = lines.newest(log, ends, count_max=1, wanted=lines.Wanted(frozenset({type_})))
    if not found:
        raise UnknownPlace(
            f"no {type_!r} among the newest {lines.LOOK_BACK_MAX} entries of any stream"
        )
    return found[0]
