"""The lines of the README do what it says, run as a reader would run them."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from events.settings import setting_rows
from tests.markdown_pages import read_page
from tests.servers import wait_until

ROOT = Path(__file__).parents[2]
LINES = [
    line for block in read_page(ROOT / "README.md").blocks if block.language == "sh"
    for line in block.commands()
]  # fmt: skip
LOOKING = [line for line in LINES if line.startswith(("bridgectl status", "bridgectl tail"))]
RUN_S_MAX = 110.0
UP_FOR = "90s"
"""Longer than looking takes; it is stopped before."""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A reader's environment: no settings, an own state folder."""
    ours = {row.name for row in setting_rows()} | {"BRIDGE_ENV_FILE"}
    kept = {name: value for name, value in os.environ.items() if name.upper() not in ours}
    folder = tmp_path_factory.mktemp("readme")
    return {**kept, "BRIDGE_STATE_DIR": str(folder / "state"), "PYTHONPATH": str(ROOT)}


@pytest.fixture
def running(environment: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`bridgectl up --for 30s --json` of the README, for as long as the test looks at it."""
    [line] = [line for line in LINES if line == "bridgectl up --for 30s --json"]
    process = subprocess.Popen(
        words(line.replace("30s", UP_FOR)),
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def words(line: str) -> list[str]:
    """The line as this Python runs it; files lie in the checkout, wherever we stand."""
    program, *rest = shlex.split(line)
    assert program == "bridgectl"
    rest = [str(ROOT / word) if word.startswith("tests/data/") else word for word in rest]
    return [sys.executable, "-m", "bridgectl", *rest]


def said(line: str, environment: dict[str, str], folder: Path) -> str:
    done = subprocess.run(
        words(line),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
    )
    assert done.returncode == 0, f"{line}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def test_up_runs_everything_and_can_be_looked_at_meanwhile(
    running: subprocess.Popen[str], environment: dict[str, str], tmp_path: Path
) -> None:
    def ticks_are_there() -> bool:
        assert running.poll() is None, running.communicate()[1][-2000:]
        done = subprocess.run(
            words("bridgectl tail -n 1 --type ticks"), cwd=tmp_path, env=environment,
            capture_output=True, text=True, timeout=RUN_S_MAX, check=False,
        )  # fmt: skip
        return done.returncode == 0 and "ticks" in done.stdout

    wait_until(ticks_are_there, timeout_s=60, what="ticks in the log")
    assert len(LOOKING) == 2
    status, tail = (said(line, environment, tmp_path) for line in LOOKING)
    for word in ("simulated", "equity", "EURUSD", "server", "UTC", "local", "critical"):
        assert word in status, status
    assert len(tail.splitlines()) == 5
    doctor = subprocess.run(
        words("bridgectl doctor"), cwd=tmp_path, env=environment, capture_output=True, text=True,
        timeout=RUN_S_MAX, check=False,
    )  # fmt: skip
    assert "bridgectl doctor" in LINES
    for subject in ("python", "state folder", "disk", "redis", "database", "terminal simulated"):
        assert subject in doctor.stdout, doctor.stdout

    running.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGINT))
    out, told = running.communicate(timeout=RUN_S_MAX)
    assert running.returncode == 0, told[-2000:]
    assert "no MT5 configured: simulated terminal" in told
    result = as_promised(out)
    assert result["terminal"] == "simulated"


def test_a_tick_file_is_played_stored_and_compared(
    environment: dict[str, str], tmp_path: Path
) -> None:
    [line] = [line for line in LINES if "--terminal recorded" in line]
    result = as_promised(said(line, environment, tmp_path))
    assert result["ticks_stored"] == 8_523, "rows of the file"
    assert result["checked"] == 8_523


def as_promised(out: str) -> dict[str, Any]:
    """The JSON object on the last line of stdout, with what every run must have."""
    result: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    assert result["ticks_appended"] == result["ticks_stored"] > 0
    assert (result["missing"], result["duplicated"], result["altered"]) == (0, 0, 0)
    assert set(result["entries_by_lane"]) == {"critical", "high", "normal", "low"}
    assert result["redis"].startswith("embedded")
    assert result["database"].startswith("embedded")
    return result


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform == "win32", reason="the lines of the other systems")
@pytest.mark.parametrize(
    ("ends_with", "more"),
    [("bridgectl up", "--for 10s --json"), ("pytest", "tests/unit/test_codec.py")],
)
def test_the_two_lines_work_in_a_fresh_clone(ends_with: str, more: str) -> None:
    [line] = [x for x in LINES if x.startswith("python3 -m venv") and x.endswith(ends_with)]
    # Not in tmp_path: pytest closes that to others, and PostgreSQL does not run as root.
    with TemporaryDirectory(prefix="bridge-readme-") as folder:
        clone = Path(folder, "clone")
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        done = subprocess.run(
            ["sh", "-c", f"{line} {more}"],
            cwd=clone,
            env={**os.environ, "BRIDGE_STATE_DIR": str(Path(folder, "state"))},
            capture_output=True,
            text=True,
            timeout=800,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    if "--json" in more:
        as_promised(done.stdout)
