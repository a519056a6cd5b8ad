"""Where every limit stands: floors, verdicts, headroom. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from events.rules.figures import Direction
from events.rules.goals import goal_value
from events.rules.model import ACT_SHARE, WARN_SHARE, Action, Basis, Limit, Lock, Rules
from events.rules.references import (
    BEST_RESET,
    DAY_BALANCE,
    DAY_EQUITY,
    DAY_PEAK,
    HIGH_BALANCE,
    HIGH_WATER,
    INITIAL,
    References,
)
from events.rules.resets import trading_day

Level = Literal["ok", "warn", "act", "unknown"]
EPSILON = 1e-9

_NEEDS: Mapping[str, tuple[str, ...]] = {
    "drawdown_absolute": (INITIAL,),
    "drawdown_peak": (HIGH_WATER,),
    "drawdown_trailing_balance": (HIGH_BALANCE,),
    "drawdown_trailing_highest": (HIGH_WATER, HIGH_BALANCE),
    "drawdown_trailing_eod": (BEST_RESET,),
    "drawdown_trailing_intraday": (DAY_PEAK,),
    "profit": (INITIAL,),
    "profit_equity": (INITIAL,),
    "day_profit": (DAY_BALANCE,),
}
_DAY_NEEDS: Mapping[str, tuple[str, ...]] = {
    "balance": (DAY_BALANCE,),
    "equity": (DAY_EQUITY,),
    "max_balance_equity": (DAY_BALANCE, DAY_EQUITY),
    "peak_equity": (DAY_PEAK,),
    "peak_balance_equity": (DAY_PEAK, DAY_BALANCE),
}


@dataclass(frozen=True, slots=True)
class Floor:
    """The equity one loss limit demands, in account currency."""

    limit: str
    hard: bool
    floor: float
    """Below it the limit itself is broken."""
    act_equity: float
    """At or below it (after closing) the limit acts: floor plus buffer."""
    warn_equity: float
    until_ms: int | None
    """When it is computed anew; None: when its reference moves."""
    certain: bool
    """False: its reference is unknown, and the worst case stands in its place."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one limit stands. Of loss limits `value` and levels are money lost."""

    limit: str
    key: str
    level: Level
    value: float | None
    warn: float
    act: float
    headroom: float | None
    """How far from acting, in the figure's unit; negative when beyond."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A limit that is reached, with everything a decision needs."""

    limit: str
    key: str
    level: Literal["warn", "act"]
    value: float
    threshold: float
    action: Action
    lock: Lock
    locked_until_ms: int | None
    """When its lock ends by itself; None: never, or no lock."""
    hard: bool
    figures: tuple[tuple[str, float], ...]
    """What it was decided on."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Warn and act of a limit in its figure's unit, and the limit itself."""

    warn: float
    act: float
    limit: float


def reference_of(limit: Limit, references: References, rules: Rules) -> float:
    """What a loss figure is measured from, in account currency."""
    if limit.figure == "daily_loss":
        return references.day_reference(rules.account)
    return {
        "drawdown_absolute": references.absolute,
        "drawdown_peak": references.high_water,
        "drawdown_trailing_balance": references.high_balance,
        "drawdown_trailing_highest": max(references.high_water, references.high_balance),
        "drawdown_trailing_eod": max(references.best_reset_balance, references.absolute),
        "drawdown_trailing_intraday": references.day_peak,
    }[limit.figure]


def levels(
    limit: Limit, references: References, rules: Rules, figures: Mapping[str, float | None]
) -> Levels:
    """Levels of a limit as plain numbers: percentages are taken of their basis."""
    factor = 1.0
    if limit.basis != Basis.MONEY:
        factor = _base(limit, references, rules, figures) / 100
    own = own_levels(limit, factor=factor)
    return Levels(own.warn * factor, own.act * factor, own.limit * factor)


def own_levels(limit: Limit, *, factor: float) -> Levels:
    """Levels in the unit they are written in, with what was left out; `factor` is one unit of
    them in account currency."""
    budget = limit.limit if limit.limit is not None else limit.act
    assert budget is not None, limit.name  # the loader demands one of them
    act = limit.act
    if act is None and limit.buffer_percent is not None:
        act = budget * (1 - limit.buffer_percent / 100)
    if act is None and limit.buffer is not None:
        act = (budget - limit.buffer / factor) if factor else budget
    if act is None:
        act = budget * ACT_SHARE if limit.definition.loss else budget
    warn = limit.warn
    if warn is None:
        warn = _warn_of(limit, budget=budget, act=act)
    return Levels(warn, act, budget)


