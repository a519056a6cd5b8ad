"""What a backtest passes over without looking closely is what a close look finds nothing in."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.backtest.broker import AccountSpec, BrokerModel, example_spec
from consumers.backtest.broker.prices import watch
from consumers.backtest.chart import ChartRecorder
from consumers.backtest.curve import CurveRecorder, slot_begins
from consumers.strategies.running.tick_run import TickRun
from events.broker.valuation import Series
from events.executing import OrderIntent
from events.ticks import TICK_DTYPE, OffsetSource, TickBatch

START_MS = 1_704_153_600_000  # Tuesday, 2 January 2024, 00:00 UTC


def walk(seed: int, symbol: str, begin: float, step: float, count: int) -> TickBatch:
    rng = np.random.default_rng(seed)
    rows = np.zeros(count, TICK_DTYPE)
    rows["bid"] = np.maximum(begin * np.exp(np.cumsum(rng.normal(0, step, count))), begin / 10)
    rows["ask"] = rows["bid"] * 1.0002
    rows["time_msc"] = START_MS + np.arange(count) * 1_000 + seed % 1_000
    newest_ms = int(rows["time_msc"][-1])
    return TickBatch(symbol, rows, 0, OffsetSource.LIVE, newest_ms, newest_ms)


@pytest.mark.parametrize("leverage", [1, 100])
@pytest.mark.parametrize(
    ("symbol", "currency_margin", "bounded"),
    [("EURUSD", "USD", True), ("EURUSD", "EUR", True), ("EURUSD", "JPY", True),
     ("EURJPY", "EUR", False)],
)  # fmt: skip
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), side=st.integers(0, 1), window=st.integers(1, 400))
def test_the_bound_of_a_stop_out_never_hides_one(
    symbol: str, currency_margin: str, bounded: bool, leverage: int, seed: int, side: int,
    window: int,
) -> None:  # fmt: skip
    """Margin in the account's currency, and in ones that rise and fall with a pair's price. The
    level is set to what is reached at one tick of a window alone."""
    names = ["EURUSD", "USDJPY", "EURJPY"]
    known = example_spec(names).instruments
    known |= {symbol: known[symbol].model_copy(update={"currency_margin": currency_margin})}
    begins = {"EURUSD": 1.1, "USDJPY": 150.0, "EURJPY": 165.0}
    run = TickRun.merged(
        [walk(seed + at, name, begins[name], 2e-3, 200) for at, name in enumerate(names)]
    )
    model = BrokerModel(AccountSpec("USD", leverage, 1e5, 2), known, traded=[symbol])
    model.look(run, 10)
    intent = OrderIntent(
        event_time_ms=START_MS, intent_id=1, login=1, strategy="s", symbol=symbol, verb="open",
        side=side, volume_lots=0.1, magic=1,
    )  # fmt: skip
    model.submit(intent, run, 10)
    server, present = model._server, model._present
    assert server is not None
    valuer, ledger = server.valuer, server.ledger
    assert ledger.positions
    low, high = 20, min(20 + window, len(run))

    def quote(name: str) -> Series | None:
        return present.series(name, low, high)

    def asked(level_percent: float) -> tuple[bool, bool]:
        account = replace(model.account, margin_so_so=level_percent)
        server.account = valuer._account = account
        found = valuer.stopped_out(ledger, quote, high - low)
        return found is not None, watch._may_stop_out(server, present, low, high)

    reached = np.min(valuer.equity(ledger, quote) / valuer.stop_out_equity(ledger, quote))
    level_percent = float(reached * model.account.margin_so_so)
    assert asked(level_percent * (1 + 1e-9)) == (True, True)
    assert asked(level_percent / 10) == (False, not bounded)


@settings(max_examples=60, deadline=None)
@given(
    times=st.lists(st.integers(0, 2_000), min_size=1, max_size=60),
    forward=st.booleans(),
    interval=st.sampled_from([7, 100, 1_000]),
)
def test_stretches_begin_where_the_quotient_changes(
    times: list[int], forward: bool, interval: int
) -> None:
    array = np.array(sorted(times) if forward else times, np.int64)
    slots = array // interval
    expected = [at for at in range(len(slots)) if not at or slots[at] != slots[at - 1]]
    assert slot_begins(array, interval).tolist() == expected


@pytest.mark.parametrize("cuts", [[100], [1, 2, 3, 250, 251], list(range(0, 300, 7))], ids=str)
def test_how_a_stretch_is_cut_changes_neither_curve_nor_chart(cuts: list[int]) -> None:
    rng = np.random.default_rng(5)
    times = START_MS + np.cumsum(rng.integers(0, 90_000, 300))
    equity = 1_000 + np.cumsum(rng.normal(0, 1, 300))
    whole = [CurveRecorder(rows_max=40), CurveRecorder(rows_max=40)]
    charts = [ChartRecorder(bars_max=30), ChartRecorder(bars_max=30)]
    for number, edges in enumerate(([0, 300], [0, *cuts, 300])):
        for low, high in pairwise(edges):
            part = slice(low, high)
            whole[number].stretch(times[part], equity[part], balance=1_000.0, positions=1)
            charts[number].add(times[part], equity[part])
    for column in ("time_ms", "balance", "equity", "equity_min", "positions"):
        pair = [getattr(one.curve(), column).tolist() for one in whole]
        assert pair[0] == pair[1]
    assert charts[0].bars().high.max() == charts[1].bars().high.max() == equity.max()


def test_one_loss_beyond_the_level_is_found_in_a_long_quiet_stretch() -> None:
    """The bound lets windows pass; the tick that falls through is none of them."""
    batch = walk(3, "EURUSD", 1.1, 1e-6, 20_000)
    rows = batch.ticks.copy()
    for name in ("bid", "ask"):
        rows[name][15_000] -= 0.05
    run = TickRun.of(replace(batch, ticks=rows))
    known = example_spec(["EURUSD"]).instruments
    model = BrokerModel(AccountSpec("USD", 100, 400.0, 2), known, traded=["EURUSD"])
    model.look(run, 0)
    intent = OrderIntent(
        event_time_ms=START_MS, intent_id=1, login=1, strategy="s", symbol="EURUSD",
        verb="open", side=0, volume_lots=0.1, magic=1,
    )  # fmt: skip
    model.submit(intent, run, 0)
    at = 1
    while (at := model.quiet_until(run, at, len(run))) < len(run):
        if model.at(run, at):
            break
        at += 1
    assert at == 15_000
