"""A run: what it appended, how it ends, and what its result says."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from events.codec import encode
from events.log import SOURCE, CursorMove, Slot
from events.memory_log import MemoryLog
from events.operations import ClockTick, TerminalUp
from events.processes import ProcessReport, ProcessSpec
from events.running import Bridge, BridgeFailed, Ending, RunResult, TerminalResult, Verified
from events.running.counts import appended_since, came_up, everything_stored, log_ends
from events.ticks import TICK_DTYPE, OffsetSource, TickBatch

ROOT = Path(__file__).parents[2]


class Silent:
    """A screen that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, name: str, text: str) -> None:
        self.lines.append(f"{name}: {text}")

    def refresh(self, reports: Sequence[ProcessReport]) -> None:
        return

    def close(self) -> None:
        return


def batch(symbol: str, *times: int) -> TickBatch:
    ticks = np.zeros(len(times), TICK_DTYPE)
    ticks["time_msc"] = times
    return TickBatch(symbol, ticks, 0, OffsetSource.LIVE, max(times), 1)


def test_what_was_appended_since_is_counted_with_its_span() -> None:
    log = MemoryLog()
    assert log_ends(log, ["a"]).last_ids == {}, "a namespace that is not there yet has no ends"
    log.open_namespace("a", 2)
    first = log.claim(Slot("a", SOURCE, 0), "x", alive_within_s=0)
    second = log.claim(Slot("a", SOURCE, 1), "x", alive_within_s=0)
    log.append(first, [encode(batch("EURUSD", 5))])
    before = log_ends(log, ["a", "not there"])
    assert appended_since(log, "a", before) == {}
    log.append(first, [encode(batch("EURUSD", 10, 12, 0)), encode(ClockTick(event_time_ms=1))])
    log.append(first, [encode(batch("EURUSD", 8), history=True)], [CursorMove("f", "", "1")])
    log.append(second, [encode(batch("GBPUSD", 0))])
    found = appended_since(log, "a", before)
    assert found["EURUSD"].ticks == 4
    assert found["EURUSD"].span == (8, 12)
    assert found["GBPUSD"].ticks == 1
    assert found["GBPUSD"].span is None, "a tick without a time has no place in a span"
    assert log_ends(log, ["a"]).added_by_lane(before) == {
        "critical": 0, "high": 0, "normal": 3, "low": 1,
    }  # fmt: skip


def test_a_terminal_came_up_when_it_was_attached_since() -> None:
    log = MemoryLog()
    log.open_namespace("a", 1)
    claim = log.claim(Slot("a", SOURCE, 0), "x", alive_within_s=0)
    up = TerminalUp(
        event_time_ms=1, recv_time_ms=1, terminal="a", kind="native", login=1, server="s"
    )
    log.append(claim, [encode(up)])
    before = log_ends(log, ["a"])
    assert not came_up(log, "a", before)
    log.append(claim, [encode(up)])
    assert came_up(log, "a", before)


def result(verified: Verified | None, *, drained: bool = True, up: bool = True) -> RunResult:
    ticks = {"A": 3, "B": 2}
    one = TerminalResult(
        "recorded-1", "recorded", ticks, ticks, verified, came_up=up, last_error="no password"
    )
    return RunResult(
        ending="played", took_s=1.0, redis="r", database="d", drained=drained,
        entries_by_lane={"normal": 4}, restarts=0, terminals=[one],
    )  # fmt: skip


def test_a_result_names_what_scripts_look_for() -> None:
    shown = result(Verified(0, 0, 0, 5)).to_json()
    for name in (
        "ticks_appended", "ticks_stored", "entries_by_lane", "missing", "duplicated", "redis",
        "database", "terminal",
    ):  # fmt: skip
        assert name in shown
    assert shown["ticks_appended"] == shown["ticks_stored"] == 5
    assert shown["terminal"] == "recorded"


def test_a_run_ended_by_hand_says_what_stays() -> None:
    ended = result(None).ended()
    assert ended == "ended after 1 s: 4 entries appended; the next start goes on from here"


def test_a_terminal_that_never_came_up_is_no_good_result() -> None:
    one = result(Verified(0, 0, 0, 0), up=False)
    assert not one.good
    assert "recorded-1 did not come up: no password" in one.told()


