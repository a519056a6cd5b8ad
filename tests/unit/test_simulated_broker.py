"""What brokers do to orders: partial fills, refusals, rollovers, happenings, lost answers."""

from __future__ import annotations

from typing import Any

import pytest

from producers.terminals import constants as mt5
from producers.terminals.simulated import (
    AccountOptions,
    SimulatedOptions,
    SimulatedTerminal,
    SymbolSpec,
)
from producers.terminals.simulated.symbols import CATALOGUE

START = 1_763_553_600_000  # Wednesday 19 November 2025, 12:00 UTC
FAR = START // 1000 + 10**8
NETTING, HEDGING = 0, 2
FOK, IOC, RETURN = mt5.ORDER_FILLING_FOK, mt5.ORDER_FILLING_IOC, mt5.ORDER_FILLING_RETURN
TO_MIDNIGHT_MS = 10 * 3_600_000  # server 14:00


def spec_of(symbol: str, **changes: Any) -> SymbolSpec:
    return CATALOGUE[symbol].model_copy(update=changes)


def terminal_of(*, account: dict[str, Any] | None = None, **changes: Any) -> SimulatedTerminal:
    fixed: dict[str, Any] = {
        "start_utc_ms": START, "speed": 0, "account": AccountOptions(**(account or {})),
        "selected": ("EURUSD", "USDJPY", "XAUUSD", "BTCUSD"),
    }  # fmt: skip
    terminal = SimulatedTerminal(SimulatedOptions(**{**fixed, **changes}))
    assert terminal.initialize()
    return terminal


def send(terminal: SimulatedTerminal, **fields: Any) -> Any:
    request = {"action": mt5.TRADE_ACTION_DEAL, "symbol": "EURUSD", "volume": 1.0, "type": 0,
               "type_filling": IOC}  # fmt: skip
    return terminal.order_send({**request, **fields})


def opened(terminal: SimulatedTerminal, **fields: Any) -> Any:
    result = send(terminal, **fields)
    assert result is not None, terminal.last_error()
    assert result.retcode == mt5.TRADE_RETCODE_DONE, result
    return result


def deals_of(terminal: SimulatedTerminal) -> Any:
    return terminal.history_deals_get(0, FAR)


def balanced(terminal: SimulatedTerminal) -> bool:
    """Whether the deals make the balance, to the cent."""
    account = terminal.account_info()
    total = sum(
        deal.profit + deal.swap + deal.commission + deal.fee
        for deal in deals_of(terminal)
        if deal.type != mt5.DEAL_TYPE_CREDIT
    )
    identity = round(account.balance + account.credit + account.profit, 2)
    return bool(round(total, 2) == account.balance and identity == account.equity)


# Filling ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("execution", range(4), ids=["request", "instant", "market", "exchange"])
@pytest.mark.parametrize("filling", [FOK, IOC, RETURN], ids=["fok", "ioc", "return"])
@pytest.mark.parametrize("bits", range(4))
def test_fillings_are_taken_as_the_execution_mode_says(
    execution: int, filling: int, bits: int
) -> None:
    spec = spec_of("EURUSD", execution_mode=execution, filling_mode=bits)
    terminal = terminal_of(symbols=(spec,), selected=("EURUSD",))
    price = terminal.symbol_info_tick("EURUSD").ask
    allowed = {
        FOK: execution < 2 or bool(bits & 1),
        IOC: execution < 2 or bool(bits & 2),
        RETURN: execution != mt5.SYMBOL_TRADE_EXECUTION_MARKET,
    }[filling]
    retcode = send(terminal, type_filling=filling, price=price).retcode
    expected = mt5.TRADE_RETCODE_DONE if allowed else mt5.TRADE_RETCODE_INVALID_FILL
    assert retcode == expected


