"""The broker of a backtest: worked examples to the cent, one broker with the simulated terminal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.backtest.broker import (
    AccountSpec,
    Amount,
    BadHours,
    BadOption,
    BadSpec,
    BrokerModel,
    BrokerOptions,
    NoConversion,
    NoFacts,
    SymbolCosts,
    WeeklyHours,
    example_spec,
    runs_of_bars,
    spec_of,
    spec_text,
)
from consumers.backtest.broker.spec.file import load_spec, spec_of_text
from consumers.strategies.running.tick_run import TickRun
from events import mt5
from events.candles import CandleBatch
from events.executing import OrderAnswer, OrderIntent
from events.market import Instrument
from events.ticks import RATE_DTYPE, TICK_DTYPE, OffsetSource, TickBatch
from events.trading import Account, Book, Deal
from producers.terminals.recorded import RecordedOptions, RecordedTerminal
from producers.terminals.simulated.options import AccountOptions
from producers.terminals.simulated.symbols import CATALOGUE

TUESDAY_MS = 1_704_153_600_000  # 2 January 2024, 00:00 UTC
DAY_MS = 86_400_000
NETTING, HEDGING = 0, 2
POINT = 1e-5


def facts(symbol: str = "EURUSD", **changes: Any) -> Instrument:
    return example_spec([symbol]).instruments[symbol].model_copy(update=changes)


def account(mode: int = HEDGING, **changes: Any) -> AccountSpec:
    usual = AccountSpec(currency="USD", leverage=100, balance=10_000.0, margin_mode=mode)
    return replace(usual, **changes)


def ticks(
    bids: list[float], *, spread: float = 0.0001, symbol: str = "EURUSD",
    times_ms: list[int] | None = None, digits: int = 5,
) -> TickBatch:  # fmt: skip
    rows = np.zeros(len(bids), TICK_DTYPE)
    rows["bid"] = np.round(bids, digits)
    rows["ask"] = np.round(rows["bid"] + spread, digits)
    rows["time_msc"] = times_ms or [TUESDAY_MS + 1000 * (i + 1) for i in range(len(bids))]
    newest = int(rows["time_msc"].max())
    return TickBatch(symbol, rows, 0, OffsetSource.LIVE, newest, newest)


class Story:
    """Plays one run: intents at ticks, and whatever the broker does by itself."""

    def __init__(self, model: BrokerModel, run: TickRun) -> None:
        self.model, self.run = model, run
        self.events: list[Any] = list(model.look(run, 0))
        self.at = 0
        self.intents = 0

    def until(self, stop: int) -> Story:
        """Let the broker act up to a tick (not included)."""
        while (due := self.model.quiet_until(self.run, self.at, stop)) < stop:
            self.events += self.model.at(self.run, due)
            self.at = due + 1
        self.at = stop
        return self

    def ask(self, index: int, **fields: Any) -> OrderAnswer:
        """An intent right behind a tick; its newest answer."""
        self.until(index + 1)
        self.intents += 1
        intent: dict[str, Any] = {
            "event_time_ms": int(self.run.time_ms[index]), "intent_id": self.intents, "login": 1,
            "strategy": "s", "symbol": "EURUSD", "verb": "open", "volume_lots": 1.0,
            "magic": self.intents,
        }  # fmt: skip
        self.events += self.model.submit(OrderIntent(**intent | fields), self.run, index)
        newest: OrderAnswer = self.of(OrderAnswer)[-1]
        return newest

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def trades(self) -> list[Deal]:
        return [deal for deal in self.of(Deal) if deal.type <= 1]

    @property
    def balance(self) -> float:
        return float(self.of(Account)[-1].balance)


def story(bids: list[float], *, mode: int = HEDGING, seed: int = 1, **options: Any) -> Story:
    given: dict[str, Any] = {key: options.pop(key) for key in tuple(options) if key in ACCOUNT}
    changed: dict[str, Any] = options.pop("symbol_facts", {})
    times = options.pop("times_ms", None)
    model = BrokerModel(
        account(mode, **given), {"EURUSD": facts(swap_mode=0, **changed)},
        BrokerOptions(**options), seed, traded=["EURUSD"],
    )  # fmt: skip
    return Story(model, TickRun.of(ticks(bids, times_ms=times)))


ACCOUNT = {
    "balance",
    "leverage",
    "fifo_close",
    "margin_so_mode",
    "margin_so_so",
    "hedge_prohibited",
}


def test_a_long_trade_pays_spread_and_commission_to_the_cent() -> None:
    play = story([1.1000, 1.1050], costs={"EURUSD": SymbolCosts(3.5)})
    answer = play.ask(0)
    assert (answer.state, answer.price, answer.retcode) == ("done", 1.1001, 10009)
    play.ask(1, verb="close", side=1, position=answer.position)
    # bought at 1.1001, sold at 1.1050: 49 points of 10 dollars a pip-tenth, less 2 * 3.50
    assert [deal.profit for deal in play.trades()] == [0.0, 490.0]
    assert play.balance == 10_000 + 490 - 7
    assert [deal.magic for deal in play.trades()] == [1, 2]


@pytest.mark.parametrize(
    ("levels", "bids", "price", "reason"),
    [
        ({"stop_loss": 1.0990}, [1.1000, 1.0995, 1.0990], 1.0990, 4),
        ({"stop_loss": 1.0990}, [1.1000, 1.0995, 1.0900], 1.0900, 4),
        ({"take_profit": 1.1010}, [1.1000, 1.1009, 1.1030], 1.1030, 5),
    ],
    ids=["stop", "stop_behind_a_gap", "target_behind_a_gap"],
)
def test_levels_are_filled_at_the_first_price_that_reached_them(
    levels: dict[str, float], bids: list[float], price: float, reason: int
) -> None:
    play = story(bids)
    play.ask(0, **levels)
    play.until(len(bids))
    closing = play.trades()[-1]
    assert (closing.price, closing.reason, closing.event_time_ms) == (
        price, reason, int(play.run.time_ms[-1]),
    )  # fmt: skip
    assert play.of(Book)[-1].positions == ()


def test_pending_orders_fill_at_the_first_price_and_end_in_time() -> None:
    play = story([1.1, 1.1, 1.0980, 1.1, 1.1050, 1.1, 1.1], symbol_facts={})
    assert play.ask(0, price_limit=1.0990).state == "placed"
    assert play.ask(0, price_stop=1.1040).state == "placed"
    ends = int(play.run.time_ms[5])
    assert play.ask(0, price_stop=1.2000, expires_ms=ends).state == "placed"
    assert play.ask(0, price_limit=1.2000).retcode == mt5.TRADE_RETCODE_INVALID_PRICE
    play.until(7)
    assert [(deal.price, deal.magic) for deal in play.trades()] == [(1.0981, 1), (1.1051, 2)]
    done = [event.order for event in play.events if type(event).__name__ == "OrderDone"]
    assert [order.state for order in done] == [
        mt5.ORDER_STATE_FILLED, mt5.ORDER_STATE_FILLED, mt5.ORDER_STATE_EXPIRED,
    ]  # fmt: skip
    assert done[-1].time_done_ms == ends


def test_a_partial_close_leaves_the_rest_and_bad_volumes_are_refused() -> None:
    play = story([1.1, 1.1010, 1.1020])
    ticket = play.ask(0).position
    assert play.ask(0, volume_lots=0.005).retcode == mt5.TRADE_RETCODE_INVALID_VOLUME
    assert play.ask(0, volume_lots=0.015).retcode == mt5.TRADE_RETCODE_INVALID_VOLUME
    play.ask(1, verb="close", side=1, position=ticket, volume_lots=0.4)
    assert play.of(Book)[-1].positions[0].volume_lots == 0.6
    play.ask(2, verb="close", side=1, position=ticket, volume_lots=0)
    assert [deal.profit for deal in play.trades()] == [0.0, 36.0, 114.0]
    late = play.ask(2, verb="close", side=1, position=ticket, volume_lots=0)
    assert (late.state, late.retcode) == ("refused", mt5.TRADE_RETCODE_POSITION_CLOSED)


def test_netting_sums_up_and_turns_around() -> None:
    play = story([1.1, 1.1010, 1.1020], mode=NETTING)
    play.ask(0)
    play.ask(1)
    assert play.of(Book)[-1].positions[0].price_open == pytest.approx(1.1006)
    play.ask(2, side=1, volume_lots=3.0)
    held = play.of(Book)[-1].positions
    assert [(one.side, one.volume_lots) for one in held] == [(1, 1.0)]
    assert play.trades()[-1].entry == mt5.DEAL_ENTRY_INOUT
    assert play.trades()[-1].profit == 280.0


def test_fifo_accounts_close_the_oldest_first() -> None:
    play = story([1.1, 1.1], fifo_close=True)
    first, second = play.ask(0).position, play.ask(0).position
    refused = play.ask(1, verb="close", side=1, position=second)
    assert refused.retcode == mt5.TRADE_RETCODE_FIFO_CLOSE
    assert play.ask(1, verb="close", side=1, position=first).state == "done"


def test_stops_and_freeze_levels_are_kept() -> None:
    play = story([1.1, 1.1], symbol_facts={"stops_level_points": 50, "freeze_level_points": 80})
    assert play.ask(0, stop_loss=1.0996).retcode == mt5.TRADE_RETCODE_INVALID_STOPS
    ticket = play.ask(0, stop_loss=1.0993).position
    frozen = play.ask(1, verb="modify", position=ticket, stop_loss=1.0900)
    assert frozen.retcode == mt5.TRADE_RETCODE_FROZEN


def test_money_that_is_not_there_opens_nothing() -> None:
    play = story([1.1, 1.1], balance=1_000.0)
    assert play.ask(0, volume_lots=1.0).retcode == mt5.TRADE_RETCODE_NO_MONEY
    assert play.ask(1, volume_lots=0.5).state == "done"


@pytest.mark.parametrize(
    ("so_mode", "level", "closed"),
    [(0, 50.0, [0.5]), (1, 450.0, [0.5, 0.3])],
    ids=["percent", "money"],
)
def test_the_biggest_loss_is_stopped_out_first(
    so_mode: int, level: float, closed: list[float]
) -> None:
    # Margin 1000 * (0.5 * 1.1001 + 0.3 * 1.1011) = 880.38, half of it 440.19. At 1.0870 equity is
    # 1500 - 655 - 423 = 422. Without the first position the margin is 330: a level of 127 %.
    play = story(
        [1.1000, 1.1010, 1.0880, 1.0870, 1.0870], balance=1_500.0, margin_so_mode=so_mode,
        margin_so_so=level,
    )  # fmt: skip
    play.ask(0, volume_lots=0.5)
    play.ask(1, volume_lots=0.3)
    play.until(5)
    closing = [deal for deal in play.trades() if deal.entry == mt5.DEAL_ENTRY_OUT]
    assert [deal.volume_lots for deal in closing] == closed
    assert {(deal.reason, deal.price) for deal in closing} == {(mt5.DEAL_REASON_SO, 1.0870)}
    assert closing[0].comment.startswith("so: ")


def test_latency_fills_at_the_price_of_its_arrival_and_deviation_refuses() -> None:
    times = [TUESDAY_MS + at for at in (1000, 1040, 1060, 2000, 3000)]
    bids = [1.1, 1.1002, 1.1008, 1.2, 1.2]
    play = story(bids, latency_ms=Amount(50, 50), times_ms=times)
    assert play.ask(0).state == "sent"
    play.until(3)
    answers = play.of(OrderAnswer)
    assert [one.state for one in answers] == ["sent", "done"]
    assert (answers[-1].price, answers[-1].event_time_ms) == (1.1003, TUESDAY_MS + 1050)
    play.ask(2, price_seen=1.1009, deviation_points=10)
    play.until(4)
    assert play.of(OrderAnswer)[-1].state == "done"  # 1.2 came after it arrived
    again = story([1.1, 1.1003, 1.2], latency_ms=Amount(1500, 1500))
    again.ask(0, price_seen=1.1001, deviation_points=10)
    again.until(3)
    assert again.of(OrderAnswer)[-1].retcode == mt5.TRADE_RETCODE_REQUOTE


def test_an_intent_that_arrives_after_its_time_opens_nothing() -> None:
    play = story([1.1, 1.1, 1.1], latency_ms=Amount(1500, 1500))
    play.ask(0, valid_until_ms=TUESDAY_MS + 2000)
    play.until(3)
    assert play.of(OrderAnswer)[-1].state == "expired"
    assert play.trades() == []


def test_slippage_is_against_the_trader_and_spares_targets() -> None:
    play = story([1.1, 1.0990, 1.1, 1.1020], slippage_points=Amount(5, 5))
    assert play.ask(0, stop_loss=1.0995).price == pytest.approx(1.10015)
    play.until(2)
    assert play.trades()[-1].price == pytest.approx(1.09895)
    play.ask(2, take_profit=1.1010)
    play.until(4)
    assert play.trades()[-1].price == pytest.approx(1.1020)


def test_draws_depend_on_seed_and_order_alone() -> None:
    prices = [
        story([1.1, 1.1], slippage_points=Amount(0, 9), seed=seed).ask(0).price
        for seed in (3, 3, 4, 5, 6)
    ]
    assert prices[0] == prices[1]
    assert len(set(prices)) > 1


def test_three_nights_are_charged_on_wednesday_none_at_the_weekend() -> None:
    days = [TUESDAY_MS + 1000 + day * DAY_MS for day in (0, 1, 2, 3, 6)]  # Tue Wed Thu Fri Mon
    model = BrokerModel(
        account(), {"EURUSD": facts(swap_mode=1, swap_long=-7.2)}, BrokerOptions(), 1
    )
    play = Story(model, TickRun.of(ticks([1.1] * 5, times_ms=days)))
    ticket = play.ask(0).position
    play.until(4)
    equity = model.equity(play.run, 3, 4)[0]
    assert equity == pytest.approx(10_000 - 10 - 7.2 * 5)  # Tue 1, Wed 3, Thu 1
    play.ask(4, verb="close", side=1, position=ticket)
    assert play.trades()[-1].swap == pytest.approx(-7.2 * 6)  # and Friday's


@pytest.mark.parametrize("rule", ["refuse", "park"])
def test_a_closed_market_refuses_or_lets_wait(rule: Any) -> None:
    hours = {"EURUSD": WeeklyHours.parse(["mon-fri 00:00-01:00", "mon-fri 02:00-24:00"])}
    times = [TUESDAY_MS + minute * 60_000 for minute in (30, 90, 130)]
    play = story([1.1, 1.2, 1.3], times_ms=times, hours=hours, closed_market=rule)
    ticket = play.ask(0, stop_loss=1.0).position
    answer = play.ask(1, verb="close", side=1, position=ticket)
    play.until(3)
    if rule == "refuse":
        assert (answer.state, answer.retcode) == ("refused", mt5.TRADE_RETCODE_MARKET_CLOSED)
        assert len(play.trades()) == 1
    else:
        assert answer.state == "sent"
        assert play.trades()[-1].price == 1.3


def test_profit_in_another_currency_is_converted_by_the_pair_of_the_run() -> None:
    instruments = {"USDJPY": facts("USDJPY", swap_mode=0), "EURUSD": facts(swap_mode=0)}
    yen = ticks([150.0, 151.0], symbol="USDJPY", spread=0.01, digits=3)
    euro = ticks([1.1, 1.2], times_ms=[TUESDAY_MS + 500, TUESDAY_MS + 1500])
    model = BrokerModel(account(currency="EUR"), instruments, traded=["USDJPY"])
    play = Story(model, TickRun.merged([yen, euro]))
    ticket = play.ask(1, symbol="USDJPY").position
    play.ask(3, verb="close", symbol="USDJPY", side=1, position=ticket)
    # 0.990 yen * 100000 / 151.01 dollars a yen / 1.2001 euros a dollar
    by_hand = 0.990 * 100_000 * (1 / 151.01) * (1 / 1.2001)
    assert play.trades()[-1].profit == pytest.approx(by_hand, abs=0.006)
    with pytest.raises(NoConversion, match="USDJPY: nothing converts JPY into the account's EUR"):
        BrokerModel(account(currency="EUR"), {"USDJPY": instruments["USDJPY"]}, traded=["USDJPY"])
    fixed = BrokerOptions(rates={"EURUSD": 1.1})
    BrokerModel(
        account(currency="EUR"), {"USDJPY": instruments["USDJPY"]}, fixed, traded=["USDJPY"]
    )


def bars(rows: list[tuple[float, float, float, float]], spread: int = 10) -> CandleBatch:
    candles = np.zeros(len(rows), RATE_DTYPE)
    for name, place in (("open", 0), ("high", 1), ("low", 2), ("close", 3)):
        candles[name] = [row[place] for row in rows]
    candles["time"] = [TUESDAY_MS // 1000 + 60 * i for i in range(len(rows))]
    candles["spread"] = spread
    return CandleBatch("EURUSD", "M1", candles, 0, OffsetSource.HISTORY, 0, 0)


@pytest.mark.parametrize("side", [0, 1], ids=["long", "short"])
@pytest.mark.parametrize("worst", [True, False], ids=["worst_first", "plain"])
def test_a_bar_that_touches_stop_and_target_fills_the_stop(side: int, worst: bool) -> None:
    flat, wide = (1.1, 1.1, 1.1, 1.1), (1.1, 1.1100, 1.0900, 1.1050)
    (run,) = runs_of_bars([bars([flat, wide])], point=POINT, digits=5, worst_case=worst)
    model = BrokerModel(account(), {"EURUSD": facts(swap_mode=0)}, traded=["EURUSD"])
    play = Story(model, run)
    levels = (1.0950, 1.1050) if side == 0 else (1.1050, 1.0950)
    play.ask(0, side=side, stop_loss=levels[0], take_profit=levels[1])
    play.until(len(run))
    closing = play.trades()[-1]
    # A rising bar goes down first where it is not read as badly as it can be.
    stopped = worst or side == 0
    assert closing.reason == (mt5.DEAL_REASON_SL if stopped else mt5.DEAL_REASON_TP)
    # Filled at the level: the price went there without a gap.
    assert closing.price == pytest.approx(levels[0] if stopped else levels[1])


def test_a_bar_that_opens_beyond_the_stop_fills_at_its_open() -> None:
    rows = [(1.1, 1.1, 1.1, 1.1), (1.0800, 1.0810, 1.0790, 1.0800)]
    (run,) = runs_of_bars([bars(rows)], point=POINT, digits=5)
    play = Story(BrokerModel(account(), {"EURUSD": facts(swap_mode=0)}), run)
    play.ask(0, stop_loss=1.0900)
    play.until(len(run))
    assert play.trades()[-1].price == 1.0800


def test_an_entry_inside_a_bar_is_stopped_in_it_and_never_at_its_target() -> None:
    rows = [(1.1, 1.1, 1.1, 1.1), (1.1, 1.1100, 1.0900, 1.1050), (1.1050, 1.1060, 1.1040, 1.1050)]
    (run,) = runs_of_bars([bars(rows)], point=POINT, digits=5)
    play = Story(BrokerModel(account(), {"EURUSD": facts(swap_mode=0)}), run)
    play.ask(0, price_stop=1.1050, stop_loss=1.0950, take_profit=1.1090)
    play.ask(0, price_limit=1.0950, take_profit=1.1040)
    play.until(len(run))
    entered = [deal for deal in play.trades() if deal.entry == mt5.DEAL_ENTRY_IN]
    left = [deal for deal in play.trades() if deal.entry == mt5.DEAL_ENTRY_OUT]
    assert sorted(deal.magic for deal in entered) == [1, 2]
    assert {deal.magic: deal.reason for deal in left} == {
        1: mt5.DEAL_REASON_SL, 2: mt5.DEAL_REASON_TP,
    }  # fmt: skip
    target = next(deal for deal in left if deal.magic == 2)
    assert target.event_time_ms >= TUESDAY_MS + 120_000


@given(seed=st.integers(0, 10_000), mode=st.sampled_from([NETTING, HEDGING]))
@settings(max_examples=25, deadline=None)
def test_deals_make_the_balance_and_equity_is_balance_and_floating(seed: int, mode: int) -> None:
    random = np.random.default_rng(seed)
    bids = list(np.round(1.1 + np.cumsum(random.normal(0, 4e-4, 300)), 5))
    play = story(
        bids, mode=mode, seed=seed, slippage_points=Amount(0, 3), latency_ms=Amount(0, 2500),
        costs={"EURUSD": SymbolCosts(3.5)}, balance=3_000.0,
    )  # fmt: skip
    for index in sorted(random.choice(299, 30, replace=False).tolist()):
        side, bid = int(random.integers(2)), bids[index]
        away = (1 if side else -1) * random.uniform(0.0004, 0.003)
        play.until(index + 1)
        held = play.of(Book)[-1].positions
        if held and random.random() < 0.4:
            one = held[int(random.integers(len(held)))]
            play.ask(index, verb="close", side=1 - one.side, position=one.ticket, volume_lots=0)
        elif random.random() < 0.3:
            play.ask(index, side=side, volume_lots=0.2, price_stop=round(bid - away, 5))
        else:
            play.ask(
                index, side=side, volume_lots=float(random.choice([0.1, 0.25])),
                stop_loss=round(bid + away, 5), take_profit=round(bid - 2 * away, 5),
            )  # fmt: skip
    play.until(len(bids))
    deals, told = play.of(Deal), play.of(Account)
    made = sum(deal.profit + deal.swap + deal.commission + deal.fee for deal in deals)
    assert made == pytest.approx(play.balance, abs=1e-6)
    for one in told:
        assert one.equity == pytest.approx(one.balance + one.credit + one.profit, abs=0.005)
    last = len(bids) - 1
    looked = [one for one in play.model.look(play.run, last) if isinstance(one, Account)][-1]
    assert play.model.equity(play.run, last, last + 1)[0] == pytest.approx(looked.equity, abs=0.02)
    assert len({deal.ticket for deal in deals}) == len(deals)


@given(cuts=st.lists(st.integers(1, 59), max_size=4))
@settings(max_examples=25, deadline=None)
def test_how_ticks_are_cut_into_runs_changes_nothing(cuts: list[int]) -> None:
    bids = [1.1 + 0.0003 * ((7 * i) % 13 - 6) for i in range(60)]

    def played(edges: list[int]) -> list[Any]:
        model = BrokerModel(
            account(), {"EURUSD": facts()}, BrokerOptions(latency_ms=Amount(700, 2700))
        )
        batch, told = ticks(bids), []
        for begin, end in zip([0, *edges], [*edges, len(bids)], strict=True):
            part = TickBatch("EURUSD", batch.ticks[begin:end], 0, OffsetSource.LIVE, 0, 0)
            run = TickRun.of(part)
            at = 0
            for index in range(len(run)):
                while (due := model.quiet_until(run, at, index + 1)) <= index:
                    told += model.at(run, due)
                    at = due + 1
                at = index + 1
                if (begin + index) % 9 == 4:
                    told += model.submit(
                        OrderIntent(
                            event_time_ms=0, intent_id=begin + index, login=1, strategy="s",
                            symbol="EURUSD", verb="open", side=index % 2 * 0, volume_lots=0.1,
                            stop_loss=1.0975, take_profit=1.1020, magic=begin + index,
                        ), run, index,
                    )  # fmt: skip
        return [one for one in told if isinstance(one, Deal | OrderAnswer)]

    assert played(sorted(set(cuts))) == played([])


@pytest.mark.parametrize("mode", [NETTING, HEDGING], ids=["netting", "hedging"])
def test_the_simulated_terminal_and_the_model_make_the_same_deals(
    mode: int, tmp_path: Path
) -> None:
    """One story, told to a terminal that plays the ticks and to the model."""
    random = np.random.default_rng(11)
    moves = np.cumsum(random.normal(0, 3e-4, 240))
    bids = [round(1.1 + float(move), 5) for move in moves]
    times = [TUESDAY_MS + 23 * 3_600_000 + 55 * 60_000 + 2000 * i for i in range(len(bids))]
    file = tmp_path / "EURUSD.csv"
    file.write_text(_export(bids, times), encoding="ascii")
    spec = CATALOGUE["EURUSD"]
    terminal = RecordedTerminal(
        RecordedOptions(
            files=(f"EURUSD={file}",), clock="UTC", speed=0, specs=(spec,),
            account=AccountOptions(balance=10_000.0, margin_mode=mode, login=1),
        ),
        sleep=lambda _: None,
    )  # fmt: skip
    assert terminal.initialize()
    terminal.symbol_select("EURUSD", True)
    instrument = facts(
        swap_mode=spec.swap_mode, swap_long=spec.swap_long, swap_short=spec.swap_short
    )
    model = BrokerModel(
        account(mode), {"EURUSD": instrument},
        BrokerOptions(costs={"EURUSD": SymbolCosts(spec.commission_per_lot)}),
    )  # fmt: skip
    play = Story(model, TickRun.of(ticks(bids, times_ms=times)))
    asked = _script(bids)
    for index, (fields, request) in asked.items():
        terminal.clock.advance_to(times[index])
        answer = play.ask(index, **fields)
        result = terminal.order_send({**request, "magic": play.intents})
        assert result is not None, terminal.last_error()
        assert (result.retcode, result.price) == (answer.retcode, answer.price)
    play.until(len(bids))
    terminal.clock.advance_to(times[-1])
    shown = [
        (d.type, d.entry, d.reason, d.volume, d.price, d.profit, d.commission, d.swap, d.magic,
         d.time_msc)
        for d in terminal.history_deals_get(0, 1 << 33)
        if d.type <= 1
    ]  # fmt: skip
    modelled = [
        (d.type, d.entry, d.reason, d.volume_lots, d.price, d.profit, d.commission, d.swap,
         d.magic, d.time_server_ms)
        for d in play.trades()
    ]  # fmt: skip
    assert modelled == shown
    assert len(shown) > len(asked) / 2
    assert {deal[2] for deal in shown} >= {mt5.DEAL_REASON_EXPERT, mt5.DEAL_REASON_SL}
    assert play.balance == terminal.account_info().balance


def _script(bids: list[float]) -> dict[int, tuple[dict[str, Any], dict[str, Any]]]:
    """Tick -> (intent, request): entries with stops, pending orders, refused ones."""
    asked: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
    for index in range(5, 200, 15):
        side, lots = (index // 15) % 2, round(0.1 + index / 1000, 2)
        sign, bid = (1 if side == 0 else -1), bids[index]
        stop, target = round(bid - sign * 0.0012, 5), round(bid + sign * 0.0015, 5)
        levels = {"stop_loss": stop, "take_profit": target}
        request = {"symbol": "EURUSD", "volume": lots, "sl": stop, "tp": target}
        if index % 2:
            asked[index] = (
                {"side": side, "volume_lots": lots, **levels},
                {"action": mt5.TRADE_ACTION_DEAL, "type": side,
                 "type_filling": mt5.ORDER_FILLING_IOC, **request},
            )  # fmt: skip
        else:
            price = round(bid + sign * 0.0006, 5)
            asked[index] = (
                {"side": side, "volume_lots": lots, "price_stop": price, **levels},
                {"action": mt5.TRADE_ACTION_PENDING, "type": mt5.ORDER_TYPE_BUY_STOP + side,
                 "price": price, "type_filling": mt5.ORDER_FILLING_RETURN, **request},
            )  # fmt: skip
    return asked


def _export(bids: list[float], times_ms: list[int]) -> str:
    """As MetaTrader 5 exports ticks."""
    lines = ["<DATE>\t<TIME>\t<BID>\t<ASK>\t<LAST>\t<VOLUME>\t<FLAGS>"]
    for bid, time_ms in zip(bids, times_ms, strict=True):
        at = str(np.datetime64(time_ms, "ms"))
        day, clock = at.split("T")
        ask = round(bid + 0.0001, 5)
        lines.append(f"{day.replace('-', '.')}\t{clock}\t{bid:.5f}\t{ask:.5f}\t\t\t6")
    return "\n".join(lines) + "\n"


def test_a_spec_that_was_written_is_read_back(tmp_path: Path) -> None:
    spec = example_spec(["EURUSD", "USDJPY", "US30.cash"])
    path = tmp_path / "spec.toml"
    path.write_text(spec_text(spec), encoding="utf-8")
    read = load_spec(path)
    assert (read.account, read.instruments, read.costs) == (
        spec.account, spec.instruments, spec.costs,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("leverage =", "leverge ="), r"s.toml:7: account.leverge: .* did you mean leverage"),
        (("digits = 5", 'digits = "five"'), r"s.toml:21: symbols.EURUSD.digits: "),
        (('"points"', '"pints"'), r"symbols.EURUSD.swap_mode: is none of disabled, points"),
        (("hours = []", 'hours = ["someday"]'), r"symbols.EURUSD.hours: hours 'someday'"),
        (("stop_out_percent", "# "), r"s.toml:4: account: write either stop_out_percent"),
        (("[account]", "[account"), r"s.toml:\d+: "),
    ],
    ids=["unknown_key", "type", "name", "hours", "no_stop_out", "no_toml"],
)
def test_a_bad_spec_names_file_line_and_cure(change: tuple[str, str], told: str) -> None:
    text = spec_text(example_spec(["EURUSD"])).replace(*change, 1)
    with pytest.raises(BadSpec, match=told):
        spec_of_text(text, where="s.toml")


def test_without_facts_nothing_is_assumed() -> None:
    with pytest.raises(NoFacts, match="tells nothing of an account: give --spec FILE"):
        spec_of([], source="the log").require(["EURUSD"])
    play = story([1.1, 1.1])
    recorded = spec_of([*play.events, facts()])
    assert recorded.require(["EURUSD"]).balance == 10_000
    with pytest.raises(NoFacts, match="no facts of GBPUSD"):
        recorded.require(["GBPUSD"])


def test_commission_is_read_off_recorded_deals() -> None:
    play = story([1.1, 1.1], costs={"EURUSD": SymbolCosts(3.5)})
    ticket = play.ask(0).position
    play.ask(1, verb="close", side=1, position=ticket)
    assert spec_of(play.events).costs["EURUSD"] == SymbolCosts(3.5, "both")


@pytest.mark.parametrize("text", ["", "x", "-5", "80-20", "0/9", "1/2/3"])
def test_amounts_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(BadOption, match="write 50"):
        Amount.parse(text, what="--latency")


def test_hours_that_mean_nothing_are_refused() -> None:
    for line in ("mon 9-17", "mon 10:00-09:00", "day 00:00-24:00"):
        with pytest.raises(BadHours, match="hours"):
            WeeklyHours.parse([line])


def test_what_is_assumed_is_told() -> None:
    model = BrokerModel(account(), {"EURUSD": facts()}, BrokerOptions(latency_ms=Amount(20, 80)))
    told = "\n".join(model.assumptions())
    for part in ("hedging", "20 to 80 ms", "no commission", "triple", "not modelled"):
        assert part in told


def test_the_spec_of_the_docs_can_be_used() -> None:
    page = (Path(__file__).parents[2] / "docs" / "BROKER.md").read_text(encoding="utf-8")
    text = page.partition("```toml\n")[2].partition("```")[0]
    spec = spec_of_text(text, where="BROKER.md")
    assert spec.require(["EURUSD"]).leverage == 100
    assert spec.options().costs["EURUSD"].commission_per_lot == 3.5