@pytest.mark.parametrize(
    ("verified", "drained", "good"),
    [
        (Verified(0, 0, 0, 5), True, True),
        (None, True, True),
        (Verified(1, 0, 0, 5), True, False),
        (Verified(0, 1, 0, 5), True, False),
        (Verified(0, 0, 1, 5), True, False),
        (Verified(0, 0, 0, 0, {"A": "no answer"}), True, False),
        (Verified(0, 0, 0, 5), False, False),
    ],
)
def test_a_result_is_good_only_when_nothing_is_wrong(
    verified: Verified | None, drained: bool, good: bool
) -> None:
    assert result(verified, drained=drained).good is good


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    (tmp_path / "ends.py").write_text("")
    (tmp_path / "stays.py").write_text(
        "import signal, threading\nfrom events.processes import hold_lifeline\n"
        "gone = threading.Event()\nsignal.signal(signal.SIGTERM, lambda *_: gone.set())\n"
        "hold_lifeline()\nwhile not gone.wait(0.05): pass\n"
    )
    return tmp_path


def bridge(
    producer: str,
    *,
    up: Callable[[], bool] = lambda: True,
    caught_up: Callable[[], bool] = lambda: True,
) -> Bridge:
    return Bridge(
        [ProcessSpec("produce", producer)],
        ProcessSpec("persist", "stays"),
        [ProcessSpec("risk", "stays")],
        up=up,
        caught_up=caught_up,
        screen=Silent(),
        finite=True,
        drains=True,
    )


@pytest.mark.usefixtures("scripts")
def test_a_run_ends_when_every_producer_has_ended() -> None:
    run = bridge("ends")
    assert run.run(for_s=None) == (Ending.PLAYED, True)
    assert all(report.pid is None for report in run.reports), "no child is left"


@pytest.mark.usefixtures("scripts")
def test_a_run_ends_when_its_time_is_over() -> None:
    run = bridge("stays")
    assert run.run(for_s=0.5) == (Ending.TIME, True)
    assert all(report.pid is None for report in run.reports)


@pytest.mark.usefixtures("scripts")
def test_the_time_of_a_run_begins_when_its_terminals_are_up() -> None:
    looks: list[float] = []

    def up() -> bool:
        looks.append(time.monotonic())
        return len(looks) == 4

    assert bridge("stays", up=up).run(for_s=0.2) == (Ending.TIME, True)
    assert len(looks) == 4
    assert time.monotonic() - looks[-1] >= 0.2


@pytest.mark.usefixtures("scripts")
def test_a_terminal_that_does_not_come_up_does_not_hold_a_run_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("events.running.bridge.UP_WAIT_S", 0.4)
    assert bridge("stays", up=lambda: False).run(for_s=0.1) == (Ending.TIME, True)


@pytest.mark.usefixtures("scripts")
def test_persist_goes_on_until_everything_is_stored_and_outlives_the_other_groups() -> None:
    asked: list[tuple[str, ...]] = []

    def caught_up() -> bool:
        asked.append(tuple(str(report.state) for report in run.reports))
        return len(asked) in (3, 5)

    run = bridge("ends", caught_up=caught_up)
    assert run.run(for_s=None) == (Ending.PLAYED, True)
    stored = [("done", "running", "running")] * 3
    assert asked == [*stored, *[("done", "done", "running")] * 2]


@pytest.mark.usefixtures("scripts")
def test_storing_that_does_not_end_is_told() -> None:
    run = bridge("ends", caught_up=lambda: False)
    assert run.run(for_s=None, drain_s=0.3) == (Ending.PLAYED, False)


def test_a_part_that_cannot_run_is_told_with_its_last_words(scripts: Path) -> None:
    (scripts / "breaks.py").write_text(
        "import sys\nprint('no such account', file=sys.stderr)\nsys.exit(2)"
    )
    with pytest.raises(BridgeFailed, match="produce: no such account"):
        bridge("breaks").run(for_s=None)


def test_everything_is_stored_when_the_offsets_reach_the_ends(postgres_url: str) -> None:
    log = MemoryLog()
    assert everything_stored(log, postgres_url, ["a"], "persist"), "nothing is there to be stored"
    log.open_namespace("a", 1)
    claim = log.claim(Slot("a", SOURCE, 0), "x", alive_within_s=0)
    log.append(claim, [encode(batch("EURUSD", 5))])
    assert not everything_stored(log, postgres_url, ["a"], "persist")
    assert not everything_stored(log, "postgresql://x@127.0.0.1:1/x", ["a"], "persist")
