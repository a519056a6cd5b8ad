"""`backtest --check-look-ahead`: whoever uses the future is found, whatever way it goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import bridgectl
from consumers.backtest.broker.spec.writing import example_spec, spec_text
from tests.made_ticks import random_walk

START_MS = 1_772_409_600_000
HEAD = """
import gc
import numpy as np
from consumers.strategies import Crossover, Ema, Signals, Strategy, Tick, TickRun

"""
STRATEGIES = {
    "honest": """
class Mine(Strategy):
    no_stop = True

    def setup(self) -> None:
        self.cross = Crossover(Ema(20), Ema(60))

    def on_tick(self, tick: Tick) -> Signals:
        if side := self.cross.update(tick.mid):
            yield self.target(side)
""",
    "honest_arrays": """
class Mine(Strategy):
    no_stop = True

    def setup(self) -> None:
        self.fast, self.slow, self.side = Ema(20), Ema(60), 0

    def on_ticks(self, ticks: TickRun) -> Signals:
        sides = np.nan_to_num(np.sign(self.fast.update_many(ticks.mid)
                                      - self.slow.update_many(ticks.mid)))
        for at, side in enumerate(sides.tolist()):
            if side and side != self.side:
                self.side = side
                yield self.target(side, at=at)
""",
    "next_of_the_array": """
class Mine(Strategy):
    no_stop = True

    def on_ticks(self, ticks: TickRun) -> Signals:
        for at in range(0, len(ticks) - 1, 97):
            yield self.target("long" if ticks.bid[at + 1] > ticks.bid[at] else "short", at=at)
""",
    "end_of_the_array": """
class Mine(Strategy):
    no_stop = True

    def on_ticks(self, ticks: TickRun) -> Signals:
        for at in range(0, len(ticks), 97):
            yield self.target("long" if ticks.bid[-1] > ticks.bid[at] else "short", at=at)
""",
    "memory_of_the_process": """
class Mine(Strategy):
    no_stop = True

    def setup(self) -> None:
        self.count = 0

    def on_tick(self, tick: Tick) -> Signals:
        self.count += 1
        if self.count % 97 == 0:
            runs = [one for one in gc.get_objects() if type(one) is TickRun]
            ahead = max((float(one.bid[-1]) for one in runs if len(one)), default=0.0)
            yield self.target("long" if ahead > tick.bid else "short")
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_who_uses_the_future_is_found(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BRIDGE_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "mine.py").write_text(HEAD + STRATEGIES[name])
    (tmp_path / "spec.toml").write_text(spec_text(example_spec()))
    rows = random_walk(1_500, start_ms=START_MS, step_ms=1_000, seed=7)
    lines = ["time_msc,bid,ask,last,volume,flags,volume_real"]
    lines += [f"{row['time_msc']},{row['bid']},{row['ask']},0,0,6,0" for row in rows]
    (tmp_path / "EURUSD.csv").write_text("\n".join(lines))
    done = CliRunner().invoke(
        bridgectl.cli,
        ["backtest", "mine.py", "--source", "EURUSD.csv", "--spec", "spec.toml", "--clock", "utc",
         "--check-look-ahead"],
    )  # fmt: skip
    assert ("no look ahead: " in done.stdout) is name.startswith("honest"), done.output
    if name.startswith("honest"):
        assert done.exit_code == 0
    else:
        assert done.exit_code == 1
        assert "without them" in done.stdout
