"""`bridgectl backtest` over files: what is told of bad input, of gaps, and of money to convert."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import bridgectl
from consumers.backtest.broker.spec.writing import example_spec, spec_text
from consumers.backtest.result import BacktestResult
from events.ticks import TickArray
from tests.made_ticks import random_walk

START_MS = 1_772_409_600_000  # Monday, 2 March 2026, 00:00 UTC
HOUR_MS = 3_600_000
TURNS = """
from consumers.strategies import Strategy


class Turns(Strategy):
    every: int = 100
    lots = 0.1
    no_stop = True

    def setup(self):
        self.count = 0

    def on_tick(self, tick):
        self.count += 1
        if self.count % self.every == 0:
            yield self.target((1, 0, -1, 0)[self.count // self.every % 4])
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BRIDGE_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "turns.py").write_text(TURNS)
    (tmp_path / "spec.toml").write_text(spec_text(example_spec(("EURUSD", "USDJPY", "EURJPY"))))
    return tmp_path


def rows(count: int = 600, *, seed: int = 3, price: float = 1.1, step_ms: int = 1_000) -> TickArray:
    move = price * 2e-5
    return random_walk(count, start_ms=START_MS, step_ms=step_ms, seed=seed, price=price, move=move)


def write(name: str, ticks: TickArray) -> str:
    lines = ["time_msc,bid,ask,flags"]
    lines += [f"{one['time_msc']},{one['bid']},{one['ask']},6" for one in ticks]
    Path(name).write_text("\n".join(lines))
    return name


def call(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(bridgectl.cli, ["backtest", *words])
    broke = done.exception is not None and not isinstance(done.exception, SystemExit)
    return done.exit_code, done.stdout, str(done.exception) if broke else done.stderr


def told(*words: str) -> str:
    """What a backtest that cannot be run says: one line."""
    code, out, text = call(*words)
    assert code, out
    assert len(text.strip().splitlines()) == 1, text
    return text


def run(*words: str) -> BacktestResult:
    code, out, text = call(*words, "--json")
    assert code == 0, text
    return BacktestResult.from_json(out)


def test_gaps_and_bad_prices_are_told_with_their_number_and_the_longest() -> None:
    ticks = rows()
    ticks["time_msc"][200:] += 9 * HOUR_MS
    ticks["time_msc"][400:] += 5 * HOUR_MS
    ticks["bid"][10:13] = 0.0
    ticks["ask"][20:22] = 1.0
    ticks["time_msc"][300] -= 500_000
    code, out, text = call(
        "turns.py", "--source", write("EURUSD.csv", ticks), "--spec", "spec.toml", "--clock", "utc"
    )
    assert code == 0, text
    flat = " ".join(out.split())
    assert "EURUSD: 2 gaps of more than 4 h outside of weekends, the longest 9.0 h from" in flat
    assert "of 600 ticks have no bid or no ask" in flat
    assert "2 of 600 ticks have an ask below their bid" in flat
    assert "are older than the one before" in flat


def test_a_price_that_is_none_is_traded_at_by_nobody() -> None:
    ticks = rows()
    ticks["ask"][90:110] = ticks["bid"][90:110] - 0.01  # the signal comes at tick 100
    found = run(
        "turns.py", "--source", write("EURUSD.csv", ticks), "--spec", "spec.toml", "--clock", "utc"
    )
    prices = {(int(one["time_msc"])): (one["bid"], one["ask"]) for one in ticks}
    for deal in (one for one in found.deals if one.symbol):
        bid, ask = prices[deal.event_time_ms]
        assert ask >= bid > 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--source", "EURUSD.csv"), "tells nothing of an account: give --spec FILE"),
        (("--source", "EURUSD.csv", "--spec", "none.toml"), "none.toml"),
        (("--source", "GBPUSD=EURUSD.csv", "--spec", "spec.toml"), "no facts of GBPUSD"),
        (("--source", "none.csv", "--spec", "spec.toml"), "none.csv: there is no such file"),
        (("--source", "turns.py", "--spec", "spec.toml"), "turns.py"),
        (("--source", "EURUSD=empty.csv", "--spec", "spec.toml"), "empty.csv; there is: no tick"),
        (
            ("--source", "EURUSD.csv", "--spec", "spec.toml", "--from", "2026-04-01"),
            "there is: EURUSD 2026-03-02",
        ),
        (
            ("--source", "EURUSD.csv", "--spec", "spec.toml", "--symbol", "USDJPY"),
            "no file holds USDJPY",
        ),
        (("--source", "EURUSD.csv", "--spec", "spec.toml", "--clock", "mars"), "clock 'mars'"),
        (("--source", "EURUSD.csv", "--spec", "spec.toml", "--latency", "x"), "--latency 'x'"),
        (("--source", "EURUSD.csv", "--spec", "spec.toml", "--risk", "none.toml"), "none.toml"),
        (("--source", "EURUSD.csv", "--spec", "spec.toml", "--set", "evry=3"), "you mean every"),
        (("--source", "EURUSD.csv", "--spec", "spec.toml", "--set", "every=x"), "whole number"),
    ],
    ids=["no-spec", "no-spec-file", "facts", "no-file", "no-ticks-file", "empty-file", "span",
         "symbol", "clock", "latency", "rules", "parameter", "type"],
)  # fmt: skip
def test_what_cannot_be_run_is_one_line(words: Sequence[str], expected: str) -> None:
    write("EURUSD.csv", rows(50))
    Path("empty.csv").write_text("time_msc,bid,ask,flags\n")
    assert expected in told("turns.py", *words)


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("bad.py", "def x(:\n", "bad.py:1: "),
        ("bad.py:Missing", TURNS, "has no class Missing"),
        ("missing.py", "", "there is no such file"),
    ],
    ids=["syntax", "class", "file"],
)
def test_a_strategy_that_cannot_be_loaded_is_one_line(file: str, text: str, expected: str) -> None:
    if text:
        Path("bad.py").write_text(text)
    words = ("--source", write("EURUSD.csv", rows(50)), "--spec", "spec.toml")
    assert expected in told(file, *words)


