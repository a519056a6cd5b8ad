"""Deals and the book become trades; what does not fit is told."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.runtime.state import State
from consumers.trades import TradesHandler, legs, record, tickets
from consumers.trades.handler import APART_MS, CLOSED_KEPT_MAX
from consumers.trades.record import DEALS_KEPT_MAX
from consumers.trades.tickets import KnownTickets
from events.accounting import BUY, SELL, BookedDeal, Entry, MarginMode
from events.codec import AnyEvent
from events.trading import BalanceUnexplained, Book, TradeUpdate
from tests.unit.trading_stories import (
    BEGIN_MS,
    DEPOSIT,
    LOGIN,
    STEP_MS,
    Trading,
    account_of,
    book_of,
    deal_of,
    handler,
    last_of,
    net_of,
    random_move,
    tell,
)

HEDGING, NETTING = MarginMode.HEDGING, MarginMode.NETTING


def only(found: list[AnyEvent]) -> TradeUpdate:
    """The one trade there is, as it was told last."""
    [update] = last_of(found).values()
    return update


def looks(account: Trading, trades: TradesHandler) -> list[AnyEvent]:
    """What comes of looking at an account long enough to doubt what does not fit."""
    found = []
    for _ in range(3):
        account.now_ms += APART_MS
        found += tell(trades, [account.book(), account.account()])
    return found


# Single stories ---------------------------------------------------------------------------------


def test_a_position_opened_and_closed_is_one_trade_with_its_net_result() -> None:
    account, trades = Trading(HEDGING), handler()
    opened = account.fill(BUY, 0.5, 1.1, magic=12, comment="ema")
    found = tell(trades, [account.account(), *account.look([opened])])
    first = only(found)
    assert (first.state, first.trade.closed_by, first.trade.volume_open_lots) == ("open", "", 0.5)
    account.ledger.charge_swap(opened.position_id, -1.25)
    closed = account.fill(SELL, 0.5, 1.101, position=opened.position_id, reason=5)
    last = only(tell(trades, account.look([closed])))
    trade = last.trade
    assert (last.state, trade.side, trade.volume_lots, trade.closed_by) == (
        "closed", 0, 0.5, "take_profit",
    )  # fmt: skip
    assert (trade.price_entry, trade.price_exit, trade.magic, trade.comment) == (
        1.1, 1.101, 12, "ema",
    )  # fmt: skip
    # 0.5 lots of 100 000 for 10 points of 1e-4, a commission of 1.69 twice, one swap
    assert (trade.profit, trade.commission, trade.swap) == (50.0, -3.38, -1.25)
    assert trade.net_profit == pytest.approx(45.37)
    assert trade.deals == (opened.ticket, closed.ticket)
    assert (trade.entry_known, last.doubt, last.unexplained) == (True, "", 0)


def test_partial_closes_and_additions_keep_their_mean_prices() -> None:
    account, trades = Trading(NETTING), handler()
    deals = [
        account.fill(BUY, 1.0, 1.10), account.fill(BUY, 1.0, 1.20),
        account.fill(SELL, 0.5, 1.30), account.fill(SELL, 1.5, 1.10),
    ]  # fmt: skip
    found = tell(trades, [deal_of(deal) for deal in deals])
    states = [event.state for event in found if isinstance(event, TradeUpdate)]
    assert states == ["open", "open", "partly_closed", "closed"]
    trade = only(found).trade
    assert (trade.volume_lots, trade.price_entry, trade.price_exit) == (2.0, 1.15, 1.15)
    assert trade.net_profit == pytest.approx(account.ledger.balance - DEPOSIT)


def test_a_reversal_ends_one_trade_and_begins_another() -> None:
    account, trades = Trading(NETTING), handler()
    deals = [
        account.fill(BUY, 1.0, 1.10), account.fill(SELL, 3.0, 1.11), account.fill(BUY, 2.0, 1.09),
    ]  # fmt: skip
    assert [deal.entry for deal in deals] == [Entry.IN, Entry.IN_OUT, Entry.OUT]
    found = tell(trades, [deal_of(deal) for deal in deals])
    first, second = (update.trade for update in last_of(found).values())
    assert (first.leg, first.side, first.volume_lots, first.closed_by) == (0, 0, 1.0, "reversal")
    assert (second.leg, second.side, second.volume_lots) == (1, 1, 2.0)
    # the turning deal costs 3 * 3.37: a third of it for what it closed
    assert (first.commission, second.commission) == pytest.approx((-6.74, -13.48))
    assert (first.profit, second.profit) == (1000.0, 4000.0)
    total = first.net_profit + second.net_profit
    assert total == pytest.approx(account.ledger.balance - DEPOSIT)


def test_two_positions_closed_by_each_other_are_two_trades() -> None:
    account, trades = Trading(HEDGING), handler()
    long, short = account.fill(BUY, 0.3, 1.10), account.fill(SELL, 0.2, 1.12)
    one, other = (account.ledger.positions[deal.position_id] for deal in (long, short))
    both = account.close_by(one, other)
    found = tell(trades, [deal_of(deal) for deal in (long, short, *both)])
    bigger, smaller = last_of(found).values()
    assert (smaller.state, smaller.trade.closed_by) == ("closed", "close_by")
    assert (bigger.state, bigger.trade.volume_open_lots) == ("partly_closed", 0.1)
    assert net_of([bigger, smaller]) == pytest.approx(account.ledger.balance - DEPOSIT)


@pytest.mark.parametrize(
    ("reason", "told"),
    [(0, "client"), (1, "mobile"), (2, "web"), (3, "expert"), (4, "stop_loss"),
     (5, "take_profit"), (6, "stop_out"), (7, "rollover"), (8, "other"), (77, "other")],
)  # fmt: skip
def test_who_closed_it_is_told(reason: int, told: str) -> None:
    account, trades = Trading(HEDGING), handler()
    opened = account.fill(SELL, 0.1, 1.1)
    closed = account.fill(BUY, 0.1, 1.1, position=opened.position_id, reason=reason)
    assert only(tell(trades, map(deal_of, (opened, closed)))).trade.closed_by == told


def test_a_deal_told_twice_changes_nothing() -> None:
    account, trades = Trading(HEDGING), handler()
    opened = account.fill(BUY, 0.1, 1.1)
    tell(trades, account.look([opened]))
    assert tell(trades, account.look([opened, opened])) == []
    closed = account.fill(SELL, 0.1, 1.2, position=opened.position_id)
    assert only(tell(trades, account.look([closed, closed, opened]))).trade.profit == 1000.0


def test_balance_operations_are_no_trades_and_credit_is_no_balance() -> None:
    account, trades = Trading(HEDGING), handler()
    tell(trades, [account.account()])
    gifts = [account.balance_operation(500.0), account.balance_operation(77.0, type_=3)]
    assert tell(trades, account.look(gifts)) == []
    assert looks(account, trades) == []


# Out of order, late, unknown --------------------------------------------------------------------


def test_a_close_that_is_told_before_its_opening_finds_it() -> None:
    account, trades = Trading(HEDGING), handler()
    opened = account.fill(BUY, 0.2, 1.1)
    closed = account.fill(SELL, 0.2, 1.2, position=opened.position_id)
    first = only(tell(trades, [deal_of(closed)]))
    assert (first.state, first.trade.entry_known, first.trade.side) == ("closed", False, 0)
    last = only(tell(trades, [deal_of(opened)]))
    assert (last.state, last.trade.entry_known, last.trade.price_entry) == ("closed", True, 1.1)
    assert last.trade.net_profit == pytest.approx(account.ledger.balance - DEPOSIT)


def test_a_position_from_before_our_history_is_taken_from_the_book_and_marked() -> None:
    account, trades = Trading(HEDGING), handler()
    opened = account.fill(BUY, 0.4, 1.1, magic=5)
    found = tell(trades, [account.account(), account.book()])
    assert found == [], "its deal may come a moment later"
    account.now_ms += APART_MS
    update = only(tell(trades, [account.account()]))
    assert (update.state, update.trade.entry_known, update.trade.price_entry) == (
        "open", False, 1.1,
    )  # fmt: skip
    assert (update.trade.volume_lots, update.trade.magic, update.trade.deals) == (0.4, 5, ())
    part = account.fill(SELL, 0.1, 1.2, position=opened.position_id)
    update = only(tell(trades, account.look([part])))
    assert (update.state, update.trade.volume_open_lots) == ("partly_closed", 0.3)
    rest = account.fill(SELL, 0.3, 1.2, position=opened.position_id)
    update = only(tell(trades, account.look([rest])))
    assert (update.state, update.trade.volume_lots, update.trade.closed_by) == (
        "closed", 0.4, "expert",
    )  # fmt: skip
    assert not update.trade.entry_known


def test_a_close_of_what_was_opened_before_us_is_corrected_by_the_book() -> None:
    account, trades = Trading(HEDGING), handler()
    opened = account.fill(BUY, 0.4, 1.1)
    part = account.fill(SELL, 0.1, 1.2, position=opened.position_id)
    first = only(tell(trades, [deal_of(part), account.book(), account.account()]))
    assert (first.state, first.trade.entry_known) == ("closed", False), "so far nobody knows more"
    account.now_ms += APART_MS
    update = only(tell(trades, [account.account()]))
    assert (update.state, update.trade.volume_open_lots) == ("partly_closed", 0.3)
    assert (update.trade.volume_lots, update.trade.price_entry) == (0.4, 1.1)


def test_a_position_that_left_the_book_without_a_deal_is_over_until_the_deal_comes() -> None:
    account, trades = Trading(HEDGING), handler()
    opened = account.fill(BUY, 0.4, 1.1)
    tell(trades, account.look([opened]))
    closed = account.fill(SELL, 0.4, 1.2, position=opened.position_id, reason=6)
    assert tell(trades, [account.book()]) == []
    account.now_ms += APART_MS
    gone = only(tell(trades, [account.book()]))
    assert (gone.state, gone.trade.closed_by, gone.trade.price_exit) == ("closed", "unknown", 0)
    late = only(tell(trades, [deal_of(closed)]))
    assert (late.state, late.trade.closed_by, late.trade.price_exit) == ("closed", "stop_out", 1.2)
    account.now_ms += APART_MS
    assert tell(trades, [account.book()]) == []


def test_a_book_that_lags_behind_a_deal_is_no_doubt() -> None:
    account, trades = Trading(HEDGING), handler()
    empty = account.book()
    opened = account.fill(BUY, 0.4, 1.1)
    tell(trades, [empty, deal_of(opened), replace_time(empty, account.now_ms)])
    account.now_ms += APART_MS // 2
    assert tell(trades, [account.book()]) == []
    account.now_ms += 2 * APART_MS
    assert tell(trades, [account.book(), account.account()]) == []


def replace_time(book: Book, at_ms: int) -> Book:
    return book.model_copy(update={"recv_time_ms": BEGIN_MS + at_ms})


def test_volumes_that_do_not_fit_are_told_and_taken_back_when_they_do() -> None:
    account, trades = Trading(HEDGING), handler()
    opened = account.fill(BUY, 0.4, 1.1)
    tell(trades, account.look([opened]))
    part = account.fill(SELL, 0.1, 1.2, position=opened.position_id)
    tell(trades, [account.book()])  # the deal was not told
    account.now_ms += APART_MS
    odd = only(tell(trades, [account.book()]))
    assert odd.doubt == "the book holds 0.3 lots buy, its deals leave 0.4"
    assert tell(trades, [account.book(), account.book()]) == [], "once"
    late = only(tell(trades, [deal_of(part)]))
    assert late.trade.volume_open_lots == pytest.approx(0.3)
    account.now_ms += 2 * APART_MS
    last = [e.doubt for e in tell(trades, [account.book()]) if isinstance(e, TradeUpdate)]
    assert [late.doubt, *last][-1] == ""


def test_a_change_of_the_balance_that_no_deal_explains_is_told_once() -> None:
    account, trades = Trading(HEDGING), handler()
    tell(trades, [account.account()])
    gift = account.balance_operation(125.5)
    assert tell(trades, [account.account()]) == []
    account.now_ms += APART_MS
    [told] = tell(trades, [account.account()])
    assert isinstance(told, BalanceUnexplained)
    assert (told.amount, told.total, told.balance) == (125.5, 125.5, DEPOSIT + 125.5)
    opened = account.fill(BUY, 0.1, 1.1)
    assert only(tell(trades, account.look([opened]))).unexplained == 125.5
    tell(trades, [deal_of(gift), account.account()])  # it comes after all
    account.now_ms += APART_MS
    [taken_back] = tell(trades, [account.account()])
    assert isinstance(taken_back, BalanceUnexplained)
    assert (taken_back.amount, taken_back.total) == (-125.5, 0)


def test_deals_of_before_the_first_look_are_in_its_balance() -> None:
    account, trades = Trading(HEDGING), handler()
    opened = account.fill(BUY, 0.1, 1.1)
    closed = account.fill(SELL, 0.1, 1.2, position=opened.position_id)
    account.now_ms += STEP_MS
    seen = account.account()
    found = tell(trades, [deal_of(opened), seen, deal_of(closed)])
    found += looks(account, trades)
    assert [e for e in found if isinstance(e, BalanceUnexplained)] == []


def test_a_turn_of_an_unknown_position_uses_the_book_of_before() -> None:
    account, trades = Trading(NETTING), handler()
    account.fill(BUY, 0.4, 1.1)
    tell(trades, [account.book()])
    turned = account.fill(SELL, 1.0, 1.2)
    first, second = last_of(tell(trades, account.look([turned]))).values()
    assert (first.trade.volume_lots, first.trade.entry_known) == (0.4, False)
    assert (second.trade.volume_open_lots, second.trade.entry_known) == (0.6, True)
    total = first.trade.commission + second.trade.commission
    assert total == pytest.approx(turned.commission)


# Laws -------------------------------------------------------------------------------------------


def reference(deals: list[BookedDeal]) -> dict[str, tuple[float, ...]]:
    """Position and leg -> side, largest volume, open volume, mean entry, mean exit, net result.

    Computed in columns from running sums of signed volume, with nothing of the code it checks.
    """
    found: dict[str, tuple[float, ...]] = {}
    traded = [deal for deal in deals if deal.type <= SELL]
    for identifier in sorted({deal.position_id for deal in traded}):
        mine = sorted(
            (d for d in traded if d.position_id == identifier), key=lambda d: (d.time_ms, d.ticket)
        )
        lots = np.array([d.volume_lots for d in mine])
        signed = lots * np.array([1 if d.type == BUY else -1 for d in mine])
        after = np.round(np.cumsum(signed), 8)
        before = np.concatenate([[0.0], after[:-1]])
        turns = (before * after) < 0
        closes = ((np.sign(signed) != np.sign(before)) & (before != 0)) | turns
        closed = np.where(closes, np.minimum(np.abs(before), lots), 0.0)
        opened = np.round(lots - closed, 8)
        price = np.array([d.price for d in mine])
        charged = np.array([d.commission + d.fee for d in mine])
        earned = np.array([d.profit + d.swap for d in mine])
        parts = [round(part, 2) for part in (charged * closed / lots).tolist()]
        of_old = np.where(turns, parts, charged)
        leg_before = np.concatenate([[0], np.cumsum(turns)[:-1]])
        leg_after = np.cumsum(turns)
        for leg in range(int(leg_after[-1]) + 1):
            old, new = leg_before == leg, leg_after == leg
            entered, left = np.where(new, opened, 0), np.where(old, closed, 0)
            largest = np.abs(after[new]).max()
            side = 0 if after[new][np.abs(after[new]).argmax()] > 0 else 1
            net = (
                np.where(old, earned + of_old, 0) + np.where(new & turns, charged - of_old, 0)
            ).sum()
            stays = 0.0 if leg < leg_after[-1] else abs(after[-1])
            found[f"{LOGIN}/{identifier}/{leg}"] = (
                side, largest, stays, (entered * price).sum() / entered.sum(),
                (left * price).sum() / left.sum() if left.sum() else 0.0, net,
            )  # fmt: skip
    return found


def told(updates: dict[str, TradeUpdate]) -> dict[str, tuple[float, ...]]:
    return {
        key: (
            one.trade.side, one.trade.volume_lots, one.trade.volume_open_lots,
            one.trade.price_entry, one.trade.price_exit, one.trade.net_profit,
        )
        for key, one in updates.items()
    }  # fmt: skip


accounts = st.sampled_from(
    [(NETTING, False), (MarginMode.EXCHANGE, False), (HEDGING, False), (HEDGING, True)]
)
"""Margin mode, and whether the oldest position is closed first."""


@settings(max_examples=60, deadline=None)
@given(kind=accounts, seed=st.integers(0, 2**32), moves=st.integers(1, 70))
def test_trades_and_deals_and_balance_agree_to_the_cent(
    kind: tuple[MarginMode, bool], seed: int, moves: int
) -> None:
    random, account, trades = Random(seed), Trading(*kind), handler()
    found = tell(trades, [account.account()])
    for _ in range(moves):
        found += tell(trades, account.look(random_move(account, random)))
    operations = sum(deal.amount for deal in account.deals if deal.type > SELL)
    updates = last_of(found)
    assert round(sum(d.amount for d in account.deals), 2) == account.ledger.balance
    assert round(net_of(updates.values()) + operations, 2) == account.ledger.balance
    expected = reference(account.deals)
    assert updates.keys() == expected.keys()
    for key, values in told(updates).items():
        assert values == pytest.approx(expected[key], abs=1e-6), key
    assert looks(account, trades) == []


@settings(max_examples=60, deadline=None)
@given(kind=accounts, seed=st.integers(0, 2**32), moves=st.integers(2, 40))
def test_whatever_order_deals_come_in_the_trades_are_the_same(
    kind: tuple[MarginMode, bool], seed: int, moves: int
) -> None:
    random, account = Random(seed), Trading(*kind)
    for _ in range(moves):
        random_move(account, random)
    shuffled = [*account.deals, *random.sample(account.deals, len(account.deals) // 2)]
    random.shuffle(shuffled)
    found = tell(handler(), [deal_of(deal) for deal in shuffled])
    ordered = tell(handler(), [deal_of(deal) for deal in account.deals])
    assert told(last_of(found)) == told(last_of(ordered))


@settings(max_examples=60, deadline=None)
@given(kind=accounts, seed=st.integers(0, 2**32), moves=st.integers(2, 60))
def test_deals_that_lag_behind_the_book_by_less_than_is_borne_are_never_doubted(
    kind: tuple[MarginMode, bool], seed: int, moves: int
) -> None:
    random, account, trades = Random(seed), Trading(*kind), handler()
    found = tell(trades, [account.account()])
    late: list[tuple[int, BookedDeal]] = []
    for _ in range(moves):
        for deal in random_move(account, random):
            late.append((account.now_ms + random.randrange(APART_MS - 4 * STEP_MS), deal))
        account.now_ms += random.randrange(3 * STEP_MS)
        due = [deal for at_ms, deal in late if at_ms <= account.now_ms]
        late = [(at_ms, deal) for at_ms, deal in late if at_ms > account.now_ms]
        found += tell(trades, account.look(due))
    found += tell(trades, account.look([deal for _, deal in late]))
    assert looks(account, trades) == []
    assert [one for one in found if isinstance(one, BalanceUnexplained)] == []
    assert [one.doubt for one in found if isinstance(one, TradeUpdate) if one.doubt] == []
    ordered = tell(handler(), [deal_of(deal) for deal in account.deals])
    assert told(last_of(found)) == told(last_of(ordered))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), cut=st.integers(1, 40))
def test_a_restart_anywhere_changes_nothing(seed: int, cut: int) -> None:
    random, account = Random(seed), Trading(NETTING)
    for _ in range(40):
        random_move(account, random)
    whole = tell(handler(), map(deal_of, account.deals))
    state, found = State(), []
    for part in (account.deals[:cut], account.deals[cut:]):
        found += tell(handler(state), map(deal_of, part))
        changed, removed = state.changes()
        state.settle(changed, removed)
    assert found == whole


def test_a_long_lived_position_stays_small_and_right() -> None:
    """Far more deals than are kept: legs that are over leave the record."""
    account, trades = Trading(NETTING), handler()
    random, found = Random(3), []
    for _ in range(6 * DEALS_KEPT_MAX):
        deal = account.fill(random.randrange(2), random.randint(1, 9) / 10, 1.1)
        found += tell(trades, [deal_of(deal)])
    for key, values in told(last_of(found)).items():
        assert values == pytest.approx(reference(account.deals)[key], abs=1e-6), key
    kept = [trades.state[key] for key in trades.state if key.startswith("position:")]
    assert max(len(one["deals"]) for one in kept) <= DEALS_KEPT_MAX
    assert max(len(one["legs"]) for one in kept) <= DEALS_KEPT_MAX + 1
    assert max(len(e.trade.deals) for e in found if isinstance(e, TradeUpdate)) <= (
        legs.DEALS_TOLD_MAX
    )


def test_closed_positions_leave_the_state() -> None:
    account, trades = Trading(HEDGING), handler()
    for _ in range(CLOSED_KEPT_MAX + 50):
        opened = account.fill(BUY, 0.1, 1.1)
        closed = account.fill(SELL, 0.1, 1.1, position=opened.position_id)
        tell(trades, account.look([opened, closed]))
    kept = [key for key in trades.state if key.startswith("position:")]
    assert len(kept) == CLOSED_KEPT_MAX
    assert trades.state[f"doubts:{LOGIN}"] == {}


def test_tickets_are_forgotten_in_pieces_and_never_taken_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tickets, "PIECE_TICKETS_MAX", 4)
    monkeypatch.setattr(tickets, "PIECES_MAX", 3)
    state = State()
    for ticket in range(100):
        known = KnownTickets(state, LOGIN)  # as after a restart
        assert known.add(ticket, ticket * 10)
        assert not known.add(ticket, ticket * 10)
    known = KnownTickets(state, LOGIN)
    assert not any(known.add(ticket, ticket * 10) for ticket in range(100))
    assert len([key for key in state if key.startswith("tickets:")]) <= 5


def test_a_leg_folded_again_is_another_object() -> None:
    """What a handler keeps is not changed behind its back."""
    account = Trading(HEDGING)
    kept = record.new_record(None)
    record.take(kept, legs.row_of(deal_of(account.fill(BUY, 0.1, 1.1))))
    before = record.numbered(kept)
    closing = replace(account.deals[-1], ticket=9_999, entry=Entry.OUT, type=SELL)
    record.take(kept, legs.row_of(deal_of(closing)))
    assert before[0]["lots_open"] == 0.1
    assert kept["legs"][0]["lots_open"] == 0


def test_accounts_do_not_touch_each_other() -> None:
    account, trades = Trading(HEDGING), handler()
    opened = account.fill(BUY, 0.1, 1.1)
    other = deal_of(opened).model_copy(update={"login": 8})
    mine = only(tell(trades, [deal_of(opened)]))
    theirs = only(tell(trades, [other]))
    assert (mine.login, theirs.login, theirs.state) == (LOGIN, 8, "open")
    empty = book_of([], account.now_ms)
    assert tell(trades, [empty, account_of(1.0, account.now_ms)]) == []


# Deals of the past that come late ----------------------------------------------------------------


@pytest.mark.parametrize("doubted", [False, True], ids=["at once", "after the book was believed"])
def test_the_opening_of_an_old_position_that_comes_late_is_its_opening(doubted: bool) -> None:
    account, trades = Trading(HEDGING), handler()
    opened = account.fill(BUY, 1.0, 1.1, magic=12)
    account.now_ms += STEP_MS
    part = account.fill(SELL, 0.3, 1.2, position=opened.position_id)
    account.now_ms += STEP_MS
    newest = account.fill(SELL, 0.2, 1.3, position=opened.position_id)
    account.now_ms += STEP_MS
    found = tell(trades, [deal_of(newest), account.book(), account.account()])
    if doubted:
        found += looks(account, trades)
        assert not only(found).trade.entry_known
    found += tell(trades, [deal_of(opened), deal_of(part)])
    found += looks(account, trades)
    told, whole = only(found), handler()
    tell(whole, [account.account()])
    right = only(tell(whole, [deal_of(opened), deal_of(part), deal_of(newest)]))
    assert told.trade == right.trade
    assert (told.trade.entry_known, told.trade.volume_lots, told.doubt) == (True, 1.0, "")


def test_a_month_of_late_deals_does_not_push_out_what_waits_for_its_opening() -> None:
    account, trades = Trading(HEDGING), handler()
    first = account.fill(BUY, 0.1, 1.1)
    old = []
    for _ in range(CLOSED_KEPT_MAX + 5):
        account.now_ms += STEP_MS
        one = account.fill(BUY, 0.1, 1.1)
        account.now_ms += STEP_MS
        old += [one, account.fill(SELL, 0.1, 1.2, position=one.position_id)]
    account.now_ms += STEP_MS
    last = account.fill(SELL, 0.1, 1.5, position=first.position_id)
    found = tell(trades, [deal_of(last), account.book(), account.account()])
    found += tell(trades, [deal_of(one) for one in [*old, first]])
    [told] = [one for one in last_of(found).values() if one.trade.position_id == first.position_id]
    assert (told.state, told.trade.entry_known, told.trade.price_exit) == ("closed", True, 1.5)


def test_of_tickets_those_of_the_oldest_deals_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tickets, "PIECE_TICKETS_MAX", 2)
    monkeypatch.setattr(tickets, "PIECES_MAX", 3)
    known = KnownTickets(State(), LOGIN)
    times = [1_000, 1_001, *range(10, 30)]  # the newest are told first
    assert all(known.add(number, at_ms) for number, at_ms in enumerate(times))
    assert not known.add(0, 1_000), "the newest are known for ever"
    assert not known.add(2, 10), "and what was forgotten is not taken twice"
