"""Things break at the very moment of a breach, or a latch: real servers and programs."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event as Signal
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import SecretStr

import bridgectl as roof
from events.alerts import Alert
from events.codec import decode
from events.decisions import Command, LimitBreach, RiskMetrics, RulesSet
from events.guarding import FlattenEnded
from events.log import LogError, Slot
from events.postgres import DatabaseError
from events.redis import open_log
from events.settings import Settings, TerminalKind, TerminalSettings
from producers.guard.desk.sending import NobodyHeard
from producers.guard.ways.asking import GuardLine
from producers.guard.ways.rules_file import RulesSource
from producers.terminals.client import open_client
from producers.terminals.interface import NotSent, Priority
from producers.terminals.spec import TerminalSpec
from tests.conftest import REDIS_KINDS
from tests.integration.guarding import (
    LOGIN,
    NAMESPACE,
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
from tests.integration.test_guard_process import (
    NAME,
    PATIENCE_S,
    bridgectl,
    broker,
    environment,
    guard_folder,
    guard_is_up,
    program,
    terminals_file,
)
from tests.servers import RedisServer, redis_binaries, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills processes as POSIX does")


@pytest.fixture(scope="module")
def locked_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that wants a password."""
    if not REDIS_KINDS:
        pytest.skip("no Redis binary comes from pip for this system")
    binary = redis_binaries()[REDIS_KINDS[0]]
    folder = tmp_path_factory.mktemp("locked")
    server = RedisServer(binary, folder, ["--requirepass", "right"])
    try:
        yield server.start()
    finally:
        server.stop()


GOOD = (
    '[[limits]]\nname = "{name}"\nfigure = "daily_loss"\nlimit = 5\naction = "flatten"\n'
    "hard = true\n"
)


def rules_of(folder: Path, limit: str) -> None:
    (folder / "rules.toml").write_text(
        f"[account]\ninitial_balance = 100_000\nhigh_water = 100_000\n[[limits]]\n{limit}\n"
        'action = "flatten"\nlock = "manual"\n'
    )
    (folder / "none.env").write_text(f"RISK_RULES={folder / 'rules.toml'}\n")


