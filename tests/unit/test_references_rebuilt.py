"""References that were lost with the log, taken up again out of figures told before."""

from __future__ import annotations

from typing import Any

import pytest

from consumers.references import rebuilding
from consumers.references.rebuilding import RISK, rebuilt
from events.codec import encode
from events.decisions import ReferenceSet, RiskMetrics
from events.log import OPERATOR, Slot
from events.memory_log import MemoryLog
from events.rules import References, Rules, Watched
from events.settings import load
from events.trading import Deal
from tests.servers import wait_until
from tests.unit.risk_desk import DAY_MS, SECOND_MS, Desk, deal, operation, position

RULES = Rules.model_validate(
    {
        "account": {"initial_balance": 10_000.0, "high_water": 10_000.0},
        "limits": [{"name": "total", "figure": "drawdown_peak", "act": 500.0, "action": "flatten",
                    "lock": "manual", "hard": True}],
    }
)  # fmt: skip


def references(desk: Desk) -> References:
    return Watched.model_validate_json(desk.state["7:watched"]).references


def lived(*, held: bool = False) -> Desk:
    """A deposit, a peak, a loss."""
    desk = Desk(RULES)
    desk.look()
    desk.balance += 2_000.0
    desk.tell(operation(1, desk.now_ms, 2_000.0))
    desk.look()
    desk.hold(position())
    desk.tell(deal(2, desk.now_ms))
    desk.look(13_000.0)
    desk.look(12_400.0)
    if not held:
        desk.balance, desk.floating = 12_400.0, 0.0
        desk.tell(deal(3, desk.now_ms, entry=1, type=1, profit=400.0))
        desk.hold()
    desk.look()
    return desk


def anew(before: Desk, *, after_ms: int, **more: Any) -> Desk:
    """The same account at a desk that knows nothing."""
    desk = Desk(RULES, now_ms=before.now_ms + after_ms, balance=before.balance,
                floating=before.floating, **more)  # fmt: skip
    desk.hold(*before.positions)
    return desk


def metrics(desk: Desk) -> RiskMetrics:
    return next(one for one in reversed(desk.said) if isinstance(one, RiskMetrics))


def taken_up(old: Desk, new: Desk, *deals: Deal) -> References:
    found = rebuilt(metrics(old), metrics(new), deals)
    assert found.stated is not None, found.why
    new.tell(found.stated)
    new.look()
    return references(new)


MONEY = (
    "initial_balance", "operations", "high_water", "high_balance", "best_reset_balance",
    "day_balance", "day_equity", "day_peak", "day_peak_balance", "best_day", "days_traded",
    "unknown",
)  # fmt: skip


@pytest.mark.parametrize("held", [False, True], ids=["flat", "with a position"])
def test_a_short_loss_of_the_state_changes_nothing(held: bool) -> None:
    old = lived(held=held)
    new = anew(old, after_ms=5 * SECOND_MS)
    new.look()
    assert references(new).high_water < 13_000.0, "the peak is lost"
    found = taken_up(old, new)
    old.look(after_ms=5 * SECOND_MS)
    was = references(old)
    names = {*MONEY} - ({"high_balance", "day_peak_balance"} if held else set())
    assert found.model_dump(include=names) == was.model_dump(include=names)
    assert found.high_balance >= was.high_balance, "a first look takes equity for a balance"


def test_deposits_and_withdrawals_since_then_shift_what_is_taken_up() -> None:
    old = lived()
    new = anew(old, after_ms=DAY_MS // 4)
    new.balance -= 5_000.0
    gone = operation(9, old.now_ms + SECOND_MS, -5_000.0)
    new.look()
    new.balance += 700.0
    more = operation(10, new.now_ms + 200, 700.0)
    new.tell(more)
    new.look()
    found = taken_up(old, new, gone, more)
    assert found.high_water == pytest.approx(13_000.0 - 5_000.0 + 700.0)
    assert found.absolute == pytest.approx(12_000.0 - 5_000.0 + 700.0)


def test_what_nobody_saw_stays_unknown_with_the_old_peak_as_a_bound() -> None:
    old = lived(held=True)
    new = anew(old, after_ms=DAY_MS // 4)
    new.look()
    found = taken_up(old, new)
    assert found.high_water == 13_000.0
    assert {"high_water", "high_balance", "day_peak"} <= {*found.unknown}


def test_a_balance_that_deals_do_not_explain_takes_nothing_up() -> None:
    old = lived()
    new = anew(old, after_ms=5 * SECOND_MS)
    new.balance -= 100.0
    new.look()
    found = rebuilt(metrics(old), metrics(new), ())
    assert (found.stated, found.later) == (None, True)
    assert "-100.00 that no deal explains" in found.why
    assert rebuilt(
        metrics(old), metrics(new), [deal(7, old.now_ms + 1, type=3, profit=9.0)]
    ).why.startswith("a credit")


def test_who_never_forgot_ignores_what_is_taken_up() -> None:
    old = lived()
    new = anew(old, after_ms=5 * SECOND_MS)
    new.look()
    stated = rebuilt(metrics(old), metrics(new), ()).stated
    assert stated is not None
    old.now_ms = new.now_ms
    was = references(old)
    old.tell(stated.model_copy(update={"kept": {"high_water": 99_000.0}}))
    assert references(old) == was


def test_a_database_that_refuses_is_told_once_and_nothing_is_guessed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    old = lived()
    new = anew(old, after_ms=5 * SECOND_MS)
    new.look()
    log = MemoryLog()
    log.open_namespace("demo", 1)
    log.tasks.open_group("demo", RISK, 1)
    found = [encode(one) for one in new.said if isinstance(one, RiskMetrics)]
    log.append(log.claim(Slot("demo", RISK, 0), "test", alive_within_s=0.0), found)
    monkeypatch.setattr(rebuilding, "LOOK_S", 0.01)
    looks: list[None] = []

    def opened() -> MemoryLog:
        looks.append(None)
        return log

    settings = load(postgres_link="postgresql://u:wrong-s3cret@127.0.0.1:1/x")
    with rebuilding.Rebuilding(opened, settings, ["demo"]):
        wait_until(lambda: len(looks) > 3, what="several looks")
    warned = [one.message for one in caplog.records if "not looked up" in one.message]
    assert len(warned) == 1
    assert "s3cret" not in warned[0]
    stream = Slot("demo", OPERATOR, 0).stream(ReferenceSet.LANE)
    assert log.between(stream, count_max=9) == []
