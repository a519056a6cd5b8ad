"""Corners of trading, told to the simulated terminal and to a backtest's broker: equal to the cent.

Both play the same ticks and get the same orders at the same ticks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consumers.backtest.broker import (
    AccountSpec,
    BrokerModel,
    BrokerOptions,
    SymbolCosts,
    WeeklyHours,
)
from consumers.strategies.running.tick_run import TickRun
from events import mt5
from events.clock_rules import ClockRule
from events.ticks import TICK_DTYPE, OffsetSource, TickBatch
from events.trading import Deal
from producers.terminals.recorded import RecordedOptions, RecordedTerminal
from producers.terminals.simulated.options import AccountOptions
from producers.terminals.simulated.symbols import CATALOGUE, SymbolSpec
from tests.unit.test_backtest_broker import HEDGING, NETTING, Story, facts

EXCHANGE = 1
EXCHANGE_EXECUTION = mt5.SYMBOL_TRADE_EXECUTION_EXCHANGE
BEGIN_MS = 1_704_186_000_000  # Tuesday, 2 January 2024, 09:00 UTC
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
SPREAD = 0.0001


@dataclass
class Twins:
    """A terminal that plays ticks, and a model over the same ones."""

    terminal: RecordedTerminal
    play: Story
    times_ms: list[int]

    def ask(self, index: int, request: dict[str, Any], **intent: Any) -> int:
        """The same order to both, right behind a tick; the ticket of the position or order."""
        self.terminal.clock.advance_to(self.times_ms[index])
        answer = self.play.ask(index, **intent)
        made = {"symbol": "EURUSD", "magic": self.play.intents, **request}
        result = self.terminal.order_send(made)
        assert result is not None, self.terminal.last_error()
        assert (result.retcode, result.price) == (answer.retcode, answer.price)
        return answer.position or answer.order

    def deal(self, index: int, side: int, lots: float, **levels: float) -> int:
        """A market order."""
        shorts = {"stop_loss": "sl", "take_profit": "tp"}
        request = {
            "action": mt5.TRADE_ACTION_DEAL, "type": side, "volume": lots,
            "type_filling": self.filling, **{shorts[name]: at for name, at in levels.items()},
        }  # fmt: skip
        return self.ask(index, request, side=side, volume_lots=lots, **levels)

    @property
    def filling(self) -> int:
        exchange = self.terminal.symbol_info("EURUSD").trade_exemode == EXCHANGE_EXECUTION
        return mt5.ORDER_FILLING_RETURN if exchange else mt5.ORDER_FILLING_IOC

    def agree(self) -> list[Deal]:
        """Play to the end; the model's trades, once they are the terminal's."""
        self.play.until(len(self.times_ms))
        self.terminal.clock.advance_to(self.times_ms[-1])
        shown = [
            (d.type, d.entry, d.reason, d.volume, d.price, d.profit, d.commission, d.swap,
             d.magic, d.time_msc, d.comment)
            for d in self.terminal.history_deals_get(0, 1 << 33) if d.type <= 1
        ]  # fmt: skip
        trades = self.play.trades()
        assert [
            (d.type, d.entry, d.reason, d.volume_lots, d.price, d.profit, d.commission, d.swap,
             d.magic, d.time_server_ms, d.comment)
            for d in trades
        ] == shown  # fmt: skip
        account = self.terminal.account_info()
        assert self.play.balance == account.balance
        equity = float(self.play.model.equity(self.play.run, len(self.times_ms) - 1,
                                              len(self.times_ms))[0])  # fmt: skip
        assert round(equity, 2) == account.equity
        return trades


def twins(
    folder: Path,
    bids: Sequence[float],
    *,
    mode: int = HEDGING,
    times_ms: Sequence[int] = (),
    clock: str = "UTC",
    symbol: dict[str, Any] | None = None,
    hours: Sequence[str] = (),
    **account: Any,
) -> Twins:
    """`times_ms` in UTC, one second apart where they are missing."""
    changed = symbol or {}
    spec = CATALOGUE["EURUSD"].model_copy(update=changed)
    times = list(times_ms) or [BEGIN_MS + 1000 * number for number in range(len(bids))]
    rule = ClockRule.parse(clock)
    offsets = [rule.offset_s(time_ms) for time_ms in times]
    terms = {"balance": 10_000.0, "leverage": 100, **account}
    file = folder / "ticks.csv"
    file.write_text(_export(bids, times))
    terminal = RecordedTerminal(
        RecordedOptions(
            files=(f"EURUSD={file}",), file_clock="UTC", clock=clock, speed=0, specs=(spec,),
            account=AccountOptions(login=1, margin_mode=mode, **terms),
        ),
        sleep=lambda _: None,
    )  # fmt: skip
    assert terminal.initialize()
    terminal.symbol_select("EURUSD", True)
    model = BrokerModel(
        AccountSpec(currency="USD", margin_mode=mode, **terms),
        {"EURUSD": facts(**_facts_of(spec))},
        BrokerOptions(
            costs={"EURUSD": SymbolCosts(spec.commission_per_lot)},
            hours={"EURUSD": WeeklyHours.parse(hours)} if hours else {},
        ),
        traded=["EURUSD"],
    )
    run = TickRun.joined(list(_batches(bids, times, offsets)))
    return Twins(terminal, Story(model, run), times)


def _facts_of(spec: SymbolSpec) -> dict[str, Any]:
    return {
        "swap_mode": spec.swap_mode, "swap_long": spec.swap_long, "swap_short": spec.swap_short,
        "execution_mode": spec.execution_mode, "filling_mode": spec.filling_mode,
    }  # fmt: skip


def _batches(
    bids: Sequence[float], times_ms: Sequence[int], offsets_s: Sequence[int]
) -> list[TickBatch]:
    """One for each span of one offset, as a producer cuts them."""
    edges = [0, *(np.flatnonzero(np.diff(offsets_s)) + 1), len(bids)]
    found = []
    for begin, end in pairwise(edges):
        rows = np.zeros(end - begin, TICK_DTYPE)
        rows["bid"] = np.round(bids[begin:end], 5)
        rows["ask"] = np.round(rows["bid"] + SPREAD, 5)
        rows["time_msc"] = [at + offsets_s[begin] * 1000 for at in times_ms[begin:end]]
        rows["time"] = rows["time_msc"] // 1000
        found.append(TickBatch("EURUSD", rows, offsets_s[begin], OffsetSource.LIVE, 0, 0))
    return found


def _export(bids: Sequence[float], times_ms: Sequence[int]) -> str:
    """As MetaTrader 5 exports ticks."""
    lines = ["<DATE>\t<TIME>\t<BID>\t<ASK>\t<LAST>\t<VOLUME>\t<FLAGS>"]
    for bid, time_ms in zip(bids, times_ms, strict=True):
        day, clock = str(np.datetime64(time_ms, "ms")).split("T")
        lines.append(
            f"{day.replace('-', '.')}\t{clock}\t{bid:.5f}\t{round(bid + SPREAD, 5):.5f}\t\t\t6"
        )
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("so_mode", [0, 1], ids=["percent", "money"])
@pytest.mark.parametrize("mode", [NETTING, HEDGING], ids=["netting", "hedging"])
def test_a_stop_out_is_decided_at_the_same_tick(mode: int, so_mode: int, tmp_path: Path) -> None:
    """Five ticks a second, and one of them alone is low enough."""
    bids = [1.1000] * 60
    bids[33], bids[34] = 1.0938, 1.0990  # below the level for 200 ms, within a second
    bids[50:] = [1.0930] * 10
    times = [BEGIN_MS + 150 + 200 * number for number in range(60)]
    level = 50.0 if so_mode == 0 else 4500.0
    pair = twins(tmp_path, bids, mode=mode, times_ms=times, margin_so_mode=so_mode,
                 margin_so_so=level)  # fmt: skip
    for index, lots in ((1, 1.0), (3, 3.0), (5, 5.0)):
        pair.deal(index, 0, lots)
    trades = pair.agree()
    stopped = [deal for deal in trades if deal.reason == mt5.DEAL_REASON_SO]
    assert stopped[0].time_server_ms == times[33], "the spike itself, not the next full second"
    assert stopped[0].price == 1.0938
    assert (len(stopped) == 1) == (mode == NETTING or so_mode == 0)


def test_a_stop_out_waits_for_a_market_that_is_closed(tmp_path: Path) -> None:
    """Prices go on being quoted, but nothing trades for a minute."""
    bids = [1.1000] * 70 + [1.0930] * 80
    pair = twins(tmp_path, bids, hours=["tue 09:00-09:01", "tue 09:02-24:00"])
    pair.deal(1, 0, 9.0)
    pair.terminal.clock.advance_to(pair.times_ms[60])
    pair.terminal.inject("market_closed", for_s=60.0)
    [_, stopped] = pair.agree()
    assert stopped.reason == mt5.DEAL_REASON_SO
    assert stopped.time_server_ms == pair.times_ms[120]


def test_of_one_tick_stops_are_filled_before_the_stop_out(tmp_path: Path) -> None:
    bids = [1.1000] * 20 + [1.0930] * 20
    pair = twins(tmp_path, bids)
    pair.deal(1, 0, 5.0, stop_loss=1.0950)
    pair.deal(2, 0, 3.9)
    trades = pair.agree()
    assert [deal.reason for deal in trades[2:]] == [mt5.DEAL_REASON_SL], "the rest can be held"


@pytest.mark.parametrize("mode", [NETTING, HEDGING], ids=["netting", "hedging"])
@pytest.mark.parametrize("side", [0, 1], ids=["buy", "sell"])
def test_stop_limit_orders_become_limits_and_are_filled_alike(
    side: int, mode: int, tmp_path: Path
) -> None:
    sign = 1 if side == 0 else -1
    moves = [0, 2, 5, 11, 12, 8, 3, -2, -1, 4, 9, 15, 22, 31, 12, -5, -12, -21, 0, 0]
    bids = [1.1000 + sign * move / 10_000 for move in moves for _ in range(2)]
    pair = twins(tmp_path, bids, mode=mode)
    stop, limit = round(1.1000 + sign * 0.0010, 5), round(1.1000 + sign * 0.0003, 5)
    target, stop_loss = round(1.1000 + sign * 0.0020, 5), round(1.1000 - sign * 0.0015, 5)
    request = {
        "action": mt5.TRADE_ACTION_PENDING, "type": mt5.ORDER_TYPE_BUY_STOP_LIMIT + side,
        "volume": 0.5, "price": stop, "stoplimit": limit, "tp": target, "sl": stop_loss,
        "type_filling": mt5.ORDER_FILLING_RETURN,
    }  # fmt: skip
    wanted = {"price_stop": stop, "price_limit": limit, "take_profit": target}
    pair.ask(1, request, side=side, volume_lots=0.5, stop_loss=stop_loss, **wanted)
    trades = pair.agree()
    assert [deal.entry for deal in trades] == [0, 1]
    assert trades[0].time_server_ms > pair.times_ms[8], "not at the stop: at the limit behind it"
    assert (limit - trades[0].price) * sign >= 0, "the limit or better"
    assert trades[1].reason == mt5.DEAL_REASON_TP


def test_netting_turns_around_alike(tmp_path: Path) -> None:
    bids = [1.1000 + number / 10_000 for number in range(40)]
    pair = twins(tmp_path, bids, mode=NETTING)
    pair.deal(1, 0, 0.3)
    pair.deal(5, 0, 0.25, stop_loss=1.0950)
    pair.deal(10, 1, 1.0)  # 0.55 bought, 0.45 sold
    pair.deal(15, 1, 0.05)
    pair.deal(20, 0, 0.5, take_profit=1.1030)
    pair.deal(25, 0, 0.2)
    pair.deal(30, 1, 0.4)
    trades = pair.agree()
    assert [deal.entry for deal in trades].count(mt5.DEAL_ENTRY_INOUT) == 2
    assert len({deal.position_id for deal in trades[:5]}) == 1, "one position, turned around"


@pytest.mark.parametrize("mode", [EXCHANGE, HEDGING], ids=["exchange_account", "hedging_account"])
def test_exchange_execution_fills_alike(mode: int, tmp_path: Path) -> None:
    bids = [1.1000 + move / 10_000 for move in (0, 1, 3, 7, 4, 0, -4, -9, -3, 2, 6, 12, 3, 1)]
    symbol = {"execution_mode": EXCHANGE_EXECUTION, "filling_mode": 0}
    pair = twins(tmp_path, bids, mode=mode, symbol=symbol)
    pair.deal(1, 0, 0.4)
    request = {"action": mt5.TRADE_ACTION_PENDING, "type": mt5.ORDER_TYPE_SELL_LIMIT,
               "volume": 0.4, "price": 1.1011,
               "type_filling": mt5.ORDER_FILLING_RETURN}  # fmt: skip
    pair.ask(2, request, side=1, volume_lots=0.4, price_limit=1.1011)
    pair.deal(6, 1, 0.7, stop_loss=1.1006)
    assert len(pair.agree()) >= 4


@pytest.mark.parametrize("mode", [NETTING, HEDGING], ids=["netting", "hedging"])
@pytest.mark.parametrize(
    ("begin", "clock"),
    [("2024-03-07T10:00", "America/New_York+7h"), ("2024-10-31T10:00", "America/New_York+7h"),
     ("2024-10-24T10:00", "Europe/Athens")],
    ids=["spring_new_york", "autumn_new_york", "autumn_athens"],
)  # fmt: skip
def test_swaps_over_the_days_clocks_change_are_charged_alike(
    begin: str, clock: str, mode: int, tmp_path: Path
) -> None:
    """Nine days with a change of the clock, a weekend and a triple night in them."""
    start_ms = int(np.datetime64(begin, "ms").astype(np.int64))
    times = [start_ms + half * HOUR_MS // 2 for half in range(9 * 48)]
    rule = ClockRule.parse(clock)
    times = [at for at in times if (at + rule.offset_s(at) * 1000) // DAY_MS % 7 not in (2, 3)]
    bids = [1.1000 + (number % 40) / 10_000 for number in range(len(times))]
    pair = twins(tmp_path, bids, mode=mode, times_ms=times, clock=clock)
    pair.deal(2, 0, 0.5)
    last = len(times) - 3
    closing = {"action": mt5.TRADE_ACTION_DEAL, "type": 1, "volume": 0.5,
               "type_filling": mt5.ORDER_FILLING_IOC}  # fmt: skip
    intent: dict[str, int] = {}
    if mode == HEDGING:
        closing["position"] = pair.terminal.positions_get()[0].ticket
        intent["position"] = pair.play.trades()[0].position_id
    pair.ask(last, closing, verb="close", side=1, volume_lots=0.5, **intent)
    trades = pair.agree()
    # 7.2 points a lot and night, 0.5 lots: 3.60; Thursday to Friday of the next week is 8 nights.
    assert trades[-1].swap == pytest.approx(-3.6 * 8, abs=0.005)
