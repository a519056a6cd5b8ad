"""Children kept running: restarts, clean ends, and no child without a parent."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from events.processes import Child, ProcessSpec, ProcessState, said
from tests.servers import wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module `played` that the test writes."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    return tmp_path / "played.py"


def started(
    *, backoff_s: tuple[float, ...] = (0.01,), failures_max: int | None = None
) -> tuple[Child, list[str]]:
    told: list[str] = []
    child = Child(
        ProcessSpec("played", "played"),
        on_line=lambda _, line: told.append(line),
        backoff_s=backoff_s,
        failures_max=failures_max,
    )
    child.start()
    return child, told


def reaches(child: Child, state: ProcessState) -> None:
    wait_until(lambda: child.watch() is state, what=f"child {state}")


def test_a_child_that_ends_well_is_done_and_its_output_is_kept(script: Path) -> None:
    script.write_text("import sys; print('{}'); print('hällo', file=sys.stderr)")
    child, told = started()
    reaches(child, ProcessState.DONE)
    assert list(child.output) == ["{}"]
    assert told == ["hällo"]
    assert child.report().exit_code == 0


def test_a_child_that_fails_is_started_again(script: Path, tmp_path: Path) -> None:
    script.write_text(
        f"import pathlib, sys; p = pathlib.Path({str(tmp_path / 'runs')!r})\n"
        "n = len(p.read_text()) if p.exists() else 0\n"
        "p.write_text('x' * (n + 1)); sys.exit(0 if n == 2 else 1)"
    )
    child, _ = started()
    reaches(child, ProcessState.DONE)
    assert child.report().starts == 3


def test_wrong_settings_are_not_tried_again(script: Path) -> None:
    script.write_text("import sys; sys.exit(2)")
    child, _ = started()
    reaches(child, ProcessState.FAILED)
    assert child.report().starts == 1


def test_a_child_may_be_given_up_after_some_failures(script: Path) -> None:
    script.write_text("import sys; sys.exit(1)")
    child, _ = started(failures_max=3)
    reaches(child, ProcessState.FAILED)
    assert child.report().starts == 3


def test_the_pause_between_starts_grows(script: Path) -> None:
    script.write_text("import sys; sys.exit(1)")
    now = [0.0]
    child = Child(
        ProcessSpec("played", "played"),
        on_line=lambda *_: None,
        backoff_s=(1.0, 5.0),
        monotonic=lambda: now[0],
    )
    child.start()
    reaches(child, ProcessState.WAITING)
    now[0] = 0.9
    assert child.watch() is ProcessState.WAITING
    now[0] = 1.0
    assert child.watch() is ProcessState.RUNNING
    reaches(child, ProcessState.WAITING)
    now[0] = 5.9
    assert child.watch() is ProcessState.WAITING
    now[0] = 6.0
    assert child.watch() is ProcessState.RUNNING
    child.stop()


CLEAN_END = """
import signal, sys, threading
from events.processes import hold_lifeline
gone = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: gone.set())
signal.signal(signal.SIGINT, lambda *_: gone.set())
hold_lifeline()
print("ready", file=sys.stderr, flush=True)
while not gone.wait(0.05):
    pass
print("ended cleanly", file=sys.stderr, flush=True)
"""


def test_a_child_ends_cleanly_when_asked(script: Path) -> None:
    script.write_text(CLEAN_END)
    child, told = started()
    wait_until(lambda: "ready" in told)
    child.stop()
    assert told == ["ready", "ended cleanly"]
    assert child.report().exit_code == 0


def test_a_child_that_does_not_listen_is_killed(script: Path) -> None:
    script.write_text(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('ready', file=sys.stderr, flush=True)\n"
        "time.sleep(60)"
    )
    child, told = started()
    wait_until(lambda: "ready" in told)
    pid = child.report().pid
    begun = time.monotonic()
    child.stop(wait_s=0.1, kill_wait_s=0.5)
    assert time.monotonic() - begun < 20
    assert pid is not None
    assert child.report().exit_code not in (0, None)


def test_a_child_ends_when_its_parent_was_killed(script: Path, tmp_path: Path) -> None:
    script.write_text(CLEAN_END + f"\nopen({str(tmp_path / 'ended')!r}, 'w').close()\n")
    parent = subprocess.Popen(
        [
            sys.executable, "-c",
            "import time\n"
            "from events.processes import Child, ProcessSpec\n"
            "said = []\n"
            "child = Child(ProcessSpec('played', 'played'), on_line=lambda *a: said.append(a))\n"
            "child.start()\n"
            "while not said: time.sleep(0.01)\n"
            "print('up', flush=True); time.sleep(60)",
        ],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert parent.stdout is not None
    assert parent.stdout.readline().strip() == b"up"
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until((tmp_path / "ended").exists, what="orphan ended")


def test_exit_codes_are_told_in_words() -> None:
    assert said(3) == "exit code 3"
    assert said(-9) == ("signal SIGKILL" if os.name == "posix" else "exit code -9")
