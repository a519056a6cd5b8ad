"""Who goes next and what is overdue: the bookkeeping of a terminal client, with time as a value."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.terminals.client.flight import (
    HISTORY_HELD_MAX_S,
    HISTORY_REST_S,
    HISTORY_RESTS_S,
    RETURNS_MAX,
    WAITING_MAX,
    Call,
    Flight,
)
from producers.terminals.interface import Priority

NOW = 100.0


def call(
    number: int,
    priority: Priority = Priority.TICKS,
    *,
    method: str = "symbol_info_tick",
    timeout_s: float = 10.0,
    wait_s: float = 60.0,
    at: float = NOW,
) -> Call:
    return Call(number, method, b"", priority, timeout_s, wait_s, at)


def sent_all(flight: Flight, now: float = NOW) -> list[Call]:
    """Send everything that may be sent now."""
    sent = []
    while (following := flight.next_to_send(now)) is not None:
        sent.append(following)
    return sent


@given(st.lists(st.sampled_from(list(Priority)), max_size=60))
def test_calls_go_by_priority_and_in_order_inside_one(priorities: list[Priority]) -> None:
    flight = Flight(in_flight_max=1)
    for number, priority in enumerate(priorities):
        assert flight.submit(call(number, priority))
    served = []
    while (following := flight.next_to_send(NOW + HISTORY_REST_S)) is not None:
        served.append((following.priority, following.id))
        flight.answered(following.id, NOW)
    assert served == sorted(served)
    assert len(served) == len(priorities)


def test_few_calls_are_with_the_host_but_emergencies_and_trades_go_at_once() -> None:
    flight = Flight(in_flight_max=2)
    for number in range(5):
        flight.submit(call(number))
    assert [following.id for following in sent_all(flight)] == [0, 1]
    flight.submit(call(10, Priority.ACCOUNT))
    assert sent_all(flight) == []
    flight.submit(call(11, Priority.TRADE))
    flight.submit(call(12, Priority.EMERGENCY))
    assert [following.id for following in sent_all(flight)] == [12, 11]


def test_a_call_is_judged_from_its_beginning_at_the_terminal() -> None:
    flight = Flight(in_flight_max=2)
    flight.submit(call(1, timeout_s=5))
    flight.submit(call(2, timeout_s=5))
    sent_all(flight)
    flight.started(1, NOW + 1)
    assert flight.overdue(NOW + 5.9) is None
    flight.answered(1, NOW + 5.9)
    flight.started(2, NOW + 5.9)
    assert flight.overdue(NOW + 10.8) is None
    assert flight.wake_at() == pytest.approx(NOW + 10.9)
    overdue = flight.overdue(NOW + 10.9)
    assert overdue is not None
    assert overdue.call.id == 2
    assert "5 s" in overdue.reason


def test_a_host_that_begins_nothing_is_overdue_too() -> None:
    flight = Flight(in_flight_max=2)
    flight.submit(call(1, timeout_s=5))
    sent_all(flight)
    assert flight.overdue(NOW + 4.9) is None
    overdue = flight.overdue(NOW + 5)
    assert overdue is not None
    assert overdue.reason == "was not begun"


def test_what_a_server_may_take_on_top_is_allowed_for() -> None:
    flight = Flight(in_flight_max=2)
    flight.grace_s, flight.begin_s = 3.0, 90.0
    flight.submit(call(1, timeout_s=5))
    sent_all(flight)
    assert flight.overdue(NOW + 97) is None
    flight.started(1, NOW + 97)
    assert flight.overdue(NOW + 104.9) is None
    assert flight.overdue(NOW + 105) is not None


def test_an_emergency_bears_a_running_read_for_a_quarter_second() -> None:
    flight = Flight(in_flight_max=2, emergency_wait_s=0.25)
    flight.submit(call(1, timeout_s=60))
    sent_all(flight)
    flight.started(1, NOW)
    flight.submit(call(2, Priority.EMERGENCY, method="order_send", at=NOW + 30))
    sent_all(flight, NOW + 30)
    assert flight.wake_at() == pytest.approx(NOW + 30.25)
    assert flight.overdue(NOW + 30.2) is None
    overdue = flight.overdue(NOW + 30.25)
    assert overdue is not None
    assert overdue.call.id == 1
    assert overdue.held_up_emergency


@pytest.mark.parametrize(
    ("method", "priority"),
    [("order_send", Priority.TRADE), ("positions_get", Priority.EMERGENCY)],
)
def test_an_emergency_waits_for_orders_and_for_other_emergencies(
    method: str, priority: Priority
) -> None:
    flight = Flight(in_flight_max=2, emergency_wait_s=0.25)
    flight.submit(call(1, priority, method=method, timeout_s=60))
    sent_all(flight)
    flight.started(1, NOW)
    flight.submit(call(2, Priority.EMERGENCY, at=NOW))
    assert flight.overdue(NOW + 50) is None


def test_a_lost_host_takes_only_what_it_had_begun() -> None:
    flight = Flight(in_flight_max=3)
    for number in range(5):
        flight.submit(call(number))
    sent_all(flight)
    flight.started(0, NOW)
    lost = flight.line_ended(exact_end=True)
    assert [gone.id for gone in lost] == [0]
    assert flight.idle
    assert [following.id for following in sent_all(flight)] == [1, 2, 3]


def test_a_call_that_ends_every_host_is_lost_in_the_end() -> None:
    flight = Flight(in_flight_max=1)
    poison = call(1)
    flight.submit(poison)
    for _ in range(RETURNS_MAX):
        sent_all(flight)
        assert flight.line_ended(exact_end=True) == []
    sent_all(flight)
    assert flight.line_ended(exact_end=True) == [poison]


def test_behind_a_link_that_may_lose_words_everything_sent_is_lost() -> None:
    flight = Flight(in_flight_max=3)
    for number in range(4):
        flight.submit(call(number))
    sent_all(flight)
    lost = flight.line_ended(exact_end=False)
    assert sorted(gone.id for gone in lost) == [0, 1, 2]
    assert [following.id for following in sent_all(flight)] == [3]


def test_an_attach_call_does_not_outlive_its_host() -> None:
    flight = Flight(in_flight_max=2)
    attach_call = call(1)
    attach_call.keeps_place = False
    flight.sent(attach_call, NOW)
    assert flight.line_ended(exact_end=True) == [attach_call]
    assert flight.next_to_send(NOW) is None


def test_a_call_that_waits_too_long_is_given_up_and_others_stay() -> None:
    flight = Flight(in_flight_max=1)
    flight.submit(call(0))
    sent_all(flight)
    flight.submit(call(1, wait_s=60))
    flight.submit(call(2, wait_s=5))
    assert flight.give_up_late(NOW + 4.9) == []
    assert [late.id for late in flight.give_up_late(NOW + 5)] == [2]
    flight.answered(0, NOW + 5)
    assert [following.id for following in sent_all(flight)] == [1]


def test_a_cancelled_call_is_never_sent() -> None:
    flight = Flight(in_flight_max=1)
    given_up = call(1)
    flight.submit(given_up)
    flight.submit(call(2))
    given_up.future.cancel()
    assert [following.id for following in sent_all(flight)] == [2]


def test_the_queue_has_an_end() -> None:
    flight = Flight(in_flight_max=1)
    assert all(flight.submit(call(number)) for number in range(WAITING_MAX))
    assert not flight.submit(call(WAITING_MAX))
    assert flight.queue_length()["ticks"] == WAITING_MAX


@settings(max_examples=50)
@given(st.data())
def test_whatever_happens_every_call_is_answered_lost_given_up_or_waiting(
    data: st.DataObject,
) -> None:
    flight = Flight(in_flight_max=data.draw(st.integers(1, 4)), emergency_wait_s=0.25)
    now, settled, submitted = NOW, set[int](), 0
    with_host: list[Call] = []
    for _ in range(data.draw(st.integers(1, 60))):
        now += data.draw(st.floats(0, 3))
        step = data.draw(st.sampled_from(["submit", "send", "start", "answer", "end", "late"]))
        if step == "submit":
            flight.submit(call(submitted, data.draw(st.sampled_from(list(Priority))), at=now))
            submitted += 1
        elif step == "send":
            with_host += sent_all(flight, now)
        elif step == "start" and with_host:
            flight.started(data.draw(st.sampled_from(with_host)).id, now)
        elif step == "answer" and with_host:
            answered = data.draw(st.sampled_from(with_host))
            assert flight.answered(answered.id, now) is answered
            assert flight.answered(answered.id, now) is None
            with_host.remove(answered)
            settled.add(answered.id)
        elif step == "end":
            lost = flight.line_ended(exact_end=data.draw(st.booleans()))
            with_host = []
            settled |= {gone.id for gone in lost}
        elif step == "late":
            settled |= {late.id for late in flight.give_up_late(now)}
        # Nothing is ever due before it is said to be.
        due = flight.wake_at()
        if due is not None and now < due - 1e-6:
            assert flight.overdue(now) is None
    left = {waiting.id for waiting in flight.give_up_waiting()}
    assert settled | left | {busy.id for busy in with_host} == set(range(submitted))
    assert not settled & left


def test_deep_history_is_not_begun_while_emergencies_come_and_not_held_for_ever() -> None:
    flight = Flight(in_flight_max=2, emergency_wait_s=0.25)
    flight.submit(call(1, Priority.EMERGENCY))
    flight.submit(call(2, Priority.HISTORY, method="copy_rates_range"))
    flight.submit(call(3, Priority.TICKS))
    assert [following.id for following in sent_all(flight)] == [1, 3]
    flight.answered(1, NOW)
    flight.answered(3, NOW)
    assert sent_all(flight, NOW + HISTORY_REST_S - 0.1) == []
    assert [following.id for following in sent_all(flight, NOW + HISTORY_REST_S)] == [2]

    flight.answered(2, NOW + HISTORY_REST_S)
    flight.submit(call(4, Priority.HISTORY))
    for second in range(int(HISTORY_HELD_MAX_S)):
        flight.submit(call(10 + second, Priority.EMERGENCY, at=NOW + second))
        assert [following.id for following in sent_all(flight, NOW + second)] == [10 + second]
        flight.answered(10 + second, NOW + second)
    assert [following.id for following in sent_all(flight, NOW + HISTORY_HELD_MAX_S)] == [4]


def test_history_that_was_cut_for_emergencies_is_asked_less_and_less_often() -> None:
    flight = Flight(in_flight_max=2, emergency_wait_s=0.25)
    now, rests = NOW, []
    for number in range(2 * len(HISTORY_RESTS_S)):
        flight.submit(call(number, Priority.HISTORY, at=now))
        begun = now
        while not (sent := sent_all(flight, begun)):
            begun += 0.5
        rests.append(begun - now)
        now = begun
        flight.cut(sent[0], now)
        flight.line_ended(exact_end=True)
    assert rests == [0.0, *HISTORY_RESTS_S, *[HISTORY_RESTS_S[-1]] * (len(HISTORY_RESTS_S) - 1)]
    now += HISTORY_RESTS_S[-1]
    flight.submit(call(1000, Priority.HISTORY, at=now))
    flight.answered(sent_all(flight, now)[0].id, now)
    flight.submit(call(1001, Priority.HISTORY, at=now))
    flight.cut(sent_all(flight, now)[0], now)
    flight.submit(call(1002, Priority.HISTORY, at=now))
    assert sent_all(flight, now + HISTORY_RESTS_S[0]), "one that got through begins anew"
