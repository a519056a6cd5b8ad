"""The guard against what should not be: broken commands, crowds, twins, orders that pretend."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from threading import Event as Signal
from types import SimpleNamespace
from typing import Any, cast

import pytest

from events.codec import encode
from events.decisions import Command
from events.guarding import FlattenEnded
from events.latch import Latch, UnreachedLatches
from events.log import OPERATOR, Log, LogUnavailable, Slot
from events.memory_log import MemoryLog
from producers.guard.commands import until_of
from producers.guard.jobs import GOING_ON, LOOKING_AFTER, Job, Jobs
from producers.guard.journal import Journal, open_journal
from producers.guard.latching import Latching, StillLatched
from producers.guard.watch.blocks import BLOCKS_MAX, MORE, Block, Blocks
from producers.guard.watch.looking import ends
from producers.guard.ways.asking import GuardLine
from producers.guard.ways.following import LogFollower
from producers.guard.ways.socket_server import CONNECTIONS_MAX, GuardSocket
from producers.terminals import constants as mt5
from tests.servers import wait_until

NOW_MS = 1_800_000_000_000


def command(verb: str, id: str = "c", **arguments: Any) -> Command:
    told = {"verb": verb, "command_id": id, "arguments": arguments}
    return Command.model_validate({"event_time_ms": NOW_MS, "issued_by": "me", **told})


def latch(latch_id: str) -> Latch:
    return Latch(login=1, latch_id=latch_id, reason="r", by="b", since_ms=1)


# --- commands


@pytest.mark.parametrize("given", ["abc", 1e400, [1], {}, "", "12x"], ids=str)
def test_a_time_that_is_none_makes_a_lock_that_a_human_ends(given: Any) -> None:
    assert until_of(command("flatten", until_ms=given)) is None


class Obedient:
    """Follows the log; cannot bear one command."""

    def __init__(self) -> None:
        self.obeyed: list[str] = []

    def tell(self, command: Command, via: str) -> None:
        if command.command_id == "broken":
            raise ValueError("cannot be borne")
        self.obeyed.append(command.command_id)

    def place(self, stream: object) -> None:
        return None

    def __getattr__(self, name: str) -> Callable[..., bool]:
        return lambda *_: False


def test_a_command_that_cannot_be_borne_does_not_hide_those_behind_it() -> None:
    log = MemoryLog()
    log.open_namespace("sim")
    for id in ("first", "broken", "last"):
        log.post(Slot("sim", OPERATOR, 0), encode(command("halt", id)))
    followed = Obedient()

    def opened() -> Log:
        return log

    follower = LogFollower(
        cast(Any, followed), opened, namespace="sim", wall=lambda: log.now_ms() / 1000
    )
    follower.start()
    try:
        wait_until(lambda: "last" in followed.obeyed)
    finally:
        follower.stop()
    assert followed.obeyed == ["first", "last"]


# --- orders


def order(**more: Any) -> dict[str, Any]:
    return {
        "action": mt5.TRADE_ACTION_DEAL, "position": 5, "symbol": "EURUSD", "type": 1,
        "volume": 0.5, **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "only_ends"),
    [
        ({}, True),
        ({"volume": 0.2}, True),
        ({"volume": 0.6}, False),
        ({"volume": 0.0}, False),
        ({"volume": float("nan")}, False),
        ({"volume": "much"}, False),
        ({"volume": None}, False),
        ({"type": 0}, False),
        ({"symbol": "GBPUSD"}, False),
        ({"symbol": None}, False),
    ],
    ids=str,
)
def test_an_order_that_only_pretends_to_close_is_one_that_opens(
    more: dict[str, Any], only_ends: bool
) -> None:
    held = SimpleNamespace(ticket=5, symbol="EURUSD", type=0, volume=0.5)
    assert ends(order(**more), held) is only_ends


# --- blocks


def test_a_block_is_not_shortened_by_another_of_its_cause() -> None:
    blocks = Blocks()
    assert blocks.set(Block("window", "the day", "risk", 900))
    assert blocks.set(Block("window", "news", "risk", 100))
    assert blocks.all() == (Block("window", "news", "risk", 900),)
    assert blocks.set(Block("window", "for good", "risk", None))
    blocks.set(Block("window", "news", "risk", 950))
    assert blocks.all()[0].until_ms is None
    assert blocks.end("window")


def test_causes_beyond_what_is_kept_block_until_a_human_ends_it() -> None:
    blocks = Blocks()
    for number in range(BLOCKS_MAX * 2):
        blocks.set(Block(f"c{number}", "", "", 100 + number))
    assert len(blocks.all()) == BLOCKS_MAX
    blocks.end_due(10_000)
    assert [block.cause for block in blocks.all()] == [MORE]


def test_a_block_about_a_symbol_is_about_it_alone_and_survives_as_such() -> None:
    gold = Block("risk:window:news/XAUUSD", "news", "risk", 900, "XAUUSD")
    assert gold.about("XAUUSD")
    assert not gold.about("EURUSD")
    assert gold.about(None), "an order that names none may be about it"
    again = Blocks()
    blocks = Blocks()
    blocks.set(gold)
    again.restore([*blocks.lasting()])
    assert again.all() == (gold,)


# --- jobs


class SlowHands:
    """A closer that is still going on with what an earlier process left."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.free = Signal()

    def go_on(self) -> None:
        self.free.wait(20)

    def close(self, job: Job) -> FlattenEnded | None:
        self.done.append(job.scope)
        return None

    def settled(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Callable[[], None]:
        return lambda: None


def test_a_flatten_is_not_lost_while_another_one_is_gone_on_with() -> None:
    hands = SlowHands()
    jobs = Jobs(
        cast(Any, hands), latched=lambda: True, on_ended=lambda _: None, on_failure=lambda *_: None
    )  # fmt: skip
    jobs.start()
    try:
        assert jobs.add(Job("symbol=X", "", "", 0))
        assert jobs.add(Job("account", "", "", 0)), "what an earlier process left may be a part"
        assert not jobs.add(Job("symbol=Y", "", "", 0)), "all of it is asked for"
        hands.free.set()
        wait_until(lambda: hands.done == ["account"], what="what it covers is not run before it")
    finally:
        hands.free.set()
        jobs.stop()
    assert not GOING_ON.covers(Job("account", "", "", 0))
    assert not LOOKING_AFTER.covers(Job("symbol=X", "", "", 0))


# --- a log that was never reached


def test_a_log_never_reached_is_one_whose_copy_may_remain(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    two = Latching(journal, login=1, terminal="t", now_ms=lambda: NOW_MS)
    two.set(latch("a"))
    with pytest.raises(LogUnavailable):
        UnreachedLatches().read(1)
    with pytest.raises(StillLatched, match="log's copy of the latch remains"):
        two.clear(UnreachedLatches(), by="me")
    assert two.current is not None
    journal.close()


# --- a memory that is damaged, or cannot be written


def test_a_damaged_journal_is_moved_aside_and_one_that_cannot_be_made_is_memory(
    tmp_path: Path,
) -> None:
    path = tmp_path / "7.sqlite"
    path.write_bytes(b"no database at all" * 100)
    journal, trouble = open_journal(path)
    assert "not a database" in trouble
    assert [one.name for one in tmp_path.glob("7.sqlite.broken-*")]
    journal.set_facts({"a": 1})
    journal.close()
    again, fine = open_journal(path)
    assert (again.fact("a"), fine) == (1, "")
    again.close()
    (tmp_path / "file").write_text("no folder")
    memory, trouble = open_journal(tmp_path / "file" / "7.sqlite")
    assert "check the folder" in trouble
    memory.set(latch("a"))
    assert memory.read(1) == latch("a"), "it holds as long as the process does"
    memory.close()


def test_a_damage_behind_the_first_page_is_seen_too(tmp_path: Path) -> None:
    path = tmp_path / "7.sqlite"
    journal = Journal(path)
    for number in range(200):
        journal.take_command(f"{number}" * 50, verb="halt", by="me", accepted=True, text="x" * 99)
    journal.close()
    whole = bytearray(path.read_bytes())
    whole[4096 * 6 :] = b"\xff" * (len(whole) - 4096 * 6)
    path.write_bytes(whole)
    opened, trouble = open_journal(path)
    assert "malformed" in trouble
    opened.close()


def test_a_latch_that_cannot_be_read_latches_until_a_human_ends_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    journal.set_facts({"latch:1": {"login": "nonsense"}})
    two = Latching(journal, login=1, terminal="t", now_ms=lambda: NOW_MS)
    assert two.current is not None
    assert "cannot be read" in two.current.reason
    assert two.clear(None, by="me") is not None
    assert journal.read(1) is None
    journal.close()


# --- its socket


class Nobody:
    """Answers what a guard without an account answers."""

    def state(self) -> None:
        return None

    def newest_row(self) -> int:
        return 7

    def identity(self) -> str:
        return ""


def test_lines_that_say_nothing_keep_nobody_out(tmp_path: Path) -> None:
    served = GuardSocket(cast(Any, Nobody()), tmp_path)
    served.start()
    silent = [
        socket.create_connection(("127.0.0.1", served.port)) for _ in range(CONNECTIONS_MAX * 3)
    ]
    try:
        with GuardLine(tmp_path) as line:
            assert line.state() == (None, 7)
            more = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(30)]
            assert line.state() == (None, 7), "who showed the token stays"
            silent += more
    finally:
        for one in silent:
            one.close()
        served.close()
