"""A terminal host as a real process: hung, killed, orphaned, flooded; and what its client does."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from producers.terminals.attach import Attachment, WrongAccount
from producers.terminals.client import Attach, HostClient, HostLimits, HostState, open_client
from producers.terminals.client.link import LocalLink
from producers.terminals.interface import (
    AttachRefused,
    NotSent,
    Priority,
    Reply,
    TerminalHung,
    TerminalLost,
    TerminalUnusable,
)
from producers.terminals.spec import TerminalSpec
from producers.terminals.wire import WireError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the scripted host is POSIX")

SCRIPTED = (sys.executable, "-m", "tests.integration.scripted_host")
LIMITS = HostLimits(call_s=1.0, order_s=1.0, wait_s=20.0, backoff_s=(0.02, 0.05))
PATIENCE_S = 20.0
Open = Callable[..., HostClient]


@pytest.fixture
def scripted() -> Iterator[Open]:
    """Opens clients of scripted hosts; none may leave a process or thread behind."""
    clients: list[HostClient] = []
    pids: set[int] = set()

    def remember(state: HostState) -> None:
        if state.pid is not None:
            pids.add(state.pid)

    def opened(
        *,
        limits: HostLimits = LIMITS,
        attach: Attach | None = None,
        command: tuple[str, ...] = SCRIPTED,
        **fields: Any,
    ) -> HostClient:
        spec = TerminalSpec(kind="native", **fields)
        client = HostClient(
            lambda: LocalLink(spec, command=command),
            limits=limits,
            attach=attach,
            on_state=remember,
        )
        clients.append(client)
        return client

    yield opened
    for client in clients:
        client.close()
    assert [pid for pid in pids if exists(pid)] == []
    assert [thread.name for thread in threading.enumerate() if "terminal" in thread.name] == []


def exists(pid: int) -> bool:
    """Also true for a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def until(done: Callable[[], bool], *, what: str) -> None:
    """Wait for a condition."""
    due = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < due, f"{what}: not after {PATIENCE_S} s"
        time.sleep(0.005)


def started(client: HostClient) -> None:
    """Wait until the host works on a call."""
    until(lambda: client.state().running is not None, what="a running call")


def names(futures: list[Future[Reply]]) -> list[str]:
    _, waiting = wait(futures, timeout=PATIENCE_S)
    assert not waiting
    return [future.result().value.name for future in futures]


def test_a_hung_call_is_cut_and_all_others_are_served_by_a_new_host(scripted: Open) -> None:
    client = scripted()
    client.wait_until_up(PATIENCE_S)
    first_pid = client.state().pid
    begun = time.monotonic()
    hung = client.submit("symbol_info", "hang")
    others = [client.submit("symbol_info", f"S{number}") for number in range(50)]
    with pytest.raises(TerminalHung, match=r"symbol_info did not return within 1 s"):
        hung.result(PATIENCE_S)
    assert time.monotonic() - begun < 6.0
    assert names(others) == [f"S{number}" for number in range(50)]
    state = client.state()
    assert (state.timeouts, state.restarts) == (1, 1)
    assert state.pid != first_pid
    assert "did not return" in state.last_error


def test_a_hung_terminal_holds_up_no_other_terminal(scripted: Open) -> None:
    hanging, steady = scripted(), scripted()
    hung = hanging.submit("symbol_info", "hang")
    started(hanging)
    begun = time.monotonic()
    for number in range(50):
        assert steady.call("symbol_info", f"S{number}").value.name == f"S{number}"
    assert not hung.done() or time.monotonic() - begun > LIMITS.call_s
    with pytest.raises(TerminalHung):
        hung.result(PATIENCE_S)
    assert steady.state().restarts == 0


@pytest.mark.parametrize("death", ["die", "crash"])
def test_a_host_that_dies_loses_the_call_it_had_begun_and_no_other(
    scripted: Open, death: str
) -> None:
    client = scripted()
    lost = client.submit("symbol_info", death)
    others = [client.submit("symbol_info", f"S{number}") for number in range(20)]
    with pytest.raises(TerminalLost) as error:
        lost.result(PATIENCE_S)
    assert not isinstance(error.value, (TerminalHung, NotSent))
    assert "exit code -" in str(error.value)
    assert names(others) == [f"S{number}" for number in range(20)]


