"""Fills of a live run beside those of the model, by hand: what is the same, and why what is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from consumers.parity.comparing.causes import Cause
from consumers.parity.comparing.fills import FillEvidence, FillParity, Key, compare, keyed
from consumers.parity.comparing.quotes import Quote
from events.executing import OrderIntent
from events.trading import Deal
from tests.golden import sample_model

SIGNAL_MS, OPENER, CLOSER = 1_000, 77, 78
POINT = 1e-5
EXPERT, STOP_LOSS = 3, 4


def deal(**more: Any) -> Deal:
    made = sample_model(Deal)
    assert isinstance(made, Deal)
    values = {
        "symbol": "EURUSD", "event_time_ms": SIGNAL_MS + 50, "type": 0, "entry": 0,
        "reason": EXPERT, "magic": OPENER, "position_id": 5, "volume_lots": 0.3, "price": 1.1001,
        "commission": -1.0, "swap": 0.0, "fee": 0.0, "ticket": 9, "leg": "",
    }  # fmt: skip
    return made.model_copy(update={**values, **more})


def intent(magic: int, verb: Any, signal_ms: int = SIGNAL_MS) -> OrderIntent:
    return OrderIntent(
        event_time_ms=signal_ms, intent_id=magic, magic=magic, login=1, strategy="s",
        symbol="EURUSD", verb=verb, signal=f"demo:strategy.s:0:normal@{signal_ms}-1",
    )  # fmt: skip


INTENTS = {OPENER: intent(OPENER, "open"), CLOSER: intent(CLOSER, "close", 5_000)}


def by_key(deals: Sequence[Deal]) -> list[tuple[Key, Deal]]:
    return list(keyed(deals, INTENTS, lambda one: one.event_time_ms))


def evidence(refused: str = "", **more: Any) -> FillEvidence:
    quotes = [Quote(SIGNAL_MS + 10, 1.1, 1.1001), Quote(SIGNAL_MS + 50, 1.1002, 1.1003)]
    values: dict[str, Any] = {
        "quotes": lambda _symbol, _ms: quotes,
        "point": lambda _: POINT,
        "signals_differ": lambda _: False,
        "refused": lambda _: refused,
        "pending": lambda _: False,
    }
    return FillEvidence(**{**values, **more})


def compared(
    live: Sequence[Deal], modelled: Sequence[Deal], known: FillEvidence | None = None
) -> FillParity:
    return compare(by_key(live), by_key(modelled), known or evidence())


def test_deals_are_keyed_by_what_became_of_their_signal() -> None:
    opened = deal()
    stopped = deal(entry=1, type=1, reason=STOP_LOSS, magic=OPENER, event_time_ms=3_000)
    closed = deal(entry=1, type=1, magic=CLOSER, event_time_ms=5_050)
    by_hand = deal(entry=1, type=1, magic=0, reason=0, event_time_ms=6_000)
    stranger = deal(magic=1, position_id=99)
    keys = [key for key, _ in by_key([opened, stopped, closed, by_hand, stranger])]
    assert [(key.signal_ms, key.kind) for key in keys] == [
        (SIGNAL_MS, "open"), (SIGNAL_MS, "stop_loss"), (5_000, "close"), (SIGNAL_MS, "manual"),
    ]  # fmt: skip


def test_a_fill_at_the_quotes_of_its_moment_is_the_models_and_waiting_is_told() -> None:
    found = compared([deal(price=1.1003)], [deal(event_time_ms=SIGNAL_MS)])
    assert (found.matched, found.differences) == (1, [])
    assert found.later_ms == [50]
    assert found.by_latency_points == [pytest.approx(20)]
    assert found.by_slippage_points == [pytest.approx(0)]
    assert found.charged == found.charged_modelled == -1.0


@pytest.mark.parametrize(
    ("live", "cause", "detail"),
    [
        ({"price": 1.1006}, Cause.TIMING, "points worse than the quotes"),
        ({"type": 1}, Cause.ACCOUNT, "another side"),
        ({"volume_lots": 0.2}, Cause.ACCOUNT, "0.2 lots, 0.3 in the model"),
        ({"commission": -1.5}, Cause.COSTS, "charged -1.50, -1.00 in the model"),
    ],
    ids=["price", "side", "volume", "charge"],
)
def test_what_differs_has_its_cause(live: dict[str, Any], cause: Cause, detail: str) -> None:
    found = compared([deal(**live)], [deal()])
    [difference] = found.differences
    assert (difference.kind, difference.cause) == ("different", cause)
    assert detail in difference.detail


def test_a_stop_is_filled_at_its_level_or_at_the_quotes() -> None:
    stopped = {"entry": 1, "type": 1, "reason": STOP_LOSS, "event_time_ms": 3_000}
    at_level = compared([deal(price=1.09, **stopped)], [deal(price=1.09, **stopped)])
    assert at_level.matched == 1
    gapped = compared([deal(price=1.1, **stopped)], [deal(price=1.09, **stopped)])
    assert gapped.matched == 1
    beyond = compared([deal(price=1.08, **stopped)], [deal(price=1.09, **stopped)])
    assert [one.cause for one in beyond.differences] == [Cause.TIMING]


@pytest.mark.parametrize(
    ("known", "detail"),
    [
        (evidence("refused: latched"), "refused: latched"),
        (evidence(), "the broker did not fill it"),
        (evidence(signals_differ=lambda _: True), "its signal differs"),
    ],
    ids=["refused", "unfilled", "other signal"],
)
def test_a_fill_of_the_model_alone_says_why(known: FillEvidence, detail: str) -> None:
    found = compared([], [deal()], known)
    [difference] = found.differences
    assert (difference.kind, difference.cause, difference.detail) == (
        "missing", Cause.ACCOUNT, detail,
    )  # fmt: skip


def test_a_fill_of_the_broker_alone_and_one_without_quotes() -> None:
    [difference] = compared([deal()], []).differences
    assert difference.kind == "extra"
    blind = compared([deal()], [deal()], evidence(quotes=lambda _symbol, _ms: []))
    assert [one.cause for one in blind.differences] == [Cause.DATA]
