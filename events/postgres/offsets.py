"""How far a group has stored each stream, and who may store on.

A slot (one writer's lanes in one partition) has one storing session at a time. It holds a token
that PostgreSQL issued; every commit compares token and place of every stream it moves. The rest
(beats, backend) only decides when a slot is free: safety never hangs on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from events.log import BEGIN, EntryId, Slot, Stream
from events.offset import Offset
from events.postgres.connection import Connection

LEASE_S = 30.0
"""A holder whose backend lives but does not beat for this long is ended by its successor."""
TERMINATE_WAIT_MS = 5_000


class SinkFenced(Exception):
    """The slot was taken over, or its offset is not where we left it: forget all, start anew."""


@dataclass(frozen=True, slots=True)
class StoredOffset:
    """The durable offset of one stream: everything up to `last` is stored.

    `entries` counts them from the beginning of the stream, `ticks` those among them, `checksum`
    is `checksum_of` the entry at `last` (0 when none is stored yet).
    """

    stream: Stream
    last: EntryId
    entries: int
    ticks: int
    checksum: int

    @property
    def place(self) -> Offset:
        """The same without what only the database counts."""
        return Offset(self.last, self.entries, self.checksum)


@dataclass(frozen=True, slots=True)
class OffsetMove:
    """From the stored offset to the next one."""

    before: StoredOffset
    after: StoredOffset


class _Free(NamedTuple):
    """A slot that may be taken from this token, and from no other."""

    token: UUID | None
    hangs: bool = False
    """Its holder's session lives, and is to be ended first."""


class SlotState(NamedTuple):
    """Who holds a slot ("" for nobody living), and why it was halted, if it was."""

    holder: str
    halted: str


@dataclass(frozen=True, slots=True)
class OffsetRow:
    """What a person wants to know of one stream of a group."""

    group: str
    stream: str
    last: EntryId
    entries: int
    ticks: int
    committed_at: datetime | None
    holder: str
    halted: str


def read_offsets(connection: Connection, group: str | None = None) -> list[OffsetRow]:
    """Offsets of one group or of all, by group and stream."""
    rows = connection.execute(
        "SELECT sink_group, stream, last_ms, last_seq, entries, ticks, committed_at, holder, halted"
        " FROM raw.offsets WHERE %(group)s::text IS NULL OR sink_group = %(group)s"
        " ORDER BY sink_group, stream",
        {"group": group},
    )
    return [
        OffsetRow(group_, stream, EntryId(ms, seq), *rest)
        for group_, stream, ms, seq, *rest in rows
    ]


