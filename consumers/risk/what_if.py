"""What other rules would have done: group risk under them, over what the log keeps.

The account goes on as it was recorded: what a flatten would have saved or cost is the difference
to what the account came to by the end of its lock, deposits and withdrawals left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from consumers.replay.trial import try_task
from consumers.risk.handler import RiskHandler
from consumers.runtime.group import Group
from events.codec import decode_data
from events.decisions import LimitBreach, RiskMetrics
from events.log import Entry, Log, LogError
from events.rules import Action, Rules

GROUP = "risk-what-if"
WOULD_CLOSE = frozenset({Action.FLATTEN.value})
_TYPES = (LimitBreach.TYPE, RiskMetrics.TYPE)


class NothingRecorded(LogError):
    """The log holds no such terminal, or no account of it. The message names the cure."""


@dataclass(slots=True)
class WouldTrip:
    """One limit that would have acted. Money in account currency."""

    login: int
    limit: str
    action: str
    lock: str
    at_ms: int
    value: float | None
    threshold: float
    locked_until_ms: int | None
    equity: float
    """At that moment."""
    after_closing: float
    """What would have been left."""
    worst_equity: float
    """The lowest, until the lock would have ended."""
    last_equity: float
    """The newest until then."""
    entries: tuple[str, ...] = ()
    under_lock: bool = False
    """Another limit had closed everything before, and its lock still held."""

    @property
    def saved(self) -> float | None:
        """More than the account came to: saved; less: it cost. None: nothing would have closed."""
        if self.action not in WOULD_CLOSE or self.under_lock:
            return None
        return self.after_closing - self.last_equity

    def as_json(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**fields, "entries": list(self.entries), "saved": self.saved}


@dataclass(slots=True)
class WhatIf:
    """What came of one terminal. Times UTC."""

    namespace: str
    rules: str
    trips: list[WouldTrip] = field(default_factory=list)
    warnings: int = 0
    entries: int = 0
    """Entries read."""
    first_ms: int | None = None
    last_ms: int | None = None
    """First and newest account figures in the time asked for."""
    unknown: tuple[str, ...] = ()
    """What limits rested on and nobody knew: a worst case stood in its place."""

    @property
    def saved(self) -> float:
        return sum(trip.saved or 0.0 for trip in self.trips)

    def as_json(self) -> dict[str, Any]:
        return {
            "terminal": self.namespace, "rules": self.rules, "entries": self.entries,
            "first_ms": self.first_ms, "last_ms": self.last_ms, "warnings": self.warnings,
            "unknown": list(self.unknown), "saved": self.saved,
            "trips": [trip.as_json() for trip in self.trips],
        }  # fmt: skip


class _Account:
    """Follows one account under the other rules."""

    def __init__(self) -> None:
        self.open: list[WouldTrip] = []
        """Trips whose lock holds, which later figures still tell about."""
        self.seen: RiskMetrics | None = None

    def moved(self, event: RiskMetrics) -> float:
        """Deposits and withdrawals since the figures before."""
        before, self.seen = self.seen, event
        told = [_reference(one, name) for one in (before, event) if one is not None
                for name in ("initial_balance", "operations")]  # fmt: skip
        if len(told) < 4 or told[0] != told[2]:  # a human stated it anew: counted from there
            return 0.0
        return told[3] - told[1]


class Collector:
    """Takes what is derived, in order; equity is compared without deposits and withdrawals."""

    def __init__(self, found: WhatIf, *, from_ms: int | None, until_ms: int | None) -> None:
        self._found, self._from_ms, self._until_ms = found, from_ms, until_ms
        self._accounts: dict[int, _Account] = {}
        self._waiting: list[LimitBreach] = []

    def take(self, entry: Entry) -> None:
        """One derived entry; a breach comes before the figures of its moment."""
        if entry.type.rpartition(".")[0] not in _TYPES:
            return
        event = decode_data(entry.type, entry.key, entry.data, place=entry.place)
        assert isinstance(event, LimitBreach | RiskMetrics)
        if self._until_ms is not None and event.event_time_ms > self._until_ms:
            return
        if isinstance(event, LimitBreach):
            self._breach(event)
        else:
            self._figures(event)

    def _breach(self, event: LimitBreach) -> None:
        if not self._asked(event.event_time_ms) and event.lock == "none":
            return
        if event.level == "act":
            self._waiting.append(event)
        elif self._asked(event.event_time_ms):
            self._found.warnings += 1

    def _figures(self, event: RiskMetrics) -> None:
        account = self._accounts.setdefault(event.login, _Account())
        if self._asked(event.event_time_ms):
            found = self._found
            first = found.first_ms is None
            found.first_ms = event.event_time_ms if first else found.first_ms
            found.last_ms = event.event_time_ms
            found.unknown = tuple(n for n in event.unknown if not n.startswith("symbol:"))
        self._follow(account, event, moved=account.moved(event))
        mine = [breach for breach in self._waiting if breach.login == event.login]
        self._waiting = [breach for breach in self._waiting if breach.login != event.login]
        for breach in mine:
            self._trip(account, breach, event)

    def _follow(self, account: _Account, event: RiskMetrics, *, moved: float) -> None:
        """Later figures of trips whose lock still holds. What was deposited or withdrawn since
        moves what would have been left, too."""
        still = []
        for trip in account.open:
            until_ms = trip.locked_until_ms
            if until_ms is not None and event.event_time_ms >= until_ms:
                continue
            trip.after_closing += moved
            trip.worst_equity = min(trip.worst_equity + moved, event.equity)
            trip.last_equity = event.equity
            still.append(trip)
        account.open = still

    def _trip(self, account: _Account, breach: LimitBreach, event: RiskMetrics) -> None:
        closed = any(
            trip.action in WOULD_CLOSE and not trip.under_lock and trip.lock != "none"
            for trip in account.open
        )
        trip = WouldTrip(
            login=breach.login, limit=breach.limit, action=breach.action, lock=breach.lock,
            at_ms=breach.event_time_ms, value=breach.value, threshold=breach.threshold,
            locked_until_ms=breach.locked_until_ms, equity=event.equity,
            after_closing=event.equity - event.cost_of_closing, worst_equity=event.equity,
            last_equity=event.equity, entries=breach.entries, under_lock=closed,
        )  # fmt: skip
        account.open.append(trip)
        self._found.trips.append(trip)

    def _asked(self, at_ms: int) -> bool:
        return self._from_ms is None or at_ms >= self._from_ms

    def finish(self) -> None:
        """Leave out what came before the time asked for."""
        self._found.trips = [trip for trip in self._found.trips if self._asked(trip.at_ms)]


def what_if(
    log: Log,
    namespace: str,
    rules: Rules,
    *,
    from_ms: int | None = None,
    until_ms: int | None = None,
    told: Callable[[int, int], None] = lambda _done, _all: None,
) -> WhatIf:
    """Run `rules` over everything the log keeps of a terminal; tell of a stretch of it.

    References are built up from the oldest entry on, whatever `from_ms` says. Raises
    NothingRecorded, LogUnavailable.
    """
    group = Group(GROUP, under(rules), namespaces=(namespace,))
    specs = group.specs(log)
    if not specs:
        known = ", ".join(sorted(log.namespaces())) or "none"
        raise NothingRecorded(f"the log holds no terminal {namespace!r}; there is: {known}")
    found = WhatIf(namespace, rules.name or rules.extends or "rules")
    collector = Collector(found, from_ms=from_ms, until_ms=until_ms)
    for spec in specs:
        trial = try_task(log, group, spec, emit=collector.take, told=told)
        found.entries += trial.entries
    collector.finish()
    return found


def under(rules: Rules) -> type[RiskHandler]:
    """Group risk with rules of its own, whatever the log says."""
    body = {"rules_json": rules.model_dump_json(), "__module__": RiskHandler.__module__}
    return type(RiskHandler.__name__, (RiskHandler,), body)


def _reference(event: RiskMetrics, name: str) -> float:
    told = event.references.get(name)
    return float(told) if isinstance(told, float | int) else 0.0
