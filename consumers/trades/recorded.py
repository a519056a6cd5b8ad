"""Trades of a span, from the log; what left the log, from the database."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from consumers.trades.strategies import strategy_of, target_names
from events.codec import BadEvent, UnknownEvent, decode
from events.log import ACCOUNT_PARTITION, Entry, EntryId, Lane, Log, Slot, Stream
from events.trading import TradeUpdate

TRADES = "trades"
"""The group that derives them."""
PAGE_ENTRIES = 1_000
LOOKED_AT_MAX = 500_000
"""Entries of a terminal that are looked through."""
SEQ_MAX = 2**64 - 1
NEVER_MS = 2**62
LATE_MS = 24 * 3_600_000
"""Trades are told in the order of their deals, except for deals that come so late."""

Stored = Callable[[Stream, int], Iterable[Entry]]
"""(stream, since when in UTC ms) -> the newest stored entry of each trade told since then."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Trades that were closed within [from_ms, until_ms) (UTC); with `open_too` also those that
    are open."""

    from_ms: int
    until_ms: int
    symbols: frozenset[str] = frozenset()
    open_too: bool = False

    def takes(self, update: TradeUpdate) -> bool:
        trade = update.trade
        if self.symbols and trade.symbol not in self.symbols:
            return False
        if update.state == "closed":
            return self.from_ms <= trade.close_time_ms < self.until_ms
        return self.open_too and update.state in ("open", "partly_closed")


@dataclass(frozen=True, slots=True)
class Found:
    """Trades of one terminal by the time they were closed, open ones last."""

    terminal: str
    updates: tuple[TradeUpdate, ...]
    cut: str = ""
    """Why not everything was looked at, or empty."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Of strategies, as `strategy_of` takes them."""

    @property
    def net_profit(self) -> float:
        """Of the closed ones, account currency."""
        closed = (one.trade.net_profit for one in self.updates if one.state == "closed")
        return round(sum(closed), 8) + 0.0

    def as_json(self) -> dict[str, Any]:
        return {
            "terminal": self.terminal,
            "net_profit": self.net_profit,
            "closed": sum(one.state == "closed" for one in self.updates),
            "cut": self.cut,
            "trades": [as_json(one, self.names) for one in self.updates],
        }


def as_json(update: TradeUpdate, names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """One trade as plain values; tickets as text."""
    trade = update.trade
    return {
        **trade.model_dump(mode="json"),
        "login": update.login,
        "state": update.state,
        "net_profit": round(trade.net_profit, 8),
        "strategy": strategy_of(trade.magic, trade.comment, names),
        "doubt": update.doubt,
    }


def recorded(log: Log, namespace: str, wanted: Wanted, *, stored: Stored | None = None) -> Found:
    """Every trade as it was told last; `stored` is asked where the log does not reach back far
    enough. Raises LogUnavailable."""
    stream = Slot(namespace, TRADES, ACCOUNT_PARTITION).stream(Lane.HIGH)
    newest: dict[str, TradeUpdate] = {}
    looked, oldest_ms, cut = 0, NEVER_MS, ""
    for entry in newest_first(log, stream):
        looked += 1
        if looked > LOOKED_AT_MAX:
            cut = f"looked at {LOOKED_AT_MAX} entries; there is more"
            break
        update = _update(entry)
        if update is None:
            continue
        newest.setdefault(update.key, update)
        oldest_ms = min(oldest_ms, update.recv_time_ms)
        if update.recv_time_ms < wanted.from_ms - LATE_MS and not wanted.open_too:
            break
    if stored is not None and (wanted.open_too or oldest_ms >= wanted.from_ms - LATE_MS):
        since_ms = 0 if wanted.open_too else wanted.from_ms - LATE_MS
        for entry in stored(stream, since_ms):
            update = _update(entry)
            if update is not None:
                newest.setdefault(update.key, update)
    chosen = [update for update in newest.values() if wanted.takes(update)]
    chosen.sort(key=lambda one: (one.trade.close_time_ms or NEVER_MS, one.trade.open_time_ms))
    return Found(namespace, tuple(chosen), cut, target_names(log, namespace))


def newest_first(log: Log, stream: Stream) -> Iterator[Entry]:
    """Every entry of a stream, the newest first."""
    before = log.info(stream).last_id
    while page := log.newest(stream, count_max=PAGE_ENTRIES, before=before):
        yield from page
        last = page[-1].id
        if last.seq == 0 and last.ms == 0:
            return
        before = EntryId(last.ms, last.seq - 1) if last.seq else EntryId(last.ms - 1, SEQ_MAX)


def _update(entry: Entry) -> TradeUpdate | None:
    if not entry.type.startswith(f"{TradeUpdate.TYPE}."):
        return None
    try:
        event = decode(entry)
    except (BadEvent, UnknownEvent):
        return None
    return event if isinstance(event, TradeUpdate) else None