def test_a_strategy_that_raises_stops_there_and_the_result_says_where() -> None:
    Path("raises.py").write_text(TURNS.replace("yield", "1 / 0; yield"))
    code, out, _ = call(
        "raises.py", "--source", write("EURUSD.csv", rows()), "--spec", "spec.toml",
        "--clock", "utc",
    )  # fmt: skip
    assert code == 1
    flat = " ".join(out.split())
    assert "stopped: on_tick failed at the tick of EURUSD at 1772409699000" in flat
    assert "ZeroDivisionError" in flat


def test_a_strategy_that_answers_its_own_fills_without_end_is_stopped() -> None:
    Path("endless.py").write_text(
        TURNS + "\n    def on_trade(self, trade):\n        yield self.target(-1 if trade.position"
        " > 0 else 1)\n"
    )
    code, out, _ = call(
        "endless.py", "--source", write("EURUSD.csv", rows()), "--spec", "spec.toml",
        "--clock", "utc",
    )  # fmt: skip
    assert code == 1
    assert "answers its own fills" in " ".join(out.split())


def euro_account(folder: Path, rates: dict[str, float]) -> str:
    spec = example_spec(("USDJPY", "EURJPY", "EURUSD"), currency="EUR")
    path = folder / "euro.toml"
    path.write_text(spec_text(replace(spec, rates=rates)))
    return str(path)


def test_money_of_another_currency_is_turned_by_the_prices_of_its_moment(folder: Path) -> None:
    spec = euro_account(folder, {})
    dollar = write("USDJPY.csv", rows(price=150.0))
    assert "no price of" in told("turns.py", "--symbol", "USDJPY", "--source", dollar,
                                 "--spec", spec, "--clock", "utc")  # fmt: skip
    euro = rows(price=165.0, seed=4, step_ms=700)
    euro["bid"][-300:] *= 2
    euro["ask"][-300:] *= 2
    words = ("turns.py", "--symbol", "USDJPY", "--spec", spec, "--clock", "utc",
             "--source", dollar, "--source", write("EURJPY.csv", euro))  # fmt: skip
    found = run(*words, "--source", write("EURUSD.csv", rows()))
    assert found.currency == "EUR"
    closed = [one for one in found.deals if one.entry == 1]
    assert closed
    opened = {one.position_id: one for one in found.deals if one.entry == 0}
    for deal in closed:
        entry = opened[deal.position_id]
        yen = (deal.price - entry.price) * 0.1 * 100_000 * (1 if entry.type == 0 else -1)
        seen = euro[euro["time_msc"] <= deal.event_time_ms][-1]
        rate = float(seen["ask"] if yen > 0 else seen["bid"])
        assert deal.profit == pytest.approx(yen / rate, abs=0.02)
    assert set(found.symbols) >= {"USDJPY", "EURJPY"}
    assert {one.symbol for one in found.signals} == {"USDJPY"}


