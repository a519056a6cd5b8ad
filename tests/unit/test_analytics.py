"""What trading brought and cost by hour; spreads by hour."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.analytics import AnalyticsHandler, hours, prices, spreads
from consumers.analytics.newest import PIECE_MAX, Newest
from consumers.analytics.slippage import slippage, wanted_price
from consumers.runtime.state import State
from consumers.trades.strategies import names_of, strategy_of
from events.accounting import BUY, SELL, MarginMode
from events.analytics import Analytics, SpreadHour
from events.codec import AnyEvent
from events.market import Instrument
from events.ticks import TICK_DTYPE, OffsetSource, TickBatch
from events.trading import Deal, Order, OrderDone, Position, TradeUpdate
from tests.unit.trading_stories import (
    BEGIN_MS,
    DEPOSIT,
    LOGIN,
    SERVER_AHEAD_MS,
    Trading,
    book_of,
    deal_of,
    handler,
    random_move,
    tell,
)

HOUR_MS = 3_600_000
POINT = 1e-5


def made(**parameters: Any) -> AnalyticsHandler:
    found = AnalyticsHandler()
    for name, value in parameters.items():
        setattr(found, name, value)
    found.state = State()
    found.setup()
    return found


def given_to(analytics: AnalyticsHandler, *events: AnyEvent) -> list[Any]:
    return [found for event in events for found in analytics.handle(event)]


def ticks(*rows: tuple[int, float, float], symbol: str = "EURUSD") -> TickBatch:
    """(ms after BEGIN_MS, bid, ask) each."""
    found = np.zeros(len(rows), TICK_DTYPE)
    for at, (ms, bid, ask) in enumerate(rows):
        found[at]["time_msc"] = BEGIN_MS + ms + SERVER_AHEAD_MS
        found[at]["bid"], found[at]["ask"] = bid, ask
    newest = BEGIN_MS + (rows[-1][0] if rows else 0)
    return TickBatch(
        symbol, found, SERVER_AHEAD_MS // 1000, OffsetSource.LIVE, newest, newest
    )  # fmt: skip


INSTRUMENT = Instrument(
    event_time_ms=BEGIN_MS, recv_time_ms=BEGIN_MS, symbol="EURUSD", broker_symbol="EURUSD",
    digits=5, point=POINT, tick_size=POINT, tick_value=1.0, contract_size=1e5,
    volume_min_lots=0.01, volume_max_lots=100, volume_step_lots=0.01,
)  # fmt: skip


def order_of(ticket: int, type_: int, price: float, *, stoplimit: float = 0.0) -> OrderDone:
    order = Order(
        ticket=ticket, symbol="EURUSD", type=type_, state=4, volume_initial_lots=0.1,
        volume_current_lots=0, price_open=price, price_stoplimit=stoplimit,
        time_setup_ms=BEGIN_MS, time_setup_server_ms=BEGIN_MS,
    )  # fmt: skip
    return OrderDone(event_time_ms=BEGIN_MS, recv_time_ms=BEGIN_MS, login=LOGIN, order=order)


# Slippage ---------------------------------------------------------------------------------------


PRICE = prices.Price(bid=1.1, ask=1.1002)
DEAL = deal_of(Trading(MarginMode.HEDGING).fill(BUY, 0.1, 1.1005))
HELD = Position(
    ticket=1, identifier=1, symbol="EURUSD", side=1, volume_lots=0.1, price_open=1.1,
    stop_loss=1.1003, take_profit=1.09, time_ms=0, time_server_ms=0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("order", "reason", "wanted"),
    [
        (None, 3, 1.1002),
        (order_of(1, 0, 0.0), 3, 1.1002),
        (order_of(1, 0, 1.1001), 3, 1.1001),
        (order_of(1, 2, 1.1004), 3, 1.1004),
        (order_of(1, 4, 1.1004), 3, 1.1004),
        (order_of(1, 6, 1.1004, stoplimit=1.1003), 3, 1.1003),
        (order_of(1, 0, 1.1001), 4, 1.1003),
        (order_of(1, 0, 1.1001), 5, 1.09),
    ],
    ids=["no-order", "market", "with-price", "limit", "stop", "stop-limit", "stopped", "target"],
)
def test_what_was_wanted(order: OrderDone | None, reason: int, wanted: float) -> None:
    deal = DEAL.model_copy(update={"reason": reason})
    found = wanted_price(
        deal, order=order.order if order else None, position=HELD, price=PRICE
    )  # fmt: skip
    assert found == wanted


def test_slippage_is_positive_where_the_deal_was_worse() -> None:
    assert slippage(DEAL, 1.1002) == pytest.approx(0.0003)
    assert slippage(DEAL.model_copy(update={"type": 1}), 1.1002) == pytest.approx(-0.0003)
    by = DEAL.model_copy(update={"entry": 3})
    assert wanted_price(by, order=None, position=None, price=PRICE) is None
    assert wanted_price(DEAL, order=None, position=None, price=None) is None


# Prices -----------------------------------------------------------------------------------------


def test_the_price_that_stood_is_the_newest_before_and_never_a_stale_one() -> None:
    kept = prices.remember([], ticks((0, 1.0, 1.1), (900, 1.2, 1.3), (1_600, 0.0, 1.4)))
    at = BEGIN_MS + SERVER_AHEAD_MS
    assert prices.price_at(kept, at + 899) == (1.0, 1.1)
    assert prices.price_at(kept, at + 5_000) == (1.2, 1.3)
    assert prices.price_at(kept, at - 1) is None
    assert prices.price_at(kept, at + 900 + prices.AGE_MAX_MS + 1) is None


def test_so_many_prices_are_kept_and_no_more() -> None:
    kept: prices.Kept = []
    for second in range(100):
        kept = prices.remember(kept, ticks((second * 1_000, 1.0 + second, 2.0 + second)))
    assert len(kept) == prices.KEPT_MAX
    assert kept[-1][1] == 100.0


# Trades -----------------------------------------------------------------------------------------


def closed_trade(*, magic: int = 0, comment: str = "") -> tuple[Trading, list[AnyEvent]]:
    """A position of 0.1 lots with quotes around its deals, and its orders."""
    account, trades = Trading(MarginMode.HEDGING), handler()
    quotes = ticks((account.now_ms, 1.1000, 1.1002))
    opened = account.fill(BUY, 0.1, 1.1003, magic=magic, comment=comment)
    closed = account.fill(SELL, 0.1, 1.1010, position=opened.position_id)
    later = ticks((closed.time_ms - 1, 1.1010, 1.1012))
    first: list[AnyEvent] = [quotes, order_of(opened.order, 0, 0.0), deal_of(opened)]
    last: list[AnyEvent] = [later, order_of(closed.order, 0, 0.0), deal_of(closed)]
    found = tell(trades, [deal_of(opened), deal_of(closed)])
    return account, [INSTRUMENT, *first, *last, *found]


def test_a_closed_trade_counts_in_its_hour_with_what_it_cost() -> None:
    account, story = closed_trade(magic=1001)
    told = given_to(made(names="1001=ema"), *story)
    [found] = [event for event in told if isinstance(event, Analytics)]
    assert (found.symbol, found.strategy, found.login, found.trades, found.won) == (
        "EURUSD", "ema", LOGIN, 1, 1,
    )  # fmt: skip
    assert found.hour_ms == (BEGIN_MS + account.now_ms) // HOUR_MS * HOUR_MS
    assert found.net_profit == pytest.approx(account.ledger.balance - DEPOSIT)
    # bought at 1.1003 where 1.1002 stood, sold where the bid stood: 10 points, 0.1 lots
    assert (found.slippage_points, found.slippage) == pytest.approx((10.0, 1.0))
    assert (found.slippage_deals, found.spread_deals) == (2, 2)
    assert found.spread_cost == pytest.approx(2 * 0.5 * 20 * 0.1)


def test_a_trade_that_comes_before_its_deals_is_counted_again_when_they_come() -> None:
    _, story = closed_trade()
    trades = [event for event in story if isinstance(event, TradeUpdate)]
    deals = [event for event in story if isinstance(event, Deal)]
    rest = [event for event in story if not isinstance(event, TradeUpdate | Deal)]
    told = given_to(made(), *rest, *trades, *deals)
    found = [event for event in told if isinstance(event, Analytics)]
    assert (found[0].trades, found[0].slippage_deals) == (1, 0)
    assert (found[-1].trades, found[-1].slippage_deals) == (1, 2)


def test_a_trade_told_again_is_counted_once_and_where_it_belongs() -> None:
    _, story = closed_trade()
    update = story[-1]
    assert isinstance(update, TradeUpdate)
    analytics = made()
    given_to(analytics, *story)
    trade = update.trade.model_copy(
        update={"profit": -5.0, "close_time_ms": update.trade.close_time_ms + HOUR_MS}
    )
    moved = given_to(analytics, update.model_copy(update={"trade": trade}))
    assert given_to(analytics, update.model_copy(update={"trade": trade})) == [], "nothing new"
    left, there = moved
    assert (left.trades, left.net_profit, left.slippage_deals) == (0, 0, 0)
    assert (there.trades, there.won, there.hour_ms) == (1, 0, left.hour_ms + HOUR_MS)
    [gone] = given_to(analytics, update.model_copy(update={"state": "withdrawn", "trade": trade}))
    assert (gone.hour_ms, gone.trades, gone.net_profit) == (there.hour_ms, 0, 0)


@settings(max_examples=25, deadline=None)
@given(mode=st.sampled_from(list(MarginMode)), seed=st.integers(0, 2**32))
def test_all_hours_together_are_all_closed_trades(mode: MarginMode, seed: int) -> None:
    random, account, trades, analytics = Random(seed), Trading(mode), handler(), made()
    levels: dict[str, Analytics] = {}
    updates: dict[str, TradeUpdate] = {}
    for _ in range(60):
        account.now_ms += random.randrange(HOUR_MS)
        deals = [deal_of(deal) for deal in random_move(account, random)]
        random.shuffle(deals)
        found = tell(trades, deals)
        updates |= {one.key: one for one in found if isinstance(one, TradeUpdate)}
        levels |= {one.key: one for one in given_to(analytics, *deals, *found)}
    closed = [one.trade for one in updates.values() if one.state == "closed"]
    for name in ("net_profit", "swap", "commission", "profit"):
        assert sum(getattr(one, name) for one in levels.values()) == pytest.approx(
            sum(getattr(trade, name) for trade in closed), abs=1e-6
        )
    assert sum(one.trades for one in levels.values()) == len(closed)
    assert sum(one.won for one in levels.values()) == sum(t.net_profit > 0 for t in closed)


def test_a_deal_that_turns_a_position_costs_once() -> None:
    account, trades, analytics = Trading(MarginMode.NETTING), handler(), made()
    given_to(analytics, INSTRUMENT, ticks((0, 1.1000, 1.1002)))
    deals = [
        account.fill(BUY, 0.1, 1.1002), account.fill(SELL, 0.3, 1.0999),
        account.fill(BUY, 0.2, 1.1002),
    ]  # fmt: skip
    told = given_to(analytics, *map(deal_of, deals), *tell(trades, map(deal_of, deals)))
    [last] = {one.key: one for one in told}.values()
    # all three deals were for prices that stood; only the turning one was a point of 1e-4 worse
    assert (last.trades, last.slippage_deals) == (2, 3)
    assert last.slippage == pytest.approx(10 * 0.3)


def test_days_that_are_over_for_long_leave_the_state() -> None:
    _, story = closed_trade()
    update = story[-1]
    assert isinstance(update, TradeUpdate)
    analytics = made()
    for day in range(hours.DAYS_KEPT + 20):
        at_ms = update.trade.close_time_ms + day * 24 * HOUR_MS
        trade = update.trade.model_copy(update={"close_time_ms": at_ms, "position_id": day})
        given_to(analytics, update.model_copy(update={"trade": trade}))
    kept = [key for key in analytics.state if key.startswith(("hour:", "counted:"))]
    assert len(kept) == 2 * hours.DAYS_KEPT
    late = update.trade.model_copy(update={"position_id": 99})
    assert given_to(analytics, update.model_copy(update={"trade": late})) == []


def test_a_trade_that_moved_to_another_day_outlives_its_first_one() -> None:
    _, story = closed_trade()
    update = story[-1]
    assert isinstance(update, TradeUpdate)
    analytics = made()

    def told(days: int, position: int) -> list[Any]:
        at_ms = update.trade.close_time_ms + days * 24 * HOUR_MS
        trade = update.trade.model_copy(update={"close_time_ms": at_ms, "position_id": position})
        return given_to(analytics, update.model_copy(update={"trade": trade}))

    told(0, 1)
    told(4, 1)
    told(hours.DAYS_KEPT + 1, 2)
    assert told(4, 1) == [], "still counted there"


def test_the_newest_values_are_kept_and_older_ones_leave() -> None:
    state = State()
    for number in range(5 * PIECE_MAX):
        newest = Newest(state, "cost", 2 * PIECE_MAX)  # as after a restart
        newest.put(number, number)
        newest.put(number, number + 1)
        assert newest.get(number) == number + 1
    assert newest.get(0) is None
    assert 2 * PIECE_MAX <= len([key for key in state if key.startswith("cost:")]) <= 3 * PIECE_MAX


@pytest.mark.parametrize(
    ("magic", "comment", "strategy"),
    [(0, "", "manual"), (12, "x", "12"), (1001, "", "ema"), (0, "grid 17", "grid"),
     (0, "[sl 1.09]", "manual"), (0, "to #123", "to"), (0, "7 up", "manual")],
)  # fmt: skip
def test_the_strategy_of_a_trade(magic: int, comment: str, strategy: str) -> None:
    assert strategy_of(magic, comment, names_of(" 1001=ema, 2002=b ,")) == strategy


def test_names_of_strategies_are_checked() -> None:
    with pytest.raises(ValueError, match="'ema' names no strategy: write MAGIC=NAME"):
        names_of("ema")


# Spreads ----------------------------------------------------------------------------------------


def at_hour(hour: int, minute: int = 0) -> int:
    begin = BEGIN_MS // HOUR_MS * HOUR_MS - BEGIN_MS
    return begin + hour * HOUR_MS + minute * 60_000


def test_a_spread_counts_for_as_long_as_it_stood() -> None:
    analytics = made()
    given_to(analytics, INSTRUMENT)
    found = given_to(
        analytics,
        ticks((at_hour(1), 1.0, 1.0002), (at_hour(1) + 30_000, 1.0, 1.0004)),
        ticks((at_hour(1) + 40_000, 1.0, 1.0001), (at_hour(1) + 50_000, 0.0, 1.0)),
        ticks((at_hour(2), 1.0, 1.1)),
    )
    [hour] = found
    assert isinstance(hour, SpreadHour)
    # 2 points of 1e-4 for 30 s, 4 for 10 s; the last one of the hour is not yet over
    assert hour.mean == pytest.approx((2e-4 * 30 + 4e-4 * 10) / 40)
    assert (hour.ticks, hour.seconds, hour.point) == (3, 40.0, POINT)
    assert (hour.smallest, hour.largest) == pytest.approx((1e-4, 4e-4))


def test_ticks_from_before_the_newest_are_passed_over() -> None:
    analytics = made()
    new = ticks((at_hour(2), 1.0, 1.0002), (at_hour(2) + 1_000, 1.0, 1.0002))
    late = ticks((at_hour(1), 1.0, 1.5), (at_hour(2), 1.0, 1.5))
    found = given_to(analytics, new, late, ticks((at_hour(3), 1.0, 1.1)))
    assert [(one.hour_ms, one.ticks, one.largest) for one in found] == [
        (BEGIN_MS // HOUR_MS * HOUR_MS + 2 * HOUR_MS, 2, pytest.approx(2e-4))
    ]


def test_an_hour_that_runs_is_told_from_time_to_time() -> None:
    analytics = made()
    found = [
        given_to(analytics, ticks((at_hour(1, minute), 1.0, 1.0 + minute))) for minute in range(12)
    ]
    assert [len(one) for one in found] == [0] * 5 + [1] + [0] * 4 + [1] + [0]


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(0, 400_000), st.integers(0, 50)), min_size=1, max_size=60),
    cuts=st.lists(st.integers(1, 59), max_size=6),
)
def test_batches_do_not_matter(steps: list[tuple[int, int]], cuts: list[int]) -> None:
    """However ticks are cut into batches, the hours that are over are the same, and equal to sums
    over every tick by hand."""
    at, rows = at_hour(1), []
    for step, spread in steps:
        at += step
        rows.append((at, 1.0, 1.0 + spread * POINT))
    rows.append((at + 3 * HOUR_MS, 1.0, 1.0))
    bounds = sorted({0, *(cut for cut in cuts if cut < len(rows)), len(rows)})
    analytics, levels = made(), dict[str, SpreadHour]()
    for begin, end in pairwise(bounds):
        levels |= {one.key: one for one in given_to(analytics, ticks(*rows[begin:end]))}
    expected: dict[int, list[float]] = {}
    for index, (ms, _, ask) in enumerate(rows[:-1]):
        hour = (BEGIN_MS + ms) // HOUR_MS * HOUR_MS
        following = rows[index + 1][0]
        stood = min(following - ms, spreads.STOOD_MS_MAX)
        if (BEGIN_MS + following) // HOUR_MS * HOUR_MS != hour:
            stood = 0
        sums = expected.setdefault(hour, [0.0, 0.0, 0.0])
        for at_, value in enumerate((1.0, stood, stood * (ask - 1.0))):
            sums[at_] += value
    assert {one.hour_ms for one in levels.values()} == set(expected)
    for one in levels.values():
        count, stood_ms, weighted = expected[one.hour_ms]
        assert (one.ticks, one.seconds) == (count, stood_ms / 1000)
        if stood_ms:
            assert one.mean == pytest.approx(weighted / stood_ms, abs=1e-9)


def test_nothing_comes_of_a_book_alone() -> None:
    assert given_to(made(), book_of([], 0)) == []
