"""From a strategy's signal to what the simulated terminal made of it: the group, the order sender
and a real host together. What a sender does with one intent is told by test_order_sending."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from consumers.execute import ExecuteHandler
from consumers.runtime.group import Group
from events.accounting import BUY
from events.log import LogError
from events.magic import parts_of
from events.memory_log import MemoryLog
from tests.integration.ordering import SYMBOL, Desk, inject
from tests.integration.trading_desk import NETTING, Trader, trading
from tests.servers import wait_until


@pytest.fixture(scope="module")
def hedging_trader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trader]:
    with trading(tmp_path_factory.mktemp("hedging")) as trader:
        yield trader


@pytest.fixture(scope="module")
def netting_trader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trader]:
    with trading(tmp_path_factory.mktemp("netting"), margin_mode=NETTING) as trader:
        yield trader


@pytest.fixture
def trader(hedging_trader: Trader) -> Trader:
    """On an account that hedges, which the tests of this page share."""
    hedging_trader.begin_anew()
    return hedging_trader


@pytest.fixture
def netting(netting_trader: Trader) -> Trader:
    """The same on an account that nets."""
    netting_trader.begin_anew()
    return netting_trader


def ours(desk: Desk) -> list[Any]:
    return [one for one in desk.positions() if parts_of(one.magic) is not None]


def by_hand(desk: Desk, side: int, lots: float) -> None:
    """An order of somebody else."""
    quote = desk.quote()
    desk.order(
        action=1, symbol=SYMBOL, volume=lots, type=side, deviation=100_000, type_filling=1,
        price=quote.bid if side else quote.ask,
    )  # fmt: skip


def test_a_target_is_opened_turned_around_and_closed(netting: Trader) -> None:
    desk = netting.desk
    netting.signal("long", volume_lots=0.3)
    netting.becomes("reached", held_lots=0.3)
    [held] = desk.positions()
    assert held.sl > 0, "the stop-loss went with the entry"
    netting.restart()
    netting.signal("short", volume_lots=0.2)
    netting.becomes("reached", held_lots=-0.2)
    [held] = desk.positions()
    assert (held.type, held.volume) == (1, 0.2)
    netting.signal("flat")
    netting.becomes("reached", target="flat", held_lots=0.0)
    assert desk.positions() == ()
    assert [one.verb for one in netting.intents()] == ["open", "close", "open", "close"]


@pytest.mark.parametrize("account", ["hedging", "netting"])
def test_two_strategies_and_a_manual_position_on_one_symbol(
    request: pytest.FixtureRequest, account: str
) -> None:
    trader: Trader = request.getfixturevalue("trader" if account == "hedging" else "netting")
    desk = trader.desk
    by_hand(desk, BUY, 0.5)
    [stranger] = desk.positions()
    trader.signal("long", "a", volume_lots=0.3)
    trader.becomes("reached", "a", held_lots=0.3)
    trader.signal("short", "b", volume_lots=0.1)
    trader.becomes("reached", "b", held_lots=-0.1)
    if account == "hedging":
        assert sorted(one.volume for one in ours(desk)) == [0.1, 0.3]
    else:
        assert [round(one.volume, 2) for one in desk.positions()] == [0.7]
    for name in ("a", "b"):
        trader.signal("flat", name)
        trader.becomes("reached", name, target="flat", held_lots=0.0)
    assert [(one.ticket, one.volume) for one in desk.positions()] == [(stranger.ticket, 0.5)]


def test_a_stop_loss_that_is_hit_retires_the_target_until_a_new_signal(trader: Trader) -> None:
    desk = trader.desk
    trader.signal("long", volume_lots=0.2)
    trader.becomes("reached", held_lots=0.2)
    inject(desk, kind="price_jump", symbols=(SYMBOL,), percent=-8.0)
    assert trader.becomes("retired", held_lots=0.0).reason == "stop_loss"
    trader.looked_again()
    assert desk.positions() == ()
    trader.signal("long", volume_lots=0.2)
    trader.becomes("reached", held_lots=0.2)
    assert len(trader.intents()) == 2


def test_a_strategy_that_repeats_its_target_is_not_opened_again_behind_a_stop_loss(
    trader: Trader,
) -> None:
    desk = trader.desk
    for _ in range(2):
        trader.signal("long", volume_lots=0.2)
        trader.becomes("reached", held_lots=0.2)
    inject(desk, kind="price_jump", symbols=(SYMBOL,), percent=-8.0)
    trader.becomes("retired", held_lots=0.0)
    for _ in range(3):
        trader.signal("long", volume_lots=0.2)
    told = trader.becomes("retired", reason="stop_loss; a repeated long is no new signal")
    trader.looked_again()
    opened = [one for one in trader.intents() if one.verb == "open"]
    assert (desk.positions(), told.held_lots, len(opened)) == ((), 0.0, 1)
    trader.signal("flat")
    trader.signal("long", volume_lots=0.2)
    trader.becomes("reached", held_lots=0.2)


def test_a_close_by_hand_retires_the_target(trader: Trader) -> None:
    desk = trader.desk
    trader.signal("long", volume_lots=0.2)
    trader.becomes("reached", held_lots=0.2)
    inject(desk, kind="foreign_close", symbols=(SYMBOL,))
    assert trader.becomes("retired", held_lots=0.0).reason == "manual"
    trader.looked_again()
    assert (len(trader.intents()), desk.positions()) == (1, ())


def test_stops_that_were_moved_by_hand_stay_until_a_signal_names_others(trader: Trader) -> None:
    desk = trader.desk
    bid = desk.quote().bid
    stop, moved = round(bid * 0.95, 2), round(bid * 0.93, 2)
    trader.signal("long", volume_lots=0.2, stop_loss=stop)
    trader.becomes("reached", held_lots=0.2)
    [held] = desk.positions()
    desk.order(action=6, symbol=SYMBOL, position=held.ticket, sl=moved, tp=0.0)
    trader.until("the book with it", lambda: [p.stop_loss for p in trader.book() or ()] == [moved])
    trader.signal("long", volume_lots=0.2, stop_loss=stop)
    trader.looked_again()
    assert [one.sl for one in desk.positions()] == [moved]
    trader.signal("long", volume_lots=0.2, stop_loss=round(bid * 0.94, 2))
    trader.until("stops", lambda: [p.sl for p in desk.positions()] == [round(bid * 0.94, 2)])


def test_a_partial_fill_is_topped_up_once(trader: Trader) -> None:
    inject(trader.desk, kind="liquidity", lots=0.1)
    trader.signal("long", volume_lots=0.3)
    told = trader.becomes("reached", held_lots=0.2)
    assert "the rest is let be" in told.reason
    assert [one.volume_lots for one in trader.intents()] == [0.3, 0.2]


def test_a_requote_is_answered_with_a_fresh_price(trader: Trader) -> None:
    inject(trader.desk, kind="retcode", codes=(10004, 10020))
    trader.signal("long", volume_lots=0.1)
    trader.becomes("reached", held_lots=0.1)
    [intent] = trader.intents()
    assert trader.desk.signals.answers(intent)[-1].attempts == 3


@pytest.mark.parametrize("fault", ["lost_answer", "never_sent"])
def test_a_lost_answer_leads_to_one_position(trader: Trader, fault: str) -> None:
    inject(trader.desk, kind=fault, codes=(-10002,))
    trader.signal("short", volume_lots=0.1)
    trader.becomes("reached", target="short", held_lots=-0.1)
    assert len(ours(trader.desk)) == 1
    assert len(trader.intents()) == (1 if fault == "lost_answer" else 2)


def test_group_and_sender_that_restart_between_intent_and_answer_send_nothing_twice(
    trader: Trader,
) -> None:
    desk = trader.desk
    inject(desk, kind="late_answer", seconds=0.5, calls_max=1)
    trader.signal("long", volume_lots=0.1)
    trader.until("an intent", lambda: len(trader.intents()) == 1)
    [intent] = trader.intents()
    wait_until(lambda: bool(desk.signals.answers(intent)), what="an order that was sent")
    assert [one.state for one in desk.signals.answers(intent)] == ["sent"]
    trader.restart()
    desk.restart_sender()
    trader.becomes("reached", held_lots=0.1)
    assert (len(trader.intents()), len(desk.requests())) == (1, 1)


def test_a_pending_order_is_filled_or_cancelled(trader: Trader) -> None:
    desk = trader.desk
    below = round(desk.quote().bid * 0.98, 2)
    trader.signal("long", volume_lots=0.1, price_limit=below)
    trader.becomes("wanted", reason="a pending order stands")
    [order] = desk.orders()
    trader.signal("flat")
    trader.becomes("reached", target="flat")
    assert desk.orders() == ()
    trader.signal("long", volume_lots=0.1, price_limit=below)
    trader.until("another order", lambda: any(o.ticket != order.ticket for o in desk.orders()))
    inject(desk, kind="price_jump", symbols=(SYMBOL,), percent=-3.0)
    trader.becomes("reached", held_lots=0.1)


def test_namespaces_that_no_terminal_wrote_are_refused() -> None:
    log = MemoryLog()
    log.open_namespace("again", origin="replay")
    log.open_namespace("demo")
    assert {one.slot.namespace for one in Group("execute", ExecuteHandler).specs(log)} == {"demo"}
    with pytest.raises(LogError, match="acts on live terminals only"):
        Group("execute", ExecuteHandler, namespaces=("again",)).specs(log)
