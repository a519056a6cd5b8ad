"""Properties of rules that hold for every account; Hypothesis looks for a counterexample."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.rules import (
    FIGURES,
    Account,
    BalanceOperation,
    DayReference,
    Direction,
    Limit,
    Reading,
    References,
    Rules,
    advance,
    floors,
    headroom,
    judge,
    standings,
)
from events.rules.model import Basis
from tests.rules_story import LOGIN, ms

START_MS = ms("2026-03-27 12:00:00")
"""Two days before summer time begins in Europe."""
LOSSES = [name for name, figure in FIGURES.items() if figure.loss]
LEVELS = [
    name
    for name, figure in FIGURES.items()
    if not figure.loss and figure.subject == "account" and figure.unit != "percent"
]

unhurried = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A machine that is busy with other tests is no counterexample."""
money = st.integers(50_000, 150_000).map(float)


@st.composite
def accounts(draw: st.DrawFn) -> Account:
    return Account(
        initial_balance=100_000.0,
        high_water=draw(st.sampled_from([None, 100_000.0, 120_000.0])),
        reset_time=draw(st.sampled_from(["00:00", "17:00", "00:30", "02:30"])),
        reset_zone=draw(st.sampled_from(["UTC", "Europe/Prague", "America/New_York"])),
        day_reference=draw(st.sampled_from(list(DayReference))),
    )


@st.composite
def loss_limits(draw: st.DrawFn) -> Limit:
    limit = draw(st.floats(0.5, 50.0))
    given_levels: dict[str, Any] = draw(
        st.sampled_from(
            [
                {},
                {"act": limit * 0.7},
                {"act": limit * 0.7, "warn": limit * 0.3},
                {"buffer": 100.0},
                {"buffer_percent": 25.0},
            ]
        )
    )
    of = draw(st.sampled_from([None, Basis.REFERENCE, Basis.RESET_BALANCE, Basis.EQUITY]))
    floor_max = draw(st.sampled_from([None, "initial_balance"]))
    return Limit(
        name="loss", figure=draw(st.sampled_from(LOSSES)), limit=limit, of=of, floor_max=floor_max,
        **given_levels,
    )  # fmt: skip


@st.composite
def readings(draw: st.DrawFn) -> list[Reading]:
    """Days of an account: trades, quiet hours, deposits and withdrawals with their deals."""
    now_ms, balance, floating = START_MS, 100_000.0, 0.0
    found = []
    for ticket in range(draw(st.integers(1, 15))):
        now_ms += draw(st.sampled_from([250, 1_000, 20_000, 3_600_000, 40_000_000]))
        kind = draw(st.sampled_from(["move", "close", "operation", "bad"]))
        operations: tuple[BalanceOperation, ...] = ()
        equity: float | None = None
        if kind == "move":
            floating = float(draw(st.integers(-8_000, 8_000)))
        elif kind == "close":
            balance, floating = balance + floating, 0.0
        elif kind == "operation":
            amount = float(draw(st.integers(-5_000, 20_000)))
            balance += amount
            operations = (BalanceOperation(ticket, now_ms, amount),)
        if kind != "bad":
            equity = balance + floating
        found.append(
            Reading(
                now_ms, LOGIN, equity, balance, floating=floating, operations=operations,
                positions=1 if floating else 0,
                reset_balance=draw(st.sampled_from([None, None, balance])),
                opened=draw(st.integers(0, 1)),
            )
        )  # fmt: skip
    return found


def after(told: list[Reading], rules: Rules, known: References | None = None) -> References | None:
    for reading in told:
        known = advance(known, reading, rules)
    return known


@unhurried
@given(account=accounts(), told=readings(), cut=st.integers(0, 15))
def test_it_does_not_matter_where_a_series_of_readings_is_cut(
    account: Account, told: list[Reading], cut: int
) -> None:
    rules = Rules(account=account)
    half = after(told[:cut], rules)
    kept = None if half is None else References.model_validate_json(half.model_dump_json())
    assert after(told[cut:], rules, kept) == after(told, rules)


@unhurried
@given(account=accounts(), told=readings())
def test_a_reading_that_comes_twice_changes_nothing(account: Account, told: list[Reading]) -> None:
    rules = Rules(account=account)
    known = after(told, rules)
    assert known is not None
    again = advance(known, replace(told[-1], opened=0), rules)
    assert again.model_copy(update={"held_since_ms": None}) == known.model_copy(
        update={"held_since_ms": None}
    )


@unhurried
@given(account=accounts(), told=readings())
def test_peaks_never_fall_but_by_withdrawals(account: Account, told: list[Reading]) -> None:
    rules = Rules(account=account)
    known: References | None = None
    for reading in told:
        before, known = known, advance(known, reading, rules)
        if before is None or not before.since_ms:
            continue
        shift = known.operations - before.operations
        for name in ("high_water", "high_balance", "best_reset_balance"):
            assert getattr(known, name) >= getattr(before, name) + shift - 1e-6
        if known.day == before.day:
            assert known.day_peak >= before.day_peak + shift - 1e-6
        assert known.time_ms >= before.time_ms
        assert known.high_water >= known.day_peak - 1e-6 or "high_water" in known.unknown


