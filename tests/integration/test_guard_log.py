"""The guard and the log: commands by its lanes, two copies of the latch, a log that is away."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from events.alerts import Alert
from events.codec import encode
from events.decisions import ReferenceSet, RulesSet
from events.guarding import FlattenEnded
from events.log import Lane, LogUnavailable, NewEntry, Slot
from events.memory_log import MemoryLog
from events.redis import open_log
from events.rules import Rules
from events.settings import Settings, TerminalKind, TerminalSettings
from events.views.guard import guard_lines
from events.views.state import collect
from producers.guard.desk.sending import NobodyHeard, send
from producers.guard.ways.relay import GuardRelay
from producers.guard.ways.rules_file import RulesSource
from producers.spool.file import Spool
from producers.terminals.interface import NotSent
from tests.integration.guarding import (
    LOGIN,
    NAMESPACE,
    command,
    guard_of,
    guarded,
    hosted,
    market,
    open_positions,
    positions,
    resume,
    spec_of,
    told,
)
from tests.servers import RedisServer, wait_until

OPERATOR, RISK = Slot(NAMESPACE, "operator", 0), Slot(NAMESPACE, "risk", 0)


def latch_here(keeper: object) -> bool:
    return guard_of(keeper).latching.current is not None  # type: ignore[arg-type]  # a keeper


def test_commands_come_by_both_lanes_and_only_people_resume(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    log = open_log(redis_server.url)
    log.open_namespace(NAMESPACE)
    opening = lambda: open_log(redis_server.url)  # noqa: E731 - a connection of the guard's own
    with hosted(spec_of()) as client, guarded(client, tmp_path, open_log=opening) as keeper:
        open_positions(client, 2)
        claim = log.claim(RISK, "test", alive_within_s=0)
        why = {"breach": "daily loss", "reason": "daily loss reached"}
        flatten = command("flatten", issued_by="risk", expires_ms=2**45, arguments=why)
        log.append(claim, [encode(flatten)])
        wait_until(lambda: bool(told(keeper, FlattenEnded)), what="risk's flatten")
        assert positions(client) == 0
        log.append(claim, [encode(resume().model_copy(update={"issued_by": "risk"}))])
        wait_until(lambda: log.latches(NAMESPACE).read(LOGIN) is not None, what="the second copy")
        assert latch_here(keeper)
        log.post(OPERATOR, encode(resume()))
        wait_until(lambda: not latch_here(keeper), what="a human's resume")
        assert log.latches(NAMESPACE).read(LOGIN) is None
        log.post(OPERATOR, encode(command("halt")))
        wait_until(lambda: latch_here(keeper))
    log.close()


def test_a_latch_in_either_copy_latches(redis_server: RedisServer, tmp_path: Path) -> None:
    log = open_log(redis_server.url)
    log.open_namespace(NAMESPACE)
    opening = lambda: open_log(redis_server.url)  # noqa: E731 - a connection of the guard's own
    with hosted(spec_of()) as client:
        with guarded(client, tmp_path / "a", open_log=opening) as keeper:
            keeper.tell(command("halt", arguments={"reason": "first"}))
            wait_until(lambda: log.latches(NAMESPACE).read(LOGIN) is not None)
            held = log.latches(NAMESPACE).read(LOGIN)
            assert held is not None
            log.latches(NAMESPACE).clear(LOGIN, held.latch_id)  # the log lost its copy
            wait_until(lambda: log.latches(NAMESPACE).read(LOGIN) == held, what="written anew")
        # Another folder: the file is gone, the log's copy is not.
        with guarded(client, tmp_path / "b", open_log=opening) as keeper:
            wait_until(lambda: latch_here(keeper), what="found in the log")
            with pytest.raises(NotSent, match="halted: first"):
                client.call("order_send", market())
    log.close()


def test_with_redis_away_it_guards_and_resume_says_what_remains(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    log = open_log(redis_server.url)
    log.open_namespace(NAMESPACE)
    log.close()
    opening = lambda: open_log(redis_server.url)  # noqa: E731 - a connection of the guard's own
    with hosted(spec_of()) as client, guarded(client, tmp_path, open_log=opening) as keeper:
        guard = guard_of(keeper)
        wait_until(lambda: guard.latches is not None)
        open_positions(client, 1)
        redis_server.kill()
        try:
            assert keeper.tell(command("flatten")).accepted
            wait_until(lambda: bool(told(keeper, FlattenEnded)))
            assert positions(client) == 0
            answer = keeper.tell(resume())
            assert not answer.accepted
            assert "log's copy of the latch remains" in answer.text
            assert latch_here(keeper)
        finally:
            redis_server.start()
        wait_until(lambda: not guard.latching.missing_in_log, what="the copy follows")
        answer = keeper.tell(resume())
        assert answer.accepted, answer.text


def test_the_dead_man_blocks_until_the_log_is_heard_again(tmp_path: Path) -> None:
    away = [True]
    log = MemoryLog()
    log.open_namespace(NAMESPACE)

    def opening() -> MemoryLog:
        if away[0]:
            raise LogUnavailable("away")
        return log

    with hosted(spec_of()) as client, guarded(client, tmp_path, open_log=opening) as keeper:
        guard = guard_of(keeper)
        guard.set_rules(Rules.model_validate({"guard": {"dead_man_s": 0.5}}))
        wait_until(lambda: bool(guard.blocks.all()), what="it blocks")
        assert guard.state().state == "blocked"
        with pytest.raises(NotSent, match="dead-man switch: the log is silent"):
            client.call("order_send", market())
        away[0] = False
        wait_until(lambda: guard.blocks.all() == (), what="it ends by itself")
        assert [a.resolved for a in told(keeper, Alert) if a.topic == "dead_man"] == [False, True]


@pytest.mark.slow
def test_the_dead_man_flattens_where_rules_say_so(tmp_path: Path) -> None:
    with hosted(spec_of()) as client, guarded(client, tmp_path) as keeper:
        open_positions(client, 1)
        rules = {"guard": {"heartbeat_s": 0.5, "dead_man_flattens": True}}
        guard_of(keeper).set_rules(Rules.model_validate(rules))
        wait_until(lambda: bool(told(keeper, FlattenEnded)))
        assert positions(client) == 0
        assert latch_here(keeper)


@pytest.mark.slow
def test_a_heartbeat_file_keeps_the_dead_man_quiet(tmp_path: Path) -> None:
    with hosted(spec_of()) as client, guarded(client, tmp_path) as keeper:
        guard, beat = guard_of(keeper), tmp_path / "heartbeat"
        beat.write_text("0")
        guard.set_rules(Rules.model_validate({"guard": {"heartbeat_s": 1.0}}))
        count = [0]

        def beaten_for_a_while() -> bool:
            count[0] += 1
            beat.write_text(str(count[0]))
            return count[0] > 100

        wait_until(beaten_for_a_while)
        assert guard.blocks.all() == ()
        wait_until(lambda: bool(guard.blocks.all()), what="silence")


def test_a_stated_reference_raises_the_floor(tmp_path: Path) -> None:
    log = MemoryLog()
    log.open_namespace(NAMESPACE)
    rules = {"limits": [{"name": "max", "figure": "drawdown_peak", "limit": 5000, "of": "money",
                         "act": 5000, "action": "flatten", "hard": True}]}  # fmt: skip
    with hosted(spec_of()) as client:
        opened: Callable[[], MemoryLog] = lambda: log  # noqa: E731 - one log for all
        with guarded(client, tmp_path, rules=rules, open_log=opened) as keeper:
            guard = guard_of(keeper)
            wait_until(lambda: guard.watch.hard.floor == pytest.approx(95_000, abs=50))
            stated = ReferenceSet(event_time_ms=1, login=LOGIN, set_by="me", high_water=104_000)
            log.post(OPERATOR, encode(stated))
            wait_until(lambda: guard.watch.hard.floor == pytest.approx(99_000))


def test_the_relay_takes_each_row_over_once(tmp_path: Path) -> None:
    with hosted(spec_of()) as client, guarded(client, tmp_path) as keeper:
        spool = Spool(tmp_path / "spool.sqlite")
        relay = GuardRelay(keeper, spool)
        relay.start()
        keeper.tell(command("halt"))
        keeper.tell(resume())
        wait_until(lambda: spool.place(f"guard:{keeper.identity()}") == keeper.newest_row())
        relay.stop()
        again = GuardRelay(keeper, spool)
        again.step()
        entries = [one.entry for one in spool.after(0, 0, count_max=9999, bytes_max=1 << 30)]
        states = [entry for entry in entries if entry.type == "latch.1"]
        assert len(states) == 2
        assert all(entry.last is not None for entry in states)
        heard = [row.data for row in keeper.hear(0)]
        assert [entry.data for entry in entries] == heard[: len(entries)]
        spool.close()


def test_rules_are_followed_and_broken_ones_refused(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    good = (
        '[[limits]]\nname = "a"\nfigure = "daily_loss"\nlimit = 5\n'
        'action = "flatten"\nhard = true\n'
    )
    file.write_text(good)
    terminal = TerminalSettings(name="sim", kind=TerminalKind.SIMULATED, rules_file=str(file))
    source = RulesSource(Settings(_env_file=None), terminal)
    with hosted(spec_of()) as client, guarded(client, tmp_path / "g", source=source) as keeper:
        guard = guard_of(keeper)
        assert [limit.name for limit in guard.watch.rules.limits] == ["a"]
        file.write_text(good.replace("daily_loss", "dayly_loss"))
        wait_until(lambda: any(a.topic == "rules" for a in told(keeper, Alert)))
        assert [limit.name for limit in guard.watch.rules.limits] == ["a"], "they go on"
        file.write_text(good.replace('"a"', '"b"'))
        wait_until(lambda: guard.watch.rules.limits[0].name == "b")
        sets = told(keeper, RulesSet)
        assert [one.rules["limits"][0]["name"] for one in sets] == ["a", "b"]
        assert Rules.model_validate(sets[-1].rules) == guard.watch.rules


@pytest.mark.slow
def test_commands_of_other_terminals_are_not_ours(tmp_path: Path) -> None:
    log = MemoryLog()
    for name in (NAMESPACE, "other"):
        log.open_namespace(name)
    with hosted(spec_of()) as client:
        opened: Callable[[], MemoryLog] = lambda: log  # noqa: E731 - one log for all
        with guarded(client, tmp_path, open_log=opened) as keeper:
            log.post(Slot("other", "operator", 0), encode(command("halt")))
            log.post(OPERATOR, NewEntry(encode(command("halt")).lane, "nonsense.1", "k", b"{}"))
            marker = command("block", arguments={"reason": "seen"})
            log.post(OPERATOR, encode(marker))
            wait_until(lambda: bool(guard_of(keeper).blocks.all()))
            assert not latch_here(keeper)


def test_an_old_halt_in_a_log_never_read_is_no_news(tmp_path: Path) -> None:
    now = [1_000_000]
    log = MemoryLog(now_ms=lambda: now[0])  # ids of long ago
    log.open_namespace(NAMESPACE)
    log.post(OPERATOR, encode(command("halt")))
    with hosted(spec_of()) as client:
        opened: Callable[[], MemoryLog] = lambda: log  # noqa: E731 - one log for all
        with guarded(client, tmp_path, open_log=opened) as keeper:
            wait_until(lambda: guard_of(keeper).latches is not None)
            log.post(OPERATOR, encode(command("block", arguments={"reason": "seen"})))
            wait_until(lambda: bool(guard_of(keeper).blocks.all()))
            assert not latch_here(keeper)


def test_without_a_socket_commands_go_by_the_log(redis_server: RedisServer, tmp_path: Path) -> None:
    log = open_log(redis_server.url)
    log.open_namespace(NAMESPACE)
    claim = log.claim(Slot(NAMESPACE, "source", 0), "test", alive_within_s=0)
    settings = Settings(_env_file=None, bridge_state_dir=tmp_path / "elsewhere",
                        REDIS_URL=SecretStr(redis_server.url))  # fmt: skip
    terminal = TerminalSettings(name=NAMESPACE, kind=TerminalKind.SIMULATED)
    opening = lambda: open_log(redis_server.url)  # noqa: E731 - a connection of the guard's own
    lines: list[str] = []
    with (
        hosted(spec_of()) as client,
        guarded(client, tmp_path, open_log=opening) as keeper,
        ThreadPoolExecutor(1) as pool,
    ):
        open_positions(client, 1)
        sent = pool.submit(
            send, settings, terminal, command("flatten"), wait_s=30, tell=lines.append
        )
        row = [0]

        def relayed() -> bool:
            for one in keeper.hear(row[0]):
                last = one.data if one.keep_last else None
                log.append(claim, [NewEntry(Lane(one.lane), one.type, one.key, one.data, "", last)])
                row[0] = one.row
            return sent.done()

        wait_until(relayed, timeout_s=30)
        outcome = sent.result()
        assert (outcome.way, outcome.good) == ("log", True)
        assert "FLAT" in lines[-1]
        assert positions(client) == 0
        [shown] = collect(log)
        assert shown.latch is not None
        text = [" ".join(line) for line in guard_lines(shown)]
        assert text[0].startswith("HALTED flatten (by test), until bridgectl resume")
        assert any(line.startswith("flatten FLAT") for line in text)
    log.close()


def test_a_command_that_nobody_can_hear_says_what_to_do(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, bridge_state_dir=tmp_path,
                        REDIS_URL=SecretStr("redis://127.0.0.1:1/0"))  # fmt: skip
    terminal = TerminalSettings(name=NAMESPACE, kind=TerminalKind.SIMULATED)
    with pytest.raises(NobodyHeard, match=f"flatten --terminal {NAMESPACE} --direct"):
        send(settings, terminal, command("flatten"), wait_s=1, tell=lambda _: None)
