"""Random streams of orders, of other people's acts and of prices: the books are always right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.accounting import BookedDeal, Ledger, MarginMode
from producers.terminals import constants as mt5
from producers.terminals.simulated import AccountOptions, SimulatedOptions, SimulatedTerminal
from producers.terminals.simulated.market import generated
from producers.terminals.simulated.symbols import CATALOGUE

START = 1_763_575_200_000  # Wednesday 19 November 2025, 18:00 UTC: four hours to midnight
FAR = START // 1000 + 10**8
SYMBOLS = ("EURUSD", "USDJPY", "XAUUSD")
LOTS = st.integers(1, 30).map(lambda steps: round(steps * 0.1, 2))

ACCOUNTS: dict[str, dict[str, Any]] = {
    "netting": {"margin_mode": 0},
    "exchange": {"margin_mode": 1},
    "hedging": {"margin_mode": 2},
    "fifo": {"margin_mode": 2, "fifo_close": True},
    "small": {"margin_mode": 2, "balance": 3000.0, "leverage": 500},
    "euro": {"margin_mode": 0, "currency": "EUR"},
}

BLOCKS_MAX = 600


@pytest.fixture(autouse=True, scope="module")
def drawn_once() -> Iterator[None]:
    """The market is a function of its seed: each block of ticks is drawn once for all accounts,
    and may not be written to."""
    drawn: dict[Any, Any] = {}

    def draw(planner: Any, plan: Any, options: Any) -> Any:
        begin = int(plan.minute[0]) if len(plan.minute) else 0
        block = (planner.key, str(planner.spec), begin, len(plan.minute), str(options))
        if block not in drawn:
            while len(drawn) >= BLOCKS_MAX:
                del drawn[next(iter(drawn))]
            drawn[block] = originally(planner, plan, options)
            for part in drawn[block]:
                part.flags.writeable = False
        return drawn[block]

    originally = generated._draw
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generated, "_draw", draw)
        yield


act = st.one_of(
    st.tuples(st.just("open"), st.sampled_from(SYMBOLS), st.integers(0, 1), LOTS),
    st.tuples(st.just("close"), st.integers(0, 9), st.floats(0.1, 1.0)),
    st.tuples(st.just("close_by"), st.integers(0, 9), st.integers(0, 9)),
    st.tuples(st.just("pending"), st.sampled_from(SYMBOLS), st.integers(2, 5), LOTS),
    st.tuples(st.just("cancel"), st.integers(0, 9)),
    st.tuples(st.just("stops"), st.integers(0, 9), st.integers(5, 200)),
    st.tuples(st.just("pass"), st.sampled_from([1, 800, 30_000, 1_800_000, 30_000_000])),
    st.tuples(st.just("jump"), st.sampled_from(SYMBOLS), st.floats(-3.0, 3.0)),
    st.tuples(st.just("money"), st.sampled_from([2, 3, 15]), st.integers(-50_000, 50_000)),
    st.tuples(st.just("offered"), st.sampled_from([0.25, 0.7, 50.0])),
    st.tuples(st.just("foreign"), st.sampled_from(SYMBOLS), st.integers(0, 1)),
)


def opened(account: dict[str, Any], memory: str | None = None) -> SimulatedTerminal:
    specs = (
        CATALOGUE["EURUSD"], CATALOGUE["XAUUSD"],
        CATALOGUE["USDJPY"].model_copy(update={"swap_mode": 7, "fee_per_deal": 0.07}),
    )  # fmt: skip
    options = SimulatedOptions(
        start_utc_ms=START, speed=0, symbols=specs, selected=SYMBOLS, memory=memory,
        account=AccountOptions(**account),
    )  # fmt: skip
    terminal = SimulatedTerminal(options)
    assert terminal.initialize()
    return terminal


def perform(terminal: SimulatedTerminal, what: tuple[Any, ...]) -> Any:
    """One act. Gives what the terminal answered."""
    verb, *rest = what
    if verb == "pass":
        return terminal.advance(rest[0])
    if verb == "jump":
        return terminal.inject("price_jump", symbols=[rest[0]], percent=rest[1], for_s=7200)
    if verb == "money":
        return terminal.inject("balance", code=rest[0], amount=rest[1] / 100)
    if verb == "offered":
        terminal.clear("liquidity")
        return terminal.inject("liquidity", lots=rest[0])
    if verb == "foreign":
        return terminal.inject("foreign_position", symbols=[rest[0]], side=rest[1], lots=0.3)
    request = request_of(terminal, verb, rest)
    return request and terminal.order_send(request)


def request_of(terminal: SimulatedTerminal, verb: str, rest: list[Any]) -> dict[str, Any] | None:
    market = {"action": mt5.TRADE_ACTION_DEAL, "type_filling": mt5.ORDER_FILLING_IOC}
    if verb == "open":
        return {**market, "symbol": rest[0], "type": rest[1], "volume": rest[2]}
    if verb == "pending":
        tick, type_ = terminal.symbol_info_tick(rest[0]), rest[1]
        away = 0.002 * (1 if type_ in (mt5.ORDER_TYPE_SELL_LIMIT, mt5.ORDER_TYPE_BUY_STOP) else -1)
        price = round(tick.ask * (1 + away), CATALOGUE[rest[0]].digits)
        return {"action": mt5.TRADE_ACTION_PENDING, "symbol": rest[0], "type": type_,
                "volume": rest[2], "price": price}  # fmt: skip
    if verb == "cancel":
        orders = terminal.orders_get()
        order = orders[rest[0] % len(orders)].ticket if orders else 1
        return {"action": mt5.TRADE_ACTION_REMOVE, "order": order}
    positions = terminal.positions_get()
    if not positions:
        return None
    chosen = positions[rest[0] % len(positions)]
    if verb == "close":
        volume = max(0.01, round(round(chosen.volume * rest[1] / 0.01) * 0.01, 2))
        return {**market, "symbol": chosen.symbol, "type": 1 - chosen.type, "volume": volume,
                "position": chosen.ticket}  # fmt: skip
    if verb == "close_by":
        other = positions[rest[1] % len(positions)]
        return {"action": mt5.TRADE_ACTION_CLOSE_BY, "position": chosen.ticket,
                "position_by": other.ticket}  # fmt: skip
    gap = rest[1] * CATALOGUE[chosen.symbol].point * 10 * (1 if chosen.type == 0 else -1)
    digits = CATALOGUE[chosen.symbol].digits
    return {"action": mt5.TRADE_ACTION_SLTP, "position": chosen.ticket, "symbol": chosen.symbol,
            "sl": round(chosen.price_current - gap, digits),
            "tp": round(chosen.price_current + gap, digits)}  # fmt: skip


def seen(terminal: SimulatedTerminal) -> tuple[Any, ...]:
    """Everything of the account, as it crosses to a caller."""
    return (
        terminal.account_info(), terminal.positions_get(), terminal.orders_get(),
        terminal.history_deals_get(0, FAR), terminal.history_orders_get(0, FAR),
        terminal.requests(),
    )  # fmt: skip


def check_books(terminal: SimulatedTerminal) -> None:
    """What holds of every account at every moment."""
    account, positions, deals = (
        terminal.account_info(), terminal.positions_get(), terminal.history_deals_get(0, FAR),
    )  # fmt: skip
    amounts: dict[bool, float] = defaultdict(float)
    lots: dict[int, float] = defaultdict(float)
    for deal in deals:
        amount = deal.profit + deal.swap + deal.commission + deal.fee
        amounts[deal.type == mt5.DEAL_TYPE_CREDIT] += amount
        if deal.type <= mt5.DEAL_TYPE_SELL:
            lots[deal.position_id] += deal.volume * (1 if deal.type == 0 else -1)
    assert round(amounts[False], 2) == account.balance  # to the cent
    assert round(amounts[True], 2) == account.credit
    floating = round(sum(position.profit + position.swap for position in positions), 2)
    assert account.profit == floating
    assert account.equity == round(account.balance + account.credit + floating, 2)
    assert account.margin >= 0
    assert account.margin_free == round(account.equity - account.margin, 2)
    assert account.margin or account.margin_level == 0  # a ruined account may show 0.00 % too
    held = {p.identifier: p.volume * (1 if p.type == 0 else -1) for p in positions}
    assert {key: round(sum_, 8) for key, sum_ in lots.items() if round(sum_, 8)} == held
    assert len({deal.ticket for deal in deals}) == len(deals)
    assert len({position.ticket for position in positions}) == len(positions)


def check_ledger(terminal: SimulatedTerminal) -> None:
    """The deals alone make the account again."""
    server = terminal.broker
    again = Ledger(MarginMode(server.account.margin_mode), server.account.currency_digits)
    again.apply_all(
        BookedDeal(*(getattr(d, n) for n in BookedDeal.__slots__)) for d in server.deals
    )
    assert (again.balance, again.credit) == (server.ledger.balance, server.ledger.credit)
    facts = ("ticket", "identifier", "symbol", "side", "volume_lots", "price_open")
    ours, theirs = (
        [tuple(getattr(p, fact) for fact in facts) for p in ledger.positions.values()]
        for ledger in (again, server.ledger)
    )
    assert ours == theirs


def make_the_account(kind: str, acts: list[Any]) -> None:
    terminal = opened(ACCOUNTS[kind])
    for what in acts:
        perform(terminal, what)
        check_books(terminal)
    check_ledger(terminal)


def live_and_die(kind: str, acts: list[Any], stops: set[int]) -> None:
    """One terminal lives through all acts, one dies before those that are named in `stops`."""
    with TemporaryDirectory() as folder:
        file = str(Path(folder) / "memory.jsonl")
        lived, died = opened(ACCOUNTS[kind]), opened(ACCOUNTS[kind], file)
        offered = None
        for number, what in enumerate(acts):
            offered = what if what[0] == "offered" else offered
            if number in stops:
                died = opened(ACCOUNTS[kind], file)
                if offered is not None:  # a fault of that process, which died with it
                    perform(died, offered)
            assert perform(lived, what) == perform(died, what)
        assert seen(lived) == seen(died)


@pytest.mark.parametrize("kind", ACCOUNTS)
@settings(max_examples=7, deadline=None)
@given(acts=st.lists(act, min_size=8, max_size=25))
def test_the_deals_make_the_account_whatever_is_done(kind: str, acts: list[Any]) -> None:
    make_the_account(kind, acts)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ACCOUNTS)
@settings(max_examples=250, deadline=None)
@given(acts=st.lists(act, min_size=20, max_size=60))
def test_the_deals_make_the_account_over_long_streams(kind: str, acts: list[Any]) -> None:
    make_the_account(kind, acts)


@pytest.mark.parametrize("kind", ["netting", "hedging"])
@settings(max_examples=5, deadline=None)
@given(acts=st.lists(act, min_size=8, max_size=20), stops=st.sets(st.integers(0, 19)))
def test_same_calls_same_bytes_whether_the_process_lived_or_died(
    kind: str, acts: list[Any], stops: set[int]
) -> None:
    live_and_die(kind, acts, stops)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ACCOUNTS)
@settings(max_examples=150, deadline=None)
@given(acts=st.lists(act, min_size=20, max_size=60), stops=st.sets(st.integers(0, 59)))
def test_same_calls_same_bytes_over_long_streams(
    kind: str, acts: list[Any], stops: set[int]
) -> None:
    live_and_die(kind, acts, stops)