@unhurried
@given(account=accounts(), told=readings())
def test_references_follow_operations_and_nothing_else_of_the_balance(
    account: Account, told: list[Reading]
) -> None:
    """With every deal told beside the balance, exactly their sum is shifted, once it settled."""
    rules = Rules(account=account)
    usable = [one for one in told if one.equity is not None]
    known = after(usable, rules)
    if known is None or known.waiting:
        return
    told_sum = sum(one.amount for reading in usable[1:] for one in reading.operations)
    assert known.operations == pytest.approx(told_sum)


@unhurried
@given(
    account=accounts(), limit=loss_limits(), told=readings(),
    equity=st.floats(1_000.0, 200_000.0), cost=st.floats(0.0, 500.0),
)  # fmt: skip
def test_floors_judge_and_headroom_tell_the_same(
    account: Account, limit: Limit, told: list[Reading], equity: float, cost: float
) -> None:
    rules = Rules(account=account, limits=(limit,))
    known = after(told, rules)
    if known is None or not known.since_ms:
        return
    figures = {"equity": equity, "balance": equity, "cost_of_closing": cost}
    if limit.of == Basis.EQUITY:  # a floor that moves with equity is not one that stands
        figures["equity"] = equity = known.equity
    floor = floors(rules, known)[0]
    verdicts = judge(rules, known, figures, now_ms=known.time_ms)
    left = headroom(rules, known, figures)["loss"]
    assert left is not None
    assert left == pytest.approx(equity - cost - floor.act_equity, abs=1e-5)
    assert floor.warn_equity >= floor.act_equity - 1e-6 >= floor.floor - 2e-6
    levels = [one.level for one in verdicts]
    if equity - cost > floor.act_equity + 1e-5:
        assert "act" not in levels  # never on the safe side
    elif equity - cost < floor.act_equity - 1e-5:
        assert levels == ["act"]
    if equity - cost > floor.warn_equity + 1e-5:
        assert levels == []


@unhurried
@given(
    figure=st.sampled_from(LEVELS), act=st.floats(-1e6, 1e6), value=st.floats(-1e6, 1e6),
)  # fmt: skip
def test_a_level_acts_on_its_own_side_only(figure: str, act: float, value: float) -> None:
    limit = Limit(name="level", figure=figure, act=act, warn=act)
    rules = Rules(limits=(limit,))
    known = References(since_ms=1, time_ms=1)
    verdicts = judge(rules, known, {figure: value}, now_ms=1)
    bad = value >= act if FIGURES[figure].direction == Direction.ABOVE else value <= act
    if abs(value - act) > 1e-6:
        assert bool(verdicts) == bad
    left = headroom(rules, known, {figure: value})["level"]
    assert left is not None
    assert (left <= 1e-9) == bool(verdicts)


@unhurried
@given(account=accounts(), limit=loss_limits())
def test_rules_survive_json_and_keep_their_checksum(account: Account, limit: Limit) -> None:
    rules = Rules(account=account, limits=(limit,))
    again = Rules.model_validate(rules.model_dump(mode="json"))
    assert again == rules
    assert again.checksum == rules.checksum
    assert Rules.model_validate_json(rules.model_dump_json()) == rules


@unhurried
@given(told=readings(), equity=money)
def test_a_lower_equity_is_never_judged_milder(told: list[Reading], equity: float) -> None:
    limits = tuple(Limit(name=name, figure=name, limit=5.0) for name in LOSSES)
    rules = Rules(account=Account(initial_balance=100_000.0), limits=limits)
    known = after(told, rules)
    if known is None or not known.since_ms:
        return
    order = {"ok": 0, "warn": 1, "act": 2, "unknown": 3}
    high, low = (
        {one.limit: order[one.level] for one in standings(rules, known, {"equity": at})}
        for at in (equity, equity - 1_000.0)
    )
    assert all(low[name] >= high[name] for name in high)


@unhurried
@given(act=st.integers(50_000, 99_000).map(float), equity=money, cost=st.floats(0.0, 500.0))
def test_a_limit_on_equity_itself_is_a_floor_after_closing(
    act: float, equity: float, cost: float
) -> None:
    limit = Limit(name="floor", figure="equity", limit=act - 500.0, act=act, hard=True)
    rules, known = Rules(limits=(limit,)), References(since_ms=1, time_ms=1)
    floor = floors(rules, known)[0]
    assert (floor.floor, floor.act_equity, floor.certain) == (act - 500.0, act, True)
    verdicts = judge(rules, known, {"equity": equity, "cost_of_closing": cost}, now_ms=1)
    if abs(equity - cost - act) > 1e-6:
        assert any(one.level == "act" for one in verdicts) == (equity - cost < act)
