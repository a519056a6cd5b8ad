"""What bad readings of an account do to limits: false trips, missed breaches, added delay.

    python -m benchmarks.bad_reads [--json]

A labelled set: each case is an account read every 250 ms, with readings as terminals really give
them (no answer, 0, NaN, stale, another account, empty while synchronising, torn between two
states), and a label that says what is true. Each is judged under a hard limit (one re-read, no
window) and under a soft one (confirmation window of a second).

  fine      the limit is never reached: a trip would be false
  breach    it is reached from a marked reading on: a trip must follow
  unknown   nothing can be read for longer than the rules bear: no trip, but a block and a page

Delay is from the first reading that is truly beyond the limit to the decision, in the time of
the readings; no clock is measured here.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from events.rules import (
    Account,
    Action,
    BalanceOperation,
    GuardRules,
    Limit,
    Lock,
    Reading,
    Rules,
    Watched,
    look,
)

LOGIN, OTHER = 7, 8
POLL_MS = 250
START_MS = 1_781_517_600_000
"""2026-06-15 10:00 UTC, a Monday."""
WARM_UP = 8
"""Good readings before each case."""
BALANCE = 100_000.0
FINE, BROKEN = -1_000.0, -6_000.0
"""Floating profit that is well within the limit of 5,000, and beyond it."""
Label = Literal["fine", "breach", "unknown"]
Make = Callable[[int], Reading]


def good(time_ms: int, floating: float = FINE, balance: float = BALANCE) -> Reading:
    """A reading in which everything fits."""
    return Reading(
        time_ms, LOGIN, balance + floating, balance, floating=floating, margin=2_000.0, positions=3,
        reset_balance=BALANCE,
    )  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One reading of a case, and whether the account is truly beyond the limit then."""

    make: Make
    beyond: bool = False
    after_ms: int = POLL_MS


def ok(**changed: Any) -> Step:
    """The account is fine; `changed` is what the reading says otherwise."""
    return Step(lambda at: replace(good(at), **changed))


def bad(**changed: Any) -> Step:
    """The account is beyond the limit; `changed` is what the reading says otherwise."""
    return Step(lambda at: replace(good(at, BROKEN), **changed), beyond=True)


def at_level(floating: float) -> Step:
    return Step(lambda at: good(at, floating), beyond=floating <= -4_500.0)


def old(step: Step, by_ms: int) -> Step:
    """The same reading, taken so long ago."""
    return replace(step, make=lambda at: replace(step.make(at), time_ms=at - by_ms))


def booked(balance: float, floating: float, *operations: float, **changed: Any) -> Step:
    """Another balance, with operations that became known."""
    told = tuple(BalanceOperation(int(abs(amount)), START_MS, amount) for amount in operations)

    def make(at: int) -> Reading:
        return replace(good(at, floating, balance), operations=told, **changed)

    return Step(make)


NONE = {"equity": None, "balance": None, "floating": None, "margin": None, "positions": None}
ZERO = {"equity": 0.0, "balance": 0.0, "floating": 0.0, "margin": 0.0, "positions": 0}
EMPTY = {"equity": BALANCE, "floating": 0.0, "margin": 0.0, "positions": 0}
"""As a terminal tells it that has not loaded its positions yet."""
SYNCING = EMPTY | {"synchronised": False}
NAN = math.nan


@dataclass(frozen=True)
class Case:
    name: str
    label: Label
    steps: Sequence[Step]
    figure: str = "daily_loss"
    cost_of_closing: float = 0.0
    tail: Sequence[Step] = field(default=(ok(),))
    """Repeated after the steps, so that a late trip would show."""


def _fine() -> Iterator[Case]:
    one_bad: dict[str, dict[str, Any]] = {
        "no answer": NONE,
        "everything 0": ZERO,
        "equity 0": {"equity": 0.0},
        "equity NaN": {"equity": NAN},
        "balance NaN": {"balance": NAN},
        "floating NaN": {"floating": NAN},
        "margin NaN": {"margin": NAN},
        "equity minus infinity": {"equity": -math.inf},
        "equity far too low": {"equity": 20_000.0},
        "equity and floating far too low": {"equity": 20_000.0, "floating": -80_000.0},
        "equity of a torn read": {"equity": 94_900.0},
        "floating far too low": {"floating": -8_000.0},
        "balance far too low": {"balance": 50_000.0},
        "balance and equity far too low": {"balance": 50_000.0, "equity": 49_000.0},
        "negative equity": {"equity": -99_000.0},
        "another account": {"login": OTHER, "equity": 500.0, "balance": 500.0},
        "disconnected and low": {"connected": False, "equity": 90_000.0},
        "synchronising and low": {"synchronised": False, "equity": 90_000.0},
        "empty while synchronising": SYNCING,
        "empty, synchronised or so it says": EMPTY,
        "positions unknown": {"positions": None},
        "positions gone, margin there": {"positions": 0},
        "margin gone": {"margin": 0.0},
    }
    for name, changed in one_bad.items():
        yield Case(f"once {name}", "fine", [ok(**changed)])
    for name in ("no answer", "everything 0", "equity NaN", "disconnected and low",
                 "another account", "empty while synchronising"):  # fmt: skip
        yield Case(f"3 s {name}", "fine", [ok(**one_bad[name])] * 12)
    yield Case("1 s floating far too low", "fine", [ok(floating=-8_000.0)] * 4)
    yield Case("a breach of 6 s ago", "fine", [old(bad(), 6_000)] * 4)
    yield Case("each second reading without answer", "fine", [ok(**NONE), ok()] * 20)
    yield Case("bad readings of every kind in turn", "fine",
               [step for one in one_bad.values() for step in (ok(**one), ok())])  # fmt: skip
    yield Case("close to acting, never there", "fine", [at_level(-4_499.0)] * 20)
    yield Case("a close: balance first, floating a reading later", "fine",
               [booked(97_000.0, -1_000.0), booked(97_000.0, 2_000.0)],
               tail=[booked(97_000.0, 2_000.0)])  # fmt: skip
    yield from _operations()
    yield from _peaks()


