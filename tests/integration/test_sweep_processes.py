"""A sweep's processes end with it: at Ctrl-C, and when their parent is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from consumers.backtest.broker.spec.writing import example_spec, spec_text
from tests.servers import wait_until
from tests.unit.test_backtest import ticks
from tests.unit.test_backtest_sweep import csv

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="children are counted in /proc"),
]


def children(pid: int) -> list[int]:
    try:
        told = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:
        return []
    found = []
    for one in map(int, told.split()):
        try:
            words = Path(f"/proc/{one}/cmdline").read_bytes()
        except OSError:
            continue
        if b"spawn_main" in words:
            found.append(one)
    return found


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"  # nobody waits for it: its parent was killed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_sweep_leaves_no_process_behind(tmp_path: Path, number: signal.Signals) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text(spec_text(example_spec(("EURUSD",))), encoding="utf-8")
    source = csv(tmp_path / "EURUSD.csv", ticks(20_000))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    run = subprocess.Popen(
        [sys.executable, "-m", "bridgectl", "backtest", "ema_cross:EmaCross", "--source",
         str(source), "--spec", str(spec), "--clock", "UTC", "--jobs", "2", "--json",
         "--set", "slow=400", "--grid", "fast=2:300:1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    )  # fmt: skip
    try:
        wait_until(lambda: len(children(run.pid)) == 2, timeout_s=60)
        workers = children(run.pid)
        if number == signal.SIGINT:
            os.killpg(run.pid, number)  # as a terminal does it
        else:
            run.kill()
        out, err = run.communicate(timeout=60)
        wait_until(lambda: all(map(gone, workers)), timeout_s=30)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            run.communicate(timeout=30)
    if number == signal.SIGINT:
        assert run.returncode == 130, err
        assert '"complete": false' in out
        assert "Traceback" not in err
        assert not list(scratch.iterdir())
