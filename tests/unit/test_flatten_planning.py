"""In which order an account is closed."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from producers.guard.flatten.account import Held, Look, Scope, Working
from producers.guard.flatten.instruments import Instrument, InstrumentBook
from producers.guard.flatten.planning import plan_closes, plan_round
from producers.terminals import constants as mt5

LOTS = st.integers(1, 300).map(lambda n: n / 100)


def held(ticket: int, symbol: str, side: int, lots: float, time_ms: int = 0) -> Held:
    return Held(ticket, ticket, symbol, side, lots, 1.0, 1.0, 0.0, 0, time_ms or ticket)


def order(ticket: int, away: float, type_: int = mt5.ORDER_TYPE_BUY_LIMIT) -> Working:
    return Working(ticket, "EURUSD", type_, 0.1, 1.0 - away, 1.0, 0, 0, 0)


def book_of(*, close_by: bool = True) -> InstrumentBook:
    bits = 127 if close_by else 63
    names = {"EURUSD": 100_000.0, "XAUUSD": 100.0}
    return InstrumentBook(
        {n: Instrument(n, contract_size=size, order_bits=bits) for n, size in names.items()}
    )


@st.composite
def positions(draw: st.DrawFn) -> list[Held]:
    count = draw(st.integers(0, 12))
    return [
        held(
            n + 1, draw(st.sampled_from(["EURUSD", "XAUUSD"])), draw(st.integers(0, 1)), draw(LOTS)
        )
        for n in range(count)
    ]


@given(positions(), st.booleans(), st.booleans())
def test_no_position_is_planned_twice_and_none_beyond_its_volume(
    book: list[Held], close_by: bool, fifo: bool
) -> None:
    plan = plan_closes(book, book_of(close_by=close_by), hedging=True, fifo=fifo)
    legs = Counter(leg.ticket for close in plan for leg in close.legs)
    assert all(count == 1 for count in legs.values())
    assert all(0 < close.volume_lots <= close.held.volume_lots for close in plan)
    assert bool(plan) == bool(book)
    for close in plan:
        if close.against is not None:
            assert close.held.symbol == close.against.symbol
            assert close.held.side != close.against.side


@given(positions())
def test_what_is_closed_alone_brings_the_net_nearer_to_nothing(book: list[Held]) -> None:
    plan = plan_closes(book, book_of(), hedging=True, fifo=False)
    net = Counter[str]()
    for position in book:
        net[position.symbol] += position.lots_signed  # type: ignore[assignment]  # lots are floats
    for close in plan:
        if close.against is None:
            before = abs(net[close.held.symbol])
            net[close.held.symbol] -= close.held.lots_signed  # type: ignore[assignment]  # as above
            assert abs(net[close.held.symbol]) < before + 1e-9


@given(LOTS, st.floats(0.01, 1.0))
def test_a_part_of_a_volume_can_be_traded_and_leaves_what_can_be_traded(
    lots: float, share: float
) -> None:
    instrument = Instrument("EURUSD", volume_min=0.01, volume_step=0.01)
    part = instrument.part(lots, share)
    assert 0.01 - 1e-9 <= part <= lots + 1e-9
    assert abs(part / 0.01 - round(part / 0.01)) < 1e-6
    rest = lots - part
    assert rest < 1e-9 or rest >= 0.01 - 1e-9


def test_a_full_hedge_never_loses_one_leg_alone_where_both_can_go_at_once() -> None:
    book = [held(1, "EURUSD", 0, 1.0), held(2, "EURUSD", 1, 1.0)]
    [close] = plan_closes(book, book_of(), hedging=True, fifo=False)
    assert close.against is not None


def test_without_close_by_the_legs_of_a_hedge_go_in_turns() -> None:
    book = [held(n, "EURUSD", int(n > 3), 1.0) for n in range(1, 7)]
    plan = plan_closes(book, book_of(close_by=False), hedging=True, fifo=False)
    assert [c.held.side for c in plan] == [0, 1, 0, 1, 0, 1]


def test_pending_orders_near_the_market_are_cancelled_before_the_positions_and_far_ones_after() -> (
    None
):
    look = Look(
        hedging=True,
        positions=(held(1, "XAUUSD", 0, 1.0),),
        orders=tuple(order(100 + n, 0.001 * (50 - n)) for n in range(50)),
    )
    plan = plan_round(look, Scope(), book_of(), round_trip_s=0.25)
    assert [o.ticket for o in plan.first] == [149 - n for n in range(8)]
    assert len(plan.first) + len(plan.last) == 50
    quick = plan_round(look, Scope(), book_of(), round_trip_s=0.01)
    assert len(quick.first) == 50
    assert quick.last == ()


def test_what_waits_still_stands_against_the_other_leg() -> None:
    look = Look(hedging=True, positions=(held(1, "EURUSD", 0, 1.0), held(2, "EURUSD", 1, 1.0)))
    plan = plan_round(look, Scope(), book_of(), skip=frozenset({("position", 1)}))
    assert plan.closes == ()
