"""From verdicts to decisions: once, not on one bad reading, and never hidden by one. Pure.

A hard limit asks for one immediate re-read and acts if that shows it too. A soft limit must be
reached in every trusted reading for `confirm_s`, or in suspect ones for `suspect_s`. Unusable
readings count neither for nor against; when they last, with positions open, equity is unknown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from events.rules.judging import Verdict
from events.rules.model import Action, Limit, Lock, Rules
from events.rules.reading import Check

ENTRIES_MAX = 8
CLEAR_MS = 60_000
"""A warning is told again only after the figure was back for so long."""
KEYS_MAX = 1_024


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now.

    reread: read the account (and its deals) again at once. warn, act: tell the breach, and
    (act) do what the limit says. cleared: its lock ended. unknown: equity is unknown for too
    long, block and page. known: it is known again.
    """

    kind: Literal["reread", "warn", "act", "cleared", "unknown", "known"]
    limit: str = ""
    key: str = ""
    action: Action = Action.ALERT
    lock: Lock = Lock.NONE
    locked_until_ms: int | None = None
    value: float | None = None
    threshold: float = 0.0
    hard: bool = False
    figures: tuple[tuple[str, float], ...] = ()
    entries: tuple[str, ...] = ()
    """Places of the readings it rests on, oldest first."""
    since_ms: int = 0
    """First reading that showed it."""
    delay_ms: int = 0
    """From there to the decision."""
    detail: str = ""


class Trip(BaseModel):
    """How far one limit is on its way."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    seen_ms: int | None = None
    """First reading beyond act, trusted or not."""
    trusted_ms: int | None = None
    """First trusted one."""
    read_ms: int = 0
    """The newest of them."""
    warn_ms: int | None = None
    warned: bool = False
    ok_ms: int | None = None
    """Since when trusted readings are within warn."""
    acted_ms: int | None = None
    lock: Lock = Lock.NONE
    locked_until_ms: int | None = None
    entries: Annotated[tuple[str, ...], Field(max_length=ENTRIES_MAX)] = ()

    @property
    def idle(self) -> bool:
        """Whether nothing about it needs to be remembered."""
        pending = self.seen_ms is not None or self.warn_ms is not None
        return self.acted_ms is None and not self.warned and not pending


class Trips(BaseModel):
    """State of all limits of one account, JSON-able."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    by_key: dict[str, Trip] = Field(default_factory=dict)
    positions: int | None = None
    """Of the newest reading that told."""
    unknown_ms: int | None = None
    """Since when equity is unknown."""
    unknown_told: bool = False

    def observe(
        self,
        rules: Rules,
        verdicts: Iterable[Verdict],
        check: Check,
        *,
        now_ms: int,
        entry: str = "",
        unknown: Collection[str] = (),
        doubted: Collection[str] = (),
        deferred: bool = False,
    ) -> tuple[Trips, tuple[Decision, ...]]:
        """The state after one reading, and what to do.

        `verdicts` are of that reading (`judge`); `unknown` names the keys whose figure it did not
        tell; `doubted` those that equity as it was read does not show, but its parts do: they
        must last as in suspect readings, hard limits too. `deferred`: soft closes wait for the
        end of a window.
        """
        if not check.usable:
            return self._unusable(rules, check, now_ms=now_ms)
        decisions: list[Decision] = []
        if self.unknown_told:
            decisions.append(Decision("known", detail="equity can be read again"))
        reached = {f"{verdict.limit}|{verdict.key}": verdict for verdict in verdicts}
        by_key = dict(self.by_key)
        for name in dict.fromkeys((*reached, *by_key)):
            limit = _limit(rules, name)
            if limit is None:
                by_key.pop(name, None)
                continue
            trip = by_key.get(name, Trip())
            key = name.partition("|")[2]
            step = _Step(
                limit, rules, check,
                now_ms=now_ms, entry=entry, deferred=deferred, doubted=key in doubted,
            )  # fmt: skip
            if trip.locked_until_ms is not None and now_ms >= trip.locked_until_ms:
                decisions.append(_cleared(name, "its lock ended at the reset"))
                trip = Trip()
            if name in reached:
                trip = step.reached(trip, reached[name], decisions)
            elif key not in unknown:
                trip = step.within(trip, name, decisions)
            by_key[name] = trip
        return self._after(by_key, check), tuple(decisions)

    def released(self, limits: Collection[str] | None = None) -> Trips:
        """With locks taken off by a human: of these limits, or of all."""
        kept = {
            name: trip
            for name, trip in self.by_key.items()
            if limits is not None and name.partition("|")[0] not in limits
        }
        return self.model_copy(update={"by_key": kept})

    def locks(self) -> dict[str, int | None]:
        """Limit -> until when what it did holds (UTC); None: until a human ends it."""
        held: dict[str, int | None] = {}
        for name, trip in self.by_key.items():
            if trip.acted_ms is not None and trip.lock != Lock.NONE:
                held[name.partition("|")[0]] = trip.locked_until_ms
        return held

    def _after(self, by_key: dict[str, Trip], check: Check) -> Trips:
        kept = {name: trip for name, trip in by_key.items() if not trip.idle}
        told = check.reading.positions
        return Trips(
            by_key=dict(list(kept.items())[-KEYS_MAX:]),
            positions=self.positions if told is None else told,
        )

    def _unusable(
        self, rules: Rules, check: Check, *, now_ms: int
    ) -> tuple[Trips, tuple[Decision, ...]]:
        since = now_ms if self.unknown_ms is None else self.unknown_ms
        lasted = now_ms - since >= rules.guard.unknown_equity_s * 1000
        tell = lasted and self.positions != 0 and not self.unknown_told
        after = self.model_copy(
            update={"unknown_ms": since, "unknown_told": self.unknown_told or tell}
        )
        if tell:
            return after, (
                Decision(
                    "unknown",
                    action=Action.BLOCK,
                    since_ms=since,
                    delay_ms=now_ms - since,
                    detail=check.unusable,
                ),
            )
        pending = any(
            trip.seen_ms is not None and trip.acted_ms is None and limit is not None and limit.hard
            for name, trip in self.by_key.items()
            for limit in (_limit(rules, name),)
        )
        return after, (Decision("reread", detail=check.unusable),) if pending else ()


