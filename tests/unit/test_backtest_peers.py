"""Our trades over real ticks and bars are those that other backtesters make of them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from benchmarks.backtest_peers import COMMISSION, read_columns
from benchmarks.peers.agreement import differences, told
from benchmarks.peers.bars import FAST, SEEDS, SLOW, bars_of
from benchmarks.peers.own_run import arguments, bar_ticks_of, measured, ticks_of

DATA = Path(__file__).parents[1] / "data"


@cache
def recorded() -> dict[str, list[dict[str, Any]]]:
    """What each tool did, by its name and version."""
    found: dict[str, list[dict[str, Any]]] = json.loads((DATA / "peer_trades.json").read_text())
    return found


@cache
def columns() -> dict[str, Any]:
    return read_columns(DATA / "EURUSD_20140504-20140507.csv.gz", times=1)


def trades_of(tool: str) -> list[dict[str, Any]]:
    (found,) = (trades for name, trades in recorded().items() if name.startswith(tool))
    assert len(found) > 50
    return found


def own(*options: str) -> list[dict[str, Any]]:
    asked = arguments(["in memory", *options])
    rows = bar_ticks_of(bars_of(columns())) if asked.mode == "on_bar" else ticks_of(columns())
    made = measured(rows, asked)
    assert not made["refused"]
    trades: list[dict[str, Any]] = made["trades"]
    return trades


@pytest.mark.parametrize("mode", ["on_tick", "on_ticks"])
def test_each_trade_is_that_of_nautilus_trader_to_the_cent(mode: str) -> None:
    trades = own("--fast", "500", "--slow", "2000", "--commission", COMMISSION, "--mode", mode)
    found = differences(trades, trades_of("NautilusTrader"), name="NautilusTrader")
    assert not found, told(found)


@pytest.mark.parametrize("tool", sorted(SEEDS))
def test_each_trade_on_bars_is_that_of_other_backtesters(tool: str) -> None:
    trades = own("--fast", FAST, "--slow", SLOW, "--mode", "on_bar", "--seed", SEEDS[tool])
    found = differences(trades, trades_of(f"{tool} "), name=tool)
    assert not found, told(found)


@pytest.mark.parametrize(
    ("field", "by"),
    [("opened_ms", 1), ("closed_ms", -1), ("price_open", 1e-5), ("price_close", 1e-5),
     ("net", 0.01), ("side", None)],
)  # fmt: skip
def test_a_trade_that_differs_is_found(field: str, by: float | None) -> None:
    theirs = trades_of("NautilusTrader")
    changed = dict(theirs[7])
    changed[field] = changed[field] + by if by is not None else "neither"
    assert differences([*theirs[:7], changed, *theirs[8:]], theirs) == [
        f"trade 8: {field} is {changed[field]} here, {theirs[7][field]} in the other"
    ]
    assert differences(theirs[:-1], theirs) == [
        f"{len(theirs) - 1} trades here, {len(theirs)} in the other"
    ]
    assert not differences(theirs, theirs)
