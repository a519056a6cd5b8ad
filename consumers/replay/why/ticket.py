"""Everything the log tells of one ticket: its orders and deals, the trade, and what closed it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from consumers.replay.why import links
from events.codec import BadEvent, UnknownEvent, decode
from events.decisions import Command, LimitBreach
from events.event import Event
from events.guarding import FlattenEnded, FlattenStep, LatchChanged
from events.log import ACCOUNT_PARTITION, OPERATOR, SOURCE, Entry, EntryId, Lane, Log, Slot, Stream
from events.trading import Book, Deal, OrderDone, Orders, TradeUpdate

LOOKED_AT_MAX = 500_000
"""Entries of a stream that are looked through for a ticket, from the newest back."""
PAGE_ENTRIES = 1_000
FOUND_MAX = 5_000
"""Entries of one ticket that are told."""
LED_TO_MS = 60_000
"""A breach and a command lie no further before the latch (or the first step) they led to."""
TRADES, RISK = "trades", "risk"
SEQ_MAX = 2**64 - 1

Archive = Callable[[str, int], list[Entry]]
"""(namespace, ticket) -> entries of the database that name it."""


class Seen(NamedTuple):
    """An entry that has to do with the ticket, and its event."""

    entry: Entry
    event: Event


@dataclass(slots=True)
class Evidence:
    """What was found of one ticket in one terminal's log, oldest first."""

    terminal: str
    ticket: int
    positions: frozenset[int]
    """Identifiers of the positions it belongs to."""
    entries: list[Seen] = field(default_factory=list)
    causes: list[Seen] = field(default_factory=list)
    """Breach, command and latch that a guard's steps followed from, oldest first."""
    cut: str = ""
    archived: int = 0
    """Entries that came from the database."""

    def of(self, *kinds: type[Event]) -> Iterator[Seen]:
        return (seen for seen in self.entries if isinstance(seen.event, kinds))


def evidence(
    log: Log, namespace: str, ticket: int, *, archive: Archive | None = None
) -> Evidence | None:
    """What the log tells of a ticket, be it a position's, an order's or a deal's; None where it
    is not named at all. Raises LogUnavailable."""
    search = _Search(log, namespace)
    named = search.entries({ticket})
    archived = archive(namespace, ticket) if archive is not None else []
    positions = _positions(_decoded([*named, *archived]), ticket)
    further = {*positions} - {ticket}
    if further:
        named += search.entries(further)
        if archive is not None:
            archived += [e for one in sorted(further) for e in archive(namespace, one)]
    known = {entry.place: entry for entry in [*archived, *named]}
    if not known:
        return None
    entries = sorted(_decoded(known.values()), key=_when)
    kept = _without_repeats(entries, {ticket, *positions})
    if not kept:
        return None
    found = Evidence(namespace, ticket, frozenset(positions), kept[:FOUND_MAX], cut=search.cut)
    found.archived = len({entry.place for entry in archived} - {entry.place for entry in named})
    found.causes = search.causes(found)
    return found


class _Search:
    """Looks through one terminal's streams for texts of tickets before anything is decoded."""

    def __init__(self, log: Log, namespace: str) -> None:
        self._log, self._namespace = log, namespace
        self.cut = ""

    def entries(self, tickets: set[int]) -> list[Entry]:
        """Entries whose text names one of the tickets (tickets are texts in JSON)."""
        texts = [f'"{ticket}"'.encode() for ticket in sorted(tickets)]
        return [
            entry
            for stream in self._streams()
            for entry in self._newest_first(stream)
            if any(text in entry.data for text in texts)
        ]

    def causes(self, found: Evidence) -> list[Seen]:
        """The latch that held at the first step, its command, and the breach the command names:
        by their ids, or by their times where an older guard wrote none."""
        first = next(found.of(FlattenStep, FlattenEnded), None)
        if first is None:
            return []
        assert isinstance(first.event, FlattenStep | FlattenEnded)
        if first.event.command_id or first.event.latch_id:
            linked = links.chain(self._log, first.entry)
            return [one for one in _decoded(linked) if not isinstance(one.event, FlattenStep)]
        login, at_ms = first.event.login, first.event.event_time_ms
        latch = self._latch(login, at_ms)
        since_ms = latch.event.event_time_ms if latch is not None else at_ms
        wanted = getattr(latch.event, "command_id", "") if latch is not None else ""
        led = [
            seen
            for seen in sorted(_decoded(self._critical(since_ms)), key=_when)
            if 0 <= since_ms - seen.event.event_time_ms <= LED_TO_MS
        ]
        command = _last(
            seen for seen in led
            if isinstance(seen.event, Command)
            and seen.event.verb in ("flatten", "reduce", "halt")
            and (seen.event.command_id == wanted if wanted else seen.event.login in (None, login))
        )  # fmt: skip
        limit = _limit_of(command)
        breach = _last(
            seen for seen in led
            if isinstance(seen.event, LimitBreach) and seen.event.login == login
            and seen.event.level == "act" and limit in ("", seen.event.limit)
        )  # fmt: skip
        return [seen for seen in (breach, command, latch) if seen is not None]

    def _latch(self, login: int, at_ms: int) -> Seen | None:
        """The latch of the account as it was at a moment; None where it was not set."""
        stream = Slot(self._namespace, SOURCE, ACCOUNT_PARTITION).stream(Lane.CRITICAL)
        changes = (e for e in self._newest_first(stream) if e.type.startswith("latch."))
        for seen in _decoded(changes):
            event = seen.event
            mine = isinstance(event, LatchChanged) and event.login == login
            if mine and event.event_time_ms <= at_ms:
                return seen if getattr(event, "latched", False) else None
        return None

    def _critical(self, until_ms: int) -> Iterator[Entry]:
        """Commands and breaches of the last hour before a moment, whoever wrote them."""
        for writer in (SOURCE, RISK, OPERATOR):
            stream = Slot(self._namespace, writer, ACCOUNT_PARTITION).stream(Lane.CRITICAL)
            for entry in self._newest_first(stream):
                if entry.id.ms < until_ms - 60 * LED_TO_MS:  # ids are no clocks, but not hours off
                    break
                if entry.type.partition(".")[0] in ("command", "limit_breach"):
                    yield entry

    def _streams(self) -> Iterator[Stream]:
        source = Slot(self._namespace, SOURCE, ACCOUNT_PARTITION)
        yield source.stream(Lane.HIGH)
        yield source.stream(Lane.CRITICAL)
        yield Slot(self._namespace, TRADES, ACCOUNT_PARTITION).stream(Lane.HIGH)

    def _newest_first(self, stream: Stream) -> Iterator[Entry]:
        before, looked = self._log.info(stream).last_id, 0
        while page := self._log.newest(stream, count_max=PAGE_ENTRIES, before=before):
            yield from page
            looked += len(page)
            if looked >= LOOKED_AT_MAX:
                self.cut = f"looked at {LOOKED_AT_MAX} entries of {stream}; there is more"
                return
            last = page[-1].id
            if (last.ms, last.seq) == (0, 0):
                return
            before = EntryId(last.ms, last.seq - 1) if last.seq else EntryId(last.ms - 1, SEQ_MAX)


