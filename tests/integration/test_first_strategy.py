"""The page about a first strategy, command by command, as its reader types them."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

import bridgectl
from events.settings import setting_rows
from tests.markdown_pages import Block, read_page
from tests.servers import wait_until

ROOT = Path(__file__).parents[2]
PAGE = read_page(ROOT / "docs" / "FIRST_STRATEGY.md")
EXPORT = "BTCUSD_20230220T12.csv.gz"
EXPORT_TICKS = "8,523"
END_S_MAX = 90


def blocks(language: str) -> list[Block]:
    return [block for block in PAGE.blocks if block.language == language]


LINES = [line for block in blocks("sh") for line in block.commands()]


class Reader:
    """Types commands in a folder of their own, with no settings but a state folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.left = list(LINES)

    def types(self, begins: str, *, code: int = 0) -> str:
        """The next line of the page, which begins so; what it said on both streams."""
        line = self.left.pop(0)
        assert line.startswith(begins), f"the page goes on with `{line}`, not `{begins}`"
        return self.runs(line, code=code)

    def runs(self, line: str, *, code: int | None = 0) -> str:
        program, *words = shlex.split(line)
        assert program == "bridgectl"
        said = io.StringIO()
        before, sys.argv = sys.argv, [program, *words]
        try:
            with redirect_stdout(said), redirect_stderr(said), pytest.raises(SystemExit) as left:
                bridgectl.main()
        finally:
            sys.argv = before
        assert code is None or left.value.code == code, f"{line}: {said.getvalue()[-3000:]}"
        return said.getvalue()

    def until(self, line: str, there: Callable[[str], bool], *, timeout_s: float = 60) -> str:
        """Look until something is shown, as a person does."""
        seen = [""]

        def shown() -> bool:
            time.sleep(0.5)  # looking takes more of the machine than what is looked at
            seen[0] = self.runs(line, code=None)
            return there(seen[0])

        try:
            wait_until(shown, timeout_s=timeout_s, what=line)
        except AssertionError as error:
            error.add_note(seen[0][-2000:])
            raise
        return seen[0]


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    for name in [row.name for row in setting_rows()] + ["BRIDGE_ENV_FILE"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BRIDGE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "tests" / "data" / EXPORT, tmp_path)
    return Reader(tmp_path)


@contextmanager
def open_window(folder: Path, line: str) -> Iterator[subprocess.Popen[str]]:
    """A command that is left running."""
    with (folder / "up.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *shlex.split(line), "--plain"],
            cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=log, stderr=log,
            text=True, creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )  # fmt: skip
    try:
        yield process
        process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGINT))
        process.wait(END_S_MAX)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_the_page_installs_as_the_readme_does() -> None:
    line = LINES[0]
    assert line.startswith('python3 -m venv .venv && .venv/bin/pip install -e ".[embedded,report]"')
    assert any(one.startswith(line.partition("[")[0]) for block in
               read_page(ROOT / "README.md").blocks for one in block.commands())  # fmt: skip


@pytest.mark.timeout(300)
def test_from_an_export_to_paper_trading_and_back(reader: Reader) -> None:
    reader.left = reader.left[1:]
    assert reader.left.pop(0) == "bridgectl up"
    with open_window(reader.folder, "bridgectl up") as up:
        reader.until("bridgectl status", lambda said: "up" in said and "BTCUSD" in said)
        said = reader.types("bridgectl import")
        assert f"{EXPORT_TICKS} appended" in said
        assert "namespace imported" in said
        writes_and_checks(reader)
        backtests(reader)
        trades_on_paper(reader)
        said = reader.types("bridgectl execution on --terminal mine --live", code=1)
        [refusal] = blocks("text")
        assert said.strip() == refusal.text.strip()
        said = reader.types("bridgectl strategies disable my-strategy")
        assert "my-strategy" in said
        said = reader.types("bridgectl execution off")
        assert "not acted on" in said or "off" in said
        assert up.poll() is None
    assert up.returncode == 0
    assert reader.left == []


def writes_and_checks(reader: Reader) -> None:
    reader.types("bridgectl strategies new my_strategy.py")
    [shown] = blocks("python")
    assert (reader.folder / "my_strategy.py").read_text().strip() == shown.text.strip()
    said = reader.types("bridgectl strategies check")
    assert "the same in pieces" in said


def backtests(reader: Reader) -> None:
    reader.types("bridgectl backtest --write-spec")
    said = reader.types("bridgectl backtest my_strategy.py")
    assert f"{EXPORT_TICKS} ticks" in said
    assert "Net profit" in said
    assert "assumed:" in said
    assert "<svg" in (page := (reader.folder / "first.html").read_text()) or "plotly" in page


def trades_on_paper(reader: Reader) -> None:
    said = reader.types("bridgectl execution on --terminal simulated")
    assert "paper" in said
    said = reader.types("bridgectl strategies enable")
    assert "my-strategy is enabled for simulated" in said
    show, status = reader.left[0], reader.left[1]
    reader.until(show, lambda said: "BTCUSD" in said and "crossed" in said)
    reader.types("bridgectl strategies show my-strategy")
    reader.until(status, lambda said: "done" in said)
    said = reader.types("bridgectl execution status")
    assert "my-strategy" in said
    reader.types("bridgectl positions")
    said = reader.types("bridgectl parity --strategy my-strategy")
    assert "100.00 %" in said
