"""What a fetch is to bring: spans of feeds in the broker's clock, as far as the past goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from events.archive.source import EntrySource, Wanted, archive_folder, opened_source
from events.candles import opening_times
from events.clock_rules import ClockRule
from events.codec import TICKS as TICKS_TYPE
from events.codec import BadEvent, UnknownEvent, decode, decode_data
from events.log import SOURCE, Lane, Log, LogError, Slot, partition_of
from events.operations import ClockChanged
from events.settings import Settings, TerminalSettings
from events.ticks import TickBatch
from producers.history.batches import TICKS, Feed
from producers.history.fetching import Span
from producers.terminals.history_host import KINDS
from producers.truth import AHEAD_MS

SETTLED_MS = 60_000
"""A terminal may still be adding to what is younger."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is known of a terminal from its recording. Nothing where there is none."""

    partitions: int = 0
    rule: str = ""
    """The newest clock rule that its producer told."""
    holder: str = ""
    """The producer that runs now."""
    live_from_ms: Mapping[str, int] = field(default_factory=dict)
    """Symbol -> UTC of its first live tick in any place."""


def recorded_of(settings: Settings, namespace: str, symbols: Sequence[str]) -> Recorded:
    """Looks at log and archive. Raises LogUnavailable, ChunkDamaged."""
    if settings.redis_url() is None and not archive_folder(settings).root.is_dir():
        return Recorded()
    with opened_source(settings, places=("log", "archive")) as source:
        partitions = source.partitions(namespace)
        rule, holder = "", ""
        if source.log is not None and namespace in source.log.namespaces():
            rule = _rule_in_log(source.log, namespace)
            holder = source.log.holder(Slot(namespace, SOURCE, 0))
        live = {one: _live_from_ms(source, namespace, one, partitions) for one in symbols}
        begins = {symbol: ms for symbol, ms in live.items() if ms is not None}
        return Recorded(partitions, rule, holder, begins)


def check_second_process(settings: Settings, terminal: TerminalSettings, holder: str) -> None:
    """Raises LogError where a producer runs and the settings say that nobody else may attach."""
    if settings.history_host == "off" and holder and terminal.kind.value in KINDS:
        raise LogError(
            f"{holder} follows {terminal.name}, and HISTORY_HOST=off says that no second process "
            "may attach to its terminal: stop that one first, or set HISTORY_HOST=on"
        )


def spans(
    feeds: Sequence[Feed],
    from_ms: int,
    until_ms: int,
    *,
    clock: ClockRule | None,
    now_ms: int,
    live_from_ms: Mapping[str, int] | None = None,
) -> list[Span]:
    """In server ms, as far as everything is settled: ticks up to a minute ago (and, where they
    are given, up to the first live one), candles that are closed. Without a clock rule times are
    taken as they are, and what any server's clock may not have reached is left out."""
    settled = now_ms - SETTLED_MS if clock is not None else now_ms - AHEAD_MS
    return [_span(feed, from_ms, min(until_ms, settled), clock, settled, live_from_ms or {})
            for feed in feeds]  # fmt: skip


def _span(
    feed: Feed, from_ms: int, until_ms: int, clock: ClockRule | None, settled_ms: int,
    live_from_ms: Mapping[str, int],
) -> Span:  # fmt: skip
    begin = _server_ms(clock, from_ms)
    if feed.what == TICKS:
        until_ms = min(until_ms, live_from_ms.get(feed.symbol, until_ms))
        return Span(feed, begin, max(begin, _server_ms(clock, until_ms)))
    settled_s = np.array([_server_ms(clock, settled_ms) // 1000])
    opened_ms = int(opening_times(settled_s, feed.what)[0]) * 1000
    return Span(feed, begin, max(begin, min(_server_ms(clock, until_ms), opened_ms)))


def _server_ms(clock: ClockRule | None, utc_ms: int) -> int:
    return utc_ms + (clock.offset_s(utc_ms) * 1000 if clock is not None else 0)


def _rule_in_log(log: Log, namespace: str) -> str:
    rules = []
    for (type_, key), data in log.last_states(Slot(namespace, SOURCE, 0)).items():
        try:
            event = decode_data(type_, key, data)
        except (BadEvent, UnknownEvent):
            continue
        if isinstance(event, ClockChanged) and event.rule:
            rules.append((event.event_time_ms, event.rule))
    return max(rules)[1] if rules else ""


def _live_from_ms(source: EntrySource, namespace: str, symbol: str, partitions: int) -> int | None:
    """UTC of the first live tick that any place still holds."""
    if not partitions:
        return None
    wanted = Wanted(
        namespace, writers=(SOURCE,), lanes=(Lane.NORMAL,),
        partitions=(partition_of(symbol, partitions),),
    )  # fmt: skip
    for entry in source.entries(wanted):
        if entry.key == symbol and entry.type.rpartition(".")[0] == TICKS_TYPE:
            event = decode(entry)
            if isinstance(event, TickBatch) and len(event):
                return int(event.utc_ms().min())
    return None