def floors(rules: Rules, references: References) -> tuple[Floor, ...]:
    """The equity floor of every loss limit and every limit on equity itself, highest first."""
    figures = {"equity": references.equity, "balance": references.balance}
    found = []
    for limit in rules.limits:
        if not limit.definition.loss and limit.figure != "equity":
            continue
        at = levels(limit, references, rules, figures)
        floor, act, warn = at.limit, at.act, at.warn
        if limit.definition.loss:
            reference = reference_of(limit, references, rules)
            floor, act, warn = reference - at.limit, reference - at.act, reference - at.warn
        if limit.floor_max is not None:
            over = max(0.0, floor - references.absolute)
            floor, act, warn = floor - over, act - over, warn - over
        daily = limit.figure in (
            "daily_loss",
            "drawdown_trailing_eod",
            "drawdown_trailing_intraday",
        )
        found.append(
            Floor(
                limit=limit.name, hard=limit.hard, floor=floor, act_equity=act, warn_equity=warn,
                until_ms=references.day_until_ms if daily else None,
                certain=not set(needs(limit, rules)) & set(references.unknown),
            )
        )  # fmt: skip
    return tuple(sorted(found, key=lambda one: -one.act_equity))


def needs(limit: Limit, rules: Rules) -> tuple[str, ...]:
    """The references a limit is measured from."""
    if limit.figure == "daily_loss":
        named = _DAY_NEEDS[rules.account.day_reference]
    else:
        named = _NEEDS.get(limit.figure, ())
    basis = {Basis.INITIAL_BALANCE: (INITIAL,), Basis.RESET_BALANCE: (DAY_BALANCE,)}
    locked = (INITIAL,) if limit.floor_max else ()
    return tuple(dict.fromkeys((*named, *basis.get(limit.basis, ()), *locked)))


def unknown_for(rules: Rules, references: References) -> tuple[str, ...]:
    """References that some limit needs and nobody knows: entries are blocked until a human states
    them (`bridgectl risk reference set`)."""
    wanted = {name for limit in rules.limits for name in needs(limit, rules)}
    return tuple(name for name in references.unknown if name in wanted)


def standings(
    rules: Rules,
    references: References,
    figures: Mapping[str, float | None],
) -> tuple[Standing, ...]:
    """Where every limit stands; one per subject where a limit is about each symbol.

    `figures` by their names (`events.rules.FIGURES`); `equity` and `cost_of_closing` make the loss
    figures, whatever else is given for them.
    """
    return tuple(
        _standing(limit, key, value, rules=rules, references=references, figures=figures)
        for limit in rules.limits
        for key, value in _values(limit, rules=rules, references=references, figures=figures)
    )


def judge(
    rules: Rules,
    references: References,
    figures: Mapping[str, float | None],
    *,
    now_ms: int,
    where: tuple[Standing, ...] | None = None,
) -> tuple[Verdict, ...]:
    """Every limit that is reached: warned of or acted on. Unknown figures reach nothing here;
    `standings` names them (`where`, when they were computed already)."""
    day = trading_day(
        now_ms, reset_time=rules.account.reset_time, reset_zone=rules.account.reset_zone
    )
    found = []
    for standing in standings(rules, references, figures) if where is None else where:
        if standing.level not in ("warn", "act") or standing.value is None:
            continue
        limit = rules.limit(standing.limit)
        acts = standing.level == "act"
        found.append(
            Verdict(
                limit=limit.name,
                key=standing.key,
                level="act" if acts else "warn",
                value=standing.value,
                threshold=standing.act if acts else standing.warn,
                action=limit.action if acts else Action.ALERT,
                lock=limit.lock if acts else Lock.NONE,
                locked_until_ms=day.until_ms if acts and limit.lock == Lock.UNTIL_RESET else None,
                hard=limit.hard,
                figures=_decided_on(standing, limit, references, rules, figures),
            )
        )
    return tuple(found)


