"""A task goes back to a snapshot: what it derived since is taken away, as if it had never been.

A stream can lose its tail in one way only that readers can follow: a copy without it takes its
place. (XDEL would leave holes, and the newest id and the count where they were, so that the same
ids could not be derived again and every count of lag would be wrong.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError

from events.log import Claim, EntryId, Fenced, LogError, Slot
from events.redis import keys
from events.redis.connect import Client
from events.redis.scripts import Script
from events.tasks import SNAPSHOTS_MAX, TaskRecord

REWIND = Script("rewind")
COPY_ENTRIES_MAX = 1_000
NO_ID = "0-0"
Run = Callable[[Script, Sequence[str], Sequence[Any]], Any]
Calls = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class _Cut:
    """A stream without what came after an id, ready to take the stream's place."""

    replaced: bool
    removed: int = 0
    states: frozenset[str] = frozenset()
    """`type:key` of what was removed."""


def rewind(client: Client, run: Run, calls: Calls, claim: Claim, to: TaskRecord) -> int:
    """See `events.tasks.Tasks.rewind`."""
    slot = claim.slot
    streams = [keys.journal(slot), *keys.lanes(slot)]
    newest = [EntryId(to.commits, 1 if to.commits else 0), *([to.newest] * 4)]
    with calls():
        _refuse_spilled(client, slot, to.newest)
        cuts = [
            _without_tail(client, key, f"{key}:rewound", last)
            for key, last in zip(streams, newest, strict=True)
        ]
        doomed = _later_snapshots(client, slot, to.commits)
    own = [keys.meta(slot), keys.offsets(slot), keys.state(slot), keys.last(slot), *streams]
    forgotten = sorted(frozenset().union(*(cut.states for cut in cuts[1:])))
    arguments: list[Any] = [
        claim.token, to.newest.ms, to.newest.seq, to.commits, to.version,
        *("1" if cut.replaced else "0" for cut in cuts),
        len(to.offsets), len(to.state), len(forgotten),
    ]  # fmt: skip
    for stream, offset in to.offsets.items():
        arguments += (str(stream), str(offset))
    for name, value in to.state.items():
        arguments += (name, value)
    script_keys = [*own, *(f"{key}:rewound" for key in streams), *doomed]
    if run(REWIND, script_keys, [*arguments, *forgotten]) != 1:
        raise Fenced(f"{slot} was taken over: nothing was rewound")
    return sum(cut.removed for cut in cuts[1:])


def _refuse_spilled(client: Client, slot: Slot, newest: EntryId) -> None:
    """What lies in segments on disk cannot be taken away from here."""
    for lane, last in client.hgetall(keys.spilled(slot)).items():
        if EntryId.parse(last) > newest:
            raise LogError(
                f"{slot}: outputs in {lane.decode()} up to {last.decode()} lie in segments on "
                f"disk; it would go back to {newest}, before them. Begin the group anew with "
                "`bridgectl groups remove --outputs`"
            )


def _without_tail(client: Client, key: str, copy: str, last: EntryId) -> _Cut:
    """Copy what stands up to `last`, with counts and groups, unless nothing stands behind it."""
    try:
        facts = _fields(client.execute_command("XINFO", "STREAM", key))
    except ResponseError as error:
        if "no such key" in str(error).lower():
            return _Cut(False)
        raise
    if EntryId.parse(facts["last-generated-id"]) <= last:
        return _Cut(False)
    removed, states = _tail(client, key, last)
    client.delete(copy)
    client.execute_command("XGROUP", "CREATE", copy, "rewind", NO_ID, "MKSTREAM")
    client.execute_command("XGROUP", "DESTROY", copy, "rewind")
    kept = _copy(client, key, copy, last)
    added = max(kept, int(facts["entries-added"]) - removed)
    client.execute_command("XSETID", copy, str(last), "ENTRIESADDED", added, "MAXDELETEDID", NO_ID)
    for row in client.execute_command("XINFO", "GROUPS", key):
        group = _fields(row)
        place = min(EntryId.parse(group["last-delivered-id"]), last)
        read = min(int(group.get("entries-read") or 0), added)
        name = group["name"]
        client.execute_command("XGROUP", "CREATE", copy, name, str(place), "ENTRIESREAD", read)
    return _Cut(True, removed, states)


def _tail(client: Client, key: str, last: EntryId) -> tuple[int, frozenset[str]]:
    """How many entries come after `last`, and which last states they may have set."""
    count, states = 0, set()
    for page in _pages(client, key, f"({last}", "+"):
        count += len(page)
        for _, row in page:
            fields = _flat(row)
            if len(fields) >= 4:
                states.add(f"{fields[1].decode()}:{fields[3].decode()}")
    return count, frozenset(states)


def _copy(client: Client, key: str, copy: str, last: EntryId) -> int:
    count = 0
    for page in _pages(client, key, "-", str(last)):
        pipeline = client.pipeline(transaction=False)
        for id_, row in page:
            pipeline.execute_command("XADD", copy, id_, *_flat(row))
        pipeline.execute()
        count += len(page)
    return count


def _pages(client: Client, key: str, first: str, last: str) -> Any:
    while page := client.execute_command("XRANGE", key, first, last, "COUNT", COPY_ENTRIES_MAX):
        yield page
        first = f"({page[-1][0].decode()}"


def _later_snapshots(client: Client, slot: Slot, commits: int) -> list[str]:
    doomed = []
    for place in range(SNAPSHOTS_MAX):
        names = keys.snapshot(slot, place)
        found = client.hget(names[0], "commits")
        if found is not None and int(found) > commits:
            doomed += names
    return doomed


def _flat(row: Any) -> list[bytes]:
    return [part for pair in row.items() for part in pair] if isinstance(row, dict) else row


def _fields(row: Any) -> dict[str, Any]:
    if isinstance(row, dict):
        return {(name.decode() if isinstance(name, bytes) else name): v for name, v in row.items()}
    return {row[i].decode(): row[i + 1] for i in range(0, len(row), 2)}
