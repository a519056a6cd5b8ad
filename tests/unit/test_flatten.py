"""The closing machine on a simulated terminal, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from events.guarding import FlattenEnded, FlattenStep
from producers.guard.flatten import MemoryJournal, Reduction, StoppedFlatten
from producers.guard.flatten.account import Held, Working, held_of, working_of
from producers.guard.flatten.decisions import NAMES
from producers.terminals import constants as mt5
from producers.terminals.interface import Priority
from tests.simulation.kill_path.checking import Before, before, closes_that_worked, violations
from tests.simulation.kill_path.virtual import MAGIC, VirtualAccount

BUY, SELL = 0, 1
TRANSIENT = sorted(NAMES.keys() - {10008, 10009, 10010, 10036})


CLOSES = 4
"""What `book` takes: a close-by, what it leaves, and two positions that stand alone."""


def book(account: VirtualAccount) -> Before:
    """A few positions on both sides and two pending orders."""
    account.open("EURUSD", BUY, 0.5)
    account.open("EURUSD", SELL, 0.2, magic=7)
    account.open("XAUUSD", SELL, 1.0)
    account.open("GBPUSD", BUY, 0.3, magic=7)
    account.place("EURUSD", mt5.ORDER_TYPE_BUY_LIMIT, 0.01)
    account.place("GBPUSD", mt5.ORDER_TYPE_BUY_LIMIT, 0.02)
    return before(account.value, magic=MAGIC)


def flatten(account: VirtualAccount, scope: str = "account", **options: Any) -> FlattenEnded:
    return account.flattener(**options).run(scope, "a test", "tester", account.now_ms())


def is_flat(account: VirtualAccount) -> bool:
    return not account.value("positions_get") and not account.value("orders_get")


def test_a_flatten_closes_and_cancels_everything_and_says_so() -> None:
    account = VirtualAccount()
    was = book(account)
    ended = flatten(account)
    assert ended.state == "FLAT"
    assert is_flat(account)
    assert violations(account.value, was) == []
    assert {o.outcome for o in ended.outcomes} == {"closed", "cancelled"}
    assert (ended.verified_ms or 0) >= 2000
    assert ended.breach_to_flat_ms is not None
    assert ended.breach_to_flat_ms < 100
    steps = [e for e in account.journal.events if isinstance(e, FlattenStep)]
    assert [s.number for s in steps] == list(range(1, len(steps) + 1))
    assert [s.outcome for s in steps if s.step == "sweep"] == ["clear"] * 3


def test_the_largest_net_exposure_goes_first_and_hedged_volume_goes_by_itself() -> None:
    account = VirtualAccount()
    book(account)
    flatten(account)
    closes = [
        (s.step, s.symbol) for s in account.journal.events
        if isinstance(s, FlattenStep) and s.step in ("close", "close_by")
    ]  # fmt: skip
    assert closes[0] == ("close", "XAUUSD")  # 100 ounces of gold: about 235,000 dollars
    assert ("close_by", "EURUSD") in closes


@pytest.mark.parametrize("scope", ["magic=7", "symbol=EURUSD"])
def test_a_part_of_the_account_leaves_the_rest_alone(scope: str) -> None:
    account = VirtualAccount()
    book(account)
    ended = flatten(account, scope)
    assert ended.state == "FLAT"
    left = account.value("positions_get")
    if scope == "magic=7":
        assert sorted(p.symbol for p in left) == ["EURUSD", "XAUUSD"]
        assert len(account.value("orders_get")) == 2
    else:
        assert sorted(p.symbol for p in left) == ["GBPUSD", "XAUUSD"]
        assert [o.symbol for o in account.value("orders_get")] == ["GBPUSD"]


@pytest.mark.parametrize("code", TRANSIENT)
def test_a_return_code_that_comes_twice_stops_nothing(code: int) -> None:
    account = VirtualAccount()
    was = book(account)
    account.value("inject", "retcode", code=code, calls_max=2)
    ended = flatten(account)
    assert ended.state == "FLAT", ended
    assert is_flat(account)
    assert violations(account.value, was, injected=[code]) == []


@pytest.mark.parametrize("code", TRANSIENT)
def test_one_symbol_that_is_refused_for_ever_does_not_keep_the_others_open(code: int) -> None:
    account = VirtualAccount()
    was = book(account)
    account.value("inject", "retcode", code=code, symbols=["XAUUSD"], actions=[1])
    ended = flatten(account, patience_s=5.0)
    assert ended.state in ("FLAT_EXCEPT", "UNKNOWN")
    assert [p.symbol for p in account.value("positions_get")] == ["XAUUSD"]
    assert account.value("orders_get") == ()
    assert violations(account.value, was, injected=[code]) == []
    assert account.pages
    left = [o for o in ended.outcomes if o.outcome not in ("closed", "cancelled")]
    assert [o.symbol for o in left] == ["XAUUSD"]
    assert left[0].retcode == code


@pytest.mark.parametrize("code", [-1, -10000, -10001, -10002, -10005])
def test_a_lost_answer_is_looked_up_and_never_sent_again(code: int) -> None:
    account = VirtualAccount()
    was = book(account)
    account.value("inject", "lost_answer", codes=[code] * 3)
    ended = flatten(account)
    assert ended.state == "FLAT"
    assert violations(account.value, was) == []
    assert closes_that_worked(account.value, was) == CLOSES


@pytest.mark.parametrize("code", [10008, 10009, 10010, 10011, 10012, 10031, 10036])
def test_a_wrong_answer_to_a_close_that_worked_is_not_believed(code: int) -> None:
    account = VirtualAccount()
    was = book(account)
    account.value("inject", "false_answer", codes=[code] * 4)
    ended = flatten(account)
    assert ended.state == "FLAT"
    assert violations(account.value, was) == []
    assert closes_that_worked(account.value, was) == CLOSES


@pytest.mark.parametrize("code", [10009, 10036])
def test_an_answer_that_claims_a_close_which_did_not_happen_is_found_out(code: int) -> None:
    account = VirtualAccount()
    was = book(account)
    account.value("inject", "retcode", codes=[code] * 3)
    ended = flatten(account)
    assert ended.state == "FLAT"
    assert is_flat(account)
    assert violations(account.value, was, injected=[code]) == []


def test_requests_that_never_arrived_are_sent_again_after_the_deals_were_asked() -> None:
    account = VirtualAccount()
    was = book(account)
    account.value("inject", "never_sent", calls_max=3)
    ended = flatten(account)
    assert ended.state == "FLAT"
    assert violations(account.value, was) == []


def test_partial_fills_are_followed_by_the_rest() -> None:
    account = VirtualAccount()
    was = book(account)
    account.value("inject", "liquidity", lots=0.1)
    ended = flatten(account)
    assert ended.state == "FLAT"
    assert is_flat(account)
    assert violations(account.value, was) == []


def test_executions_that_take_their_time_are_awaited() -> None:
    account = VirtualAccount(execution_ms=700.0)
    account.terminal.advance(1)
    for symbol, side in (("EURUSD", BUY), ("XAUUSD", SELL)):
        tick = account.value("symbol_info_tick", symbol)
        request = {
            "action": 1, "symbol": symbol, "volume": 0.4, "type": side, "type_filling": 1,
            "price": tick.bid if side else tick.ask,
        }  # fmt: skip
        assert account.value("order_send", request).retcode == mt5.TRADE_RETCODE_PLACED
    account.terminal.advance(2000)
    was = before(account.value, magic=MAGIC)
    assert len(was.lots) == 2
    ended = flatten(account)
    assert ended.state == "FLAT"
    assert violations(account.value, was) == []
    assert closes_that_worked(account.value, was) == 2


def test_lists_and_history_that_lag_behind_are_waited_for() -> None:
    account = VirtualAccount()
    was = book(account)
    account.value("inject", "stale_book", seconds=1.0)
    account.value("inject", "late_history", seconds=1.5)
    ended = flatten(account)
    assert ended.state == "FLAT"
    assert violations(account.value, was) == []


def test_deals_are_believed_where_a_list_stays_old_and_the_answer_was_lost() -> None:
    account = VirtualAccount()
    was = book(account)
    account.value("inject", "stale_book", seconds=5.0)
    account.value("inject", "lost_answer", calls_max=4)
    ended = flatten(account)
    assert ended.state == "FLAT"
    assert violations(account.value, was) == []
    assert closes_that_worked(account.value, was) == CLOSES


@pytest.mark.parametrize(("late_s", "state"), [(5.0, "FLAT"), (60.0, "UNKNOWN")])
def test_flat_is_only_said_when_deals_account_for_every_position(late_s: float, state: str) -> None:
    account = VirtualAccount()
    book(account)
    account.sleep(100.0)
    account.value("inject", "late_history", seconds=late_s)
    flattener = account.flattener()
    ended = flattener.run("account", "a test", "tester", account.now_ms())
    assert ended.state == state
    assert (ended.verified_ms or 0) >= 5000
    if state == "UNKNOWN":
        later = []
        for _ in range(60):
            account.sleep(1.0)
            later.append(flattener.tend())
        assert [e.state for e in later if e is not None][-1] == "FLAT"


def test_a_refused_comment_is_dropped() -> None:
    account = VirtualAccount(comment_chars_max=0)
    was = book(account)
    ended = flatten(account)
    assert ended.state == "FLAT"
    assert violations(account.value, was) == []


def test_a_closed_market_is_parked_and_closed_when_it_opens() -> None:
    account = VirtualAccount()
    was = book(account)
    account.value("inject", "market_closed", symbols=["XAUUSD"])
    flattener = account.flattener()
    ended = flattener.run("account", "a test", "tester", account.now_ms())
    assert ended.state == "FLAT_EXCEPT"
    assert [o.outcome for o in ended.outcomes if o.symbol == "XAUUSD"] == ["parked"]
    assert [p.symbol for p in account.value("positions_get")] == ["XAUUSD"]
    account.value("clear", "market_closed")
    corrected = []
    for _ in range(400):
        account.sleep(0.1)
        corrected.append(flattener.tend())
    assert [e.state for e in corrected if e is not None] == ["FLAT"]
    assert violations(account.value, was) == []


def test_trading_switched_off_pages_at_once_and_goes_on_when_it_is_back() -> None:
    account = VirtualAccount()
    was = book(account)
    account.value("inject", "algo_off", for_s=6.0)
    ended = flatten(account)
    assert ended.state == "FLAT"
    assert "Algo Trading" in account.pages[0]
    assert violations(account.value, was) == []


def test_nothing_is_sent_to_another_account() -> None:
    account = VirtualAccount()
    was = book(account)
    account.value("inject", "account_switched", login=9_000_009)
    ended = flatten(account, blind_s=5.0)
    assert ended.state == "UNKNOWN"
    assert "order_send" not in [m for m, _ in account.client.calls]
    assert any("9000009" in page for page in account.pages)
    account.value("inject", "account_switched", login=5_000_001)
    account.value("account_info")
    assert violations(account.value, was) == []


def test_an_empty_book_of_a_terminal_that_synchronises_is_not_believed() -> None:
    account = VirtualAccount()
    was = book(account)
    account.value("inject", "empty_account", for_s=8.0)
    ended = flatten(account)
    assert ended.state == "FLAT"
    assert is_flat(account)
    assert (ended.breach_to_flat_ms or 0) >= 8000
    assert violations(account.value, was) == []


@pytest.mark.parametrize("kind", ["empty", "partial", "none"])
def test_wrong_lists_delay_a_flatten_and_do_not_fool_it(kind: str) -> None:
    account = VirtualAccount()
    was = book(account)
    account.value("inject", kind, methods=["positions_get", "orders_get"], calls_max=7)
    ended = flatten(account)
    assert ended.state == "FLAT"
    assert is_flat(account)
    assert violations(account.value, was) == []


def lately(account: VirtualAccount) -> list[Held | Working]:
    """What a guard saw a moment ago."""
    found: list[Held | Working] = [*map(held_of, account.value("positions_get"))]
    return [*found, *map(working_of, account.value("orders_get"))]


def pendings(account: VirtualAccount) -> list[Held | Working]:
    for away in (0.01, 0.02):
        account.place("EURUSD", mt5.ORDER_TYPE_BUY_LIMIT, away)
    return lately(account)


@pytest.mark.parametrize(("hidden_s", "state"), [(8.0, "FLAT"), (40.0, "UNKNOWN")])
def test_pending_orders_that_were_there_a_moment_ago_are_not_gone_because_a_list_is_empty(
    hidden_s: float, state: str
) -> None:
    account = VirtualAccount()
    seen = pendings(account)
    account.value("inject", "empty_account", for_s=hidden_s)
    flattener = account.flattener()
    ended = flattener.run("account", "a test", "tester", account.now_ms(), before=seen)
    assert ended.state == state
    if state == "UNKNOWN":
        assert [o.outcome for o in ended.outcomes] == ["unknown", "unknown"]
        assert account.pages
        later = []
        for _ in range(60):
            account.sleep(1.0)
            later.append(flattener.tend())
        assert [e.state for e in later if e is not None][-1] == "FLAT"
    assert is_flat(account)


def test_an_account_that_shows_nothing_right_after_a_start_is_not_flat_at_once() -> None:
    account = VirtualAccount()
    pendings(account)
    account.value("inject", "empty_account", for_s=8.0)
    ended = flatten(account)
    assert ended.state == "FLAT"
    assert is_flat(account), "nobody remembered them, and they were found all the same"
    assert len(ended.outcomes) == 2
    again = account.flattener().run("account", "a test", "t", account.now_ms())
    assert 9000 < (again.verified_ms or 0) < 15_000
    known = account.flattener().run("account", "a test", "t", account.now_ms(), sound_s=60.0)
    assert (known.verified_ms or 0) < 3000, "where it was read for a minute, that is enough"


def test_what_ended_by_itself_a_moment_ago_delays_no_flatten() -> None:
    account = VirtualAccount()
    book(account)
    seen = lately(account)
    assert flatten(account).state == "FLAT"
    ended = account.flattener().run("account", "a test", "t", account.now_ms(), before=seen)
    assert ended.state == "FLAT"
    assert ended.outcomes == (), "history accounts for each of them"
    assert (ended.verified_ms or 0) < 3000


def test_positions_that_show_late_and_were_there_before_are_ours_and_not_others() -> None:
    account = VirtualAccount()
    for _ in range(6):
        account.open("EURUSD", BUY, 0.1)
    seen = lately(account)
    account.value("inject", "partial", methods=["positions_get"], calls_max=2)
    flattener = account.flattener(others="alert")
    assert flattener.run("account", "a test", "t", account.now_ms(), before=seen).state == "FLAT"
    assert is_flat(account)


def test_a_successor_knows_what_was_there_when_lists_are_empty_at_its_start() -> None:
    account = VirtualAccount()
    seen = pendings(account)
    account.value("inject", "empty_account", for_s=8.0)
    flattener = account.flattener()
    rounds = 0

    def die(seconds: float) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 2:
            flattener.stop()
        account.sleep(seconds)

    flattener._sleep = die
    with pytest.raises(StoppedFlatten):
        flattener.run("account", "a test", "tester", account.now_ms(), before=seen)
    ended = account.flattener().resume()
    assert ended is not None
    assert ended.state == "FLAT"
    assert is_flat(account)


def test_what_others_open_meanwhile_is_closed_or_told_by_the_rules() -> None:
    for rule, left in (("close", 0), ("alert", 3)):
        account = VirtualAccount()
        was = book(account)
        flattener = account.flattener(others=rule)
        assert flattener.run("account", "a test", "t", account.now_ms()).state == "FLAT"
        account.value("inject", "foreign_position", symbols=["EURUSD"], lots=0.2, count=3)
        for _ in range(20):
            account.sleep(1.0)
            flattener.tend()
        assert len(account.value("positions_get")) == left
        assert violations(account.value, was) == []
        assert bool(account.pages) == (rule == "alert")


def test_sweeps_of_an_account_that_is_flat_end_no_host_that_is_in_a_read() -> None:
    account = VirtualAccount()
    book(account)
    asked = account.client.priorities
    flattener = account.flattener()
    assert flattener.run("account", "a test", "t", account.now_ms()).state == "FLAT"
    assert set(asked) == {Priority.EMERGENCY}
    asked.clear()
    for _ in range(3):
        account.sleep(1.0)
        flattener.tend()
    assert set(asked) == {Priority.ACCOUNT}
    account.value("inject", "foreign_position", symbols=["EURUSD"], lots=0.2)
    asked.clear()
    account.sleep(1.0)
    flattener.tend()
    assert asked[0] == Priority.ACCOUNT
    assert asked[-1] == Priority.EMERGENCY, "what is to be closed is an emergency again"


def test_someone_who_keeps_opening_is_closed_so_often_a_minute_and_then_a_human_is_told() -> None:
    account = VirtualAccount()
    flattener = account.flattener(recloses_per_minute_max=4)
    book(account)
    assert flattener.run("account", "a test", "t", account.now_ms()).state == "FLAT"
    account.value("inject", "foreign_position", symbols=["EURUSD"], lots=0.1, count=10)
    for _ in range(10):
        account.sleep(1.0)
        flattener.tend()
    assert len(account.value("positions_get")) == 6
    assert any("keep opening" in page for page in account.pages)
    assert any("too many a minute: ended later)" in page for page in account.pages), (
        "why it is left"
    )
    for _ in range(130):
        account.sleep(1.0)
        flattener.tend()
    assert is_flat(account)


def test_a_fifo_broker_gets_the_oldest_first() -> None:
    account = VirtualAccount(account={"fifo_close": True})
    for lots in (0.1, 0.5, 0.3):
        account.open("EURUSD", BUY, lots)
        account.sleep(2.0)
    was = before(account.value, magic=MAGIC)
    ended = flatten(account)
    assert ended.state == "FLAT"
    assert violations(account.value, was) == []
    closes = [r["volume"] for r in account.value("requests", was.request)]
    assert closes == [0.1, 0.5, 0.3]


def test_netting_accounts_are_closed_by_their_position() -> None:
    account = VirtualAccount(account={"margin_mode": mt5.ACCOUNT_MARGIN_MODE_RETAIL_NETTING})
    account.open("EURUSD", BUY, 0.5)
    account.open("EURUSD", BUY, 0.5)
    account.open("XAUUSD", SELL, 0.5)
    was = before(account.value, magic=MAGIC)
    ended = flatten(account)
    assert ended.state == "FLAT"
    assert violations(account.value, was) == []


def test_a_volume_above_the_symbols_limit_is_closed_in_parts() -> None:
    from producers.terminals.simulated.symbols import CATALOGUE

    small = CATALOGUE["EURUSD"].model_copy(update={"volume_max": 1.0})
    account = VirtualAccount(
        symbols=(small, "XAUUSD"), selected=("EURUSD", "XAUUSD"),
        account={"margin_mode": mt5.ACCOUNT_MARGIN_MODE_RETAIL_NETTING},
    )  # fmt: skip
    for _ in range(3):
        account.open("EURUSD", BUY, 0.9)
    was = before(account.value, magic=MAGIC)
    ended = flatten(account)
    assert ended.state == "FLAT"
    assert [r["volume"] for r in account.value("requests", was.request)] == [1.0, 1.0, 0.7]


def test_a_flatten_that_was_interrupted_goes_on_where_its_requests_ended() -> None:
    account = VirtualAccount()
    was = book(account)
    account.value("inject", "lost_answer", calls_max=2)

    class Died(Exception):
        pass

    flattener = account.flattener()
    original = account.client.submit
    sent = 0

    def dying(method: str, *args: Any, **kwargs: Any) -> Any:
        nonlocal sent
        future = original(method, *args, **kwargs)
        if method == "order_send":
            sent += 1
            if sent == 3:
                raise Died
        return future

    account.client.submit = dying  # type: ignore[method-assign]  # the process that dies
    with pytest.raises(Died):
        flattener.run("account", "a test", "tester", account.now_ms())
    account.client.submit = original  # type: ignore[method-assign]  # and its successor
    ended = account.flattener().resume()
    assert ended is not None
    assert ended.state == "FLAT"
    assert is_flat(account)
    assert violations(account.value, was) == []
    assert closes_that_worked(account.value, was) == CLOSES
    flatten_id = ended.flatten_id
    assert all(i.outcome is not None for i in account.journal.intents(flatten_id))


@pytest.mark.parametrize("dies", [False, True], ids=["taken over", "and then it dies"])
def test_what_a_part_sent_and_nobody_answered_is_settled_by_the_whole_that_takes_over(
    dies: bool,
) -> None:
    account = VirtualAccount()
    was = book(account)
    account.value("inject", "lost_answer", codes=[-10002] * 3)
    account.value("inject", "stale_book", seconds=3.0)
    flattener = account.flattener()
    waits = 0

    def sleep(seconds: float) -> None:
        nonlocal waits
        waits += 1
        if waits == 2:
            flattener.make_way()
        if waits == 4 and dies:
            flattener.stop()
        account.sleep(seconds)

    flattener._sleep = sleep
    with pytest.raises(StoppedFlatten):
        flattener.run("symbol=EURUSD", "a part", "t", account.now_ms(), command_id="part")
    if dies:
        with pytest.raises(StoppedFlatten):
            flattener.run("account", "all", "t", account.now_ms(), command_id="all")
        ended = account.flattener().resume()
    else:
        ended = flattener.run("account", "all", "t", account.now_ms(), command_id="all")
    assert ended is not None
    assert (ended.state, ended.command_id, ended.took_over) == ("FLAT", "all", ("part",))
    assert is_flat(account)
    assert violations(account.value, was) == []
    assert closes_that_worked(account.value, was) == CLOSES
    taken = [
        i for e in account.journal.events if isinstance(e, FlattenStep) for i in [e.flatten_id]
    ]
    assert all(i.outcome is not None for id in set(taken) for i in account.journal.intents(id))


def test_a_reduction_makes_way_for_a_flatten_and_is_not_told_as_a_failure() -> None:
    account = VirtualAccount()
    ticket = account.open("EURUSD", BUY, 1.0)
    was = before(account.value, magic=MAGIC)
    account.value("inject", "market_closed", symbols=["EURUSD"], for_s=3.0)
    flattener = account.flattener()

    def sleep(seconds: float) -> None:
        if not flattener._interrupt.is_set():
            flattener.make_way()
        account.sleep(seconds)

    flattener._sleep = sleep
    with pytest.raises(StoppedFlatten):
        flattener.reduce([Reduction(ticket, 0.4)], "a test", "t", account.now_ms())
    assert account.pages == []
    flattener._sleep = account.sleep
    assert flattener.run("account", "all", "t", account.now_ms()).state == "FLAT"
    assert violations(account.value, was) == []


def test_a_journal_that_cannot_be_written_stops_nothing() -> None:
    account = VirtualAccount()
    was = book(account)

    class FullDisk(MemoryJournal):
        def intend(self, *args: Any, **named: Any) -> int:
            raise OSError("No space left on device")

        def emit(self, *events: Any) -> int:
            raise OSError("No space left on device")

        def outcome(self, *args: Any, **named: Any) -> None:
            raise OSError("No space left on device")

        def set_facts(self, *args: Any, **named: Any) -> None:
            raise OSError("No space left on device")

    account.journal = FullDisk()
    ended = flatten(account)
    assert ended.state == "FLAT"
    assert is_flat(account)
    assert violations(account.value, was) == []
    assert any("No space left" in page for page in account.pages)


def test_a_reduction_closes_so_much_and_no_more() -> None:
    account = VirtualAccount()
    ticket = account.open("EURUSD", BUY, 1.0)
    account.open("XAUUSD", SELL, 0.5)
    was = before(account.value, magic=MAGIC)
    ended = account.flattener().reduce([Reduction(ticket, 0.4)], "a test", "t", account.now_ms())
    assert ended.complete
    assert ended.closed_lots == pytest.approx(0.4)
    assert sorted(p.volume for p in account.value("positions_get")) == [0.5, 0.6]
    assert violations(account.value, was) == []


def test_a_hedge_without_free_margin_is_closed_by_itself() -> None:
    account = VirtualAccount(account={"balance": 3000.0})
    account.open("EURUSD", BUY, 2.0)
    account.open("EURUSD", SELL, 2.0)
    was = before(account.value, magic=MAGIC)
    ended = flatten(account)
    assert ended.state == "FLAT"
    assert [r["action"] for r in account.value("requests", was.request)] == [10]


def test_a_hundred_pendings_and_a_large_position_do_not_wait_for_each_other() -> None:
    account = VirtualAccount()
    account.open("XAUUSD", BUY, 2.0)
    for number in range(100):
        account.place("EURUSD", mt5.ORDER_TYPE_BUY_LIMIT, 0.005 + number / 10_000)
    was = before(account.value, magic=MAGIC)
    ended = flatten(account)
    assert ended.state == "FLAT"
    assert violations(account.value, was) == []
    kinds = [r["action"] for r in account.value("requests", was.request)]
    assert kinds.index(mt5.TRADE_ACTION_DEAL) < 20