def test_an_ioc_order_gets_what_is_offered_and_its_rest_is_cancelled() -> None:
    terminal = terminal_of(liquidity_lots=0.405)
    result = send(terminal, volume=1.0)
    assert (result.retcode, result.volume) == (mt5.TRADE_RETCODE_DONE_PARTIAL, 0.4)
    assert terminal.positions_get()[0].volume == 0.4
    (order,) = terminal.history_orders_get(ticket=result.order)
    assert (order.state, order.volume_initial, order.volume_current) == (
        mt5.ORDER_STATE_CANCELED, 1.0, 0.6,
    )  # fmt: skip
    assert terminal.orders_get() == ()


def test_a_close_is_filled_in_parts_until_the_position_is_gone() -> None:
    terminal = terminal_of()
    ticket = opened(terminal, volume=1.0).order
    terminal.inject("liquidity", symbols=["EURUSD"], lots=0.4)
    answers = []
    while terminal.positions_total():
        volume = terminal.positions_get()[0].volume
        result = send(terminal, type=1, position=ticket, volume=volume)
        answers.append((result.retcode, result.volume))
    assert answers == [(10010, 0.4), (10010, 0.4), (10009, 0.2)]
    assert balanced(terminal)


def test_a_fok_order_gets_all_or_nothing() -> None:
    terminal = terminal_of(liquidity_lots=0.4)
    assert send(terminal, volume=0.5, type_filling=FOK).retcode == mt5.TRADE_RETCODE_REJECT
    assert terminal.positions_total() == 0
    assert send(terminal, volume=0.4, type_filling=FOK).retcode == mt5.TRADE_RETCODE_DONE


@pytest.mark.parametrize("mode", [1, HEDGING], ids=["exchange", "hedging"])
def test_the_rest_of_a_return_order_waits_for_more(mode: int) -> None:
    spec = spec_of("EURUSD", execution_mode=mt5.SYMBOL_TRADE_EXECUTION_EXCHANGE)
    terminal = terminal_of(
        account={"margin_mode": mode}, symbols=(spec,), selected=("EURUSD",), liquidity_lots=0.4
    )
    result = send(terminal, type_filling=RETURN)
    assert (result.retcode, result.volume) == (mt5.TRADE_RETCODE_DONE_PARTIAL, 0.4)
    (rest,) = terminal.orders_get()
    assert (rest.state, rest.volume_current) == (mt5.ORDER_STATE_PARTIAL, 0.6)
    terminal.advance(3000)
    (position,) = terminal.positions_get()
    assert (position.volume, position.identifier) == (1.0, result.order)
    deals = terminal.history_deals_get(ticket=result.order)
    assert [deal.volume for deal in deals] == [0.4, 0.4, 0.2]
    assert {deal.position_id for deal in deals} == {result.order}
    assert terminal.orders_get() == ()


# Refusals --------------------------------------------------------------------------------------


def test_a_requote_tells_the_new_price() -> None:
    spec = spec_of("EURUSD", execution_mode=mt5.SYMBOL_TRADE_EXECUTION_INSTANT)
    terminal = terminal_of(symbols=(spec,), selected=("EURUSD",))
    old = terminal.symbol_info_tick("EURUSD").ask
    terminal.advance(600_000)
    asked = {"price": old, "deviation": 0}
    result = send(terminal, **asked)
    tick = terminal.symbol_info_tick("EURUSD")
    assert (result.retcode, result.price) == (mt5.TRADE_RETCODE_REQUOTE, tick.ask)
    assert (result.bid, result.ask) == (tick.bid, tick.ask)
    opened(terminal, price=result.price)
    opened(terminal, price=old, deviation=10_000)


@pytest.mark.parametrize(
    ("account", "retcode"),
    [
        ({"limit_positions": 1}, mt5.TRADE_RETCODE_LIMIT_POSITIONS),
        ({"hedge_prohibited": True}, mt5.TRADE_RETCODE_HEDGE_PROHIBITED),
        ({"requests_per_s_max": 1}, mt5.TRADE_RETCODE_TOO_MANY_REQUESTS),
        ({"balance": 1500.0}, mt5.TRADE_RETCODE_NO_MONEY),
    ],
    ids=["positions", "hedge", "rate", "money"],
)
def test_the_rules_of_an_account(account: dict[str, Any], retcode: int) -> None:
    terminal = terminal_of(account=account)
    first = opened(terminal)
    second = {"type": 1, "volume": 3.0}
    assert send(terminal, **second).retcode == retcode
    terminal.advance(1001)
    opened(terminal, type=1, volume=1.0, position=first.order)


