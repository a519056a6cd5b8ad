"""Decisions of limits: once, not on one bad reading, never hidden by one."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest

from benchmarks import bad_reads
from benchmarks.bad_reads import BROKEN, LOGIN, POLL_MS, START_MS, Outcome, good, run, summary
from events.rules import (
    Account,
    Action,
    Decision,
    GuardRules,
    Limit,
    Lock,
    Reading,
    Rules,
    Trips,
    Watched,
    Window,
    check_reading,
    judge,
    look,
)
from events.rules.model import Moment

CASES = bad_reads.cases()
outcome_of = functools.cache(lambda number, hard: run(CASES[number], hard=hard))


@pytest.mark.parametrize("hard", [True, False], ids=["hard", "soft"])
@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.name for case in CASES])
def test_no_bad_reading_trips_a_limit_or_hides_a_breach(number: int, hard: bool) -> None:
    outcome: Outcome = outcome_of(number, hard)
    assert not outcome.false_trip
    assert not outcome.missed
    if CASES[number].label == "unknown":
        assert outcome.tripped_ms is None


def test_the_labelled_set_is_large_and_its_delays_are_bounded() -> None:
    rows = summary([outcome_of(n, hard) for n in range(len(CASES)) for hard in (True, False)])
    assert rows["cases"] == len(CASES) >= 40
    assert rows["false_trips"] == rows["missed"] == []
    assert rows["delay_hard_ms"]["median"] <= 2 * POLL_MS
    assert rows["delay_soft_ms"]["median"] <= 1_250


def test_the_set_goes_red_for_a_guard_that_believes_every_reading() -> None:
    """Without checks, re-reads and windows most of the bad readings would trip."""
    false = 0
    for case in CASES:
        if case.label != "fine":
            continue
        rules = bad_reads.rules_of(case.figure, hard=True)
        watched, now_ms = Watched(), START_MS
        for step in (*[bad_reads.ok()] * 4, *case.steps):
            now_ms += POLL_MS
            reading = step.make(now_ms)
            watched = look(watched, rules, reading, login=LOGIN, now_ms=now_ms).watched
            figures = {"equity": reading.equity, "balance": reading.balance}
            verdicts = judge(rules, watched.references, figures, now_ms=now_ms)
            if any(one.level == "act" for one in verdicts):
                false += 1
                break
    assert false >= 10


def rules_with(*limits: Limit, windows: tuple[Window, ...] = (), **guard: float) -> Rules:
    return Rules(
        account=Account(initial_balance=100_000.0, high_water=100_000.0),
        limits=limits,
        windows=windows,
        guard=GuardRules.model_validate(guard),
    )


def loss(**changed: object) -> Limit:
    told = {"name": "loss", "figure": "daily_loss", "limit": 5.0, "action": Action.FLATTEN}
    return Limit.model_validate(told | {"lock": Lock.UNTIL_RESET, "hard": True} | changed)


class Watching:
    """Looks at an account, one reading after the other."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.watched = Watched()
        self.now_ms = START_MS
        self.number = 0

    def sees(
        self, floating: float, *, after_ms: int = POLL_MS, **changed: object
    ) -> list[Decision]:
        self.now_ms += after_ms
        self.number += 1
        reading = replace(good(self.now_ms, floating), **changed)  # type: ignore[arg-type]
        seen = look(
            self.watched, self.rules, reading, login=LOGIN, now_ms=self.now_ms,
            entry=f"high:{self.number}",
        )  # fmt: skip
        # what is remembered survives being written down
        self.watched = Watched.model_validate_json(seen.watched.model_dump_json())
        return list(seen.decisions)

    def kinds(self, floating: float, **changed: object) -> list[str]:
        return [one.kind for one in self.sees(floating, **changed)]  # type: ignore[arg-type]


def test_a_hard_limit_asks_for_one_reading_more_and_then_acts_once_until_the_reset() -> None:
    watching = Watching(rules_with(loss()))
    assert watching.kinds(-1_000) == []
    first = watching.sees(BROKEN, after_ms=100)
    assert [one.kind for one in first] == ["reread"]
    acted = watching.sees(BROKEN, after_ms=20)[0]
    assert acted.kind == "act"
    assert acted.delay_ms == 20
    assert acted.entries == ("high:2", "high:3")
    assert dict(acted.figures)["equity"] == 94_000
    assert dict(acted.figures)["reference"] == 100_000
    assert acted.locked_until_ms is not None
    assert watching.kinds(BROKEN) == []
    assert watching.kinds(-1_000) == []
    assert watching.kinds(BROKEN) == []
    assert watching.watched.trips.locks() == {"loss": acted.locked_until_ms}


def test_a_lock_until_reset_ends_at_the_reset_and_the_limit_may_act_again() -> None:
    watching = Watching(rules_with(loss()))
    watching.sees(-100)
    watching.sees(BROKEN)
    acted = watching.sees(BROKEN)[0]
    assert acted.locked_until_ms is not None
    left = acted.locked_until_ms - watching.now_ms
    seen = watching.sees(-100, after_ms=left, reset_balance=None)
    assert [one.kind for one in seen] == ["cleared"]
    assert watching.watched.trips.locks() == {}
    assert watching.kinds(BROKEN) == ["reread"]


def test_a_manual_lock_ends_only_by_a_human() -> None:
    watching = Watching(rules_with(loss(lock="manual")))
    watching.sees(-100)
    watching.sees(BROKEN)
    assert watching.kinds(BROKEN) == ["act"]
    watching.sees(-100, after_ms=3 * 86_400_000)
    assert watching.watched.trips.locks() == {"loss": None}
    released = watching.watched.trips.released(["loss"])
    assert released.locks() == {}
    assert watching.watched.trips.released(["another"]).locks() == {"loss": None}


