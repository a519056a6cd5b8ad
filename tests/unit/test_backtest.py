"""The backtest's engine: no look-ahead, the same twice, the same as live, bounded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from consumers.backtest.broker import AccountSpec
from consumers.backtest.curve import CurveRecorder
from consumers.backtest.quality import Quality
from consumers.backtest.report.figures import figures, max_drawdown
from consumers.backtest.result import BacktestResult, BadResult
from consumers.backtest.running import Plan, run_backtest
from consumers.backtest.sources.merging import merged
from consumers.backtest.sources.recorded import RecordedSource
from consumers.backtest.sources.source import NoTicks, Portion, Span
from consumers.strategies.ema_cross import EmaCross
from consumers.strategies.running.instances import Casting, Instances
from consumers.strategies.running.tick_run import TickRun
from events.archive.source import EntrySource
from events.codec import encode
from events.log import SOURCE, Slot, partition_of
from events.market import Instrument
from events.memory_log import MemoryLog
from events.rules import Action, Limit, Rules
from events.ticks import TICK_DTYPE, OffsetSource, TickArray, TickBatch

START_MS = 1_772_409_600_000  # Monday, 2 March 2026, 00:00 UTC
SYMBOL = "EURUSD"


def instrument(symbol: str = SYMBOL) -> Instrument:
    return Instrument(
        event_time_ms=0, recv_time_ms=0, symbol=symbol, broker_symbol=symbol,
        currency_base=symbol[:3], currency_profit=symbol[3:], currency_margin=symbol[:3],
        digits=5, point=1e-5, tick_size=1e-5, contract_size=100_000.0, volume_min_lots=0.01,
        volume_max_lots=100.0, volume_step_lots=0.01,
    )  # fmt: skip


def ticks(count: int, *, seed: int = 7, step_ms: int = 1_000) -> TickArray:
    rng = np.random.default_rng(seed)
    made = np.zeros(count, TICK_DTYPE)
    made["time_msc"] = START_MS + np.arange(count) * step_ms
    made["time"] = made["time_msc"] // 1000
    mid = 1.1 + np.cumsum(rng.normal(0, 2e-5, count))
    made["bid"], made["ask"] = np.round(mid, 5), np.round(mid + 1e-4, 5)
    made["flags"] = 6
    return made


def batch(rows: TickArray, symbol: str = SYMBOL) -> TickBatch:
    newest_ms = int(rows["time_msc"][-1])
    return TickBatch(symbol, rows, 0, OffsetSource.ASSUMED, newest_ms, newest_ms)


class Made:
    """Ticks of an array, in portions of some size."""

    name, symbols = "made", (SYMBOL,)

    def __init__(self, rows: TickArray, portion: int = 1_000) -> None:
        self._rows, self._portion = rows, portion
        self.warnings: list[str] = []

    def facts(self) -> list[Any]:
        return []

    def portions(self, *, clock: bool = False) -> Iterator[Portion]:
        for first in range(0, len(self._rows), self._portion):
            yield Portion((batch(self._rows[first : first + self._portion]),))


def plan(rows: TickArray, portion: int = 1_000, **parameters: Any) -> Plan:
    parameters = {"fast": 30, "slow": 90} | parameters
    casting = Casting(EmaCross, "ema-cross", (SYMBOL,), parameters, {SYMBOL: instrument()})
    account = AccountSpec("USD", 100, 10_000.0, 2)
    return Plan(casting, "ema_cross:EmaCross", Made(rows, portion), account, {SYMBOL: instrument()})


def story(result: BacktestResult) -> str:
    return replace(result, seconds=0.0).to_json()


def test_the_same_run_twice_gives_the_same_result_to_the_byte() -> None:
    rows = ticks(4_000)
    result = run_backtest(plan(rows))
    assert result.trades
    assert len(result.signals) > 10
    assert story(result) == story(run_backtest(plan(rows)))
    assert BacktestResult.from_json(result.to_json()).to_json() == result.to_json()


def test_cutting_the_input_anywhere_leaves_earlier_signals_deals_and_trades_alone() -> None:
    rows = ticks(3_000)
    whole = run_backtest(plan(rows))
    for stop in (1, 400, 777, 1_501, 2_999):
        cut = run_backtest(plan(rows[:stop]))
        until_ms = int(rows["time_msc"][stop - 1])
        assert cut.signals == tuple(s for s in whole.signals if s.event_time_ms <= until_ms)
        assert cut.deals == tuple(d for d in whole.deals if d.event_time_ms <= until_ms)


@pytest.mark.parametrize("portion", [1, 17, 5_000])
def test_how_ticks_are_cut_into_portions_changes_nothing(portion: int) -> None:
    rows = ticks(1_200)
    assert run_backtest(plan(rows, portion)).deals == run_backtest(plan(rows)).deals


def test_signals_are_those_of_live_batches() -> None:
    rows = ticks(3_000)
    live = Instances(plan(rows).casting)
    said = []
    for first in range(0, len(rows), 13):
        said += live.run_all(TickRun.of(batch(rows[first : first + 13])))
    assert tuple(said) == run_backtest(plan(rows)).signals


def test_deals_add_up_to_the_balance() -> None:
    result = run_backtest(plan(ticks(4_000)))
    amounts = sum(d.profit + d.commission + d.swap + d.fee for d in result.deals)
    assert round(amounts, 2) == round(result.balance_final, 2)
    net = sum(trade.net_profit for trade in result.trades)
    assert round(net, 2) == round(result.balance_final - result.balance_initial, 2)


def test_a_limit_that_flattens_latches_and_closes_in_the_backtest() -> None:
    limit = Limit(
        name="floor", figure="daily_loss", limit=60.0, of="money", action=Action.FLATTEN, hard=True
    )  # fmt: skip
    rules = Rules.model_validate(
        {"limits": [limit.model_dump()], "account": {"initial_balance": 10_000.0}}
    )
    free = run_backtest(plan(ticks(6_000), risk_percent=5.0))
    assert free.balance_final < 9_900
    held = run_backtest(replace(plan(ticks(6_000), risk_percent=5.0), rules=rules, looks_ms=20_000))
    assert any(event.TYPE == "limit_breach" for event in held.risk)
    assert held.balance_final > free.balance_final
    assert not [trade for trade in held.trades if not trade.close_time_ms]
    assert held.targets  # what was refused after the latch says why


def test_no_ticks_are_one_line_and_gaps_and_bad_prices_are_told() -> None:
    with pytest.raises(NoTicks, match="no tick of EURUSD"):
        run_backtest(plan(ticks(10)[:0]))
    rows = ticks(300)
    rows["time_msc"][200:] += 9 * 3_600_000
    rows["bid"][10], rows["ask"][20] = 0.0, 1.0
    text = "\n".join(run_backtest(plan(rows)).warnings)
    assert "1 gaps of more than 4 h" in text
    assert "have no bid or no ask" in text
    assert "ask below their bid" in text


def test_a_weekend_is_no_gap() -> None:
    quality = Quality()
    friday_ms, sunday_ms = START_MS + 4 * 86_400_000 + 79_200_000, START_MS + 6 * 86_400_000
    times = np.array([friday_ms, sunday_ms + 79_200_000], np.int64)
    quality.look(SYMBOL, times, np.ones(2), np.ones(2))
    assert quality.warnings() == []


def test_streams_of_symbols_are_merged_by_time_and_none_is_lost() -> None:
    first, second = ticks(500), ticks(700, seed=8, step_ms=700)
    feeds = [
        [batch(first[at : at + 100], "A") for at in range(0, 500, 100)],
        [batch(second[at : at + 130], "B") for at in range(0, 700, 130)],
    ]
    runs = [TickRun.merged(portion.batches) for portion in merged(feeds)]
    times = np.concatenate([run.time_ms for run in runs])
    assert len(times) == 1_200
    assert bool((np.diff(times) >= 0).all())


def test_a_span_holds_its_beginning_and_not_its_end() -> None:
    rows = ticks(10)
    cut = Span(START_MS + 2_000, START_MS + 5_000).cut(batch(rows))
    assert cut is not None
    assert cut.utc_ms().tolist() == [START_MS + s * 1_000 for s in (2, 3, 4)]


def test_the_curve_is_bounded_and_keeps_the_lowest_equity() -> None:
    recorder = CurveRecorder(interval_ms=1_000, rows_max=50)
    times = np.arange(10_000, dtype=np.int64) * 1_000
    equity = 1_000 + np.sin(times / 50_000) * 100
    recorder.stretch(times, equity, balance=1_000.0, positions=1)
    curve = recorder.curve()
    assert len(curve) <= 50
    assert curve.equity_min.min() == equity.min()
    assert curve.equity[-1] == equity[-1]
    assert max_drawdown(curve, 1_000.0)[0] > 100


def test_figures_follow_from_the_result() -> None:
    result = run_backtest(plan(ticks(4_000)))
    found = figures(result)
    assert found["trades"] == len(result.closed_trades)
    assert found["net_profit"] == pytest.approx(result.equity_final - 10_000)


def test_a_foreign_file_is_no_result() -> None:
    with pytest.raises(BadResult, match="no JSON"):
        BacktestResult.from_json("{")


def test_what_a_log_recorded_is_walked_in_its_order() -> None:
    rows = ticks(2_000)
    log = MemoryLog(now_ms=lambda: START_MS)
    log.open_namespace("demo", 4)
    slot = Slot("demo", SOURCE, partition_of(SYMBOL, 4))
    claim = log.claim(slot, "test", alive_within_s=0.0)
    parts = [batch(rows[at : at + 10]) for at in range(0, len(rows), 10)]
    log.append(claim, [encode(part) for part in parts])
    source = RecordedSource(EntrySource(log), "demo", (SYMBOL,), Span())
    recorded = run_backtest(replace(plan(rows), source=source))
    assert recorded.signals == run_backtest(plan(rows)).signals
    assert recorded.ticks == len(rows)
    empty = RecordedSource(EntrySource(log), "demo", (SYMBOL,), Span(START_MS * 2))
    with pytest.raises(NoTicks, match="there is: EURUSD"):
        run_backtest(replace(plan(rows), source=empty))
