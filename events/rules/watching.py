"""One look after another at one account: checked, references moved, limits judged, decided.

What the guard does on every poll and group risk on every account event, in one pure step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from events.rules.advancing import advance
from events.rules.judging import Standing, Verdict, judge, standings
from events.rules.model import Rules
from events.rules.reading import Check, Reading, check_reading, identity_error
from events.rules.references import References
from events.rules.trips import Decision, Trips
from events.rules.windows import windows_at


class Watched(BaseModel):
    """Everything that is remembered of one account between two looks, JSON-able."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    references: References = References()
    trips: Trips = Trips()
    last: dict[str, Any] = {}
    """Positions, margin, balance of the newest trusted reading."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look came to."""

    watched: Watched
    check: Check
    figures: Mapping[str, float | None]
    standings: tuple[Standing, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    decisions: tuple[Decision, ...] = ()


def look(
    watched: Watched,
    rules: Rules,
    reading: Reading,
    *,
    login: int,
    now_ms: int,
    figures: Mapping[str, float | None] | None = None,
    entry: str = "",
) -> Look:
    """One look: `figures` are those beyond what the reading itself tells.

    A reading that cannot be used moves no reference; one that contradicts itself raises no peak,
    and of two accounts of the same equity the lower one is judged.
    """
    check = check_reading(
        reading, guard=rules.guard, login=login, now_ms=now_ms, previous=_previous(watched, login)
    )
    if not check.usable:
        trips, decisions = watched.trips.observe(rules, (), check, now_ms=now_ms, entry=entry)
        return Look(watched.model_copy(update={"trips": trips}), check, {}, decisions=decisions)
    references = advance(watched.references, check.reading, rules)
    known = {**(figures or {}), **figures_of(check.reading)}
    where = standings(rules, references, known)
    verdicts = judge(rules, references, known, now_ms=now_ms, where=where)
    trips, decisions = watched.trips.observe(
        rules,
        verdicts,
        check,
        now_ms=now_ms,
        entry=entry,
        unknown={one.key for one in where if one.level == "unknown"},
        doubted=_doubted(verdicts, rules, references, known, reading, now_ms=now_ms),
        deferred=any(window.defer for window in windows_at(rules, now_ms)),
    )
    last = watched.last
    if check.trusted:
        last = {
            "time_ms": reading.time_ms,
            "positions": reading.positions,
            "margin": reading.margin,
            "balance": reading.balance,
        }
    after = Watched(references=references, trips=trips, last=last)
    return Look(after, check, known, where, verdicts, decisions)


def _doubted(
    verdicts: tuple[Verdict, ...],
    rules: Rules,
    references: References,
    figures: Mapping[str, float | None],
    reading: Reading,
    *,
    now_ms: int,
) -> set[str]:
    """Keys that act by the parts of equity only: equity as it was read does not show it."""
    if identity_error(reading) <= 0:
        return set()
    as_read = {**figures, "equity": reading.equity}
    shown = {one.key for one in judge(rules, references, as_read, now_ms=now_ms)
             if one.level == "act"}  # fmt: skip
    return {one.key for one in verdicts if one.level == "act"} - shown


def figures_of(reading: Reading) -> dict[str, float | None]:
    """The figures a reading tells by itself. Where equity and its parts disagree the lower one
    counts, so that neither hides a breach."""
    equity = reading.equity
    if equity is not None:
        equity -= max(0.0, identity_error(reading))
    floating = reading.floating
    margin = reading.margin
    known: dict[str, float | None] = {
        "equity": equity,
        "balance": reading.balance,
        "credit": reading.credit,
        "cost_of_closing": reading.cost_of_closing,
        "margin": margin,
    }
    if floating is not None:
        known |= {"floating": floating, "floating_loss": max(0.0, -floating)}
    if reading.positions is not None:
        known["positions_open"] = float(reading.positions)
    if equity is not None and margin is not None:
        known["margin_free"] = equity - margin
        known["margin_level_percent"] = equity / margin * 100 if margin > 0 else None
    return known


def _previous(watched: Watched, login: int) -> Reading | None:
    last = watched.last
    if not last:
        return None
    return Reading(
        time_ms=last["time_ms"], login=login, equity=last["balance"], balance=last["balance"],
        positions=last["positions"], margin=last["margin"],
    )  # fmt: skip
