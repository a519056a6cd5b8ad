"""Other rules over a recorded log: what would have tripped, when, saved or cost."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from consumers.risk import RiskHandler
from consumers.risk.what_if import NothingRecorded, what_if
from consumers.runtime.group import Group
from consumers.runtime.task import TaskRun
from events.codec import AnyEvent, decode, encode
from events.decisions import LimitBreach, RulesSet
from events.log import SOURCE, Claim, Lane, Slot
from events.memory_log import MemoryLog
from events.rules import Account as RiskAccount
from events.rules import Limit, Rules
from tests.unit.risk_desk import LOGIN, START_MS, Desk, deal, operation, position

NAMESPACE = "demo"


def rules(percent: float, **more: Any) -> Rules:
    """A daily loss of so many percent of 10,000, acted on at 90 % of it."""
    fields: dict[str, Any] = {
        "name": "daily", "figure": "daily_loss", "limit": percent, "action": "flatten",
        "lock": "until_reset", "confirm_s": 0.0,
    }  # fmt: skip
    account = RiskAccount(initial_balance=10_000, high_water=10_000)
    return Rules(name=f"{percent:g} %", account=account, limits=(Limit(**{**fields, **more}),))


class Recorder(Desk):
    """A desk whose events are kept in a log as well, as a producer appends them."""

    def __post_init__(self) -> None:
        self.log = MemoryLog()
        self.log.open_namespace(NAMESPACE, 1)
        self.claim: Claim = self.log.claim(Slot(NAMESPACE, SOURCE, 0), "test", alive_within_s=0)
        super().__post_init__()

    def tell(self, event: AnyEvent) -> list[AnyEvent]:
        self.log.append(self.claim, [encode(event)])
        return super().tell(event)


def recorded(under: Rules | None) -> Recorder:
    """A morning: down by 300 and a little up again, a withdrawal, and down to the end."""
    desk = Recorder(under)
    desk.tell(operation(1, START_MS - 86_400_000 * 9, 10_000))
    desk.hold()
    desk.look(10_000)
    desk.hold(position())
    for equity in (9_900, 9_790, 9_700, 9_700, 9_650, 9_800):
        desk.look(equity)
    desk.tell(operation(2, desk.now_ms + 1, -1_000.0))
    desk.balance -= 1_000.0
    for equity in (8_700, 8_400, 8_400, 8_500):
        desk.look(equity)
    return desk


def fresh_run(desk: Recorder, under: Rules) -> list[LimitBreach]:
    """The same log from the beginning, with these rules in it in place of those it had."""
    log = MemoryLog()
    log.open_namespace(NAMESPACE, 1)
    claim = log.claim(Slot(NAMESPACE, SOURCE, 0), "again", alive_within_s=0)
    log.append(claim, [encode(RulesSet(event_time_ms=START_MS, login=LOGIN,
                                       rules=under.model_dump(mode="json")))])  # fmt: skip
    group = Group("risk", RiskHandler)
    [spec] = group.specs(log)
    taken = log.tasks.acquire(spec.slot, "test", seen="")
    assert taken is not None
    run = TaskRun(log, group, spec, *taken)
    entries = [
        entry
        for lane in Lane
        for entry in desk.log.between(desk.claim.slot.stream(lane), count_max=10_000)
    ]
    for entry in sorted(entries, key=lambda one: one.id):
        event = decode(entry)
        if not isinstance(event, RulesSet):
            log.append(claim, [encode(event)])
            while run.step().entries:
                pass
    stream = Slot(NAMESPACE, "risk", 0).stream(Lane.CRITICAL)
    found = [decode(entry) for entry in log.between(stream, count_max=10_000)]
    return [event for event in found if isinstance(event, LimitBreach)]


def test_stricter_rules_would_have_tripped_and_saved_money() -> None:
    desk = recorded(rules(20.0))
    assert not desk.breaches("act")
    found = what_if(desk.log, NAMESPACE, rules(3.0))
    [trip] = found.trips
    assert (trip.limit, trip.action) == ("daily", "flatten")
    assert trip.value == pytest.approx(300)
    assert trip.equity == 9_700
    # 1,000 were withdrawn since: of the 9,700 that were left 8,700 would still be there.
    assert trip.after_closing == pytest.approx(8_700)
    assert trip.worst_equity == pytest.approx(8_400)
    assert trip.last_equity == pytest.approx(8_500)
    assert trip.saved == pytest.approx(200)
    assert found.saved == pytest.approx(200)
    assert found.unknown == ()


def test_looser_rules_would_not_have_tripped() -> None:
    desk = recorded(rules(1.0))
    assert desk.breaches("act")
    assert what_if(desk.log, NAMESPACE, rules(50.0)).trips == []


@pytest.mark.parametrize("percent", [1.0, 3.0, 6.0, 50.0])
@pytest.mark.parametrize("recorded_percent", [None, 2.0, 20.0], ids=str)
def test_it_is_equal_to_a_fresh_run_under_those_rules(
    percent: float, recorded_percent: float | None
) -> None:
    desk = recorded(None if recorded_percent is None else rules(recorded_percent))
    wanted = fresh_run(desk, rules(percent))
    found = what_if(desk.log, NAMESPACE, rules(percent))
    acted = [one for one in wanted if one.level == "act"]
    assert [(t.limit, t.at_ms, t.value, t.threshold, t.locked_until_ms) for t in found.trips] == [
        (b.limit, b.event_time_ms, b.value, b.threshold, b.locked_until_ms) for b in acted
    ]
    assert found.warnings == len(wanted) - len(acted)


@pytest.mark.parametrize("seed", [1, 2, 4, 5])
def test_it_is_equal_to_a_fresh_run_on_random_days(seed: int) -> None:
    """Random walks over three resets, with deposits, closed trades and flat spells."""
    random = Random(seed)
    desk = Recorder(rules(random.choice([1.0, 4.0, 30.0]), confirm_s=1.0))
    desk.tell(operation(1, START_MS - 86_400_000 * 9, 10_000))
    desk.hold()
    desk.look(10_000)
    for number in range(60):
        chance = random.random()
        if chance < 0.1:
            desk.hold(*[position(n + 1) for n in range(random.randrange(3))])
        elif chance < 0.2:
            amount = random.choice([-500.0, 500.0])
            desk.tell(operation(100 + number, desk.now_ms, amount))
            desk.balance += amount
        elif chance < 0.3:
            profit = float(random.randrange(-80, 60))
            desk.tell(deal(100 + number, desk.now_ms, entry=1, type=1, profit=profit))
            desk.balance += profit
        desk.floating += random.gauss(0, 150)
        desk.read(after_ms=random.choice([250, 250, 250, 5_000, 3_600_000 * 2]))
    tried = rules(random.uniform(0.5, 5.0), confirm_s=random.choice([0.0, 1.0]))
    wanted = [one for one in fresh_run(desk, tried) if one.level == "act"]
    found = what_if(desk.log, NAMESPACE, tried)
    assert wanted, f"seed {seed} shows nothing"
    assert [(t.at_ms, t.value, t.entries and len(t.entries)) for t in found.trips] == [
        (b.event_time_ms, b.value, len(b.entries)) for b in wanted
    ], f"seed {seed}"


def test_only_the_time_asked_for_is_told_with_what_was_known_before() -> None:
    desk = recorded(None)
    whole = what_if(desk.log, NAMESPACE, rules(1.0))
    [trip] = whole.trips
    assert what_if(desk.log, NAMESPACE, rules(1.0), from_ms=trip.at_ms + 1).trips == []
    assert what_if(desk.log, NAMESPACE, rules(1.0), until_ms=trip.at_ms - 1).trips == []
    until = what_if(desk.log, NAMESPACE, rules(1.0), until_ms=trip.at_ms + 300)
    assert [one.at_ms for one in until.trips] == [trip.at_ms]
    assert until.last_ms is not None
    assert until.last_ms <= trip.at_ms + 300


def test_a_limit_without_a_close_saves_nothing() -> None:
    desk = recorded(None)
    [trip] = what_if(desk.log, NAMESPACE, rules(3.0, action="block")).trips
    assert trip.saved is None


def test_what_trips_while_all_would_be_closed_is_marked() -> None:
    desk = recorded(None)
    second = Limit(name="total", figure="drawdown_absolute", limit=5.0, action="flatten",
                   lock="manual", confirm_s=0.0)  # fmt: skip
    both = rules(3.0)
    both = both.model_copy(update={"limits": (*both.limits, second)})
    found = what_if(desk.log, NAMESPACE, both)
    assert [(trip.limit, trip.under_lock) for trip in found.trips] == [
        ("daily", False), ("total", True),
    ]  # fmt: skip


def test_a_terminal_the_log_does_not_hold_is_named() -> None:
    with pytest.raises(NothingRecorded, match="no terminal 'nosuch'; there is: demo"):
        what_if(recorded(None).log, "nosuch", rules(1.0))