def test_a_soft_limit_waits_for_its_window_and_a_good_reading_ends_it() -> None:
    watching = Watching(rules_with(loss(hard=False)))
    watching.sees(-100)
    assert [watching.kinds(BROKEN) for _ in range(4)] == [[]] * 4
    assert watching.kinds(-100) == []
    assert [watching.kinds(BROKEN) for _ in range(4)] == [[]] * 4
    acted = watching.sees(BROKEN)
    assert [(one.kind, one.delay_ms) for one in acted] == [("act", 1_000)]


def test_a_warning_is_told_once_and_again_only_after_a_calm_minute() -> None:
    watching = Watching(rules_with(loss()))
    watching.sees(-100)
    told = [kind for _ in range(20) for kind in watching.kinds(-4_200)]
    assert told == ["warn"]
    assert [kind for _ in range(20) for kind in watching.kinds(-100)] == []
    assert [kind for _ in range(20) for kind in watching.kinds(-4_200)] == []
    for _ in range(10):
        assert watching.kinds(-100, after_ms=10_000) == []
    assert [kind for _ in range(20) for kind in watching.kinds(-4_200)] == ["warn"]


def test_a_limit_without_a_lock_acts_again_after_the_figure_was_back() -> None:
    watching = Watching(rules_with(loss(lock="none", action="reduce", hard=False)))
    watching.sees(-100)
    assert [kind for _ in range(6) for kind in watching.kinds(BROKEN)] == ["act"]
    assert watching.kinds(-100) == ["cleared"]
    assert [kind for _ in range(6) for kind in watching.kinds(BROKEN)] == ["act"]


def test_soft_closes_wait_for_the_end_of_a_window_and_hard_ones_do_not() -> None:
    news = Window(
        name="news", times=(Moment(at_ms=START_MS + 10_000),),
        before_minutes=5, after_minutes=1, defer=True, block=True,
    )  # fmt: skip
    soft = loss(name="soft", hard=False, limit=2.0)
    watching = Watching(rules_with(soft, loss(), windows=(news,)))
    watching.sees(-100)
    told = [one for _ in range(40) for one in watching.sees(-3_000)]
    assert told == []
    told = [one for _ in range(4) for one in watching.sees(BROKEN)]
    assert [(one.kind, one.limit) for one in told] == [("reread", "loss"), ("act", "loss")]
    after = [
        (one.kind, one.limit) for _ in range(3) for one in watching.sees(BROKEN, after_ms=30_000)
    ]
    assert after == [("act", "soft")]


def test_equity_unknown_for_long_with_positions_blocks_once_and_is_told_when_it_is_back() -> None:
    watching = Watching(rules_with(loss(), unknown_equity_s=10))
    watching.sees(-100)
    told = [one for _ in range(60) for one in watching.sees(-100, equity=None)]
    assert [(one.kind, one.action) for one in told] == [("unknown", "block")]
    assert told[0].delay_ms == 10_000
    assert watching.kinds(-100) == ["known"]


def test_equity_unknown_without_positions_tells_nothing() -> None:
    watching = Watching(rules_with(loss(), unknown_equity_s=10))
    watching.sees(0.0, positions=0, margin=0.0)
    assert [one for _ in range(60) for one in watching.sees(0.0, equity=None, positions=None)] == []


def test_after_a_hard_breach_an_unusable_reading_is_asked_for_again() -> None:
    watching = Watching(rules_with(loss()))
    watching.sees(-100)
    assert watching.kinds(BROKEN) == ["reread"]
    assert watching.kinds(BROKEN, equity=None) == ["reread"]
    assert watching.kinds(BROKEN) == ["act"]


def test_a_limit_on_each_symbol_decides_about_each() -> None:
    rules = rules_with(Limit(name="lots", figure="symbol_lots", symbol="*", act=5, action="block"))
    watched, now_ms, told = Watched(), START_MS, []
    for _ in range(8):
        now_ms += POLL_MS
        figures = {"symbol_lots:EURUSD": 6.0, "symbol_lots:XAUUSD": 1.0, "symbol_lots:US30": 5.0}
        seen = look(watched, rules, good(now_ms), login=LOGIN, now_ms=now_ms, figures=figures)
        watched = seen.watched
        told += [(one.kind, one.key) for one in seen.decisions]
    assert sorted(told) == [("act", "symbol_lots:EURUSD"), ("act", "symbol_lots:US30")]


def test_a_limit_that_left_the_rules_is_forgotten() -> None:
    watching = Watching(rules_with(loss(lock="manual")))
    watching.sees(-100)
    watching.sees(BROKEN)
    watching.sees(BROKEN)
    watching.rules = rules_with()
    watching.sees(BROKEN)
    assert watching.watched.trips == Trips(positions=3)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"login": 8}, "account 8"),
        ({"connected": False}, "not connected"),
        ({"synchronised": False}, "synchronising"),
        ({"equity": None}, "could not be read"),
        ({"time_ms": START_MS - 6_000}, "old"),
        ({"balance": float("nan")}, "no number"),
        ({"equity": 0.0}, "reads 0"),
    ],
    ids=str,
)
def test_why_a_reading_cannot_be_used_is_told(changed: dict[str, object], word: str) -> None:
    reading: Reading = replace(good(START_MS), **changed)  # type: ignore[arg-type]
    checked = check_reading(reading, guard=GuardRules(), login=LOGIN, now_ms=START_MS)
    assert word in checked.unusable


def test_an_account_that_is_truly_at_zero_can_be_read() -> None:
    """Balance and floating loss cancel out: equity 0 is then no missing figure."""
    reading = good(START_MS, floating=-100_000.0)
    assert check_reading(reading, guard=GuardRules(), login=LOGIN, now_ms=START_MS).trusted
