"""What a guard does one after the other: flattens that take over, resumes, restarts, windows."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Event as Signal
from threading import Thread

import pytest

from events.alerts import Alert
from events.decisions import LimitBreach
from events.guarding import FlattenEnded, FlattenStep, LatchChanged
from producers.guard.commands import Answer
from producers.guard.flatten.intents import FLATTEN_FACT
from producers.guard.keeper import GuardKeeper
from producers.guard.ways.asking import GuardLine
from producers.terminals.interface import NotSent
from tests.integration.guarding import (
    SYMBOL,
    command,
    guard_of,
    guarded,
    hosted,
    inject,
    market,
    open_positions,
    positions,
    resume,
    spec_of,
    told,
)
from tests.integration.test_guard import HARD
from tests.servers import wait_until

AT_ONCE_S = 3.0
"""Far less than what is not to be waited for, and much on a busy machine."""


def steps_of(keeper: GuardKeeper, command_id: str) -> list[FlattenStep]:
    return [step for step in told(keeper, FlattenStep) if step.command_id == command_id]


def test_a_flatten_of_the_account_does_not_wait_for_one_of_a_part(tmp_path: Path) -> None:
    with hosted(spec_of()) as client, guarded(client, tmp_path) as keeper:
        open_positions(client, 2)
        inject(client, kind="market_closed", symbols=(SYMBOL,))
        part = command("flatten", arguments={"magic": "7"})
        assert keeper.tell(part).accepted
        wait_until(lambda: any(one.retcode == 10018 for one in steps_of(keeper, part.command_id)))
        whole, asked = command("flatten"), time.monotonic()
        assert "latched, closing: account" in keeper.tell(whole).text
        wait_until(lambda: bool(steps_of(keeper, whole.command_id)), what="it has begun")
        assert time.monotonic() - asked < AT_ONCE_S
        client.call("clear", "market_closed")

        def flat() -> bool:
            return any(e.command_id == whole.command_id for e in told(keeper, FlattenEnded))

        wait_until(flat, what="the account is flat")
        ended = told(keeper, FlattenEnded)[-1]
        assert (ended.scope, ended.took_over) == ("account", (part.command_id,))
        assert not any(e.command_id == part.command_id for e in told(keeper, FlattenEnded))
        wait_until(lambda: positions(client) == 0)


def test_a_command_does_not_wait_for_a_resume_that_stops_a_flatten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hosted(spec_of()) as client, guarded(client, tmp_path) as keeper:
        open_positions(client, 1)
        inject(client, kind="slow", methods=("order_send",), seconds=3.0, calls_max=1)
        keeper.tell(command("flatten"))
        wait_until(lambda: client.state().running == "order_send")
        answers: list[Answer] = []
        jobs, cancelled = guard_of(keeper).jobs, Signal()
        cancel = jobs.cancel

        def told_to_stop() -> None:
            cancel()
            cancelled.set()

        monkeypatch.setattr(jobs, "cancel", told_to_stop)
        resuming = Thread(target=lambda: answers.append(keeper.tell(resume(stop_flatten=True))))
        resuming.start()
        assert cancelled.wait(20)
        asked = time.monotonic()
        assert keeper.tell(command("halt", arguments={"reason": "no"})).accepted
        assert resuming.is_alive(), "it waits"
        assert time.monotonic() - asked < AT_ONCE_S
        resuming.join(40)
        [answer] = answers
        assert not answer.accepted
        assert "came meanwhile" in answer.text
        assert guard_of(keeper).latching.current is not None


def test_a_resume_that_stops_a_flatten_has_longer_to_answer_than_other_commands(
    tmp_path: Path,
) -> None:
    with hosted(spec_of()) as client, guarded(client, tmp_path) as keeper:
        open_positions(client, 2)
        inject(client, kind="slow", methods=("order_send",), seconds=4.0, calls_max=1)
        keeper.tell(command("flatten"))
        wait_until(lambda: client.state().running == "order_send")
        with GuardLine(tmp_path, answer_s=2.0) as line:
            answer = line.tell(resume(stop_flatten=True))
            assert answer.accepted, answer.text
            assert line.state()[0] is not None, "the line goes on"
        assert guard_of(keeper).latching.current is None


def test_a_resume_while_a_limit_is_still_reached_is_refused_and_says_which(tmp_path: Path) -> None:
    with hosted(spec_of()) as client, guarded(client, tmp_path, rules=HARD) as keeper:
        open_positions(client, 1)
        inject(client, kind="price_jump", symbols=(SYMBOL,), percent=-20.0)
        wait_until(lambda: bool(told(keeper, FlattenEnded)), what="the flatten ends")
        wait_until(lambda: guard_of(keeper).jobs.running is None)
        refused = keeper.tell(resume())
        assert not refused.accepted
        for part in (
            "max loss",
            "drawdown_absolute is ",
            "limit 900.00",
            "--despite",
            "reference set",
        ):
            assert part in refused.text
        assert guard_of(keeper).latching.current is not None
        breaches = len(told(keeper, LimitBreach))
        done = keeper.tell(resume(despite=True))
        assert done.accepted, done.text
        assert "acts again at the next look" in done.text
        wait_until(lambda: len(told(keeper, LimitBreach)) > breaches, what="it latches again")


@pytest.mark.slow
def test_what_a_latch_set_off_names_it(tmp_path: Path) -> None:
    with hosted(spec_of()) as client, guarded(client, tmp_path, rules=HARD) as keeper:
        open_positions(client, 1)
        inject(client, kind="price_jump", symbols=(SYMBOL,), percent=-20.0)
        wait_until(lambda: bool(told(keeper, FlattenEnded)), what="the flatten ends")
        [breach], [latch] = told(keeper, LimitBreach), told(keeper, LatchChanged)
        assert breach.breach_id == latch.breach_id != ""
        ended = told(keeper, FlattenEnded)[0]
        assert {one.latch_id for one in (*told(keeper, FlattenStep), ended)} == {latch.latch_id}


def test_an_account_that_is_latched_and_flat_is_only_looked_after_by_who_comes_next(
    tmp_path: Path,
) -> None:
    with hosted(spec_of()) as client:
        with guarded(client, tmp_path) as keeper:
            open_positions(client, 1)
            keeper.tell(command("flatten"))
            wait_until(lambda: bool(told(keeper, FlattenEnded)))
        for _ in range(2):  # each ends in the middle of its first sweeps
            with guarded(client, tmp_path) as keeper:
                wait_until(lambda: guard_of(keeper).watch.newest_ms > 0)
                assert guard_of(keeper).state().state != "flattening"
        with guarded(client, tmp_path) as keeper:
            kept = guard_of(keeper).journal.fact(FLATTEN_FACT)
            assert kept["account"]["state"] == "FLAT"
            row, again = keeper.newest_row(), command("flatten")
            assert "latched, closing" in keeper.tell(again).text
            wait_until(lambda: bool(steps_of(keeper, again.command_id)))
            wait_until(lambda: guard_of(keeper).jobs.running is None)
            rows = keeper.hear(row)
            assert sum(one.type.startswith("flatten_ended") for one in rows) == 1, "one run"


def test_the_guard_closes_ahead_of_a_window_and_stops_what_it_is_about_alone(
    tmp_path: Path,
) -> None:
    with hosted(spec_of()) as client, guarded(client, tmp_path) as keeper:
        open_positions(client, 1)
        guard = guard_of(keeper)
        at_ms = guard.now_ms() + 120_000
        window = {"name": "news", "times": [{"at_ms": at_ms, "name": "CPI"}], "block": True,
                  "flatten_before_minutes": 5, "after_minutes": 5, "symbols": [SYMBOL]}  # fmt: skip
        guard.set_rules(guard.watch.rules.model_validate({"windows": [window]}))
        wait_until(lambda: bool(told(keeper, FlattenEnded)), what="it is closed, by no group")
        assert positions(client) == 0
        assert guard.latching.current is None, "the account is not latched"
        with pytest.raises(NotSent, match="blocked: news CPI"):
            client.call("order_send", market())
        assert not guard.gate(market(symbol="EURUSD"), False)
        assert guard.state().blocked_only == (SYMBOL,)
        assert guard.state().state == "watching"
        assert [a.topic for a in told(keeper, Alert) if a.severity == "warning"] == ["window"]
        assert len(told(keeper, FlattenEnded)) == 1