def _operations() -> Iterator[Case]:
    """Deposits and withdrawals whose deal is seen before, with or after the balance."""
    for name, amount in (("deposit", 50_000.0), ("withdrawal", -8_000.0)):
        after = booked(BALANCE + amount, FINE)
        for when, steps in (
            ("with the balance", [booked(BALANCE + amount, FINE, amount)]),
            ("before the balance", [booked(BALANCE, FINE, amount), after]),
            ("after the balance", [after, booked(BALANCE + amount, FINE, amount)]),
        ):
            for figure in ("daily_loss", "drawdown_peak"):
                yield Case(f"{name}, deal seen {when}, {figure}", "fine", steps, figure=figure,
                           tail=[after])  # fmt: skip


def _peaks() -> Iterator[Case]:
    """Readings that are too high, under a limit that trails the peak."""
    for name, changed in (
        ("equity far too high", {"equity": 180_000.0}),
        ("floating far too high", {"floating": 80_000.0}),
        ("balance far too high", {"balance": 180_000.0}),
        ("empty: equity is the balance", {"equity": 106_000.0, "balance": 106_000.0} | EMPTY),
    ):
        yield Case(f"once {name}, peak", "fine", [ok(**changed)], figure="drawdown_peak")


def _breaches() -> Iterator[Case]:
    between: dict[str, dict[str, Any]] = {
        "no answer": NONE,
        "everything 0": ZERO,
        "NaN": {"equity": NAN},
        "empty while synchronising": SYNCING,
        "empty, synchronised or so it says": EMPTY,
        "a good account of another login": {"login": OTHER, "equity": 99_000.0},
        "equity of before, floating of now": {"equity": 99_000.0},
        "positions unknown": {"positions": None},
        "disconnected": {"connected": False, "equity": 99_000.0},
    }
    yield Case("plain", "breach", [bad()], tail=[bad()])
    for name, changed in between.items():
        yield Case(f"first reading {name}", "breach", [bad(**changed)], tail=[bad()])
        yield Case(f"second reading {name}", "breach", [bad(), bad(**changed)], tail=[bad()])
        yield Case(f"each second reading {name}", "breach", [], tail=[bad(), bad(**changed)])
    yield Case("three of four without answer", "breach", [],
               tail=[bad(), bad(**NONE), bad(**NONE), bad(**NONE)])  # fmt: skip
    yield Case("floating does not fit, all the time", "breach", [], tail=[bad(floating=-1_000.0)])
    yield Case("equity too high, all the time", "breach", [], tail=[bad(equity=99_000.0)])
    yield Case("positions unknown, all the time", "breach", [], tail=[bad(positions=None)])
    yield Case("margin gone, all the time", "breach", [], tail=[bad(margin=0.0)])
    yield Case("a cent beyond", "breach", [], tail=[at_level(-4_500.01)])
    yield Case("exactly there", "breach", [], tail=[at_level(-4_500.0)])
    yield Case("only the cost of closing", "breach", [], cost_of_closing=600.0,
               tail=[replace(at_level(-4_000.0), beyond=True)])  # fmt: skip
    yield Case("equity below zero", "breach", [],
               tail=[bad(equity=-500.0, floating=-100_500.0)])  # fmt: skip
    yield Case("every price at once: a gap of the market", "breach", [], tail=[at_level(-40_000.0)])
    yield Case("creeping", "breach", [at_level(-4_400.0 - 10.0 * n) for n in range(20)],
               tail=[at_level(-4_600.0)])  # fmt: skip
    yield Case("5 s without answer, then beyond", "breach", [bad(**NONE)] * 20, tail=[bad()])
    yield Case("under a trailing peak", "breach", [at_level(4_000.0)] * 4,
               figure="drawdown_peak", tail=[Step(lambda at: good(at, -600.0), True)])  # fmt: skip


