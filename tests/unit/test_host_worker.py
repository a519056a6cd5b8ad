"""The worker of a host, over real pipes but in this process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np
import pytest

from events.ticks import TICK_DTYPE
from producers.terminals.host import worker as worker_module
from producers.terminals.host.worker import Worker
from producers.terminals.interface import Priority
from producers.terminals.wire import Kind, pack, read_frame, unpack, write_frame

ANSWER_MAX = 1 << 26


class FakeTerminal:
    """Remembers calls; some of them do what a bad day does."""

    def __init__(self) -> None:
        self.error = (1, "Success")
        self.served: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def last_error(self) -> tuple[int, str]:
        return self.error

    def utc_now_ms(self) -> int:
        return 1234

    def symbol_info_tick(self, name: str) -> str | None:
        self.gate.wait(10)
        self.served.append(name)
        self.error = (1, "Success") if name != "unknown" else (-4, "Terminal: Not found")
        return None if name == "unknown" else name

    def copy_ticks_from(self, *args: Any) -> Any:
        if args[0] == "raise":
            self.error = (1, "Success")
            raise SystemError("returned NULL without setting an error")
        if args[0] == "object":
            return object()
        return np.zeros(args[2], TICK_DTYPE)

    def positions_get(self, *, symbol: str = "") -> tuple[Any, ...]:
        return ()

    def inject(self, fault: str, **named: Any) -> str:
        return f"{fault} {named}"


class Line:
    """A worker in a thread, and the client's ends of its pipes."""

    def __init__(self, terminal: FakeTerminal, **options: Any) -> None:
        requests_in, requests_out = os.pipe()
        answers_in, answers_out = os.pipe()
        self.requests = os.fdopen(requests_out, "wb", buffering=0)
        self.answers = os.fdopen(answers_in, "rb")
        self.worker_ends = (os.fdopen(requests_in, "rb"), os.fdopen(answers_out, "wb", buffering=0))
        self.ended = threading.Event()
        self.worker = Worker(
            terminal, *self.worker_ends, kind="fake", on_end=self.ended.set, **options
        )
        self.thread = threading.Thread(target=self.worker.run)
        self.thread.start()

    def send(self, call_id: int, method: str, *args: Any, priority: int = 3, **kwargs: Any) -> None:
        call = (int(Kind.CALL), call_id, method, args, kwargs, priority, 10.0, None)
        write_frame(self.requests, pack(call))

    def receive(self) -> tuple[Any, ...]:
        body = read_frame(self.answers, bytes_max=ANSWER_MAX)
        assert body is not None
        return unpack(body)

    def ask(self, method: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Value, error code and text, clock and duration of one call."""
        self.send(1, method, *args, **kwargs)
        assert self.receive() == (Kind.STARTED, 1)
        kind, call_id, *rest = self.receive()
        assert (kind, call_id) == (Kind.ANSWER, 1)
        return tuple(rest)

    def __enter__(self) -> Line:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.requests.close()
        self.thread.join(10)
        self.answers.close()
        for end in self.worker_ends:
            end.close()
        assert not self.thread.is_alive()


@pytest.fixture
def terminal() -> FakeTerminal:
    return FakeTerminal()


@pytest.fixture
def line(terminal: FakeTerminal) -> Iterator[Line]:
    with Line(terminal) as opened:
        yield opened


def test_an_answer_carries_value_error_clock_and_duration(line: Line) -> None:
    value, code, text, utc_ms, took_ms = line.ask("symbol_info_tick", "EURUSD")
    assert (value, code, text, utc_ms) == ("EURUSD", 1, "Success", 1234)
    assert 0 <= took_ms < 10_000


def test_unknown_carries_the_error_of_its_own_call(line: Line) -> None:
    assert line.ask("symbol_info_tick", "unknown")[:3] == (None, -4, "Terminal: Not found")
    assert line.ask("symbol_info_tick", "EURUSD")[1] == 1


def test_exceptions_mean_unknown_never_success(line: Line) -> None:
    value, code, text, *_ = line.ask("copy_ticks_from", "raise")
    assert (value, code) == (None, -1)
    assert "SystemError" in text
    value, code, text, *_ = line.ask("positions_get", "EURUSD")
    assert (value, code) == (None, -2)
    assert "positional argument" in text


def test_an_answer_that_does_not_fit_says_so(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    original = worker_module.pack
    monkeypatch.setattr(worker_module, "pack", lambda message: original(message, bytes_max=100_000))
    value, code, text, *_ = line.ask("copy_ticks_from", "EURUSD", 0, 2000)
    assert (value, code) == (None, -3)
    assert "ask for fewer rows" in text


def test_a_value_that_may_not_cross_is_an_error(line: Line) -> None:
    value, code, text, *_ = line.ask("copy_ticks_from", "object")
    assert (value, code) == (None, -1)
    assert "may not cross" in text


def test_what_only_some_terminals_have_is_answered_by_all(line: Line) -> None:
    assert line.ask("inject", "hang", after_s=2)[0] == "hang {'after_s': 2}"
    value, code, text, *_ = line.ask("finished")
    assert (value, code) == (None, -2)
    assert "no finished" in text
    assert line.ask("host_info")[0]["kind"] == "fake"


def test_waiting_calls_are_served_by_priority_then_in_order(
    line: Line, terminal: FakeTerminal
) -> None:
    terminal.gate.clear()
    line.send(0, "symbol_info_tick", "first", priority=Priority.HISTORY)
    assert line.receive() == (Kind.STARTED, 0)
    names = {Priority.TICKS: "tick", Priority.ACCOUNT: "account", Priority.EMERGENCY: "now"}
    call_id = 0
    for round_number in range(3):
        for priority, name in names.items():
            call_id += 1
            line.send(call_id, "symbol_info_tick", f"{name} {round_number}", priority=priority)
    line.send(10, "host_info", priority=Priority.HISTORY)
    until = time.monotonic() + 10
    while line.worker._requests.qsize() < 10 and time.monotonic() < until:
        time.sleep(0.001)
    terminal.gate.set()
    while line.receive()[:2] != (Kind.ANSWER, 10):
        pass
    assert terminal.served == [
        "first",
        "now 0", "now 1", "now 2",
        "account 0", "account 1", "account 2",
        "tick 0", "tick 1", "tick 2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "frame",
    [
        pack((int(Kind.CALL), 1, "system", ("rm -rf /",), {}, 3, 1.0, None)),
        pack((int(Kind.CALL), 1, "__class__", (), {}, 3, 1.0, None)),
        pack((int(Kind.CALL), 1)),
        pack((int(Kind.CALL), 1, ("symbol_info",), (), {}, 3, 1.0, None)),
        pack((int(Kind.CALL), 1, "symbol_info", (), {}, "first", 1.0, None)),
        pack((int(Kind.READY), 1, {})),
        b"\x00\x00\x00\x02\xc1\xc1",
        b"\x7f\xff\xff\xff",
    ],
)
def test_a_frame_that_is_no_call_ends_the_line(line: Line, frame: bytes) -> None:
    write_frame(line.requests, frame)
    line.thread.join(10)
    assert not line.thread.is_alive()
    assert line.ended.is_set()


def test_a_call_that_came_too_late_is_not_made(terminal: FakeTerminal) -> None:
    with Line(terminal, clock=lambda: 100.0) as line:
        for call_id, begin_by_s in ((1, 99.9), (2, 100.1)):
            call = (int(Kind.CALL), call_id, "symbol_info_tick", ("S",), {}, 1, 10.0, begin_by_s)
            write_frame(line.requests, pack(call))
        assert line.receive()[:3] == (Kind.FAULT, 1, "not_sent")
        assert line.receive() == (Kind.STARTED, 2)
    assert terminal.served == ["S"]


def test_when_the_client_is_gone_waiting_calls_are_not_made(terminal: FakeTerminal) -> None:
    terminal.gate.clear()
    with Line(terminal) as line:
        line.send(1, "symbol_info_tick", "running")
        assert line.receive() == (Kind.STARTED, 1)
        line.send(2, "symbol_info_tick", "waiting", priority=Priority.EMERGENCY)
        line.requests.close()
        assert line.ended.wait(10)
        terminal.gate.set()
        line.thread.join(10)
    assert terminal.served == ["running"]


def test_a_far_link_delays_answers_but_calls_overlap(terminal: FakeTerminal) -> None:
    with Line(terminal, link_latency_s=0.2) as line:
        begun = time.monotonic()
        for call_id in range(20):
            line.send(call_id, "symbol_info_tick", f"{call_id}")
        answers = [message for message in (line.receive() for _ in range(40)) if message[0] == 5]
        took_s = time.monotonic() - begun
    assert [answer[1] for answer in answers] == list(range(20))
    assert 0.2 <= took_s < 2.0  # one after the other they would take 4 s