def test_a_close_that_is_under_way_refuses_another() -> None:
    terminal = terminal_of(execution_ms=500)
    send(terminal)
    terminal.advance(500)
    ticket = terminal.positions_get()[0].ticket
    close = {"type": 1, "position": ticket}
    assert send(terminal, **close).retcode == mt5.TRADE_RETCODE_PLACED
    assert send(terminal, **close).retcode == mt5.TRADE_RETCODE_CLOSE_ORDER_EXIST
    terminal.advance(500)
    assert send(terminal, **close).retcode == mt5.TRADE_RETCODE_POSITION_CLOSED


def test_near_its_stop_a_position_is_frozen() -> None:
    spec = spec_of("EURUSD", freeze_level=50)
    terminal = terminal_of(symbols=(spec,), selected=("EURUSD",))
    bid = terminal.symbol_info_tick("EURUSD").bid
    near, far = (opened(terminal, sl=round(bid - gap, 5)).order for gap in (0.0004, 0.01))
    close = {"type": 1, "volume": 1.0}
    assert send(terminal, position=near, **close).retcode == mt5.TRADE_RETCODE_FROZEN
    change = {"action": mt5.TRADE_ACTION_SLTP, "position": near, "sl": round(bid - 0.02, 5)}
    assert send(terminal, **change).retcode == mt5.TRADE_RETCODE_FROZEN
    opened(terminal, position=far, **close)


def test_closing_one_leg_of_a_full_hedge_needs_the_margin_of_the_other() -> None:
    terminal = terminal_of(account={"balance": 1300.0, "margin_so_so": 0.0})
    buy = opened(terminal, volume=1.0)
    sell = opened(terminal, type=1, volume=1.0)
    terminal.inject("balance", amount=-900.0)
    account = terminal.account_info()
    assert account.margin < 1200
    assert account.equity < account.margin
    before = len(deals_of(terminal))
    close = send(terminal, type=1, position=buy.order)
    assert close.retcode == mt5.TRADE_RETCODE_NO_MONEY
    assert len(deals_of(terminal)) == before
    by = {"action": mt5.TRADE_ACTION_CLOSE_BY, "position": buy.order, "position_by": sell.order}
    opened(terminal, **by)
    assert terminal.positions_total() == 0


