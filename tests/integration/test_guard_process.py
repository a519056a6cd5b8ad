"""The guard in real programs: killed between two closes, reached with everything dead, far away."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from events.codec import decode, encode
from events.guarding import FlattenEnded, FlattenStep
from events.latch import Latch
from events.log import Lane, Slot
from events.memory_log import MemoryLog
from events.redis import open_log
from events.settings import Settings, TerminalKind, TerminalSettings
from producers.guard.desk.direct import send_directly
from producers.guard.far_keeper import FarKeeper
from producers.guard.journal import Journal
from producers.guard.keeper import GuardKeeper
from producers.guard.ways.asking import GuardLine, NoGuard
from producers.guard.ways.far import FarGuard
from producers.guard.ways.relay import GuardRelay
from producers.guard.ways.rules_file import RulesSource
from producers.spool.file import Spool
from producers.terminals.client import HostClient, HostLimits, open_client
from producers.terminals.interface import NotSent, Priority
from producers.terminals.spec import TerminalSpec
from producers.terminals.wire import Kind, pack
from tests.integration.guarding import (
    LOGIN,
    SYMBOL,
    command,
    guarded,
    hosted,
    inject,
    market,
    open_positions,
    positions,
    resume,
    spec_of,
)
from tests.servers import RedisServer, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills processes as POSIX does")

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
NAME = "sim"


def terminals_file(folder: Path, **options: Any) -> Path:
    """One simulated terminal with a broker that remembers, and nobody else trading there."""
    made = spec_of(**options).options
    body = {"kind": "simulated", "symbols": [SYMBOL], "clock": "America/New_York+7h"}
    lines = ["[terminals.sim]", *(f"{name} = {json.dumps(value)}" for name, value in body.items())]
    lines += ["[terminals.sim.options]"]
    kept = {"latency": made["latency"], "selected": [SYMBOL], "trader": {"every_s": 86400.0},
            "memory": str(folder / "broker.memory")}  # fmt: skip
    lines += [f"{name} = {_toml(value)}" for name, value in kept.items()]
    path = folder / "terminals.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + "}"
    return json.dumps(value)


def environment(folder: Path, redis_url: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "BRIDGE_STATE_DIR": str(folder / "state"),
        "BRIDGE_ENV_FILE": str(folder / "none.env"),
        "BRIDGE_TERMINALS": str(folder / "terminals.toml"),
        "REDIS_URL": redis_url,
    }


@contextmanager
def program(folder: Path, redis_url: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    (folder / "none.env").touch()
    process = subprocess.Popen(
        [sys.executable, "-m", "bridgectl", *words], cwd=folder, text=True,
        env=environment(folder, redis_url), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_S)


def bridgectl(folder: Path, redis_url: str, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "none.env").touch()
    return subprocess.run(
        [sys.executable, "-m", "bridgectl", *words], cwd=folder, text=True, timeout=PATIENCE_S * 2,
        env=environment(folder, redis_url), capture_output=True, stdin=subprocess.DEVNULL,
        check=False,
    )  # fmt: skip


def guard_folder(folder: Path) -> Path:
    return folder / "state" / "guard" / NAME


@contextmanager
def broker(folder: Path) -> Iterator[HostClient]:
    """A second process on the same account."""
    with hosted(spec_of(memory=str(folder / "broker.memory"))) as client:
        yield client


def guard_is_up(folder: Path) -> bool:
    try:
        with GuardLine(guard_folder(folder)) as line:
            state, _ = line.state()
            return state is not None and state.positions is not None
    except NoGuard:
        return False


def test_killed_between_two_closes_the_next_one_goes_on_and_ends_flat(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    terminals_file(tmp_path, latency="native")
    with broker(tmp_path) as other:
        open_positions(other, 5)
    with program(tmp_path, redis_server.url, "produce", "--terminal", NAME) as first:
        wait_until(lambda: guard_is_up(tmp_path), timeout_s=PATIENCE_S, what="a guard")
        with GuardLine(guard_folder(tmp_path)) as line:
            _, row = line.state()
            assert line.tell(command("flatten")).accepted

            def closing() -> bool:
                rows = line.hear(row)
                return sum(one.type == "flatten_step.1" and b'"close"' in one.data
                           for one in rows) >= 2  # fmt: skip

            wait_until(closing, timeout_s=PATIENCE_S, what="two closes")
            first.kill()
    with program(tmp_path, redis_server.url, "produce", "--terminal", NAME):
        log = open_log(redis_server.url)
        stream = Slot(NAME, "source", 0).stream(Lane.CRITICAL)

        def found(kind: type) -> list[Any]:
            events = [decode(entry) for entry in log.between(stream, count_max=10_000)]
            return [event for event in events if isinstance(event, kind)]

        wait_until(lambda: bool(found(FlattenEnded)), timeout_s=PATIENCE_S, what="the end")
        assert found(FlattenEnded)[-1].state == "FLAT"
        closed = [step.ticket for step in found(FlattenStep) if step.outcome == "done" and
                  step.step == "close"]  # fmt: skip
        assert len(closed) == len(set(closed)), "no close was sent twice"
        assert log.latches(NAME).read(LOGIN) is not None
        log.close()
    with broker(tmp_path) as other:
        assert positions(other) == 0
        deals = other.call("history_deals_get", 0, 2**40).value
        assert sum(deal.entry == 0 and deal.symbol == SYMBOL for deal in deals) == 5
        assert sum(deal.entry == 1 for deal in deals) == 5


def test_direct_flattens_with_redis_and_producer_dead(tmp_path: Path) -> None:
    terminals_file(tmp_path)
    dead_url = "redis://127.0.0.1:1/0"
    with broker(tmp_path) as other:
        open_positions(other, 3)
        refused = bridgectl(tmp_path, dead_url, "flatten", "--yes", "--json")
        assert refused.returncode == 1
        assert "--direct" in refused.stderr
        done = bridgectl(tmp_path, dead_url, "flatten", "--direct", "--yes", "--json")
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert (result["state"], result["way"], result["positions"]) == ("FLAT", "direct", 0)
        assert positions(other) == 0
    journal = Journal(guard_folder(tmp_path) / f"{LOGIN}.sqlite")
    assert journal.read(LOGIN) is not None, "and it stays latched"
    journal.close()
    answer = bridgectl(tmp_path, dead_url, "resume", "--direct", "--account", str(LOGIN))
    assert answer.returncode == 1
    assert "log's copy of the latch remains" in answer.stdout


@pytest.mark.slow
def test_direct_leaves_a_guard_that_answers_alone(tmp_path: Path) -> None:
    terminals_file(tmp_path)
    spec = spec_of(memory=str(tmp_path / "broker.memory"))
    with hosted(spec) as client, guarded(client, guard_folder(tmp_path)) as keeper:
        refused = bridgectl(tmp_path, "redis://127.0.0.1:1/0", "halt", "--direct")
        assert refused.returncode == 1
        assert "leave --direct out" in refused.stderr
        assert f"process {os.getpid()}" in refused.stderr
        done = bridgectl(tmp_path, "redis://127.0.0.1:1/0", "halt", "--json")
        assert json.loads(done.stdout)["way"] == "socket"
        assert keeper.guard is not None
        assert keeper.guard.latching.current is not None


def test_strangers_at_the_socket_get_nothing(tmp_path: Path) -> None:
    with hosted(spec_of()) as client, guarded(client, tmp_path) as keeper:
        address = json.loads((tmp_path / "address").read_text())
        assert (tmp_path / "address").stat().st_mode & 0o077 == 0

        def said(*frames: bytes) -> bytes:
            with socket.create_connection((address["host"], address["port"]), 5) as line:
                line.settimeout(5)
                for frame in frames:
                    line.sendall(frame)
                found = b""
                try:
                    while part := line.recv(65536):
                        found += part
                except ConnectionResetError:
                    pass
                return found

        wrong = pack((int(Kind.HELLO), 1, "not the token"))
        assert b"wrong token" in said(wrong)
        right = pack((int(Kind.HELLO), 1, address["token"]))
        assert said(b"\xff\xff\xff\xff" + b"x" * 100) == b""
        assert b"tell" not in said(right, b"\x7f\xff\xff\xff")
        assert keeper.guard is not None
        assert keeper.guard.latching.current is None
        with GuardLine(tmp_path) as line, pytest.raises(NoGuard, match="could not do it"):
            line._call("guard_tell", "no command")
        with GuardLine(tmp_path) as line:
            assert line.state()[0] is not None
    with pytest.raises(NoGuard, match="no guard runs here"):
        GuardLine(tmp_path)


def test_a_far_guard_guards_without_the_link_and_is_told_over_it(tmp_path: Path) -> None:
    serve = ["terminal", "serve", "--terminal", NAME, "--listen", "127.0.0.1:0", "--json"]
    terminals_file(tmp_path)
    with program(tmp_path, "redis://127.0.0.1:1/0", *serve) as server:
        assert server.stdout is not None
        facts = json.loads(server.stdout.readline())
        assert facts["guard"] is True
        spec = TerminalSpec(kind="remote", address=facts["listen"], token=SecretStr(facts["token"]))
        journal = Journal(tmp_path / "bridge" / "far.journal")
        with open_client(spec, limits=replace(HostLimits(), call_s=20.0)) as client:
            client.wait_until_up(20)
            assert client.state().facts["guard"] is True
            far = FarGuard(client, journal)
            wait_until(lambda: far.state() is not None, what="its account")
            open_positions(client, 1)
            assert far.tell(command("halt", arguments={"reason": "over the link"})).accepted
            with pytest.raises(NotSent, match="halted: over the link"):
                client.call("order_send", market(), priority=Priority.TRADE)
            assert not far.tell(resume(), "risk").accepted, "a program does not resume"
            rows = far.hear(0)
            assert [row.type for row in rows if row.type == "latch.1"] == ["latch.1"]
            # Somebody else, past the bridge that controls the terminal.
            host, port = facts["listen"].split(":")
            terminal = TerminalSettings(
                name=NAME, kind=TerminalKind.REMOTE, host=host, port=int(port),
                token=SecretStr(facts["token"]),
            )  # fmt: skip
            settings = Settings(_env_file=None, bridge_state_dir=tmp_path / "other")
            outcome = send_directly(
                settings, terminal, command("halt"), wait_s=30, tell=lambda _: None
            )
            assert (outcome.accepted, outcome.way) == (True, "direct")
            assert far.tell(command("flatten")).accepted
        # The link is cut; the guard goes on beside the terminal.
        line_folder = guard_folder(tmp_path)

        def flat() -> bool:
            with GuardLine(line_folder) as line:
                return any(row.type == "flatten_ended.1" for row in line.hear(0))

        wait_until(flat, timeout_s=PATIENCE_S, what="flat without a link")
        with GuardLine(line_folder) as line:
            state, _ = line.state()
            assert state is not None
            assert (state.positions, state.latched) == (0, True)
            assert line.tell(resume()).accepted
        journal.close()


def test_a_hung_terminal_does_not_keep_the_gate_open(tmp_path: Path) -> None:
    """A 36 s cold history call in front of everything: the latch is set at once all the same."""
    with hosted(spec_of()) as client, guarded(client, tmp_path) as keeper:
        open_positions(client, 1)
        inject(client, kind="slow", methods=("copy_rates_range",), seconds=36.0)
        slow = client.submit("copy_rates_range", SYMBOL, 1, 0, 10, priority=Priority.HISTORY)
        wait_until(lambda: client.state().running == "copy_rates_range")
        begun = time.monotonic()
        assert keeper.tell(command("halt")).accepted
        with pytest.raises(NotSent, match="halted"):
            client.call("order_send", market(), priority=Priority.TRADE)
        assert time.monotonic() - begun < 10.0
        slow.cancel()


@pytest.mark.slow
def test_the_log_keeps_the_second_copy_of_a_far_latch(tmp_path: Path) -> None:
    log = MemoryLog()
    log.open_namespace(NAME)
    latches = log.latches(NAME)
    operator = Slot(NAME, "operator", 0)
    serve = ["terminal", "serve", "--terminal", NAME, "--listen", "127.0.0.1:0", "--json"]
    terminals_file(tmp_path)
    with program(tmp_path, "redis://127.0.0.1:1/0", *serve) as server:
        assert server.stdout is not None
        facts = json.loads(server.stdout.readline())
        spec = TerminalSpec(kind="remote", address=facts["listen"], token=SecretStr(facts["token"]))
        rules = tmp_path / "rules.toml"
        limit = 'name = "max"\nfigure = "equity"\nact = 5.0\naction = "flatten"\nhard = true\n'
        rules.write_text(f"[[limits]]\n{limit}")
        terminal = TerminalSettings(name=NAME, kind=TerminalKind.SIMULATED, rules_file=str(rules))
        with open_client(spec, limits=replace(HostLimits(), call_s=20.0)) as client:
            keeper = FarKeeper(
                client, tmp_path / "bridge", make_near=_no_near, open_log=lambda: log,
                namespace=NAME, rules=RulesSource(Settings(_env_file=None), terminal),
            )  # fmt: skip
            relay = GuardRelay(keeper, spool := Spool(tmp_path / "spool.sqlite"))
            keeper.start()
            relay.start()
            try:
                assert keeper.known.wait(30)
                log.post(operator, encode(command("halt", arguments={"reason": "by the log"})))
                wait_until(lambda: latches.read(LOGIN) is not None, what="the second copy")
                log.post(operator, encode(resume(LOGIN)))
                wait_until(lambda: latches.read(LOGIN) is None, what="both are cleared")
                found = Latch(login=LOGIN, latch_id="x", reason="only in the log", by="b",
                              since_ms=1)  # fmt: skip
                latches.set(found)

                def halted() -> bool:
                    state = keeper.state()
                    return state is not None and state.latched and state.reason == found.reason

                wait_until(halted, what="the far guard latches too")
                wait_until(lambda: any(
                    one.entry.type == "rules.1"
                    for one in spool.after(0, 0, count_max=999, bytes_max=1 << 30)
                ), what="the bridge's rules hold there")  # fmt: skip
            finally:
                keeper.stop()
                relay.stop()
                keeper.close()
                spool.close()


def _no_near() -> GuardKeeper:
    raise AssertionError("the server has a guard")
