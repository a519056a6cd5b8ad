"""`bridgectl down`: programs of a state folder end, those of others and the account stay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import bridgectl
from events import presence
from events.codec import encode
from events.guarding import GuardState, LatchChanged
from events.log import Slot
from events.redis import RedisLog
from events.running.down import end
from tests.servers import wait_until

ROOT = Path(__file__).parents[2]
PROGRAM = """
import subprocess, sys
from pathlib import Path
from events.processes import hold_lifeline, stopped_by_signals
from events.program_log import start_program_log

role, folder, *more = sys.argv[1:]
hold_lifeline()
with stopped_by_signals() as stop:
    start_program_log(role, folder=Path(folder))
    child = None
    if "child" in more:
        child = subprocess.Popen([sys.executable, "-c", Path(folder, "program.py").read_text(),
                                  role + "-child", folder], stdin=subprocess.PIPE,
                                 env={**__import__("os").environ, "BRIDGE_SUPERVISED": "1"})
    while not stop.wait(0.05) or "deaf" in more:
        pass
    if child is not None:
        child.stdin.close()
        child.wait()
print("ended cleanly")
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts programs that belong to a folder."""
    children: list[subprocess.Popen[str]] = []

    def run(role: str, *more: str, folder: Path = tmp_path) -> subprocess.Popen[str]:
        folder.mkdir(exist_ok=True)
        (folder / "program.py").write_text(PROGRAM)
        child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, role, str(folder), *more],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        children.append(child)
        return child

    yield run
    for child in children:
        child.kill()
        child.communicate()


def roles(folder: Path) -> set[str]:
    return {program.role for program in presence.programs(folder)}


def run_down(folder: Path, *words: str, **settings: str) -> tuple[int, str, str]:
    environment = {"BRIDGE_STATE_DIR": str(folder), **settings}
    done = CliRunner(env=environment).invoke(bridgectl.cli, ["down", *words])
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of the machine that runs the tests."""
    monkeypatch.chdir(tmp_path)
    for name in ("REDIS_URL", "POSTGRES_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("bare")
def test_programs_end_cleanly_with_their_children_and_those_of_other_folders_stay(
    start: Start, tmp_path: Path
) -> None:
    family, other = start("up", "child"), start("produce", folder=tmp_path / "other")
    wait_until(lambda: roles(tmp_path) == {"up", "up-child"})
    wait_until(lambda: roles(tmp_path / "other") == {"produce"})
    assert [one.role for one in presence.roots(presence.programs(tmp_path))] == ["up"]
    code, out, _ = run_down(tmp_path, "--json")
    done = json.loads(out)
    assert code == 0
    assert {one["role"] for one in done["ended"]} == {"up", "up-child"}
    assert done["left"] == done["warnings"] == []
    assert "ended cleanly" in family.communicate(timeout=20)[0]
    assert other.poll() is None
    assert roles(tmp_path) == set()
    assert list((tmp_path / presence.FOLDER).iterdir()) == [], "nothing is left of them"
    assert run_down(tmp_path)[1] == "no program of this state folder runs\n"


@pytest.mark.usefixtures("bare")
def test_a_program_that_does_not_listen_is_named(start: Start, tmp_path: Path) -> None:
    deaf = start("consume", "deaf")
    wait_until(lambda: roles(tmp_path) == {"consume"})
    code, out, _ = run_down(tmp_path, "--wait", "1")
    assert code == 1
    assert f"did not end: consume (pid {deaf.pid}); end that process yourself" in out
    assert deaf.poll() is None


def test_a_dead_program_is_not_taken_for_one_that_runs(start: Start, tmp_path: Path) -> None:
    child = start("produce")
    wait_until(lambda: roles(tmp_path) == {"produce"})
    [seen] = presence.programs(tmp_path)
    child.kill()
    child.wait()
    wait_until(lambda: not seen.lives)
    assert presence.programs(tmp_path) == []
    assert end([seen], wait_s=5.0).ended == [seen]


@pytest.mark.usefixtures("bare")
def test_a_halted_account_and_one_being_flattened_are_asked_about_first(
    start: Start, tmp_path: Path, redis_log: RedisLog, redis_url: str
) -> None:
    redis_log.open_namespace("demo", 1)
    claim = redis_log.claim(Slot("demo", "source", 0), "test", alive_within_s=0.1)
    header = {"event_time_ms": time.time_ns() // 1_000_000, "login": 7}
    latched = LatchChanged(
        **header, terminal="demo", latched=True, latch_id="x", reason="daily loss", by="risk"
    )
    guard = GuardState(**header, terminal="demo", state="flattening", latched=True, reason="loss")
    redis_log.append(claim, [encode(latched), encode(guard)])
    child = start("produce")
    wait_until(lambda: roles(tmp_path) == {"produce"})
    code, _, told = run_down(tmp_path, REDIS_URL=redis_url)
    assert code == 2
    assert "demo is being flattened" in told
    assert "demo is halted (daily loss)" in told
    assert "nothing was changed" in told
    assert child.poll() is None
    code, out, _ = run_down(tmp_path, "--yes", "--json", REDIS_URL=redis_url)
    assert code == 0
    assert len(json.loads(out)["warnings"]) == 2
    assert child.wait(20) == 0
