"""A handler that fails on everything: its task halts, and the entries wait for a better one."""

from __future__ import annotations

import random
from typing import ClassVar

import pytest

from consumers.failures.letters import letters
from consumers.failures.request import halted_at
from consumers.replay.verification import verify_task
from consumers.runtime.group import Group
from consumers.runtime.handler import FAILURES_MAX
from events.log import Lane, NewEntry
from tests.unit.test_failures import (
    NORMAL,
    TASK,
    Counted,
    answers,
    ask,
    clock,
    counts,
    gap,
    notes,
    owned,
    run,
    run_once,
    world,
)
from tests.unit.test_unordered import Note, World


class Brittle(Counted):
    failures_max: ClassVar[int] = 3


class Unbroken(Counted):
    failures_max: ClassVar[int] = 0


UNREADABLE = NewEntry(Lane.NORMAL, "ticks.1", "X", b"\x00")


def test_a_task_halts_with_the_last_of_too_many_failures_in_a_row() -> None:
    log, claim = world()
    log.append(claim, [clock(), *(gap("raise") for _ in range(FAILURES_MAX + 20)), clock()])
    task = owned(log)
    halted = run(task)[-1].halted
    assert f"{FAILURES_MAX} entries in a row failed: correct the handler" in halted
    assert "ZeroDivisionError" in halted
    found = letters(log, [TASK])
    assert len(found) == FAILURES_MAX
    assert halted_at(halted) == found[-1].failed.place
    assert [letter.failed.halted for letter in found[-2:]] == [False, True]
    assert counts(log) == [1]


def test_one_success_begins_the_count_anew() -> None:
    log, claim = world()
    log.append(claim, [gap("raise"), gap("raise"), clock()] * 5)
    task = owned(log, Brittle, entries_max=4)
    assert not run(task)[-1].halted
    assert len(letters(log, [TASK])) == 10
    assert counts(log) == [1, 2, 3, 4, 5]


def test_entries_that_cannot_be_read_count_once_however_often_a_batch_is_begun() -> None:
    log, claim = world()
    log.append(claim, [UNREADABLE, gap("raise"), clock(), UNREADABLE, UNREADABLE, UNREADABLE])
    halted = run(owned(log, Brittle))[-1].halted
    assert "3 entries in a row failed" in halted
    assert halted_at(halted) == f"{NORMAL}@1000-5"


def test_any_number_may_fail_where_the_handler_says_so() -> None:
    log, claim = world()
    log.append(claim, [gap("raise") for _ in range(FAILURES_MAX + 20)])
    assert not run(owned(log, Unbroken))[-1].halted
    assert len(letters(log, [TASK])) == FAILURES_MAX + 20


def test_a_corrected_handler_takes_up_where_the_broken_one_halted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, claim = world()
    log.append(claim, [*(gap("raise") for _ in range(9)), clock()])
    task = owned(log, Brittle)
    place = halted_at(run(task)[-1].halted)
    ask(log, "retry", place)
    assert run_once(owned(log, Brittle)).halted, "it is still broken"
    monkeypatch.setattr(Counted, "mended", True)
    ask(log, "retry", place, name="r2")
    task = owned(log, Brittle)
    assert run_once(task).halted == ""
    run(task)
    assert counts(log) == list(range(1, 9)), "two went before it halted"
    assert answers(log) == [("failed", ""), ("handled", "")]
    for number, letter in enumerate(letters(log, [TASK])):
        ask(log, "retry", letter.failed.place, name=f"again{number}")
        run_once(owned(log, Brittle))
    assert counts(log) == list(range(1, 11))
    assert letters(log, [TASK]) == []
    assert ("halted", place) in notes(log)


@pytest.mark.parametrize("seed", range(8))
def test_a_replay_derives_the_same_though_it_counts_nothing(seed: int) -> None:
    chance = random.Random(seed)
    log, claim = world()
    log.append(claim, [gap("raise") if chance.random() < 0.7 else clock() for _ in range(60)])
    halts = 0
    for number in range(200):
        task = owned(log, Brittle)  # another process each time: the count begins at 0
        run(task)
        if not task.halted:
            break
        halts += 1
        action = chance.choice(["drop", "retry", "drop"])
        ask(log, action, halted_at(task.halted), name=f"r{number}")
        run_once(owned(log, Brittle))
    assert halts > 2, seed
    group = Group("counted", Brittle)
    found = verify_task(log, group, group.specs(log)[0])
    assert found.same, (seed, found)


def test_without_an_order_entries_wait_for_a_handler_that_bears_one_of_them(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BrittleNote(Note):
        failures_max: ClassVar[int] = 3
        raises: ClassVar[frozenset[int]] = frozenset(range(1, 9))

    tried = World(BrittleNote)
    tried.feed(8)
    consumer = tried.consumer()
    for _ in range(20):
        assert not consumer.turn()
        tried.now += 6.0
    assert "3 entries or more in a row failed" in consumer.progress.waiting
    assert sum("the handler does not take" in r.message for r in caplog.records) == 1
    assert tried.dead() == []
    monkeypatch.setattr(BrittleNote, "raises", frozenset(range(1, 8)))
    tried.drain(consumer)
    assert tried.numbers() == [8]
    assert len(tried.dead()) == 7
    assert consumer.progress.waiting == ""