def test_a_fixed_rate_takes_the_place_of_ticks(folder: Path) -> None:
    spec = euro_account(folder, {"EURJPY": 160.0, "EURUSD": 1.1})
    found = run(
        "turns.py", "--symbol", "USDJPY", "--spec", spec, "--clock", "utc",
        "--source", write("USDJPY.csv", rows(price=150.0)),
    )  # fmt: skip
    assert any("EURJPY 160" in line for line in found.assumptions)
    assert len([one for one in found.deals if one.profit]) >= 2


def test_bars_of_a_file_reach_the_stop_before_the_target(folder: Path) -> None:
    lines = ["<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>"]
    for minute in range(4):
        high, low = (1.1100, 1.0900) if minute == 2 else (1.1002, 1.0998)
        lines.append(
            f"2026.03.02\t00:0{minute}:00\t1.10000\t{high:.5f}\t{low:.5f}\t1.10000\t40\t0\t10"
        )
    Path("EURUSD_M1.csv").write_text("\n".join(lines) + "\n")
    Path("once.py").write_text(
        TURNS.replace("yield self.target((1, 0, -1, 0)[self.count // self.every % 4])",
                      "yield self.target(SIDE, stop_loss=1.1 - SIDE * 0.005,"
                      " take_profit=1.1 + SIDE * 0.005) if self.count == self.every else None")
        .replace("class", "SIDE = 1\n\n\nclass").replace("every: int = 100", "every: int = 2")
    )  # fmt: skip
    for side in ("1", "-1"):
        Path("once.py").write_text(
            Path("once.py").read_text().replace("SIDE = 1", f"SIDE = {side}")
        )
        found = run(
            "once.py", "--source", "EURUSD=EURUSD_M1.csv", "--spec", "spec.toml", "--clock", "utc"
        )
        assert found.ticks == 16
        [trade] = found.trades
        assert trade.net_profit < -40, side
        assert any("worst case comes first" in line for line in found.assumptions)


def test_looks_at_the_account_come_as_often_as_asked(folder: Path) -> None:
    Path("looks.py").write_text(
        TURNS + "\n    def on_account(self, account):\n        self.looks = getattr(self, 'looks',"
        " 0) + 1\n        return self.target(1, leg='looks', lots=0.01, reason=str(self.looks))"
        " if self.looks % 10 == 0 else None\n"
    )
    words = ("looks.py", "--source", write("EURUSD.csv", rows()), "--spec", "spec.toml",
             "--clock", "utc")  # fmt: skip

    def looks(*more: str) -> int:
        reasons = [one.reason for one in run(*words, *more).signals if one.reason]
        return max(int(one) for one in reasons)

    assert looks() > 3 * looks("--account-interval", "5")


def test_ticks_of_two_rates_are_walked_by_time() -> None:
    first, second = rows(600), rows(60, seed=9, step_ms=10_000, price=0.6)
    write("EURUSD.csv", first)
    write("AUDUSD.csv", second)
    Path("spec.toml").write_text(spec_text(example_spec(("EURUSD", "AUDUSD"))))
    Path("order.py").write_text(
        TURNS.replace(
            "class Turns(Strategy):", "class Turns(Strategy):\n    together = True"
        ).replace(
            "self.target(", "self.target(symbol=tick.symbol, reason=str(tick.time_ms), target="
        )
    )
    found = run("order.py", "--source", "EURUSD.csv", "--source", "AUDUSD.csv", "--spec",
                "spec.toml", "--clock", "utc", "--set", "every=13")  # fmt: skip
    assert found.ticks == 660
    times = [int(one.reason) for one in found.signals]
    assert times == sorted(times)
    assert {one.symbol for one in found.signals} == {"EURUSD", "AUDUSD"}
    both = np.sort(np.concatenate([first["time_msc"], second["time_msc"]]), kind="stable")
    assert times == both[12::13].tolist()
