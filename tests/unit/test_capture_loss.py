"""The comparison of ways to capture: the cursor keeps everything, the others do not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import capture_loss

SAMPLES = Path(__file__).parents[1] / "data"


def test_on_real_quotes_only_the_cursor_keeps_every_tick(
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = SAMPLES / "EURUSD_20140504-20140507.csv.gz"
    assert capture_loss.main([str(file), "--json"]) == 0
    (kept,) = json.loads(capsys.readouterr().out)["files"]
    assert kept["ticks"] == kept["cursor"] == 112_572
    assert kept["cursor_in_order"] is True
    percent = kept["percent"]
    assert percent["latest_tick_poller"] == pytest.approx(80.2, abs=0.1)
    assert percent["sleeping_poller"] == pytest.approx(76.9, abs=0.1)
    assert percent["time_msc_deduplicator"] == pytest.approx(99.43, abs=0.01)


def test_each_rival_loses_what_it_must(tmp_path: Path) -> None:
    """Four ticks in one interval, two of them in one millisecond, two rows identical."""
    file = tmp_path / "EURUSD.csv"
    lines = ["1700000000000,1,2", "1700000000000,1,2", "1700000000001,1.1,2", "1700000000300,1,2"]
    file.write_text("time_msc,bid,ask\n" + "\n".join(lines) + "\n", encoding="utf-8")
    kept = capture_loss.measure(file)
    assert (kept.ticks, kept.cursor, kept.cursor_in_order) == (4, 4, True)
    assert kept.time_msc_deduplicator == 3
    assert kept.row_deduplicator == 3
    assert 2 <= kept.latest_tick_poller < 2.1
    assert np.isclose(kept.percent("latest_tick_poller"), 25 * kept.latest_tick_poller)
    assert "multiset cursor (ours)" in capture_loss.table([kept])