@pytest.mark.parametrize("kills_max", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_hosts_killed_at_random_moments_lose_no_answer_and_answer_nothing_twice(
    scripted: Open, kills_max: int
) -> None:
    seed = time.time_ns()
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    moments = random.Random(seed)
    client = scripted(limits=replace(LIMITS, wait_s=600.0))
    futures = [client.submit("symbol_info", f"sleep 0.0{n % 3}") for n in range(50 * kills_max)]
    kills = 0
    while kills < kills_max:
        state = client.state()
        if state.state == "up" and state.pid is not None:
            time.sleep(moments.uniform(0.0, 0.1))
            os.kill(state.pid, signal.SIGKILL)
            kills += 1
            until(lambda pid=state.pid: client.state().pid != pid, what="a new host")  # type: ignore[misc]
    outcomes = {"answered": 0, "lost": 0}
    for number, future in enumerate(futures):
        try:
            assert future.result(PATIENCE_S).value.name == f"sleep 0.0{number % 3}"
            outcomes["answered"] += 1
        except TerminalLost:
            outcomes["lost"] += 1
    assert outcomes["lost"] <= kills  # at most the one call that ran
    assert client.state().restarts == kills


def test_an_order_is_sent_at_most_once_whatever_happens_to_its_host(
    scripted: Open, tmp_path: Path
) -> None:
    client = scripted()
    client.wait_until_up(PATIENCE_S)
    for fate in ("hang", "die"):
        journal = tmp_path / fate
        with pytest.raises(TerminalLost) as error:
            client.call("order_send", {"symbol": fate, "comment": str(journal)})
        assert not isinstance(error.value, NotSent)  # its outcome is unknown
        assert client.call("symbol_info", "next").value.name == "next"
        assert journal.read_text() == "sent\n"


def test_an_order_that_waited_too_long_is_certainly_not_sent(
    scripted: Open, tmp_path: Path
) -> None:
    client = scripted(limits=replace(LIMITS, call_s=10.0, emergency_wait_s=None))
    client.wait_until_up(PATIENCE_S)
    busy = client.submit("symbol_info", "sleep 1.2")
    started(client)
    journal = tmp_path / "order"
    request = {"symbol": "S", "comment": str(journal)}
    with_the_host = client.submit("order_send", request, priority=Priority.TRADE, timeout_s=0.3)
    more = [client.submit("symbol_info", "S") for _ in range(3)]
    in_the_queue = client.submit("order_send", request, priority=Priority.HISTORY, timeout_s=0.3)
    for order in (in_the_queue, with_the_host):
        with pytest.raises(NotSent, match="was not sent"):
            order.result(PATIENCE_S)
    names([busy, *more])
    assert not journal.exists()


def test_an_emergency_overtakes_every_waiting_call(scripted: Open) -> None:
    client = scripted(limits=replace(LIMITS, call_s=10.0, emergency_wait_s=None))
    client.wait_until_up(PATIENCE_S)
    running = client.submit("symbol_info", "sleep 1", priority=Priority.HISTORY)
    started(client)
    flood = [client.submit("symbol_info", f"flood {n}", priority=Priority.TICKS) for n in range(99)]
    emergency = client.submit("symbol_info", "emergency", priority=Priority.EMERGENCY)
    account = client.submit("symbol_info", "account", priority=Priority.ACCOUNT)
    names([running, *flood, emergency, account])
    served = client.call("symbols_get").value
    assert served[:2] == ("sleep 1", "emergency")
    assert served.index("account") <= 3  # two ticks at most were with the host already
    assert [name for name in served if name.startswith("flood")] == [
        f"flood {n}" for n in range(99)
    ]


def test_an_emergency_that_waits_behind_a_long_read_gets_a_new_host(scripted: Open) -> None:
    client = scripted(limits=replace(LIMITS, call_s=30.0, emergency_wait_s=0.25))
    client.wait_until_up(PATIENCE_S)
    read = client.submit("symbol_info", "hang", priority=Priority.HISTORY)
    started(client)
    begun = time.monotonic()
    reply = client.call("symbol_info", "now", priority=Priority.EMERGENCY)
    assert reply.value.name == "now"
    assert time.monotonic() - begun < 5.0
    with pytest.raises(TerminalHung, match="held up an emergency"):
        read.result(PATIENCE_S)
    state = client.state()
    assert (state.emergency_kills, state.timeouts) == (1, 0)


def test_two_floods_of_a_hundred_calls_are_answered_each_to_its_own(scripted: Open) -> None:
    client = scripted()
    failures: list[str] = []

    def flood(who: str) -> None:
        futures = [client.submit("symbol_info", f"{who} {n}") for n in range(100)]
        answers = names(futures)
        if answers != [f"{who} {n}" for n in range(100)]:
            failures.append(who)

    callers = [threading.Thread(target=flood, args=(who,)) for who in ("left", "right")]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(PATIENCE_S)
    assert failures == []
    assert client.state().calls == 200


def test_what_the_terminal_s_module_prints_does_not_disturb_the_frames(scripted: Open) -> None:
    client = scripted()
    assert client.call("symbol_info", "print").value.name == "print"
    assert client.call("symbol_info", "next").value.name == "next"
    assert client.state().restarts == 0


def test_an_exception_in_the_module_is_an_unknown_answer(scripted: Open) -> None:
    reply = scripted().call("symbol_info", "raise")
    assert reply.value is None
    assert reply.unknown
    assert "SystemError" in reply.error[1]


def test_calls_that_no_terminal_knows_are_refused_at_once(scripted: Open) -> None:
    client = scripted()
    with pytest.raises(ValueError, match="not a function"):
        client.submit("os.system", "true")
    with pytest.raises(WireError):
        client.submit("symbol_info", object())
    with pytest.raises(WireError, match="allowed"):
        client.submit("symbol_info", "x" * 100_000)
    assert client.call("symbol_info", "fine").value.name == "fine"


def test_closing_gives_up_what_waits_and_leaves_nothing(scripted: Open) -> None:
    client = scripted(limits=replace(LIMITS, call_s=30.0))
    client.wait_until_up(PATIENCE_S)
    pid = client.state().pid
    running = client.submit("symbol_info", "hang")
    waiting = [client.submit("symbol_info", "S") for _ in range(10)]
    started(client)
    client.close()
    assert pid is not None
    assert not exists(pid)
    for future in (running, *waiting):
        assert future.done()
        with pytest.raises(TerminalLost):
            future.result()
    with pytest.raises(NotSent, match="closed"):
        client.call("symbol_info", "late")
    assert client.state().state == "closed"


def test_a_host_that_cannot_start_refuses_calls_with_its_reason(scripted: Open) -> None:
    client = scripted(command=(sys.executable, "-c", "raise SystemExit('no such luck')"))
    with pytest.raises(NotSent, match=r"exit code|ended|not take") as error:
        client.call("symbol_info", "S")
    assert isinstance(error.value, TerminalLost)
    until(lambda: client.state().restarts >= 3, what="further tries")
    with pytest.raises(NotSent):
        client.call("symbol_info", "S")


def test_a_terminal_that_cannot_be_built_says_why() -> None:
    spec = TerminalSpec(kind="native")
    with open_client(spec, limits=LIMITS) as client:
        with pytest.raises(TerminalUnusable, match="MetaTrader5 package is not there"):
            client.call("version")
        with pytest.raises(TerminalUnusable, match="MetaTrader5 package is not there"):
            client.wait_until_up(PATIENCE_S)


def test_a_damaged_tick_file_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "EURUSD.csv"
    file.write_text("time,bid,ask\n2024-01-02 00:00:00,1.1,1.2\ngarbage\n")
    spec = TerminalSpec(kind="recorded", options={"files": [str(file)]})
    with (
        open_client(spec, limits=LIMITS) as client,
        pytest.raises(TerminalUnusable, match=r"EURUSD\.csv, line 3"),
    ):
        client.wait_until_up(PATIENCE_S)


def test_secrets_are_in_no_argument_and_no_environment_of_the_host(scripted: Open) -> None:
    client = scripted(password=SecretStr("hush-hush"), login=5)
    client.wait_until_up(PATIENCE_S)
    process = Path(f"/proc/{client.state().pid}")
    if not process.exists():
        pytest.skip("no /proc")
    shown = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    assert b"hush-hush" not in shown
    assert b"producers" in shown or b"scripted_host" in shown


def test_after_a_lost_terminal_the_client_attaches_again_before_it_serves(
    scripted: Open,
) -> None:
    spec = TerminalSpec(kind="native", login=77)
    client = scripted(login=77, attach=Attachment(spec))
    assert client.call("account_info").value.login == 77
    client.call("shutdown")
    unknown = client.call("account_info")
    assert unknown.error[0] == -10004
    assert client.call("account_info").value.login == 77
    assert client.state().restarts == 0


def test_a_new_host_is_attached_before_it_serves(scripted: Open) -> None:
    spec = TerminalSpec(kind="native", login=77)
    client = scripted(login=77, attach=Attachment(spec))
    client.wait_until_up(PATIENCE_S)
    with pytest.raises(TerminalLost):
        client.call("symbol_info", "die")
    assert client.call("account_info").value.login == 77
    assert client.attached.account.login == 77


def test_a_wrong_account_refuses_every_call_and_is_tried_again(scripted: Open) -> None:
    spec = TerminalSpec(kind="native", login=77, server="Elsewhere")
    client = scripted(login=77, attach=Attachment(spec))
    with pytest.raises(WrongAccount, match="server Scripted instead of Elsewhere"):
        client.call("positions_get")
    until(lambda: client.state().restarts >= 2, what="further tries")


def test_after_a_refused_password_the_client_waits_as_long_as_it_is_told(scripted: Open) -> None:
    def refuse(line: object) -> None:
        raise AttachRefused("wrong password", retry_after_s=600)

    client = scripted(attach=refuse)
    with pytest.raises(AttachRefused):
        client.call("positions_get")
    time.sleep(0.3)
    assert client.state().restarts == 1
    assert client.state().state == "down"


def test_a_hung_attach_step_is_cut_too(scripted: Open) -> None:
    def hang(line: Any) -> None:
        line.call("symbol_info", "hang", timeout_s=0.2)

    client = scripted(attach=hang)
    with pytest.raises(TerminalHung, match=r"within 0\.2 s"):
        client.call("positions_get")


def test_a_failing_listener_or_attach_step_does_not_end_the_supervision(scripted: Open) -> None:
    tries = []

    def stumble(line: object) -> None:
        tries.append(1)
        if len(tries) < 3:
            raise KeyError("a bug")

    client = scripted(attach=stumble)
    client.wait_until_up(PATIENCE_S)
    assert len(tries) == 3
    assert client.call("symbol_info", "S").value.name == "S"


@pytest.mark.parametrize("hanging", [False, True])
def test_when_the_parent_is_killed_its_host_goes_too(hanging: bool) -> None:
    call = "client.submit('symbol_info', 'hang')" if hanging else "None"
    script = f"""
import sys, time
from producers.terminals.client import HostClient
from producers.terminals.client.link import LocalLink
from producers.terminals.spec import TerminalSpec
client = HostClient(lambda: LocalLink(TerminalSpec(kind="native"), command={SCRIPTED!r}))
client.wait_until_up(20)
pid = client.state().pid
{call}
while {hanging} and client.state().running is None:
    time.sleep(0.01)
print(pid, flush=True)
time.sleep(100)
"""
    with _adopting_orphans():
        root = Path(__file__).parents[2]
        parent = subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=root, text=True
        )
        assert parent.stdout is not None
        with parent.stdout:
            pid = int(parent.stdout.readline())
            assert exists(pid)
            parent.kill()
            parent.wait(PATIENCE_S)
        until(lambda: _gone(pid), what="the end of the orphan")


def _adopting_orphans() -> AbstractContextManager[None]:
    """Become the parent of orphans below us (prctl PR_SET_CHILD_SUBREAPER), to see them end."""
    from contextlib import contextmanager

    @contextmanager
    def adopting() -> Iterator[None]:
        libc = ctypes.CDLL(None)
        if not hasattr(libc, "prctl"):
            yield
            return
        libc.prctl(36, 1, 0, 0, 0)
        yield
        libc.prctl(36, 0, 0, 0, 0)

    return adopting()


def _gone(pid: int) -> bool:
    """Whether a process has ended; ours are reaped."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return not exists(pid)