def headroom(
    rules: Rules, references: References, figures: Mapping[str, float | None]
) -> dict[str, float | None]:
    """Limit -> how far it is from acting, in its figure's unit (account currency for losses);
    the nearest subject's where it is about each symbol. None: its figure is unknown."""
    left: dict[str, float | None] = {limit.name: None for limit in rules.limits}
    for standing in standings(rules, references, figures):
        if standing.headroom is None:
            continue
        known = left[standing.limit]
        left[standing.limit] = standing.headroom if known is None else min(known, standing.headroom)
    return left


def _warn_of(limit: Limit, *, budget: float, act: float) -> float:
    if limit.definition.loss:
        return min(budget * WARN_SHARE, act)
    if limit.definition.direction == Direction.BELOW:
        return act / WARN_SHARE if act > 0 else act
    return act * WARN_SHARE if act > 0 else act


def _base(
    limit: Limit, references: References, rules: Rules, figures: Mapping[str, float | None]
) -> float:
    if limit.basis == Basis.INITIAL_BALANCE:
        return references.initial_balance
    if limit.basis == Basis.RESET_BALANCE:
        return references.day_balance
    if limit.basis == Basis.REFERENCE:
        if not limit.definition.loss:
            return references.day_reference(rules.account)
        return reference_of(limit, references, rules)
    value = figures.get(limit.basis.value)
    return value if value is not None else getattr(references, limit.basis.value)


def _values(
    limit: Limit,
    *,
    rules: Rules,
    references: References,
    figures: Mapping[str, float | None],
) -> Iterator[tuple[str, float | None]]:
    """(key, value) of every figure a limit is about."""
    if limit.definition.loss:
        yield limit.key, _loss(limit, rules=rules, references=references, figures=figures)
    elif limit.figure == "equity":
        equity = figures.get("equity")
        yield limit.key, None if equity is None else equity - _cost(figures)
    elif limit.subject == "*":
        prefix = f"{limit.figure}:"
        yield from ((key, value) for key, value in figures.items() if key.startswith(prefix))
    elif limit.key in figures:
        yield limit.key, figures[limit.key]
    elif limit.subject and figures.get("positions_open") is not None:
        yield limit.key, 0.0  # nothing of it is held
    else:
        yield limit.key, goal_value(limit.figure, references, figures)


def _loss(
    limit: Limit,
    *,
    rules: Rules,
    references: References,
    figures: Mapping[str, float | None],
) -> float | None:
    equity = figures.get("equity")
    if equity is None or not math.isfinite(equity):
        return None
    reference = reference_of(limit, references, rules)
    if limit.floor_max is not None:
        budget = levels(limit, references, rules, figures).limit
        reference = min(reference, references.absolute + budget)
    return reference - (equity - _cost(figures))


def _cost(figures: Mapping[str, float | None]) -> float:
    return figures.get("cost_of_closing") or 0.0


def _standing(
    limit: Limit,
    key: str,
    value: float | None,
    *,
    rules: Rules,
    references: References,
    figures: Mapping[str, float | None],
) -> Standing:
    at = levels(limit, references, rules, figures)
    if value is None or not math.isfinite(value):
        nothing = limit.figure == "margin_level_percent" and figures.get("positions_open") == 0
        level: Level = "ok" if nothing else "unknown"  # without positions there is no margin
        return Standing(limit.name, key, level, None, at.warn, at.act, None)
    sign = 1 if limit.definition.direction == Direction.ABOVE else -1
    left = sign * (at.act - value)
    level = "ok"
    if left <= EPSILON:
        level = "act"
    elif sign * (at.warn - value) <= EPSILON:
        level = "warn"
    return Standing(limit.name, key, level, value, at.warn, at.act, left)


def _decided_on(
    standing: Standing,
    limit: Limit,
    references: References,
    rules: Rules,
    figures: Mapping[str, float | None],
) -> tuple[tuple[str, float], ...]:
    """Names and values a verdict rests on."""
    named: dict[str, float] = {} if standing.value is None else {standing.key: standing.value}
    if limit.definition.loss:
        named["reference"] = reference_of(limit, references, rules)
        named |= {
            name: value
            for name in ("equity", "balance", "cost_of_closing")
            if (value := figures.get(name)) is not None
        }
    return tuple(named.items())
