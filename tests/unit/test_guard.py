"""The guard's parts without a terminal: judging commands, two copies, blocks, silence, figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from events.alerts import Alert
from events.codec import decode_data
from events.decisions import Command
from events.guarding import FlattenEnded, LatchChanged
from events.latch import Latch, MemoryLatches
from events.log import LogUnavailable
from producers.guard.commands import judge_command, scope_of
from producers.guard.jobs import Job, Jobs, Stopped
from producers.guard.journal import Journal
from producers.guard.latching import Latching, StillLatched
from producers.guard.voice import Voice
from producers.guard.watch.blocks import BLOCKS_MAX, Block, Blocks
from producers.guard.watch.dead_man import DeadMan
from producers.guard.watch.figures import figures_of
from producers.guard.watch.looking import Look
from producers.terminals import constants as mt5
from producers.terminals.client.order_gate import may_open
from producers.terminals.structs import AccountInfo, TradePosition
from tests.servers import wait_until

LOGIN = 42
NOW_MS = 1_800_000_000_000


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "j.sqlite")
    yield opened
    opened.close()


def command(verb: str, **more: Any) -> Command:
    return Command.model_validate(
        {"event_time_ms": NOW_MS, "command_id": "c", "verb": verb, "issued_by": "me", **more}
    )


def latch(latch_id: str, *, until_ms: int | None = None) -> Latch:
    return Latch(
        login=LOGIN, latch_id=latch_id, reason="r", by="b", since_ms=1,
        lock="manual" if until_ms is None else "until_reset", until_ms=until_ms,
    )  # fmt: skip


class Away(MemoryLatches):
    """A copy that nobody can reach."""

    def read(self, login: int) -> Latch | None:
        raise LogUnavailable("away")


# --- commands


@pytest.mark.parametrize(
    ("verb", "via", "more", "what"),
    [
        ("halt", "socket", {}, "obey"),
        ("halt", "operator", {"expires_ms": 1}, "obey"),
        ("flatten", "risk", {"expires_ms": NOW_MS + 1}, "obey"),
        ("flatten", "risk", {"expires_ms": NOW_MS - 1}, "stale"),
        ("reduce", "operator", {"expires_ms": NOW_MS - 1}, "stale"),
        ("block", "risk", {"expires_ms": NOW_MS - 1}, "refuse"),
        ("flatten", "operator", {"event_time_ms": NOW_MS - 301_000}, "stale"),
        ("flatten", "operator", {"event_time_ms": NOW_MS - 299_000}, "obey"),
        ("flatten", "socket", {"event_time_ms": 0}, "obey"),
        ("flatten", "socket", {"login": LOGIN + 1}, "refuse"),
        ("flatten", "socket", {"arguments": {"magic": "7", "symbol": "X"}}, "refuse"),
        ("flatten", "socket", {"arguments": {"magic": "seven"}}, "refuse"),
        ("backfill", "operator", {}, "refuse"),
        ("resume", "socket", {"arguments": {"typed_login": LOGIN}}, "obey"),
        ("resume", "operator", {"arguments": {"typed_login": str(LOGIN)}}, "obey"),
        ("resume", "socket", {"arguments": {"typed_login": LOGIN + 1}}, "refuse"),
        ("resume", "socket", {}, "refuse"),
        ("resume", "risk", {"arguments": {"typed_login": LOGIN}}, "refuse"),
        ("resume", "guard", {"arguments": {"typed_login": LOGIN}}, "refuse"),
        ("resume", "socket", {"expires_ms": 1, "arguments": {"typed_login": LOGIN}}, "refuse"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_commands_are_judged(verb: str, via: Any, more: dict[str, Any], what: str) -> None:
    judged = judge_command(command(verb, **more), login=LOGIN, via=via, now_ms=NOW_MS)
    assert judged.what == what, judged


def test_the_end_of_a_block_is_never_too_late_and_a_block_may_be() -> None:
    late_ms = NOW_MS + 3_600_000
    end = command("block", expires_ms=NOW_MS + 60_000, arguments={"until_ms": NOW_MS})
    assert judge_command(end, login=LOGIN, via="risk", now_ms=late_ms).what == "obey"
    for until_ms in (None, NOW_MS + 1):
        begin = command("block", expires_ms=NOW_MS + 60_000, arguments={"until_ms": until_ms})
        assert judge_command(begin, login=LOGIN, via="risk", now_ms=late_ms).what == "refuse"


def test_scopes_are_named() -> None:
    assert scope_of(command("flatten")) == "account"
    assert scope_of(command("flatten", arguments={"magic": str(2**64 - 1)})) == f"magic={2**64 - 1}"
    assert scope_of(command("flatten", arguments={"symbol": "XAUUSD"})) == "symbol=XAUUSD"


@pytest.mark.parametrize(
    ("request_", "opens"),
    [
        ({"action": mt5.TRADE_ACTION_DEAL}, True),
        ({"action": mt5.TRADE_ACTION_DEAL, "position": 0}, True),
        ({"action": mt5.TRADE_ACTION_DEAL, "position": 5}, False),
        ({"action": mt5.TRADE_ACTION_PENDING}, True),
        ({"action": mt5.TRADE_ACTION_MODIFY, "order": 5}, True),
        ({"action": mt5.TRADE_ACTION_SLTP, "position": 5}, False),
        ({"action": mt5.TRADE_ACTION_REMOVE, "order": 5}, False),
        ({"action": mt5.TRADE_ACTION_CLOSE_BY, "position": 5}, False),
        ({"action": 99}, True),
        ({}, True),
    ],
    ids=str,
)
def test_the_gate_knows_what_may_open(request_: dict[str, Any], opens: bool) -> None:
    assert may_open(request_) is opens


# --- the latch


def latching(journal: Journal, now_ms: int = NOW_MS) -> Latching:
    return Latching(journal, login=LOGIN, terminal="t", now_ms=lambda: now_ms)


def test_the_copy_in_the_log_follows_and_is_written_anew(journal: Journal) -> None:
    store, two = MemoryLatches(), latching(journal)
    two.set(latch("a"))
    assert two.missing_in_log
    assert two.sync(store) is None
    assert store.read(LOGIN) == latch("a")
    store.clear(LOGIN, "a")
    two.sync(store)
    assert store.read(LOGIN) == latch("a")


def test_a_latch_found_only_in_the_log_holds(journal: Journal) -> None:
    store, two = MemoryLatches(), latching(journal)
    store.set(latch("theirs"))
    assert two.sync(store) == latch("theirs")
    assert two.current == latch("theirs")
    assert journal.read(LOGIN) == latch("theirs")
    assert latching(journal).current == latch("theirs"), "and after a restart"


def test_a_stricter_latch_replaces_and_a_weaker_one_does_not(journal: Journal) -> None:
    two = latching(journal)
    assert two.set(latch("day", until_ms=NOW_MS + 5)) == latch("day", until_ms=NOW_MS + 5)
    assert two.set(latch("for good")) == latch("for good")
    assert two.set(latch("day 2", until_ms=NOW_MS + 9)) == latch("for good")
    assert two.current == latch("for good")


def test_resume_clears_both_or_neither(journal: Journal) -> None:
    store, two = MemoryLatches(), latching(journal)
    two.set(latch("a"))
    with pytest.raises(StillLatched, match="log's copy of the latch remains"):
        two.clear(Away(), by="me")
    assert two.current is not None
    store.set(latch("another"))
    with pytest.raises(StillLatched, match="another latch was set meanwhile in the log"):
        two.clear(store, by="me")
    assert two.current is not None
    store.clear(LOGIN, "another")
    two.sync(store)
    assert two.clear(store, by="me") == latch("a")
    assert [two.current, store.read(LOGIN), journal.read(LOGIN)] == [None] * 3
    told = [decode_data(row.type, row.key, row.data) for row in journal.hear(0)]
    assert [event.latched for event in told if isinstance(event, LatchChanged)] == [True, False]


def test_a_latch_that_ended_by_itself_is_not_taken_from_the_log_again(journal: Journal) -> None:
    store, two = MemoryLatches(), latching(journal)
    store.set(latch("old", until_ms=NOW_MS - 1))
    assert two.sync(store) is None
    assert two.current is None
    assert store.read(LOGIN) is None


def test_a_latch_of_another_process_on_the_same_file_is_not_cleared(
    journal: Journal, tmp_path: Path
) -> None:
    two = latching(journal)
    two.set(latch("a"))
    other = Journal(tmp_path / "j.sqlite")
    other.set(latch("b"))
    with pytest.raises(StillLatched, match="guard's own file"):
        two.clear(None, by="me")
    assert two.current == latch("b")
    other.close()


# --- blocks, silence, figures


def test_blocks_begin_and_end_each_by_its_cause() -> None:
    blocks = Blocks()
    assert blocks.set(Block("news", "n", "me", 100))
    assert not blocks.set(Block("news", "n", "me", 100)), "nothing new"
    assert blocks.set(Block("blind", "b", "guard"))
    assert [block.cause for block in blocks.all()] == ["blind", "news"], "the longest first"
    assert [block.cause for block in blocks.end_due(100)] == ["news"]
    assert blocks.end("blind")
    assert not blocks.end("blind")
    for number in range(BLOCKS_MAX + 5):
        blocks.set(Block(f"c{number}", "", ""))
    assert len(blocks.all()) == BLOCKS_MAX


def test_blocks_that_last_are_restored() -> None:
    blocks, again = Blocks(), Blocks()
    blocks.set(Block("command", "news", "me", 9))
    blocks.set(Block("blind", "b", "guard"))
    again.restore([*blocks.lasting()])
    assert again.all() == (Block("command", "news", "me", 9),)
    broken = Blocks()
    broken.restore([{}])
    assert broken.all(), "what cannot be read blocks all the same"


def test_the_dead_man_watches_what_is_set_and_counts_from_the_start() -> None:
    switch = DeadMan(100.0)
    assert switch.look(1e9, dead_man_s=None, heartbeat_s=None) == (False, "", None)
    assert switch.look(104.0, dead_man_s=5.0, heartbeat_s=None).left_s == pytest.approx(1.0)
    assert switch.look(105.0, dead_man_s=5.0, heartbeat_s=None).tripped
    switch.heard_log(105.0)
    assert not switch.look(109.0, dead_man_s=5.0, heartbeat_s=None).tripped
    both = switch.look(109.0, dead_man_s=5.0, heartbeat_s=3.0)
    assert both.tripped
    assert "heartbeat" in both.reason


def position(ticket: int, symbol: str, side: int, lots: float, profit: float) -> Any:
    fields = dict.fromkeys(TradePosition.FIELDS, 0) | {
        "ticket": ticket, "symbol": symbol, "type": side, "volume": lots, "profit": profit,
        "magic": 7, "comment": "", "external_id": "",
    }  # fmt: skip
    return TradePosition(tuple(fields[name] for name in TradePosition.FIELDS))


def look(positions: tuple[Any, ...] | None, *, margin: float = 0.0) -> Look:
    fields = dict.fromkeys(AccountInfo.FIELDS, 0) | {
        "login": LOGIN, "balance": 1000.0, "equity": 940.0, "credit": 10.0, "margin": margin,
    }  # fmt: skip
    account = AccountInfo(tuple(fields[name] for name in AccountInfo.FIELDS))
    return Look(account, positions, (), True, NOW_MS)


def test_figures_from_the_terminal_alone() -> None:
    held = (position(1, "EURUSD", 0, 0.5, -80.0), position(2, "EURUSD", 1, 0.2, 10.0))
    found = figures_of(look(held, margin=200.0), cost_of_closing=3.0)
    assert found["floating"] == pytest.approx(-70.0)
    assert found["margin_level_percent"] == pytest.approx(470.0)
    assert found["lots_open"] == pytest.approx(0.7)
    assert found["symbol_lots_net:EURUSD"] == pytest.approx(0.3)
    assert found["symbol_loss:EURUSD"] == pytest.approx(70.0)
    assert found["magic_lots:7"] == pytest.approx(0.7)
    assert found["position_loss_max"] == pytest.approx(80.0)
    assert found["positions_without_stop"] == 2


def test_without_positions_the_margin_level_is_unknown_not_zero() -> None:
    found = figures_of(look(()))
    assert found["margin_level_percent"] is None
    assert found["positions_open"] == 0
    assert "positions_open" not in figures_of(look(None)), "unknown lists are not empty ones"


# --- what it says, and what it closes


def test_an_alert_is_told_once_while_it_holds_and_when_it_is_over(journal: Journal) -> None:
    paged: list[Alert] = []
    voice = Voice(
        journal, terminal="t", now_ms=lambda: NOW_MS, log_silent_s=lambda: 60.0, page=paged.append
    )
    voice.resolve("blind", "never told")
    for _ in range(3):
        voice.alert("critical", "blind", "cannot read")
    voice.resolve("blind", "can read")
    told = [decode_data(row.type, row.key, row.data) for row in journal.hear(0)]
    alerts = [event for event in told if isinstance(event, Alert)]
    assert [(one.severity, one.resolved) for one in alerts] == [("critical", False), ("info", True)]
    assert [one.text for one in paged] == ["cannot read"], "past the log, which is silent"


def test_what_lasts_is_not_told_in_ever_new_words(journal: Journal) -> None:
    now = [0.0]
    voice = Voice(
        journal, terminal="t", now_ms=lambda: NOW_MS, log_silent_s=lambda: 0.0,
        monotonic=lambda: now[0],
    )  # fmt: skip
    for number in range(50):
        voice.alert("critical", "blind", f"trouble {number}")
    voice.alert("critical", "limit_breach", "a", about="a")
    voice.alert("critical", "limit_breach", "b", about="b")
    now[0] = 61.0
    voice.alert("critical", "blind", "still")
    told = [decode_data(row.type, row.key, row.data) for row in journal.hear(0)]
    assert [one.text for one in told if isinstance(one, Alert)] == ["trouble 0", "a", "b", "still"]


def test_nothing_is_paged_past_a_log_that_answers(journal: Journal) -> None:
    paged: list[Alert] = []
    voice = Voice(
        journal, terminal="t", now_ms=lambda: NOW_MS, log_silent_s=lambda: 0.0, page=paged.append
    )
    voice.alert("critical", "blind", "cannot read")
    assert paged == []


class Hands:
    """A closer that does nothing; fails or waits when told to."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.fail = False
        self.kept = True

    def close(self, job: Job) -> FlattenEnded | None:
        self.done.append(job.scope)
        if self.fail:
            raise RuntimeError("no hands")
        return FlattenEnded(
            event_time_ms=1, login=LOGIN, terminal="t", flatten_id="f", state="FLAT"
        )

    def go_on(self) -> FlattenEnded | None:
        self.done.append("go on")
        raise Stopped("stopped")

    def settled(self) -> bool:
        return False

    def tend(self) -> FlattenEnded | None:
        self.done.append("tend")
        return None

    def forget(self) -> None:
        self.done.append("forget")

    def stop(self) -> None:
        """Nothing runs long here."""

    def make_way(self) -> None:
        self.done.append("make way")


def test_jobs_go_on_where_a_process_died_and_survive_failures() -> None:
    hands = Hands()
    ended: list[FlattenEnded] = []
    failed: list[str] = []
    jobs = Jobs(
        hands, latched=lambda: True, on_ended=ended.append,
        on_failure=lambda what, error: failed.append(what),
    )  # fmt: skip
    jobs.start()
    wait_until(lambda: hands.done[:1] == ["go on"] and jobs.running is None)
    hands.fail = True
    assert jobs.add(Job("symbol=X", "why", "me", 1))
    wait_until(lambda: failed == ["why"] and jobs.running is None)
    hands.fail = False
    assert jobs.add(Job("account", "why", "me", 1))
    wait_until(lambda: len(ended) == 1)
    wait_until(lambda: "tend" in hands.done, what="what was closed is looked after")
    jobs.stop()


def test_a_job_covers_smaller_ones() -> None:
    whole, part = Job("account", "", "", 0), Job("symbol=X", "", "", 0)
    reduce = Job("account", "", "", 0, "", command("reduce"))
    assert whole.covers(part)
    assert not part.covers(whole)
    assert not reduce.covers(whole)
    assert part.covers(part)
