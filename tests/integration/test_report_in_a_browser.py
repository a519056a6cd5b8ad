"""The page of a backtest in a real browser without any network. Needs Chromium or its kin."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from consumers.backtest.report.page import SweepSection, write_report
from consumers.backtest.report.tables import Cell
from tests.unit.test_backtest_report import full

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "msedge")
BROWSER = next((found for name in BROWSERS if (found := shutil.which(name))), None)
CHARTS = 4  # equity, one symbol, costs, trades by net


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here: apt-get install chromium")
def test_a_report_is_drawn_by_a_browser_without_any_network(tmp_path: Path) -> None:
    assert BROWSER is not None
    place = tmp_path / "page.html"
    write_report(place, full(), sweep=SweepSection(("fast",), [[Cell("1")]]))
    words = [
        BROWSER, "--headless=new", "--disable-gpu", "--disable-background-networking",
        "--disable-component-update", "--no-first-run", "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}",
        # Whatever it would ask for has no address and no way out.
        "--host-resolver-rules=MAP * ~NOTFOUND", "--proxy-server=127.0.0.1:9",
        "--window-size=900,2000", "--virtual-time-budget=20000", "--dump-dom",
        *(["--no-sandbox"] if sys.platform == "linux" else []), place.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(
        words, capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=100,
        check=False,
    )  # fmt: skip
    drawn = re.search(r"<html[^>]*>", done.stdout)
    assert drawn is not None, done.stderr[-2000:]
    assert f'data-drawn="{CHARTS}"' in drawn.group(), done.stderr[-2000:]
    assert "data-failed" not in drawn.group()
    assert len(re.findall(r'<svg[^>]*class="main-svg"', done.stdout)) >= CHARTS
    # What a strategy wrote is no element, and the head of a table sorts it.
    assert "<img" not in done.stdout.split("<script")[0]
    assert len(re.findall(r'<th[^>]*><button type="button">', done.stdout)) >= 14
    assert "Content Security Policy" not in done.stderr
