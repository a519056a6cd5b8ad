"""What contradicts itself in rules whose every key is well formed. Each reason names its cure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from events.rules.figures import FIGURES, Direction, Subject, Unit
from events.rules.files.lines import Path
from events.rules.model import TIMES_MAX, Action, Basis, Goal, Limit, Lock, Rules, Window
from events.rules.resets import known_zone
from events.rules.windows import Span, spans

MINUTE_MS = 60_000
WEEK_MS = 7 * 24 * 60 * MINUTE_MS
SAMPLE_MS = 1_767_225_600_000
"""2026-01-01: weekly windows are laid out from here to look at their gaps."""

Problem = tuple[Path, str]


def contradictions(rules: Rules) -> Iterator[Problem]:
    """Every contradiction as (path of the key, reason and cure)."""
    yield from _account(rules)
    for name in ("limits", "goals", "windows"):
        yield from _twice(name, [one.name for one in getattr(rules, name)])
    for index, limit in enumerate(rules.limits):
        for key, reason in _limit(limit):
            yield ("limits", index, key), f"{reason} ({limit.name})"
    for index, goal in enumerate(rules.goals):
        for key, reason in _goal(goal):
            yield ("goals", index, key), f"{reason} ({goal.name})"
    for index, window in enumerate(rules.windows):
        for key, reason in _window(window):
            yield ("windows", index, key), f"{reason} ({window.name})"
    moments = sum(len(window.times) for window in rules.windows)
    if moments > TIMES_MAX:
        yield ("windows",), f"{moments} moments in all: leave past ones out, at most {TIMES_MAX}"
    yield from _guard(rules)


def _account(rules: Rules) -> Iterator[Problem]:
    account = rules.account
    if not known_zone(account.reset_zone):
        reason = f"{account.reset_zone!r} is no time zone: write an IANA name, such as"
        yield ("account", "reset_zone"), f"{reason} Europe/Prague"
    initial, high = account.initial_balance, account.high_water
    if initial is not None and high is not None and high < initial:
        reason = f"{high:g} is below initial_balance {initial:g}: the highest equity is at least"
        yield ("account", "high_water"), f"{reason} that"


def _guard(rules: Rules) -> Iterator[Problem]:
    guard = rules.guard
    if guard.suspect_s < guard.confirm_s:
        reason = f"{guard.suspect_s:g} is below confirm_s {guard.confirm_s:g}: readings that"
        yield ("guard", "suspect_s"), f"{reason} contradict themselves must last longer"
    if guard.dead_man_flattens and guard.dead_man_s is None and guard.heartbeat_s is None:
        yield ("guard", "dead_man_flattens"), "nothing sets it off: give dead_man_s or heartbeat_s"


def _twice(kind: str, names: list[str]) -> Iterator[Problem]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield (kind, index, "name"), f"{name!r} is there twice: give each a name of its own"


def _unknown_figure(figure: str) -> str:
    near = get_close_matches(figure, FIGURES, n=1)
    hint = f"did you mean {near[0]}?" if near else "see docs/RULES.md for all of them"
    return f"{figure!r} is no figure: {hint}"


def _limit(limit: Limit) -> Iterator[tuple[str, str]]:
    if limit.figure not in FIGURES:
        yield "figure", _unknown_figure(limit.figure)
        return
    yield from _subject(limit)
    yield from _basis(limit.figure, limit.of)
    yield from _given_levels(limit)
    yield from _sides(limit)
    yield from _acting(limit)


def _subject(limit: Limit) -> Iterator[tuple[str, str]]:
    kind = limit.definition.subject
    given = {"symbol": limit.symbol, "currency": limit.currency, "magic": limit.magic}
    if kind != Subject.ACCOUNT and given[kind.value] in ("", None):
        example = {"symbol": '"*" for each', "currency": '"USD"', "magic": "12345"}[kind.value]
        yield "figure", f"{limit.figure} is about one {kind.value}: give {kind.value} = {example}"
    if limit.currency and kind != Subject.CURRENCY:
        yield "currency", f"{limit.figure} is not about a currency: remove it"
    if limit.symbol and kind != Subject.SYMBOL and limit.scope != "symbol":
        yield "symbol", f'{limit.figure} is not about a symbol: remove it, or set scope = "symbol"'
    if limit.symbol == "*" and kind != Subject.SYMBOL:
        yield "symbol", f"{limit.figure} has no symbol of its own: name one"
    if limit.magic is not None and kind != Subject.MAGIC and limit.scope != "magic":
        yield "magic", f'{limit.figure} is not about a magic: remove it, or set scope = "magic"'


def _basis(figure: str, of: Basis | None) -> Iterator[tuple[str, str]]:
    if of is None or of == Basis.MONEY:
        return
    definition = FIGURES[figure]
    if definition.unit != Unit.MONEY:
        yield "of", f"{figure} is in {definition.unit.value}, not money: remove it"
    elif of == Basis.REFERENCE and not definition.loss:
        yield "of", f"{figure} is measured from no reference: write initial_balance or equity"


def _given_levels(limit: Limit) -> Iterator[tuple[str, str]]:
    if limit.limit is None and limit.act is None:
        yield "name", "has no level: give limit, or act"
    for key in ("buffer", "buffer_percent"):
        if getattr(limit, key) is not None:
            yield from _buffer(limit, key)
    for key in ("limit", "act", "warn") if limit.definition.loss else ():
        value = getattr(limit, key)
        if value is None:
            continue
        if limit.basis != Basis.MONEY and value > 100:
            yield key, f'{value:g} % is more than everything: give percent, or of = "money"'
        if value <= 0:
            yield key, f"{value:g} acts without a loss: give a number above 0"


def _buffer(limit: Limit, key: str) -> Iterator[tuple[str, str]]:
    if not limit.definition.loss:
        yield key, f"{limit.figure} has no floor: give act in place of {key}"
    elif limit.act is not None:
        yield key, "contradicts act: give one of them"
    elif limit.limit is None:
        yield key, "needs limit, the budget it is a part of"
    elif key == "buffer" and limit.buffer_percent is not None:
        yield key, "contradicts buffer_percent: give one of them"
    elif key == "buffer" and limit.basis == Basis.MONEY and (limit.buffer or 0) >= limit.limit:
        yield key, f"{limit.buffer:g} leaves nothing of limit {limit.limit:g}"


def _sides(limit: Limit) -> Iterator[tuple[str, str]]:
    """Levels in their order: warn before act before the limit itself."""
    above = limit.definition.direction == Direction.ABOVE
    beyond = "above" if above else "below"
    before = [("warn", "act", "it would never warn before")]
    before += [("act", "limit", "it would act too late")]
    if limit.act is None:
        before += [("warn", "limit", "it would warn too late")]
    for key, other, reason in before:
        one, two = getattr(limit, key), getattr(limit, other)
        if one is None or two is None:
            continue
        if (one > two) if above else (one < two):
            yield key, f"{one:g} is {beyond} {other} {two:g}: {reason}"


def _acting(limit: Limit) -> Iterator[tuple[str, str]]:
    if limit.reduce is not None and limit.action != Action.REDUCE:
        yield "reduce", f'contradicts action "{limit.action}": set action = "reduce"'
    if limit.lock != Lock.NONE and limit.action == Action.ALERT:
        yield "lock", "an alert locks nothing: give another action, or remove it"
    if limit.scope != "account" and limit.action not in (Action.FLATTEN, Action.REDUCE):
        yield "scope", f'{limit.action} is about the account: remove it, or action = "flatten"'
    if limit.scope == "symbol" and not limit.symbol:
        yield "scope", "names no symbol: give symbol"
    if limit.scope == "magic" and limit.magic is None:
        yield "scope", "names no magic number: give magic"
    if not limit.hard:
        return
    if limit.action != Action.FLATTEN:
        yield "hard", f'a hard limit flattens, this one does "{limit.action}": action = "flatten"'
    if not limit.definition.guard:
        yield "hard", f"the guard cannot know {limit.figure}: remove hard"
    if limit.confirm_s is not None:
        yield "confirm_s", "a hard limit waits for nothing: remove it, or hard"


def _goal(goal: Goal) -> Iterator[tuple[str, str]]:
    if goal.figure not in FIGURES:
        yield "figure", _unknown_figure(goal.figure)
        return
    yield from _basis(goal.figure, goal.of)
    if goal.at_least is None and goal.at_most is None:
        yield "name", "has no level: give at_least or at_most"
    elif goal.at_least is not None and goal.at_most is not None and goal.at_least > goal.at_most:
        yield "at_least", f"{goal.at_least:g} is above at_most {goal.at_most:g}"


def _window(window: Window) -> Iterator[tuple[str, str]]:
    if not known_zone(window.zone):
        yield "zone", f"{window.zone!r} is no time zone: write an IANA name such as Europe/Prague"
        return
    weekly = window.begin is not None or window.until is not None
    if weekly == bool(window.times or window.file):
        yield "name", "is weekly (begin, until) or follows a calendar (file, times): give one"
        return
    if not (window.block or window.defer or window.flatten_before_minutes is not None):
        yield "block", "does nothing: set block, defer or flatten_before_minutes"
    if weekly:
        yield from _weekly(window)
        return
    for key in ("days", "until_day"):
        if getattr(window, key):
            yield key, "belongs to a weekly window: remove it, or give begin and until"
    if not (window.before_minutes or window.after_minutes):
        yield "name", "lasts no time: give before_minutes or after_minutes"


def _weekly(window: Window) -> Iterator[tuple[str, str]]:
    for key, other in (("begin", "until"), ("until", "begin")):
        if getattr(window, key) is None:
            yield other, f"needs {key} too"
            return
    for key in ("before_minutes", "after_minutes"):
        if getattr(window, key):
            yield key, "belongs to a calendar: move begin or until in its place"
    if window.begin == window.until and window.until_day is None:
        yield "until", "is the same as begin: name until_day for a whole week"
        return
    session_ms = _shortest_session_ms(window)
    if session_ms <= 0:
        yield "until", "begins again before it ends: shorten it, or name fewer days"
        return
    ahead = window.flatten_before_minutes
    if ahead is not None and ahead * MINUTE_MS > session_ms:
        minutes = session_ms / MINUTE_MS
        yield (
            "flatten_before_minutes",
            f"{ahead:g} is longer than the {minutes:g} minutes between two of them: shorten it",
        )


def _shortest_session_ms(window: Window) -> int:
    laid_out = spans(window, SAMPLE_MS, SAMPLE_MS + 3 * WEEK_MS)
    return min(_gaps(laid_out), default=WEEK_MS)


def _gaps(laid_out: Iterable[Span]) -> Iterator[int]:
    previous: Span | None = None
    for span in laid_out:
        if previous is not None:
            yield span.begin_ms - previous.until_ms
        previous = span