@pytest.mark.parametrize(
    ("fault", "retcode"),
    [
        ({"kind": "market_closed"}, mt5.TRADE_RETCODE_MARKET_CLOSED),
        ({"kind": "trade_mode", "code": 0}, mt5.TRADE_RETCODE_TRADE_DISABLED),
        ({"kind": "trade_mode", "code": 3}, mt5.TRADE_RETCODE_CLOSE_ONLY),
        ({"kind": "algo_off"}, mt5.TRADE_RETCODE_CLIENT_DISABLES_AT),
        ({"kind": "expert_off"}, mt5.TRADE_RETCODE_SERVER_DISABLES_AT),
        ({"kind": "investor"}, mt5.TRADE_RETCODE_TRADE_DISABLED),
        ({"kind": "disconnect"}, mt5.TRADE_RETCODE_CONNECTION),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "-".join(map(str, value.values())),
)
def test_states_of_terminal_and_broker_refuse_requests_while_they_last(
    fault: dict[str, Any], retcode: int
) -> None:
    terminal = terminal_of()
    opened(terminal)
    terminal.inject(**fault)
    assert send(terminal).retcode == retcode
    if fault["kind"] == "trade_mode":
        assert terminal.symbol_info("EURUSD").trade_mode == fault["code"]
    terminal.clear(fault["kind"])
    opened(terminal)


EVERY_RETCODE = sorted(
    {value for name, value in vars(mt5).items() if name.startswith("TRADE_RETCODE_")}
)


@pytest.mark.parametrize("code", EVERY_RETCODE)
def test_every_retcode_can_be_had_on_demand_and_does_nothing(code: int) -> None:
    terminal = terminal_of()
    ticket = opened(terminal).order
    known = len(deals_of(terminal))
    terminal.inject("retcode", code=code, calls_max=1)
    result = send(terminal, type=1, position=ticket)
    assert (result.retcode, result.deal, result.order) == (code, 0, 0)
    assert result.comment
    assert len(deals_of(terminal)) == known
    opened(terminal, type=1, position=ticket)


def test_a_script_of_retcodes_is_followed_for_the_requests_it_means() -> None:
    terminal = terminal_of()
    tickets = [opened(terminal, symbol=symbol).order for symbol in ("EURUSD", "XAUUSD")]
    terminal.inject("retcode", codes=[10004, 0, 10021], symbols=["EURUSD"], closes=True)
    assert opened(terminal, symbol="EURUSD")
    assert opened(terminal, symbol="XAUUSD", type=1, position=tickets[1])
    close = {"type": 1, "position": tickets[0], "volume": 0.1}
    assert [send(terminal, **close).retcode for _ in range(4)] == [10004, 10009, 10021, 10009]


def test_a_share_of_requests_is_hit_and_the_same_ones_each_time() -> None:
    runs = []
    for _ in range(2):
        terminal = terminal_of()
        terminal.inject("retcode", code=10021, share=0.3)
        runs.append([send(terminal, volume=0.01).retcode for _ in range(100)])
    assert runs[0] == runs[1]
    assert 15 < runs[0].count(10021) < 45
    assert set(runs[0]) == {10009, 10021}


def test_market_orders_slip_and_instant_ones_do_not() -> None:
    instant = spec_of("EURUSD", execution_mode=mt5.SYMBOL_TRADE_EXECUTION_INSTANT, name="FIXED")
    terminal = terminal_of(
        symbols=("EURUSD", instant), selected=("EURUSD", "FIXED"), slippage_points=20
    )
    tick = terminal.symbol_info_tick("EURUSD")
    bought = [opened(terminal, volume=0.01).price - tick.ask for _ in range(20)]
    sold = [tick.bid - opened(terminal, type=1, volume=0.01).price for _ in range(20)]
    for worse in (bought, sold):
        assert all(-1e-9 < slip < 20.5e-5 for slip in worse)
        assert len({round(slip, 5) for slip in worse}) > 5
    price = terminal.symbol_info_tick("FIXED").ask
    assert opened(terminal, symbol="FIXED", price=price).price == price


# Answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "answer", "executed"),
    [
        ({"kind": "lost_answer"}, mt5.RES_E_INTERNAL_FAIL_RECEIVE, True),
        ({"kind": "lost_answer", "codes": [-10005]}, mt5.RES_E_INTERNAL_FAIL_TIMEOUT, True),
        ({"kind": "lost_answer", "codes": [-1]}, mt5.RES_E_FAIL, True),
        ({"kind": "never_sent"}, mt5.RES_E_INTERNAL_FAIL_SEND, False),
        ({"kind": "api_off"}, mt5.RES_E_AUTO_TRADING_DISABLED, False),
        ({"kind": "error", "methods": ["order_send"], "code": -10004}, -10004, False),
    ],
    ids=["lost", "timeout", "fail", "never-sent", "api-off", "no-connection"],
)
def test_without_an_answer_only_the_account_tells_what_happened(
    fault: dict[str, Any], answer: int, executed: bool
) -> None:
    terminal = terminal_of()
    ticket = opened(terminal).order
    reached = len(terminal.requests())
    terminal.inject(**fault)
    assert send(terminal, type=1, position=ticket) is None
    assert terminal.last_error()[0] == answer
    terminal.clear(fault["kind"])
    assert terminal.positions_total() == (0 if executed else 1)
    assert len(terminal.requests()) == reached + executed