def test_redis_that_ends_at_the_moment_of_a_breach_delays_nothing(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    log = open_log(redis_server.url)
    log.open_namespace(NAMESPACE)
    log.close()
    opening = lambda: open_log(redis_server.url)  # noqa: E731 - a connection of the guard's own
    with (
        hosted(spec_of()) as client,
        guarded(client, tmp_path, rules=HARD, open_log=opening) as keeper,
    ):
        wait_until(lambda: guard_of(keeper).latches is not None)
        open_positions(client, 2)
        redis_server.kill()
        try:
            inject(client, kind="price_jump", symbols=(SYMBOL,), percent=-20.0)
            wait_until(lambda: bool(told(keeper, FlattenEnded)), what="the flatten ends")
            assert [one.state for one in told(keeper, FlattenEnded)] == ["FLAT"]
            assert positions(client) == 0
        finally:
            redis_server.start()
        wait_until(lambda: not guard_of(keeper).latching.missing_in_log, what="the copy follows")
        log = open_log(redis_server.url)
        found = log.latches(NAMESPACE).read(LOGIN)
        log.close()
        assert found == guard_of(keeper).latching.current


def test_a_log_that_forgot_the_latch_or_shows_an_old_one_frees_nothing(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    log = open_log(redis_server.url)
    log.open_namespace(NAMESPACE)
    opening = lambda: open_log(redis_server.url)  # noqa: E731 - a connection of the guard's own
    latches = log.latches(NAMESPACE)
    with hosted(spec_of()) as client, guarded(client, tmp_path, open_log=opening) as keeper:
        latching = guard_of(keeper).latching
        keeper.tell(command("halt", arguments={"reason": "kept"}))
        wait_until(lambda: latches.read(LOGIN) is not None, what="the second copy")
        old = latches.read(LOGIN)
        log.client.flushall()
        assert latching.current == old, "the file holds it"
        wait_until(lambda: latches.read(LOGIN) == old, what="written anew")
        wait_until(lambda: keeper.tell(resume()).accepted, what="both are cleared")
        assert latches.read(LOGIN) is None
        assert latching.current is None
        assert old is not None
        latches.set(old)  # an older copy of the whole server is restored
        wait_until(lambda: latching.current == old, what="either copy latches")
        wait_until(lambda: keeper.tell(resume()).accepted, what="both are cleared")
        assert (latches.read(LOGIN), latching.current) == (None, None)
    log.close()


@pytest.mark.slow
def test_a_server_restored_from_before_the_latch_frees_nothing_and_is_told_again(
    tmp_path: Path,
) -> None:
    """A whole older copy of the server: its log knows nothing of the latch that was set since."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(redis_binaries()[REDIS_KINDS[0]], folder).start()
    try:
        log = open_log(server.url)
        log.open_namespace(NAMESPACE)
        log.client.save()
        old = (folder / "dump.rdb").read_bytes()
        opening = lambda: open_log(server.url)  # noqa: E731 - a connection of the guard's own
        with hosted(spec_of()) as client, guarded(client, tmp_path, open_log=opening) as keeper:
            latching = guard_of(keeper).latching
            keeper.tell(command("halt", arguments={"reason": "since the copy"}))
            wait_until(lambda: log.latches(NAMESPACE).read(LOGIN) is not None)
            log.close()
            server.kill()
            shutil.rmtree(folder / "appendonlydir")
            (folder / "dump.rdb").write_bytes(old)
            server.options = ["--appendonly", "no"]
            server.start()
            log = open_log(server.url)
            held = latching.current
            assert held is not None, "the file holds it"
            with pytest.raises(NotSent, match="since the copy"):
                client.call("order_send", market(), priority=Priority.TRADE)
            wait_until(
                lambda: log.latches(NAMESPACE).read(LOGIN) == held,
                what="the log is told again",
            )
            wait_until(lambda: keeper.tell(resume()).accepted, what="both are cleared")
            assert log.latches(NAMESPACE).read(LOGIN) is None
            assert guard_of(keeper).latching.current is None
        log.close()
    finally:
        server.stop()


@pytest.mark.slow
def test_rules_that_are_written_ten_times_a_second_half_of_them_broken_stay_rules(
    tmp_path: Path,
) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(GOOD.format(name="good"))
    terminal = TerminalSettings(name="sim", kind=TerminalKind.SIMULATED, rules_file=str(file))
    source, stop = RulesSource(Settings(_env_file=None), terminal), Signal()

    def write() -> None:
        number = 0
        while not stop.wait(0.1):
            number += 1
            good = GOOD.format(name=f"good {number}")
            file.write_text(good if number % 2 else good[: len(good) // 2] + "\x00 = [")

    with hosted(spec_of()) as client, guarded(client, tmp_path / "g", source=source) as keeper:
        writer, begun = Thread(target=write), time.monotonic()
        writer.start()
        try:
            seen: set[str] = set()

            def followed() -> bool:
                limits = guard_of(keeper).watch.rules.limits
                assert len(limits) == 1, "rules hold at every moment"
                seen.add(limits[0].name)
                return len(seen) > 3

            wait_until(followed, what="good ones are followed")
        finally:
            stop.set()
            writer.join()
        took_s = time.monotonic() - begun
        alerts = [one for one in told(keeper, Alert) if one.topic == "rules"]
        assert len(alerts) <= 2 * took_s + 2, "one when it breaks, one when it is good again"
        file.write_text(GOOD.format(name="last"))
        wait_until(lambda: guard_of(keeper).watch.rules.limits[0].name == "last")


@pytest.mark.slow
def test_group_risk_killed_at_the_moment_of_a_breach_acts_on_it_once_when_it_is_back(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    terminals_file(tmp_path)
    rules_of(tmp_path, 'name = "lots"\nfigure = "lots_open"\nact = 0.25')
    log, url = open_log(redis_server.url), redis_server.url

    def said(writer: str, kind: type) -> list[Any]:
        lanes = Slot(NAME, writer, 0).streams()
        events = [decode(one) for lane in lanes for one in log.between(lane, count_max=10_000)]
        return [event for event in events if isinstance(event, kind)]

    group = ("consume", "--group", "risk", "--plain", "--lease", "2")
    with broker(tmp_path) as other, program(tmp_path, url, "produce", "--terminal", NAME):
        wait_until(lambda: guard_is_up(tmp_path), timeout_s=PATIENCE_S, what="a guard")
        wait_until(lambda: bool(said("source", RulesSet)), timeout_s=PATIENCE_S, what="rules")
        with program(tmp_path, url, *group) as consumer:
            wait_until(lambda: bool(said("risk", RiskMetrics)), timeout_s=PATIENCE_S)
            open_positions(other, 3)
            consumer.kill()
        with program(tmp_path, url, *group):
            wait_until(lambda: bool(said("source", FlattenEnded)), timeout_s=PATIENCE_S)
        assert positions(other) == 0
        [breach] = said("risk", LimitBreach)
        flattens = [one for one in said("risk", Command) if one.verb == "flatten"]
        assert [one.arguments["breach_id"] for one in flattens] == [breach.breach_id]
        assert {one.command_id for one in said("source", FlattenEnded)} == {flattens[0].command_id}
        why = bridgectl(tmp_path, url, "why", "last:limit_breach", "--json")
        assert why.returncode == 0, why.stderr
        at, chain = json.loads(why.stdout)["chain"][-1], []
        while at["effects"]:
            at = at["effects"][-1]
            chain.append(at["entry"]["type"].partition(".")[0])
        assert [one for one in dict.fromkeys(chain)] == [
            "command", "latch", "flatten_step", "flatten_ended",
        ]  # fmt: skip
    log.close()


@pytest.mark.slow
def test_a_link_cut_in_the_middle_of_a_breach_keeps_nothing_open(tmp_path: Path) -> None:
    serve = ["terminal", "serve", "--terminal", NAME, "--listen", "127.0.0.1:0", "--json"]
    terminals_file(tmp_path)
    rules_of(tmp_path, 'name = "max"\nfigure = "drawdown_absolute"\nlimit = 1.0\nhard = true')
    with program(tmp_path, "redis://127.0.0.1:1/0", *serve) as server:
        assert server.stdout is not None
        facts = json.loads(server.stdout.readline())
        spec = TerminalSpec(kind="remote", address=facts["listen"], token=SecretStr(facts["token"]))
        with open_client(spec) as client:
            client.wait_until_up(20)
            wait_until(lambda: guard_is_up(tmp_path), timeout_s=PATIENCE_S, what="a guard")
            open_positions(client, 3)
            inject(client, kind="price_jump", symbols=(SYMBOL,), percent=-20.0)

        def flat() -> bool:
            with GuardLine(guard_folder(tmp_path)) as line:
                return any(row.type == "flatten_ended.1" for row in line.hear(0))

        wait_until(flat, timeout_s=PATIENCE_S, what="flat without a link")
        with GuardLine(guard_folder(tmp_path)) as line:
            state, _ = line.state()
            assert state is not None
            assert (state.positions, state.latched) == (0, True)


@pytest.mark.slow
def test_a_second_producer_of_a_terminal_ends_with_one_line_and_the_first_goes_on(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    terminals_file(tmp_path)
    url = redis_server.url
    with program(tmp_path, url, "produce", "--terminal", NAME):
        wait_until(lambda: guard_is_up(tmp_path), timeout_s=PATIENCE_S, what="a guard")
        second = bridgectl(tmp_path, url, "produce", "--terminal", NAME)
        assert second.returncode != 0
        told_why = [one for one in second.stderr.splitlines() if one.startswith("bridgectl:")]
        assert len(told_why) == 1, second.stderr
        assert "Traceback" not in second.stderr
        assert guard_is_up(tmp_path), "the first one guards"


COMMANDS = [
    ("status",), ("positions",), ("trades",), ("analytics",), ("why", "last:deal"),
    ("why", "--ticket", "5"), ("alerts", "list"), ("risk", "status"), ("risk", "headroom"),
    ("risk", "reference", "set", "--terminal", "sim", "--initial", "1", "--reason", "r"),
    ("risk", "what-if", "rules.toml"), ("halt",), ("flatten", "--yes"),
    ("resume", "--account", "1"), ("execution", "status"), ("dlq", "list"), ("groups", "list"),
]  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    "password", [pytest.param("wrong-s3cret", id="wrong"), pytest.param("", id="none")]
)
def test_a_wrong_password_is_one_line_in_every_command(
    locked_redis: RedisServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    password: str,
) -> None:
    terminals_file(tmp_path)
    rules_of(tmp_path, 'name = "max"\nfigure = "drawdown_absolute"\nlimit = 1.0')
    login = f":{password}@" if password else ""
    url = f"redis://{login}127.0.0.1:{locked_redis.port}/0"
    for name, value in environment(tmp_path, url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("POSTGRES_URL", "postgresql://u:wrong-s3cret@127.0.0.1:1/x")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(roof.cli, [*words])
    assert done.exit_code != 0
    error = done.exception
    said = done.output if isinstance(error, SystemExit) else f"{done.output}{error}"
    assert isinstance(error, SystemExit | LogError | NobodyHeard | DatabaseError), repr(error)
    assert "s3cret" not in said
    assert "password" in said.lower(), said