class Ownership:
    """The slots one session holds. `connection` commits, `aside` does all the rest."""

    def __init__(
        self,
        connection: Connection,
        aside: Connection,
        group: str,
        *,
        holder: str,
        lease_s: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._connection, self._aside = connection, aside
        self._backend = connection.info.backend_pid
        self._group, self._holder = group, holder
        self._lease_s, self._monotonic = lease_s, monotonic
        self._seen: dict[str, tuple[tuple[Any, ...], float]] = {}
        self.tokens: dict[Slot, UUID] = {}

    def acquire(self, slots: Iterable[Slot]) -> dict[Slot, tuple[StoredOffset, ...]]:
        """Take those slots that are free, and read their offsets."""
        taken = {}
        for slot in slots:
            free = None if slot in self.tokens else self._free(slot)
            if free is not None and (offsets := self._take(slot, free)):
                taken[slot] = offsets
        return taken

    def holder_of(self, slot: Slot) -> str:
        row = self._state(slot)
        return str(row[2]) if row else ""

    def holders(self) -> dict[Slot, SlotState]:
        """Every slot of the group: who holds it, living by the server's word, and why it halted."""
        rows = self._aside.execute(
            "SELECT o.slot, coalesce(a.pid, 0) <> 0, o.holder, o.halted FROM raw.offsets o"
            " LEFT JOIN pg_stat_activity a ON a.pid = o.backend_pid"
            " AND (a.backend_start IS NULL OR a.backend_start = o.backend_start)"
            " WHERE o.sink_group = %s AND o.stream LIKE '%%:critical'",
            (self._group,),
        ).fetchall()
        return {
            Slot.parse(slot): SlotState(holder if alive else "", halted)
            for slot, alive, holder, halted in rows
        }

    def places(self) -> dict[Stream, EntryId]:
        """How far every stream of the group is stored, by whomever."""
        rows = self._aside.execute(
            "SELECT stream, last_ms, last_seq FROM raw.offsets WHERE sink_group = %s",
            (self._group,),
        ).fetchall()
        return {Stream.parse(stream): EntryId(ms, seq) for stream, ms, seq in rows}

    def halted(self, slot: Slot) -> bool:
        """Whether a slot stands still until it is repaired."""
        row = self._aside.execute(
            "SELECT EXISTS (SELECT FROM raw.offsets WHERE sink_group = %s AND slot = %s"
            " AND halted <> '')",
            (self._group, str(slot)),
        ).fetchone()
        return bool(row and row[0])

    def beat(self) -> None:
        """Show that we live. Raises SinkFenced when a slot is no longer ours."""
        if not self.tokens:
            return
        moved = self._aside.execute(
            "UPDATE raw.offsets SET beats = beats + 1"
            " WHERE sink_group = %s AND token = ANY(%s) AND stream LIKE '%%:critical'",
            (self._group, list(self.tokens.values())),
        ).rowcount
        if moved != len(self.tokens):
            raise SinkFenced(f"{len(self.tokens) - moved} slots of {self._group} were taken over")

    def advance(self, moves: Iterable[OffsetMove]) -> None:
        """Compare and set, as the last step of a transaction. Raises SinkFenced: roll back."""
        rows = [self._row(move) for move in moves]
        cursor = self._connection.execute(
            "UPDATE raw.offsets o SET last_ms = v.ms, last_seq = v.seq, entries = v.entries,"
            " ticks = v.ticks, checksum = v.checksum, committed_at = now()"
            " FROM unnest(%s::text[], %s::uuid[], %s::bigint[], %s::bigint[], %s::bigint[],"
            " %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])"
            " AS v(stream, token, was_ms, was_seq, ms, seq, entries, ticks, checksum)"
            " WHERE o.sink_group = %s AND o.stream = v.stream AND o.token = v.token"
            " AND o.last_ms = v.was_ms AND o.last_seq = v.was_seq",
            (*(list(column) for column in zip(*rows, strict=True)), self._group),
        )
        if cursor.rowcount != len(rows):
            raise SinkFenced(
                f"only {cursor.rowcount} of {len(rows)} offsets are where we left them"
            )

    def halt(self, slot: Slot, reason: str) -> None:
        """Write down why a slot stands still, and give it up."""
        self._let_go({slot: self.tokens.pop(slot)}, halted=reason)

    def release(self, slots: Iterable[Slot] | None = None) -> None:
        """Give up these slots, or every one."""
        gone = set(self.tokens if slots is None else slots)
        tokens = {slot: token for slot, token in self.tokens.items() if slot in gone}
        self.tokens = {slot: token for slot, token in self.tokens.items() if slot not in gone}
        if tokens:
            self._let_go(tokens, halted="")

    def rewind(self, slot: Slot) -> tuple[StoredOffset, ...]:
        """Offsets of a held slot back to the beginning. Raises SinkFenced."""
        rows = self._aside.execute(
            "UPDATE raw.offsets SET last_ms = 0, last_seq = 0, entries = 0, ticks = 0,"
            " checksum = 0 WHERE sink_group = %s AND token = %s RETURNING stream",
            (self._group, self.tokens[slot]),
        ).fetchall()
        if len(rows) != len(slot.streams()):
            raise SinkFenced(f"{slot} was taken over")
        return tuple(StoredOffset(Stream.parse(name), BEGIN, 0, 0, 0) for (name,) in sorted(rows))

    def _let_go(self, tokens: Mapping[Slot, UUID], *, halted: str) -> None:
        self._aside.execute(
            "UPDATE raw.offsets SET token = NULL, holder = '', backend_pid = NULL,"
            " backend_start = NULL, halted = %s WHERE sink_group = %s AND token = ANY(%s)",
            (halted, self._group, list(tokens.values())),
        )

    def _free(self, slot: Slot) -> _Free | None:
        """What a slot is to be taken from; None while its holder lives."""
        row = self._state(slot)
        if row is None or row[0] is None:
            return _Free(None)
        if not row[3]:
            return _Free(row[0])
        known = (row[0], row[1])
        seen, since = self._seen.get(str(slot), (None, 0.0))
        if seen != known:
            self._seen[str(slot)] = (known, self._monotonic())
            return None
        return _Free(row[0], hangs=True) if self._monotonic() - since >= self._lease_s else None

    def _state(self, slot: Slot) -> tuple[Any, ...] | None:
        """(token, beats, holder, whether its backend lives, backend_pid) of a slot."""
        return self._aside.execute(
            "SELECT o.token, o.beats, o.holder, EXISTS (SELECT FROM pg_stat_activity a"
            " WHERE a.pid = o.backend_pid"
            " AND (a.backend_start IS NULL OR a.backend_start = o.backend_start)), o.backend_pid"
            " FROM raw.offsets o WHERE o.sink_group = %s AND o.stream = %s",
            (self._group, str(slot.streams()[0])),
        ).fetchone()

    def _take(self, slot: Slot, free: _Free) -> tuple[StoredOffset, ...]:
        """New token, unless somebody else was faster (then nothing is returned, and nothing is
        done to him)."""
        names = [str(stream) for stream in slot.streams()]
        self._aside.execute(
            "INSERT INTO raw.offsets (sink_group, stream, slot)"
            " SELECT %s, unnest(%s::text[]), %s ON CONFLICT DO NOTHING",
            (self._group, names, str(slot)),
        )
        if free.hangs:
            # What a hanging predecessor has open must not block us.
            self._aside.execute(
                "SELECT pg_terminate_backend(backend_pid, %s) FROM raw.offsets"
                " WHERE sink_group = %s AND stream = %s AND token = %s",
                (TERMINATE_WAIT_MS, self._group, names[0], free.token),
            )
        rows = self._aside.execute(
            "WITH fresh AS (SELECT gen_random_uuid() AS token)"
            " UPDATE raw.offsets o SET token = fresh.token, holder = %s, halted = '',"
            " beats = beats + 1, backend_pid = %s, backend_start ="
            " (SELECT backend_start FROM pg_stat_activity WHERE pid = %s)"
            " FROM fresh WHERE sink_group = %s AND stream = ANY(%s)"
            " AND o.token IS NOT DISTINCT FROM %s"
            " RETURNING stream, last_ms, last_seq, entries, ticks, checksum, o.token",
            (self._holder, self._backend, self._backend, self._group, names, free.token),
        ).fetchall()
        if len(rows) != len(names):
            return ()
        self.tokens[slot] = rows[0][6]
        return tuple(
            StoredOffset(Stream.parse(name), EntryId(ms, seq), entries, ticks, checksum)
            for name, ms, seq, entries, ticks, checksum, _ in sorted(rows)
        )

    def _row(self, move: OffsetMove) -> tuple[Any, ...]:
        before, after = move.before, move.after
        return (
            str(before.stream), self.tokens[before.stream.slot], before.last.ms, before.last.seq,
            after.last.ms, after.last.seq, after.entries, after.ticks, after.checksum,
        )  # fmt: skip