def test_a_false_answer_hides_a_deal_and_a_bare_one_its_number() -> None:
    terminal = terminal_of()
    terminal.inject("false_answer", code=mt5.TRADE_RETCODE_TIMEOUT, calls_max=1)
    assert send(terminal).retcode == mt5.TRADE_RETCODE_TIMEOUT
    assert terminal.positions_total() == 1
    terminal.inject("bare_answer", calls_max=1)
    result = opened(terminal)
    assert (result.order, result.deal) == (0, 0)
    assert terminal.positions_total() == 2


def test_a_late_answer_comes_after_the_deal() -> None:
    slept: list[float] = []
    options = SimulatedOptions(start_utc_ms=START, speed=0, selected=("EURUSD",))
    terminal = SimulatedTerminal(options, sleep=slept.append)
    terminal.initialize()
    terminal.inject("late_answer", seconds=36.0, calls_max=1)
    opened(terminal)
    assert slept == [36.0]
    opened(terminal)
    assert slept == [36.0]


def test_requests_that_reached_the_broker_are_counted_with_their_answers() -> None:
    terminal = terminal_of()
    ticket = opened(terminal, magic=77, comment="entry").order
    terminal.inject("lost_answer", calls_max=1)
    assert send(terminal, type=1, position=ticket) is None
    assert send(terminal, type=1, position=ticket).retcode == mt5.TRADE_RETCODE_POSITION_CLOSED
    terminal.inject("algo_off")
    assert send(terminal).retcode == mt5.TRADE_RETCODE_CLIENT_DISABLES_AT
    opening, close, again = terminal.requests()
    assert (opening["magic"], opening["comment"], opening["made_order"]) == (77, "entry", ticket)
    assert close["position"] == again["position"] == ticket
    assert [request["number"] for request in (opening, close, again)] == [1, 2, 3]
    assert terminal.requests(2) == (again,)


# What is seen of the account -------------------------------------------------------------------


def test_deals_may_reach_the_history_after_the_position_is_gone() -> None:
    terminal = terminal_of()
    ticket = opened(terminal).order
    terminal.advance(10_000)
    terminal.inject("late_history", seconds=2.0)
    known = len(deals_of(terminal))
    closed = opened(terminal, type=1, position=ticket)
    assert terminal.positions_get() == ()
    assert len(deals_of(terminal)) == known
    assert terminal.history_orders_get(ticket=closed.order) == ()
    terminal.advance(2000)
    assert terminal.history_deals_get(ticket=closed.order)[0].ticket == closed.deal
    assert terminal.history_orders_get(ticket=closed.order)


def test_the_book_may_lag_behind_the_history() -> None:
    terminal = terminal_of()
    ticket = opened(terminal).order
    assert terminal.positions_total() == len(terminal.positions_get()) == 1
    terminal.inject("stale_book", seconds=3.0)
    closed = opened(terminal, type=1, position=ticket)
    assert [p.ticket for p in terminal.positions_get(symbol="EURUSD")] == [ticket]
    assert terminal.positions_total() == 1
    assert terminal.history_deals_get(ticket=closed.order)
    terminal.advance(3001)
    assert terminal.positions_get() == ()


def test_brokers_write_comments_of_their_own() -> None:
    terminal = terminal_of()
    terminal.inject("comment_rewritten", text="B2B cover")
    result = opened(terminal, comment="ours", magic=5)
    (position,) = terminal.positions_get()
    assert (position.comment, position.magic) == ("B2B cover", 5)
    assert terminal.history_deals_get(ticket=result.order)[0].comment == "B2B cover"


@pytest.mark.parametrize("chars_max", [27, 29, 31])
def test_longer_comments_never_leave_the_terminal(chars_max: int) -> None:
    terminal = terminal_of(comment_chars_max=chars_max)
    opened(terminal, comment="c" * chars_max)
    assert send(terminal, comment="c" * (chars_max + 1)) is None
    assert terminal.last_error() == (-2, 'Invalid "comment" argument')
    assert len(terminal.requests()) == 1