def _positions(named: Iterable[Seen], ticket: int) -> set[int]:
    """Identifiers of the positions that a ticket belongs to."""
    found: set[int] = set()
    for _, event in named:
        if isinstance(event, Deal) and ticket in (event.ticket, event.order, event.position_id):
            found.add(event.position_id)
        elif isinstance(event, OrderDone):
            order = event.order
            if ticket in (order.ticket, order.position_id, order.position_by_id):
                found |= {order.position_id, order.position_by_id}
        elif isinstance(event, Book):
            found |= {
                one.identifier for one in event.positions if ticket in (one.ticket, one.identifier)
            }
    return found - {0}


def _without_repeats(entries: list[Seen], tickets: set[int]) -> list[Seen]:
    """What has to do with the tickets; of books, active orders and ends of a flatten (one is told
    whenever the account stands otherwise) only those in which something about them is new."""
    kept: list[Seen] = []
    told: dict[type[Event], Any] = {}
    for seen in entries:
        about = _about(seen.event, tickets)
        if about is None:
            continue
        if isinstance(seen.event, Book | Orders | FlattenEnded):
            if told.get(type(seen.event)) == about:
                continue
            told[type(seen.event)] = about
        kept.append(seen)
    return kept


def _about(event: Event, tickets: set[int]) -> Any | None:
    """What an event tells of the tickets; None where the text was of something else."""
    if isinstance(event, Book):
        return tuple(
            (one.ticket, one.side, one.volume_lots, one.price_open, one.stop_loss, one.take_profit)
            for one in event.positions if tickets & {one.ticket, one.identifier}
        ) or None  # fmt: skip
    if isinstance(event, Orders):
        return tuple(
            (one.ticket, one.state, one.volume_current_lots, one.price_open, one.stop_loss,
             one.take_profit)
            for one in event.orders if tickets & {one.ticket, one.position_id}
        ) or None  # fmt: skip
    if isinstance(event, FlattenEnded):
        return tuple(
            (event.flatten_id, one.ticket, one.outcome)
            for one in event.outcomes if one.ticket in tickets
        ) or None  # fmt: skip
    named = _tickets_of(event)
    return named if named & tickets else None


def _tickets_of(event: Event) -> frozenset[int]:
    if isinstance(event, Deal):
        return frozenset({event.ticket, event.order, event.position_id})
    if isinstance(event, OrderDone):
        order = event.order
        return frozenset({order.ticket, order.position_id, order.position_by_id})
    if isinstance(event, TradeUpdate):
        return frozenset({event.trade.position_id})
    if isinstance(event, FlattenStep):
        return frozenset({event.ticket})
    return frozenset()


def _limit_of(command: Seen | None) -> str:
    """The limit whose breach a command names, or empty."""
    if command is None or not isinstance(command.event, Command):
        return ""
    named = command.event.arguments.get("breach", "")
    if isinstance(named, Mapping):
        named = named.get("limit", "")
    return str(named)


def _decoded(entries: Iterable[Entry]) -> Iterator[Seen]:
    for entry in entries:
        try:
            event = decode(entry)
        except (BadEvent, UnknownEvent):
            continue
        if isinstance(event, Event):
            yield Seen(entry, event)


def _when(seen: Seen) -> tuple[int, EntryId]:
    return seen.event.event_time_ms, seen.entry.id


def _last(found: Iterable[Seen]) -> Seen | None:
    last = None
    for seen in found:
        last = seen
    return last