class _Step:
    """One limit and one usable reading."""

    def __init__(
        self,
        limit: Limit,
        rules: Rules,
        check: Check,
        *,
        now_ms: int,
        entry: str,
        deferred: bool,
        doubted: bool,
    ) -> None:
        guard = rules.guard
        confirm_s = guard.confirm_s if limit.confirm_s is None else limit.confirm_s
        self.limit = limit
        self.check = check
        self.now_ms = now_ms
        self.entry = entry
        self.at_once = limit.hard and not doubted
        self.deferred = deferred and limit.action in (Action.FLATTEN, Action.REDUCE)
        self.confirm_ms = int(confirm_s * 1000)
        self.suspect_ms = int(max(confirm_s, guard.suspect_s) * 1000)

    def reached(self, trip: Trip, verdict: Verdict, decisions: list[Decision]) -> Trip:
        """A reading at warn or act."""
        if verdict.level == "warn":
            trip = self._back_from_act(trip, f"{verdict.limit}|{verdict.key}", decisions)
            return self._warn(trip, verdict, decisions)
        if trip.acted_ms is not None:
            return trip
        again = trip.seen_ms is not None
        seen = self.now_ms if trip.seen_ms is None else trip.seen_ms
        trusted = trip.trusted_ms
        if trusted is None and self.check.trusted:
            trusted = self.now_ms
        entries = (*trip.entries, self.entry)[-ENTRIES_MAX:] if self.entry else trip.entries
        trip = trip.model_copy(
            update={
                "seen_ms": seen, "trusted_ms": trusted, "read_ms": self.now_ms,
                "entries": entries, "ok_ms": None,
            }
        )  # fmt: skip
        if not self._confirmed(trip, again=again):
            if self.limit.hard:
                decisions.append(_of(verdict, trip, "reread", self.now_ms, self._detail()))
            return trip
        if self.deferred and not self.limit.hard:
            return trip
        decisions.append(_of(verdict, trip, "act", self.now_ms, self._detail()))
        return trip.model_copy(
            update={
                "acted_ms": self.now_ms, "warned": True, "lock": verdict.lock,
                "locked_until_ms": verdict.locked_until_ms, "seen_ms": None, "trusted_ms": None,
                "entries": (),
            }
        )  # fmt: skip

    def within(self, trip: Trip, name: str, decisions: list[Decision]) -> Trip:
        """A reading within every level. A suspect one clears nothing."""
        if not self.check.trusted:
            return trip
        trip = self._back_from_act(trip, name, decisions)
        ok = self.now_ms if trip.ok_ms is None else trip.ok_ms
        calm = self.now_ms - ok >= CLEAR_MS
        return trip.model_copy(
            update={
                "ok_ms": ok, "warn_ms": None, "seen_ms": None, "trusted_ms": None,
                "entries": (), "warned": trip.warned and not (calm and trip.acted_ms is None),
            }
        )  # fmt: skip

    def _confirmed(self, trip: Trip, *, again: bool) -> bool:
        assert trip.seen_ms is not None
        if self.at_once:
            return again
        enough = self.now_ms - trip.seen_ms >= self.suspect_ms
        if self.check.trusted and trip.trusted_ms is not None:
            enough = enough or self.now_ms - trip.trusted_ms >= self.confirm_ms
        return enough and (again or not self.confirm_ms)

    def _warn(self, trip: Trip, verdict: Verdict, decisions: list[Decision]) -> Trip:
        if trip.warned or trip.acted_ms is not None:
            return trip.model_copy(update={"ok_ms": None})
        if not self.check.trusted:
            return trip
        since = self.now_ms if trip.warn_ms is None else trip.warn_ms
        entries = (*trip.entries, self.entry)[-ENTRIES_MAX:] if self.entry else trip.entries
        trip = trip.model_copy(update={"warn_ms": since, "entries": entries, "ok_ms": None})
        if self.now_ms - since < self.confirm_ms:
            return trip
        told = trip.model_copy(update={"seen_ms": since})
        decisions.append(_of(verdict, told, "warn", self.now_ms, self._detail()))
        return trip.model_copy(update={"warned": True, "entries": ()})

    def _back_from_act(self, trip: Trip, name: str, decisions: list[Decision]) -> Trip:
        """The figure is no longer beyond act: what has no lock may act again."""
        if not self.check.trusted:
            return trip
        if trip.acted_ms is not None and trip.lock == Lock.NONE:
            decisions.append(_cleared(name, "the figure is back"))
            return trip.model_copy(update={"acted_ms": None, "seen_ms": None, "trusted_ms": None})
        return trip.model_copy(update={"seen_ms": None, "trusted_ms": None})

    def _detail(self) -> str:
        return "; ".join(self.check.suspicions)


def _limit(rules: Rules, name: str) -> Limit | None:
    wanted = name.partition("|")[0]
    return next((limit for limit in rules.limits if limit.name == wanted), None)


def _cleared(name: str, detail: str) -> Decision:
    limit, _, key = name.partition("|")
    return Decision("cleared", limit=limit, key=key, detail=detail)


def _of(
    verdict: Verdict,
    trip: Trip,
    kind: Literal["reread", "warn", "act"],
    now_ms: int,
    detail: str,
) -> Decision:
    since = now_ms if trip.seen_ms is None else trip.seen_ms
    return Decision(
        kind=kind, limit=verdict.limit, key=verdict.key,
        action=verdict.action, lock=verdict.lock, locked_until_ms=verdict.locked_until_ms,
        value=verdict.value, threshold=verdict.threshold, hard=verdict.hard,
        figures=verdict.figures, entries=trip.entries, since_ms=since,
        delay_ms=now_ms - since, detail=detail,
    )  # fmt: skip
