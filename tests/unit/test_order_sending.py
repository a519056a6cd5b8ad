"""What a sender of orders concludes: from answers, from accounts, from switches. Pure parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from events.executing import ExecutionSet, OrderAnswer, OrderIntent
from events.log import Lane
from events.magic import magic_of
from producers.ordering.carrying import requests
from producers.ordering.carrying.answers import Fate, Result, meaning_of
from producers.ordering.carrying.finding import Found, Sent, find
from producers.ordering.carrying.instruments import Tradable, tradable_of
from producers.ordering.carrying.permits import OrderRate, Permits, expired, wrong_account
from producers.ordering.carrying.reading import Seen
from producers.ordering.journal import SENDING, OrderJournal, OrderJournalUnusable
from producers.ordering.options import OrderingOptions, permission_of
from producers.ordering.telling import AnswerTelling
from producers.spool.file import Spool
from producers.terminals import constants as mt5

NUMBER = magic_of(7, 11)
LOGIN = 5_000_001
SENT_MS = 1_700_000_000_000


def intent(verb: str = "open", **more: Any) -> OrderIntent:
    fields: dict[str, Any] = {
        "event_time_ms": SENT_MS, "intent_id": NUMBER, "magic": NUMBER, "login": LOGIN,
        "strategy": "cross", "symbol": "EURUSD", "verb": verb, "volume_lots": 0.3,
    }  # fmt: skip
    return OrderIntent.model_validate({**fields, **more})


def deal(**more: Any) -> Any:
    fields: dict[str, Any] = {
        "ticket": 1, "order": 5, "magic": NUMBER, "type": 0, "volume": 0.3, "price": 1.1,
        "position_id": 5, "symbol": "EURUSD", "reason": 3, "time_msc": SENT_MS + 10,
    }  # fmt: skip
    return SimpleNamespace(**{**fields, **more})


def order(**more: Any) -> Any:
    fields: dict[str, Any] = {
        "ticket": 5, "magic": NUMBER, "type": 0, "state": mt5.ORDER_STATE_FILLED, "comment": "",
        "sl": 0.0, "tp": 0.0, "price_open": 1.0,
    }  # fmt: skip
    return SimpleNamespace(**{**fields, **more})


def position(**more: Any) -> Any:
    fields: dict[str, Any] = {
        "ticket": 5, "identifier": 5, "magic": NUMBER, "type": 0, "volume": 0.3, "symbol": "EURUSD",
        "price_open": 1.1, "sl": 0.0, "tp": 0.0,
    }  # fmt: skip
    return SimpleNamespace(**{**fields, **more})


def seen(*, positions: Any = (), orders: Any = (), done: Any = (), deals: Any = ()) -> Seen:
    return Seen(tuple(positions), tuple(orders), tuple(done), tuple(deals), SENT_MS)


def sent(what: OrderIntent | None = None, **more: Any) -> Sent:
    fields: dict[str, Any] = {"request": {}, "before_lots": 0.0, "server_ms": SENT_MS, **more}
    return Sent(what or intent(), "EURUSD", **fields)


# --- what an account says


def test_fills_are_summed_and_their_price_is_the_mean() -> None:
    found = find(sent(), seen(
        done=[order()],
        deals=[deal(volume=0.1, price=1.0), deal(ticket=2, volume=0.2, price=1.3)],
    ))  # fmt: skip
    assert (found.found, found.volume_lots, round(found.price, 6)) == (Found.FILLED, 0.3, 1.2)


def test_a_part_counts_when_its_order_ended_and_not_before() -> None:
    part = [deal(volume=0.1)]
    assert find(sent(), seen(deals=part)).found is Found.WORKING
    ended = order(state=mt5.ORDER_STATE_CANCELED)
    found = find(sent(), seen(deals=part, done=[ended]))
    assert (found.found, found.volume_lots) == (Found.PART, 0.1)


def test_the_stop_that_ended_a_position_is_not_taken_for_its_opening() -> None:
    opened, stopped = deal(), deal(ticket=2, order=6, type=1, reason=mt5.DEAL_REASON_SL)
    stop_order = order(ticket=6, type=1)
    found = find(sent(), seen(done=[order(), stop_order], deals=[opened, stopped]))
    assert (found.found, found.volume_lots, found.order) == (Found.FILLED, 0.3, 5)


def test_a_pending_order_stands_and_a_rejected_one_ended() -> None:
    limit = sent(intent(price_limit=1.0))
    assert find(limit, seen(orders=[order(type=2)])).found is Found.PLACED
    rejected = order(type=2, state=mt5.ORDER_STATE_REJECTED, comment="no money")
    found = find(limit, seen(done=[rejected]))
    assert (found.found, found.detail) == (Found.ENDED, "no money")


def test_a_position_without_its_deal_says_that_it_arrived() -> None:
    assert find(sent(), seen(positions=[position()])).found is Found.WORKING


def test_nothing_is_nothing_only_while_the_volume_is_what_it_was() -> None:
    other = position(magic=3, ticket=9, identifier=9, volume=0.2)
    assert find(sent(before_lots=0.2), seen(positions=[other])).found is Found.NOTHING
    assert find(sent(), seen(positions=[other])).found is Found.DOUBTFUL
    theirs = deal(magic=3, order=9, volume=0.2)
    assert find(sent(), seen(positions=[other], deals=[theirs])).found is Found.NOTHING
    older = deal(magic=3, order=8, volume=0.5, time_msc=SENT_MS - 3_000)
    found = find(sent(), seen(positions=[other], deals=[older, theirs]))
    assert found.found is Found.NOTHING, "one just before may have been seen already"


def test_changed_stops_and_cancelled_orders_are_seen_by_what_they_are_now() -> None:
    moved = sent(intent("modify", position=5), request={"sl": 1.05, "tp": 0.0})
    assert find(moved, seen(positions=[position(sl=1.05)])).found is Found.FILLED
    assert find(moved, seen(positions=[position(sl=1.04)])).found is Found.NOTHING
    assert find(moved, seen()).found is Found.ENDED
    gone = sent(intent("cancel", order=5))
    assert find(gone, seen(orders=[order(type=2)])).found is Found.NOTHING
    assert find(gone, seen()).found is Found.WORKING
    cancelled = order(type=2, state=mt5.ORDER_STATE_CANCELED, magic=1)
    assert find(gone, seen(done=[cancelled])).found is Found.FILLED
    assert find(gone, seen(done=[order(type=2, magic=1)])).found is Found.ENDED


# --- what an answer means


@pytest.mark.parametrize("retcode", sorted(
    value for name, value in vars(mt5).items() if name.startswith("TRADE_RETCODE_")
))  # fmt: skip
def test_only_what_was_certainly_not_done_is_ever_sent_again(retcode: int) -> None:
    never_done = {10004, 10020, 10021, 10024, 10028, 10030, 10039}
    for attempt in range(1, 12):
        meaning = meaning_of(Result(retcode, order=5, volume_lots=0.1), attempt, verb="open",
                             pending=False)  # fmt: skip
        again = meaning.fate in (Fate.RETRY, Fate.FILLING, Fate.COMMENT)
        assert not again or retcode in never_done
        assert not again or attempt <= 5, "and not for ever"


@pytest.mark.parametrize(
    ("result", "fate"),
    [
        pytest.param(Result(10009, deal=1, volume_lots=0.1), Fate.DONE, id="done"),
        pytest.param(Result(10009), Fate.AWAIT, id="done, and nothing is named"),
        pytest.param(Result(10008, order=5), Fate.AWAIT, id="placed"),
        pytest.param(Result(10010, order=5, volume_lots=0.1), Fate.PART, id="partial"),
        pytest.param(Result(10012), Fate.UNKNOWN, id="timeout"),
        pytest.param(Result(10031), Fate.UNKNOWN, id="no connection"),
        pytest.param(Result(10018), Fate.REFUSED, id="market closed"),
        pytest.param(Result(19999), Fate.UNKNOWN, id="a code nobody knows"),
        pytest.param(Result(None, (-10002, "IPC recv failed")), Fate.UNKNOWN, id="answer lost"),
        pytest.param(Result(None, (-1, "Call failed")), Fate.UNKNOWN, id="call failed"),
        pytest.param(Result(None, (-2, 'Invalid "comment"')), Fate.COMMENT, id="comment"),
        pytest.param(Result(None, (-2, 'Invalid "volume"')), Fate.REFUSED, id="bad field"),
        pytest.param(Result(None, (-8, "disabled")), Fate.REFUSED, id="forbidden"),
        pytest.param(Result(None, (-10004, "x"), never_sent=True), Fate.REFUSED, id="not sent"),
    ],
)
def test_answers_of_a_market_order(result: Result, fate: Fate) -> None:
    assert meaning_of(result, 1, verb="open", pending=False).fate is fate


# --- what may be sent


def options(**more: Any) -> OrderingOptions:
    fields: dict[str, Any] = {
        "namespace": "sim", "terminal": "sim", "kind": "simulated", "folder": Path("."),
        "permission": "paper",
    }  # fmt: skip
    return OrderingOptions(**{**fields, **more})


def switched(mode: str = "paper", **more: Any) -> ExecutionSet:
    fields = {"event_time_ms": 0, "login": LOGIN, "mode": mode, "set_by": "x", "set_id": "1"}
    return ExecutionSet.model_validate({**fields, **more})


def test_paper_goes_to_made_up_accounts_and_live_to_the_named_one() -> None:
    paper, live = intent(mode="paper"), intent(mode="live")
    real = {"kind": "native", "permission": "live", "login": LOGIN, "server": "Broker-Live",
            "trade_mode": 2}  # fmt: skip

    def refusal(what: OrderIntent, mode: str, **more: Any) -> str:
        permits = Permits(options(**more), OrderRate())
        permits.switch = switched(mode)
        return permits.refusal(what, login=LOGIN)

    assert refusal(paper, "paper") == ""
    assert "paper orders go to simulated" in refusal(paper, "paper", kind="native")
    assert 'execution = "live"' in refusal(live, "live")
    assert refusal(live, "live", **real) == ""
    assert "server" in refusal(live, "live", **{**real, "server": ""})
    assert "trade_mode" in refusal(live, "live", **{**real, "trade_mode": None})
    assert "EXECUTION is off" in refusal(live, "live", **{**real, "permission": "off"})
    assert "switched to live" in refusal(paper, "live")
    assert "execution is off" in Permits(options(), OrderRate()).refusal(paper, login=LOGIN)


def test_real_terminals_are_off_until_somebody_says_so() -> None:
    kinds = ("native", "remote", "classic", "simulated", "recorded")
    assert [permission_of("auto", kind) for kind in kinds] == [
        "off", "off", "off", "paper", "paper"
    ]  # fmt: skip


def test_a_real_account_behind_a_demo_configuration_is_the_wrong_one() -> None:
    demo = options(login=LOGIN, server="Broker-Demo", trade_mode=0)
    shown = SimpleNamespace(login=LOGIN, server="broker-demo", trade_mode=0)
    assert wrong_account(demo, shown, login=LOGIN) == ""
    shown.trade_mode = 2
    assert "a real account instead of demo" in wrong_account(demo, shown, login=LOGIN)
    shown.login = 9
    assert "login 9 instead" in wrong_account(demo, shown, login=LOGIN)


def test_the_rate_counts_a_sliding_minute_and_lets_closes_pass() -> None:
    permits = Permits(options(), OrderRate([0, 30_000]))
    permits.switch = switched(orders_per_minute_max=2)
    assert "2 requests in a minute" in permits.too_much(intent(), now_ms=59_999)
    assert permits.too_much(intent("close"), now_ms=59_999) == ""
    assert permits.too_much(intent(), now_ms=60_000) == ""


def test_an_intent_is_late_by_its_own_word_or_by_its_age() -> None:
    assert expired(intent(valid_until_ms=SENT_MS), now_ms=SENT_MS, age_max_s=60)
    assert not expired(intent(valid_until_ms=SENT_MS + 1), now_ms=SENT_MS, age_max_s=60)
    assert expired(intent(), now_ms=SENT_MS + 60_001, age_max_s=60)


# --- requests


def symbol(**more: Any) -> Tradable:
    fields: dict[str, Any] = {
        "name": "EURUSD", "digits": 5, "trade_tick_size": 0.00001, "trade_tick_value": 1.0,
        "trade_tick_value_loss": 1.0, "trade_contract_size": 1e5, "volume_min": 0.01,
        "volume_max": 50.0, "volume_step": 0.01, "trade_exemode": 2, "filling_mode": 3,
        "order_mode": 127, "point": 0.00001, "trade_stops_level": 10, "trade_mode": 4,
        "expiration_mode": 15, "select": True,
    }  # fmt: skip
    return tradable_of(SimpleNamespace(**{**fields, **more}))


def market(**more: Any) -> requests.Market:
    return requests.Market(symbol(**more), bid=1.1, ask=1.1002, offset_s=7200)


def test_the_stop_goes_inside_the_entry_and_levels_are_whole_ticks() -> None:
    wish = intent(stop_loss=1.0950049, take_profit=1.2)
    request = requests.open_at_market(wish, market(), reference=None)
    assert (request["sl"], request["tp"], request["price"]) == (1.095, 1.2, 1.1002)
    assert request["magic"] == NUMBER
    assert "position" not in request


def test_a_price_that_ran_away_is_not_taken() -> None:
    accepted = intent(deviation_points=10)
    requests.open_at_market(accepted, market(), reference=1.1001)
    with pytest.raises(requests.Unfit, match="moved by 20 points"):
        requests.open_at_market(accepted, market(), reference=1.1)
    requests.open_at_market(intent(), market(), reference=1.0)


@pytest.mark.parametrize(
    ("wish", "kind"),
    [
        pytest.param({"price_limit": 1.09}, mt5.ORDER_TYPE_BUY_LIMIT, id="limit"),
        pytest.param({"price_stop": 1.12, "side": 1}, mt5.ORDER_TYPE_SELL_STOP, id="stop"),
        pytest.param({"price_stop": 1.12, "price_limit": 1.11}, mt5.ORDER_TYPE_BUY_STOP_LIMIT,
                     id="stop-limit"),
    ],
)  # fmt: skip
def test_pending_orders_return_what_is_not_filled_and_end_by_the_servers_clock(
    wish: dict[str, Any], kind: int
) -> None:
    request = requests.open_pending(intent(expires_ms=SENT_MS + 999, **wish), market())
    assert (request["type"], request["type_filling"]) == (kind, mt5.ORDER_FILLING_RETURN)
    assert request["expiration"] == SENT_MS // 1000 + 7200
    assert request.get("stoplimit", 0) == (1.11 if kind == mt5.ORDER_TYPE_BUY_STOP_LIMIT else 0)


def test_a_close_names_its_position_and_takes_no_more_than_it_has() -> None:
    close = requests.close(intent("close", side=1, volume_lots=0.0), market(), position())
    assert (close["position"], close["volume"], close["type"]) == (5, 0.3, mt5.ORDER_TYPE_SELL)
    with pytest.raises(requests.Unfit, match=r"0\.4 lots are to be closed"):
        requests.close(intent("close", side=1, volume_lots=0.4), market(), position())
    with pytest.raises(requests.Unfit, match="no close of it"):
        requests.close(intent("close", side=1), market(), position(type=1))


def test_what_a_symbol_does_not_take_is_not_asked_for() -> None:
    with pytest.raises(requests.Unfit, match="only closing"):
        requests.open_at_market(intent(), market(trade_mode=3), reference=None)
    with pytest.raises(requests.Unfit, match="must lie below"):
        requests.open_at_market(intent(stop_loss=1.09995), market(), reference=None)
    for lots in (0.015, 0.0, float("nan"), 51.0):
        with pytest.raises(requests.Unfit, match="lots"):
            requests.open_at_market(intent(volume_lots=lots), market(), reference=None)


# --- the journal


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[OrderJournal]:
    opened = OrderJournal(tmp_path / "orders.sqlite")
    yield opened
    opened.close()


def answer(state: str, **more: Any) -> OrderAnswer:
    fields = {"event_time_ms": SENT_MS, "intent_id": NUMBER, "login": LOGIN, "state": state}
    return OrderAnswer.model_validate({**fields, **more})


def write(journal: OrderJournal, **more: Any) -> None:
    fields: dict[str, Any] = {
        "request": {"volume": 0.3}, "before_lots": 0.1, "sent_ms": SENT_MS,
        "facts": {"place": "1-1"}, "answer": answer("sent"), **more,
    }  # fmt: skip
    journal.send(intent(), "s@1-1", **fields)


def test_what_was_begun_is_found_again_by_the_next_process(
    journal: OrderJournal, tmp_path: Path
) -> None:
    write(journal)
    write(journal, facts={}, before_lots=0.1)
    journal.know_order(NUMBER, 2**63 + 1)
    other = OrderJournal(tmp_path / "orders.sqlite")
    [begun] = other.begun()
    assert (begun.intent, begun.attempts, begun.before_lots) == (intent(), 2, 0.1)
    assert (begun.order, begun.request, begun.place) == (2**63 + 1, {"volume": 0.3}, "s@1-1")
    assert other.fact("place") == "1-1"
    assert len(other.attempts_since(0)) == 2
    other.settle(intent(), "s@1-1", answer("done"))
    assert (journal.begun(), journal.state_of(NUMBER)) == ((), "done")
    other.close()


def test_a_sending_that_cannot_be_written_down_is_as_if_it_never_was(
    journal: OrderJournal,
) -> None:
    journal._db.execute("DROP TABLE answers")
    with pytest.raises(OrderJournalUnusable):
        write(journal)
    assert (journal.state_of(NUMBER), journal.fact("place")) == (None, None)
    assert journal.begun() == ()


def test_answers_reach_the_spool_once_each_with_their_cause(
    journal: OrderJournal, tmp_path: Path
) -> None:
    spool = Spool(tmp_path / "spool.sqlite")
    telling = AnswerTelling(journal, spool)
    write(journal)
    telling.step()
    journal.settle(intent(), "s@1-1", answer("done"))
    telling.step()
    telling.step()
    AnswerTelling(journal, spool).step()
    rows = spool.after(0, 0, count_max=10, bytes_max=10**6)
    assert [(row.entry.type, row.entry.lane, row.entry.cause) for row in rows] == [
        ("order_answer.1", Lane.HIGH, "s@1-1")
    ] * 2
    assert journal.state_of(NUMBER) != SENDING
    spool.close()
