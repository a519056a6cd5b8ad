"""One suite for everything that is shaped like the MetaTrader5 module."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from events.clock_rules import ClockRule
from events.ticks import RATE_DTYPE, TICK_DTYPE
from producers.terminals import constants as mt5
from producers.terminals import structs
from tests.contract import terminal_cases as cases
from tests.contract.hosted_cases import HOSTED
from tests.contract.terminal_cases import (
    CASES,
    CLOCK,
    LOGIN,
    SERVER,
    START_UTC_MS,
    SYMBOL,
    UNSELECTED,
    TerminalUnderTest,
)

OK = (1, "Success")
SERVER_NOW_S = (START_UTC_MS + ClockRule.parse(CLOCK).offset_s(START_UTC_MS) * 1000) // 1000
FAR = SERVER_NOW_S + 86_400


ALL_CASES = CASES | HOSTED


@pytest.fixture(params=sorted(ALL_CASES))
def made(request: pytest.FixtureRequest) -> Iterator[TerminalUnderTest]:
    """A terminal nobody has initialised."""
    with ALL_CASES[request.param]() as under_test:
        yield under_test


@pytest.fixture
def under_test(made: TerminalUnderTest) -> TerminalUnderTest:
    assert made.terminal.initialize() is True
    return made


@pytest.fixture
def terminal(under_test: TerminalUnderTest) -> Any:
    return under_test.terminal


def need(under_test: TerminalUnderTest, *abilities: str) -> None:
    missing = set(abilities) - under_test.can
    if missing:
        pytest.skip(f"this terminal has no {', '.join(sorted(missing))}")


def deal_request(**changes: Any) -> dict[str, Any]:
    request = {
        "action": mt5.TRADE_ACTION_DEAL, "symbol": SYMBOL, "volume": 0.1,
        "type": mt5.ORDER_TYPE_BUY, "price": 1.0, "deviation": 20, "magic": 77,
        "comment": "contract", "type_time": 0, "type_filling": mt5.ORDER_FILLING_IOC,
    }  # fmt: skip
    return {**request, **changes}


# The link ------------------------------------------------------------------------------------


def test_nothing_is_known_before_initialize(made: TerminalUnderTest) -> None:
    terminal = made.terminal
    assert terminal.account_info() is None
    assert terminal.last_error() == (-10004, "No IPC connection")
    assert terminal.symbols_get() is None
    assert terminal.symbol_select(SYMBOL, True) is False
    assert terminal.positions_get() is None
    assert terminal.copy_ticks_from(SYMBOL, 0, 10, -1) is None


def test_after_shutdown_nothing_is_known_again(terminal: Any) -> None:
    assert terminal.shutdown() is None
    assert terminal.account_info() is None
    assert terminal.last_error()[0] == -10004


def test_a_wrong_password_fails_with_authorization_failed(made: TerminalUnderTest) -> None:
    assert made.terminal.initialize(login=LOGIN, password="wrong", server=SERVER) is False
    assert made.terminal.last_error() == (-6, "Terminal: Authorization failed")


def test_initialize_with_the_right_credentials(made: TerminalUnderTest) -> None:
    given = {"login": LOGIN, "password": cases.PASSWORD, "server": SERVER, "timeout": 5000}
    assert made.terminal.initialize("C:\\MT5\\terminal64.exe", portable=False, **given) is True
    assert made.terminal.account_info().login == LOGIN


def test_version_is_500_build_and_date(terminal: Any) -> None:
    number, build, released = terminal.version()
    assert number == 500
    assert build > 3000
    assert datetime.strptime(released, "%d %b %Y").replace(tzinfo=UTC)


def test_the_last_error_tells_of_the_last_call(terminal: Any) -> None:
    assert terminal.symbol_info("NOSUCH") is None
    assert terminal.last_error() == (-4, "Terminal: Not found")
    assert terminal.last_error() == (-4, "Terminal: Not found")  # reading does not clear it
    assert terminal.symbol_info(SYMBOL) is not None
    assert terminal.last_error() == OK


# Structs -------------------------------------------------------------------------------------


def test_structs_have_the_fields_of_the_module_in_order(terminal: Any) -> None:
    answers = {
        "AccountInfo": terminal.account_info(), "TerminalInfo": terminal.terminal_info(),
        "SymbolInfo": terminal.symbol_info(SYMBOL), "Tick": terminal.symbol_info_tick(SYMBOL),
    }  # fmt: skip
    for name, answer in answers.items():
        fields = structs.STRUCTS[name].FIELDS
        assert isinstance(answer, tuple), name
        assert len(answer) == len(fields)
        assert tuple(answer._asdict()) == fields
        assert all(getattr(answer, field) == answer[at] for at, field in enumerate(fields))
        assert type(answer).__name__ == name


def test_structs_cannot_be_pickled(terminal: Any) -> None:
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(terminal.account_info())


def test_structs_hold_plain_python_values(terminal: Any) -> None:
    kinds = {"i": int, "b": bool, "f": float, "s": str}
    for answer in (terminal.account_info(), terminal.symbol_info(SYMBOL),
                   terminal.terminal_info(), terminal.symbol_info_tick(SYMBOL)):  # fmt: skip
        wanted = structs.STRUCTS[type(answer).__name__].KINDS
        assert [type(value) for value in answer] == [kinds[kind] for kind in wanted]


def test_the_account_is_the_one_asked_for(terminal: Any) -> None:
    account = terminal.account_info()
    assert (account.login, account.server) == (LOGIN, SERVER)
    assert account.equity == pytest.approx(account.balance + account.credit + account.profit)
    assert account.margin_level == 0.0  # no positions, not bankrupt
    assert terminal.terminal_info().connected is True


# Symbols -------------------------------------------------------------------------------------


def test_symbols_get_and_total_agree(terminal: Any) -> None:
    symbols = terminal.symbols_get()
    assert isinstance(symbols, tuple)
    assert len(symbols) == terminal.symbols_total() >= 1
    assert SYMBOL in {symbol.name for symbol in symbols}


def test_symbols_get_takes_masks_left_to_right(under_test: TerminalUnderTest) -> None:
    need(under_test, cases.SYMBOLS)
    names = {s.name for s in under_test.terminal.symbols_get(group="*USD*,!EUR*")}
    assert names
    assert all("USD" in name and not name.startswith("EUR") for name in names)
    assert under_test.terminal.symbols_get("NOSUCH*") == ()
    assert under_test.terminal.last_error() == OK


def test_a_symbol_outside_market_watch_has_facts_but_no_tick(
    under_test: TerminalUnderTest,
) -> None:
    need(under_test, cases.SYMBOLS)
    terminal = under_test.terminal
    assert terminal.symbol_info(UNSELECTED).select is False
    assert terminal.symbol_info_tick(UNSELECTED) is None
    assert terminal.last_error()[0] != 1
    assert terminal.symbol_select(UNSELECTED, True) is True
    assert terminal.symbol_info(UNSELECTED).select is True
    assert terminal.symbol_info_tick(UNSELECTED).bid > 0
    assert terminal.symbol_select(UNSELECTED, False) is True
    assert terminal.symbol_info_tick(UNSELECTED) is None


def test_selecting_an_unknown_symbol_is_false(terminal: Any) -> None:
    assert terminal.symbol_select("NOSUCH") is False
    assert terminal.last_error()[0] != 1


def test_the_newest_tick_is_in_server_time(terminal: Any) -> None:
    tick = terminal.symbol_info_tick(SYMBOL)
    assert tick.time == tick.time_msc // 1000
    assert 0 < tick.bid <= tick.ask
    assert SERVER_NOW_S - 3600 < tick.time <= SERVER_NOW_S + 1


def test_a_market_book_must_be_opened_first(terminal: Any) -> None:
    assert terminal.market_book_get(SYMBOL) is None
    assert terminal.market_book_add(SYMBOL) is True
    assert isinstance(terminal.market_book_get(SYMBOL), tuple)
    assert terminal.last_error() == OK
    assert terminal.market_book_release(SYMBOL) is True
    assert terminal.market_book_get(SYMBOL) is None


# Ticks ---------------------------------------------------------------------------------------


def test_ticks_come_as_60_byte_rows_oldest_first(terminal: Any) -> None:
    rows = terminal.copy_ticks_from(SYMBOL, SERVER_NOW_S - 600, 100, mt5.COPY_TICKS_ALL)
    assert rows.dtype == TICK_DTYPE
    assert rows.dtype.itemsize == 60
    assert 0 < len(rows) <= 100
    assert (np.diff(rows["time_msc"]) >= 0).all()
    assert (rows["time"] == rows["time_msc"] // 1000).all()


def test_ticks_are_counted_forward_from_a_time(terminal: Any) -> None:
    everything = terminal.copy_ticks_from(SYMBOL, SERVER_NOW_S - 600, 100_000, -1)
    assert len(everything) > 20
    first = terminal.copy_ticks_from(SYMBOL, SERVER_NOW_S - 600, 10, -1)
    assert first.tobytes() == everything[:10].tobytes()
    second = int(everything["time"][10])
    later = terminal.copy_ticks_from(SYMBOL, second, 100_000, -1)
    assert later.tobytes() == everything[everything["time"] >= second].tobytes()
    assert everything["time_msc"][-1] == terminal.symbol_info_tick(SYMBOL).time_msc


def test_a_tick_range_includes_both_ends(terminal: Any) -> None:
    rows = terminal.copy_ticks_from(SYMBOL, SERVER_NOW_S - 600, 100_000, -1)
    low, high = int(rows["time"][0]), int(rows["time"][-1])
    between = terminal.copy_ticks_range(SYMBOL, low, high, -1)
    inside = rows["time_msc"] <= high * 1000
    assert between.tobytes() == rows[inside].tobytes()


def test_ticks_after_now_are_empty_without_an_error(terminal: Any) -> None:
    for rows in (
        terminal.copy_ticks_from(SYMBOL, FAR, 100, -1),
        terminal.copy_ticks_range(SYMBOL, FAR, FAR + 10, -1),
        terminal.copy_ticks_from(SYMBOL, START_UTC_MS * 1000, 100, -1),  # ms taken for seconds
    ):
        assert rows.dtype == TICK_DTYPE
        assert len(rows) == 0
        assert terminal.last_error() == OK


def test_an_aware_datetime_is_taken_as_server_time(terminal: Any) -> None:
    moment = datetime.fromtimestamp(SERVER_NOW_S - 300, UTC)
    by_date = terminal.copy_ticks_from(SYMBOL, moment, 50, -1)
    by_number = terminal.copy_ticks_from(SYMBOL, SERVER_NOW_S - 300, 50, -1)
    assert by_date.tobytes() == by_number.tobytes()


def test_fractions_of_a_second_in_a_request_are_dropped(terminal: Any) -> None:
    moment = datetime.fromtimestamp(SERVER_NOW_S - 300, UTC)
    whole = terminal.copy_ticks_from(SYMBOL, moment, 50, -1)
    fraction = terminal.copy_ticks_from(SYMBOL, moment.replace(microsecond=900_000), 50, -1)
    assert whole.tobytes() == fraction.tobytes()


def test_ticks_of_one_kind_can_be_asked_for(under_test: TerminalUnderTest) -> None:
    need(under_test, cases.SYMBOLS, cases.STEP)
    terminal = under_test.terminal
    under_test.advance(4 * 3_600_000)  # the exchange is open at 16:00 UTC
    assert terminal.symbol_select("ACME")
    since = SERVER_NOW_S + 4 * 3600 - 120
    both, quotes, trades = (terminal.copy_ticks_from("ACME", since, 10_000, f) for f in (-1, 1, 2))
    assert len(quotes)
    assert len(trades)
    assert ((quotes["flags"] & 6) != 0).all()
    assert ((trades["flags"] & 120) != 0).all()
    assert len(both) == len(quotes) + len(trades) - int(
        (((both["flags"] & 6) != 0) & ((both["flags"] & 120) != 0)).sum()
    )


@pytest.mark.parametrize(
    "arguments",
    [
        (SYMBOL, 1.5, 10, -1), (SYMBOL, "now", 10, -1), (7, SERVER_NOW_S, 10, -1),
        (SYMBOL, SERVER_NOW_S, 10.0, -1), (SYMBOL, SERVER_NOW_S, 10), (),
    ],
)  # fmt: skip
def test_arguments_of_wrong_types_are_refused(terminal: Any, arguments: tuple[Any, ...]) -> None:
    assert terminal.copy_ticks_from(*arguments) is None
    assert terminal.last_error()[0] == -2
    assert "nvalid" in terminal.last_error()[1]


def test_numpy_numbers_are_refused(under_test: TerminalUnderTest) -> None:
    need(under_test, cases.LOCAL)  # on a wire they become plain numbers
    terminal = under_test.terminal
    assert terminal.copy_ticks_from(SYMBOL, np.int64(SERVER_NOW_S), 10, -1) is None
    assert terminal.last_error()[0] == -2


def test_ticks_of_an_unknown_symbol_are_none(terminal: Any) -> None:
    assert terminal.copy_ticks_from("NOSUCH", 0, 10, -1) is None
    assert terminal.last_error() == (-4, "Terminal: Not found")


# Bars ----------------------------------------------------------------------------------------


def test_bars_come_as_60_byte_rows_the_forming_one_last(terminal: Any) -> None:
    bars = terminal.copy_rates_from_pos(SYMBOL, mt5.TIMEFRAME_M1, 0, 5)
    assert bars.dtype == RATE_DTYPE
    assert len(bars) == 5
    tick = terminal.symbol_info_tick(SYMBOL)
    assert bars["time"][-1] == tick.time // 60 * 60
    assert bars["close"][-1] == tick.bid
    assert (bars["low"] <= bars["open"]).all()
    assert (bars["high"] >= bars["close"]).all()


def test_bars_from_a_time_end_there(terminal: Any) -> None:
    last = terminal.copy_rates_from_pos(SYMBOL, mt5.TIMEFRAME_M1, 0, 8)
    until = int(last["time"][4])
    bars = terminal.copy_rates_from(SYMBOL, mt5.TIMEFRAME_M1, until + 30, 3)
    assert bars["time"].tolist() == last["time"][2:5].tolist()


def test_a_bar_range_includes_both_ends(terminal: Any) -> None:
    last = terminal.copy_rates_from_pos(SYMBOL, mt5.TIMEFRAME_M1, 0, 8)
    low, high = int(last["time"][2]), int(last["time"][5])
    bars = terminal.copy_rates_range(SYMBOL, mt5.TIMEFRAME_M1, low, high)
    assert bars["time"].tolist() == last["time"][2:6].tolist()
    assert bars.tobytes() == last[2:6].tobytes()


def test_bars_are_those_of_the_ticks(terminal: Any) -> None:
    bars = terminal.copy_rates_from_pos(SYMBOL, mt5.TIMEFRAME_M1, 1, 2)
    for bar in bars:
        low = int(bar["time"])
        ticks = terminal.copy_ticks_range(SYMBOL, low, low + 59, -1)
        late = terminal.copy_ticks_range(SYMBOL, low + 59, low + 60, -1)
        last = late[late["time"] == low + 59]
        ticks = np.concatenate([ticks[ticks["time"] < low + 59], last])
        assert bar["open"] == ticks["bid"][0]
        assert bar["close"] == ticks["bid"][-1]
        assert (bar["high"], bar["low"]) == (ticks["bid"].max(), ticks["bid"].min())
        assert bar["tick_volume"] == len(ticks)


def test_longer_bars_hold_the_shorter_ones(under_test: TerminalUnderTest) -> None:
    need(under_test, cases.HISTORY)
    terminal = under_test.terminal
    hour = terminal.copy_rates_from_pos(SYMBOL, mt5.TIMEFRAME_H1, 1, 1)[0]
    start = int(hour["time"])
    minutes = terminal.copy_rates_range(SYMBOL, mt5.TIMEFRAME_M1, start, start + 3599)
    assert start % 3600 == 0
    assert hour["tick_volume"] == minutes["tick_volume"].sum()
    assert (hour["high"], hour["low"]) == (minutes["high"].max(), minutes["low"].min())


def test_months_of_hours_show_the_weekends_of_the_server(under_test: TerminalUnderTest) -> None:
    need(under_test, cases.HISTORY)
    bars = under_test.terminal.copy_rates_from_pos(SYMBOL, mt5.TIMEFRAME_H1, 0, 1000)
    gaps = np.diff(bars["time"])
    ends = bars["time"][:-1][gaps >= 40 * 3600]
    assert len(bars) == 1000
    assert len(ends) >= 7
    weekday_hours = {(int(end) // 86_400 + 3) % 7 * 24 + int(end) % 86_400 // 3600 for end in ends}
    assert weekday_hours == {4 * 24 + 23}  # Friday, the last hour before server midnight


def test_as_many_bars_as_charts_hold_are_refused(terminal: Any) -> None:
    most = terminal.terminal_info().maxbars
    assert terminal.copy_rates_from_pos(SYMBOL, mt5.TIMEFRAME_M1, 0, most) is None
    assert terminal.last_error() == (-2, "Terminal: Invalid params")


def test_an_unknown_timeframe_is_refused(terminal: Any) -> None:
    assert terminal.copy_rates_from_pos(SYMBOL, 7, 0, 10) is None
    assert terminal.last_error() == (-2, "Terminal: Invalid params")


# The account's book --------------------------------------------------------------------------


def test_an_empty_book_is_empty_not_unknown(terminal: Any) -> None:
    assert terminal.positions_get() == ()
    assert terminal.orders_get() == ()
    assert terminal.positions_total() == terminal.orders_total() == 0
    assert terminal.positions_get(symbol=SYMBOL) == ()
    assert terminal.last_error() == OK


def test_filters_of_the_book_are_named_only(terminal: Any) -> None:
    for call in (terminal.positions_get, terminal.orders_get):
        assert call(SYMBOL) is None
        assert terminal.last_error() == (-2, "Unnamed arguments not allowed")
        assert call(ticket="7") is None
        assert terminal.last_error() == (-2, 'Invalid "ticket" argument')


def test_the_deposit_is_a_deal_without_a_symbol(terminal: Any) -> None:
    deals = terminal.history_deals_get(0, FAR)
    assert deals[0].type == mt5.DEAL_TYPE_BALANCE
    assert deals[0].symbol == ""
    assert terminal.history_deals_total(0, FAR) == len(deals)
    amount = sum(d.profit + d.swap + d.commission + d.fee for d in deals)
    assert amount == pytest.approx(terminal.account_info().balance, abs=0.005)


def test_history_needs_dates_or_a_number(terminal: Any) -> None:
    assert terminal.history_deals_get() is None
    assert terminal.last_error()[0] == -2
    assert terminal.history_deals_get(ticket=999) == ()
    assert terminal.history_orders_get(position=999) == ()


def test_a_position_from_opening_to_its_deals(under_test: TerminalUnderTest) -> None:
    need(under_test, cases.TRADE)
    terminal = under_test.terminal
    result = terminal.order_send(deal_request())
    assert result.retcode == mt5.TRADE_RETCODE_DONE
    assert type(result).__name__ == "OrderSendResult"
    assert type(result.request).__name__ == "TradeRequest"
    (position,) = terminal.positions_get(symbol=SYMBOL)
    assert position.ticket == position.identifier == result.order
    assert (position.magic, position.comment, position.volume) == (77, "contract", 0.1)
    account = terminal.account_info()
    assert account.margin > 0
    assert account.equity == pytest.approx(account.balance + account.profit, abs=0.005)
    closed = terminal.order_send(deal_request(type=1, position=position.ticket))
    assert closed.retcode == mt5.TRADE_RETCODE_DONE
    assert terminal.positions_get() == ()
    deals = terminal.history_deals_get(position=position.identifier)
    assert [deal.entry for deal in deals] == [mt5.DEAL_ENTRY_IN, mt5.DEAL_ENTRY_OUT]
    assert terminal.history_deals_get(ticket=result.order) == (deals[0],)
    orders = terminal.history_orders_get(position=position.identifier)
    assert [order.state for order in orders] == [mt5.ORDER_STATE_FILLED] * 2
    everything = terminal.history_deals_get(0, FAR)
    amount = sum(d.profit + d.swap + d.commission + d.fee for d in everything)
    assert terminal.account_info().balance == pytest.approx(amount, abs=0.005)


def test_a_pending_order_waits_and_is_cancelled(under_test: TerminalUnderTest) -> None:
    need(under_test, cases.TRADE)
    terminal = under_test.terminal
    price = round(terminal.symbol_info_tick(SYMBOL).ask * 0.9, 5)
    pending = deal_request(action=mt5.TRADE_ACTION_PENDING, type=mt5.ORDER_TYPE_BUY_LIMIT,
                           price=price)  # fmt: skip
    placed = terminal.order_send(pending)
    assert placed.retcode == mt5.TRADE_RETCODE_DONE
    (order,) = terminal.orders_get(ticket=placed.order)
    assert (order.type, order.state, order.price_open) == (2, 1, price)
    removed = terminal.order_send({"action": mt5.TRADE_ACTION_REMOVE, "order": order.ticket})
    assert removed.retcode == mt5.TRADE_RETCODE_DONE
    assert terminal.orders_get() == ()
    (done,) = terminal.history_orders_get(ticket=order.ticket)
    assert done.state == mt5.ORDER_STATE_CANCELED


def test_checking_a_good_request_gives_zero_and_does_nothing(
    under_test: TerminalUnderTest,
) -> None:
    need(under_test, cases.TRADE)
    checked = under_test.terminal.order_check(deal_request())
    assert checked.retcode == 0
    assert checked.margin > 0
    assert under_test.terminal.positions_get() == ()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"volume": None}, 'Invalid "volume" argument'),
        ({"comment": "x" * 40}, 'Invalid "comment" argument'),
        ({"type": 0.0}, 'Invalid "type" argument'),
        ({"volume": "1"}, 'Invalid "volume" argument'),
    ],
)
def test_a_request_with_a_bad_field_never_leaves(
    under_test: TerminalUnderTest, changes: dict[str, Any], text: str
) -> None:
    need(under_test, cases.TRADE)
    assert under_test.terminal.order_send(deal_request(**changes)) is None
    assert under_test.terminal.last_error() == (-2, text)


@pytest.mark.parametrize(
    ("changes", "retcode"),
    [
        ({"volume": 0.001}, mt5.TRADE_RETCODE_INVALID_VOLUME),
        ({"volume": 0.015}, mt5.TRADE_RETCODE_INVALID_VOLUME),
        ({"volume": 99.0}, mt5.TRADE_RETCODE_NO_MONEY),
        ({"type_filling": mt5.ORDER_FILLING_RETURN}, mt5.TRADE_RETCODE_INVALID_FILL),
        ({"sl": 9.0}, mt5.TRADE_RETCODE_INVALID_STOPS),
        ({"symbol": "NOSUCH"}, mt5.TRADE_RETCODE_INVALID),
        ({"position": 424242, "type": 1}, mt5.TRADE_RETCODE_POSITION_CLOSED),
    ],
)
def test_a_request_against_a_rule_gets_its_retcode(
    under_test: TerminalUnderTest, changes: dict[str, Any], retcode: int
) -> None:
    need(under_test, cases.TRADE)
    result = under_test.terminal.order_send(deal_request(**changes))
    assert result.retcode == retcode
    assert under_test.terminal.last_error() == OK
    assert under_test.terminal.positions_get() == ()


def test_margin_and_profit_are_computed_in_account_currency(terminal: Any) -> None:
    assert terminal.order_calc_profit(0, SYMBOL, 1.0, 1.1, 1.1001) == pytest.approx(10.0)
    assert terminal.order_calc_profit(1, SYMBOL, 1.0, 1.1, 1.1001) == pytest.approx(-10.0)
    margin = terminal.order_calc_margin(0, SYMBOL, 1.0, 1.1)
    assert margin > 0
    assert terminal.order_calc_margin(0, SYMBOL, 2.0, 1.1) == pytest.approx(2 * margin, abs=0.01)
    assert terminal.order_calc_margin(0, "NOSUCH", 1.0, 1.1) is None


# Faults --------------------------------------------------------------------------------------


def test_a_terminal_that_died_is_unknown_until_initialize(under_test: TerminalUnderTest) -> None:
    need(under_test, cases.FAULTS)
    terminal = under_test.terminal
    under_test.inject("ipc_lost")
    assert terminal.positions_get() is None
    assert terminal.last_error() == (-10001, "IPC send failed")
    assert terminal.account_info() is None
    assert terminal.last_error() == (-10004, "No IPC connection")
    assert terminal.initialize() is True
    assert terminal.account_info().login == LOGIN


@pytest.mark.parametrize("code", [-1, -2, -4, -6, -8, -10000, -10001, -10002, -10004, -10005])
def test_every_error_can_be_met(under_test: TerminalUnderTest, code: int) -> None:
    need(under_test, cases.FAULTS)
    under_test.inject("error", code=code, methods=["symbols_get"], calls_max=1)
    assert under_test.terminal.symbols_get() is None
    assert under_test.terminal.last_error() == (code, mt5.LAST_ERRORS[code])
    assert under_test.terminal.symbols_get()


def test_an_account_switched_by_a_human_shows(under_test: TerminalUnderTest) -> None:
    need(under_test, cases.FAULTS)
    under_test.inject("account_switched", login=123)
    assert under_test.terminal.account_info().login == 123


def test_without_a_broker_reads_go_on_and_orders_do_not(under_test: TerminalUnderTest) -> None:
    need(under_test, cases.FAULTS, cases.STEP, cases.TRADE)
    terminal = under_test.terminal
    under_test.inject("disconnect", for_s=60, seconds=5)
    under_test.advance(30_000)
    assert terminal.terminal_info().connected is False
    assert terminal.symbol_info_tick(SYMBOL).time <= SERVER_NOW_S
    assert terminal.account_info().login == LOGIN
    sent = terminal.order_send(deal_request())
    assert sent.retcode == mt5.TRADE_RETCODE_CONNECTION
    under_test.advance(31_000)
    assert terminal.terminal_info().connected is True
    gone = terminal.copy_ticks_range(SYMBOL, SERVER_NOW_S + 1, SERVER_NOW_S + 58, -1)
    under_test.advance(10_000)
    back = terminal.copy_ticks_range(SYMBOL, SERVER_NOW_S + 1, SERVER_NOW_S + 58, -1)
    assert len(gone) == 0
    assert len(back) > 0