def _unknowns() -> Iterator[Case]:
    for name, step in (
        ("no answer", ok(**NONE)),
        ("NaN", ok(equity=NAN)),
        ("everything 0", ok(**ZERO)),
        ("disconnected", ok(connected=False)),
        ("synchronising", ok(synchronised=False)),
        ("another account", ok(login=OTHER)),
        ("stale", old(ok(), 60_000)),
        ("no answer after one breach", ok(**NONE)),
    ):
        before = [bad()] if "breach" in name else []
        yield Case(f"12 s {name}", "unknown", [*before, *[step] * 48], tail=[step])


def cases() -> tuple[Case, ...]:
    """The whole set."""
    return (*_fine(), *_breaches(), *_unknowns())


@dataclass(frozen=True)
class Outcome:
    """What became of one case under one limit."""

    case: Case
    hard: bool
    tripped_ms: int | None
    truly_ms: int | None
    unknown: bool

    @property
    def false_trip(self) -> bool:
        return self.tripped_ms is not None and (
            self.truly_ms is None or self.tripped_ms < self.truly_ms
        )

    @property
    def missed(self) -> bool:
        wanted = self.case.label == "breach" and self.tripped_ms is None
        return wanted or (self.case.label == "unknown" and not self.unknown)

    @property
    def delay_ms(self) -> int | None:
        if self.case.label != "breach" or self.tripped_ms is None or self.truly_ms is None:
            return None
        return self.tripped_ms - self.truly_ms


def rules_of(figure: str, *, hard: bool) -> Rules:
    """A budget of 5,000, acted on at 4,500."""
    return Rules(
        account=Account(initial_balance=BALANCE, high_water=BALANCE),
        limits=(
            Limit(name="loss", figure=figure, limit=5.0, action=Action.FLATTEN,
                  lock=Lock.UNTIL_RESET, hard=hard),
        ),
        guard=GuardRules(confirm_s=1.0, suspect_s=3.0, stale_s=5.0, unknown_equity_s=10.0),
    )  # fmt: skip


TAIL_STEPS = 48


def run(case: Case, *, hard: bool) -> Outcome:
    """Read the account of a case, and see what is decided."""
    rules = rules_of(case.figure, hard=hard)
    watched, now_ms = Watched(), START_MS
    tail = [case.tail[n % len(case.tail)] for n in range(TAIL_STEPS)]
    tripped_ms = truly_ms = None
    unknown = False
    for step in (*[ok()] * WARM_UP, *case.steps, *tail):
        now_ms += step.after_ms
        reading = replace(step.make(now_ms), cost_of_closing=case.cost_of_closing)
        if step.beyond and truly_ms is None:
            truly_ms = now_ms
        seen = look(watched, rules, reading, login=LOGIN, now_ms=now_ms)
        watched = seen.watched
        for decision in seen.decisions:
            if decision.kind == "act" and tripped_ms is None:
                tripped_ms = now_ms
            unknown = unknown or decision.kind == "unknown"
    if case.label == "unknown":
        truly_ms = None  # one reading is not enough to act on
    return Outcome(case, hard, tripped_ms, truly_ms, unknown)


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Counts and delays; delays in milliseconds of the readings' own time."""
    rows: dict[str, Any] = {
        "cases": len({one.case.name for one in outcomes}),
        "readings_every_ms": POLL_MS,
        "false_trips": [_named(one) for one in outcomes if one.false_trip],
        "missed": [_named(one) for one in outcomes if one.missed],
    }
    for hard in (True, False):
        delays = [one.delay_ms for one in outcomes if one.hard is hard and one.delay_ms is not None]
        rows["delay_hard_ms" if hard else "delay_soft_ms"] = {
            "median": statistics.median(delays), "max": max(delays), "count": len(delays),
        }  # fmt: skip
    return rows


def _named(outcome: Outcome) -> str:
    return f"{outcome.case.name} ({'hard' if outcome.hard else 'soft'})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    outcomes = [run(case, hard=hard) for case in cases() for hard in (True, False)]
    rows = summary(outcomes)
    if options.json:
        print(json.dumps(rows))
        return
    for label in ("fine", "breach", "unknown"):
        print(f"\n{label}")
        for hard, soft in zip(outcomes[::2], outcomes[1::2], strict=True):
            if hard.case.label == label:
                print(f"  {hard.case.name:60} {_told(hard):>18} {_told(soft):>18}")
    print(f"\n{rows['cases']} cases, each under a hard and a soft limit")
    print(f"false trips: {len(rows['false_trips'])}   missed: {len(rows['missed'])}")
    for name in ("hard", "soft"):
        delay = rows[f"delay_{name}_ms"]
        print(f"added delay, {name}: median {delay['median']:g} ms, max {delay['max']} ms")


def _told(outcome: Outcome) -> str:
    wrong = "FALSE " if outcome.false_trip else "MISSED " if outcome.missed else ""
    if outcome.delay_ms is not None:
        return f"{wrong}{outcome.delay_ms} ms"
    if outcome.tripped_ms is not None:
        return f"{wrong}tripped"
    return f"{wrong}{'blocked, paged' if outcome.unknown else 'quiet'}"


if __name__ == "__main__":
    main()
