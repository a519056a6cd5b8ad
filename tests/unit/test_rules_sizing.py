"""The largest volume that fits under every limit, against numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.accounting import MissingRate, Rates
from events.market import Instrument
from events.rules import (
    Account,
    Limit,
    LotFacts,
    Reading,
    References,
    Rules,
    advance,
    judge,
    largest_lot,
    lot_facts,
)

EURUSD = Instrument(
    event_time_ms=0, recv_time_ms=0, symbol="EURUSD", broker_symbol="EURUSD", digits=5, point=1e-5,
    tick_size=1e-5, contract_size=100_000, volume_min_lots=0.01, volume_max_lots=50,
    volume_step_lots=0.01, currency_base="EUR", currency_profit="USD", currency_margin="EUR",
)  # fmt: skip
USDJPY = EURUSD.model_copy(
    update={
        "symbol": "USDJPY", "digits": 3, "point": 1e-3, "tick_size": 1e-3,
        "currency_base": "USD", "currency_profit": "JPY", "currency_margin": "USD",
    }
)  # fmt: skip
QUOTES = {"EURUSD": (1.1000, 1.1001), "USDJPY": (150.000, 150.010)}
RATES = Rates({("EUR", "USD"): "EURUSD", ("USD", "JPY"): "USDJPY"}, QUOTES.get)
FLAT: dict[str, float | None] = {
    "equity": 100_000.0, "balance": 100_000.0, "margin": 0.0, "margin_free": 100_000.0,
    "lots_open": 0.0, "leverage_used": 0.0, "exposure_gross": 0.0, "risk_to_stop": 0.0,
}  # fmt: skip


def facts(instrument: Instrument = EURUSD, *, stop: float = 0.0050, **more: Any) -> LotFacts:
    bid, ask = QUOTES[instrument.symbol]
    return lot_facts(
        instrument, RATES, bid=bid, ask=ask, currency="USD", leverage=100,
        stop_distance=stop, **more,
    )  # fmt: skip


def known(rules: Rules) -> References:
    reading = Reading(1_000, 7, 100_000.0, 100_000.0, positions=0, reset_balance=100_000.0)
    return advance(None, reading, rules)


def lots(*limits: Limit, of: LotFacts | None = None, **figures: float | None) -> float:
    account = Account(initial_balance=100_000.0, high_water=100_000.0)
    rules = Rules(account=account, limits=limits)
    return largest_lot(rules, known(rules), FLAT | figures, of or facts())


def test_one_lot_in_account_currency() -> None:
    """EURUSD: 110,010 of notional, 1 % of 100,000 EUR at 1.1001 as margin, 510 to a stop 50 pips
    below the bid. USDJPY: a move of 0.5 is 50,000 JPY, and the spread 1,000 JPY."""
    one = facts()
    assert one.notional == pytest.approx(110_010)
    assert one.margin == pytest.approx(1_100.1)
    assert one.loss_at_stop == pytest.approx(510)
    yen = facts(USDJPY, stop=0.5)
    assert yen.notional == pytest.approx(100_000 * 150.010 / 150.000, rel=1e-4)
    assert yen.margin == pytest.approx(1_000)
    assert yen.loss_at_stop == pytest.approx(51_000 / 150, rel=1e-3)


def test_a_price_that_does_not_convert_is_named() -> None:
    with pytest.raises(MissingRate, match="JPY"):
        lot_facts(USDJPY, Rates({}, QUOTES.get), bid=150, ask=150, currency="EUR", leverage=100)


@pytest.mark.parametrize(
    ("limits", "figures", "expected"),
    [
        pytest.param([], {}, 50.0, id="nothing but the symbol's own bound"),
        pytest.param([], {"margin_free": 11_001.0}, 10.0, id="free margin"),
        pytest.param([{"figure": "daily_loss", "limit": 5}], {}, 8.82, id="4,500 at 510 a lot"),
        pytest.param([{"figure": "daily_loss", "limit": 5}], {"equity": 97_000.0}, 2.94,
                     id="1,500 left of them"),
        pytest.param([{"figure": "daily_loss", "limit": 5}], {"equity": 95_500.0}, 0.0,
                     id="nothing left"),
        pytest.param([{"figure": "daily_loss", "limit": 5},
                      {"figure": "drawdown_peak", "limit": 2}],
                     {}, 3.52, id="the nearer of two"),
        pytest.param([{"figure": "leverage_used", "act": 10}], {}, 9.09, id="leverage"),
        pytest.param([{"figure": "leverage_used", "act": 10}], {"leverage_used": 9.0}, 0.9,
                     id="leverage, most of it used"),
        pytest.param([{"figure": "leverage_used", "act": 10}], {"leverage_used": None}, 0.0,
                     id="leverage nobody knows"),
        pytest.param([{"figure": "lots_open", "act": 4}], {"lots_open": 1.5}, 2.5, id="lots"),
        pytest.param([{"figure": "position_lots_max", "act": 2}], {"lots_open": 40.0}, 2.0,
                     id="lots of one position"),
        pytest.param([{"figure": "symbol_lots", "symbol": "EURUSD", "act": 3}],
                     {"symbol_lots:EURUSD": 1.0, "positions_open": 1.0}, 2.0, id="of the symbol"),
        pytest.param([{"figure": "symbol_lots", "symbol": "EURUSD", "act": 3}],
                     {"positions_open": 0.0}, 3.0, id="of a symbol that is not held"),
        pytest.param([{"figure": "symbol_lots", "symbol": "XAUUSD", "act": 3}], {}, 50.0,
                     id="of another symbol"),
        pytest.param([{"figure": "margin_level_percent", "act": 1_000}], {"margin": 4_499.5}, 5.0,
                     id="margin level"),
        pytest.param([{"figure": "exposure_gross", "act": 220_020}], {}, 2.0, id="gross exposure"),
        pytest.param([{"figure": "risk_to_stop", "act": 1_530}], {"risk_to_stop": 510.0}, 2.0,
                     id="risk to the stops"),
        pytest.param([{"figure": "lots_open", "act": 0.005}], {}, 0.0, id="less than the smallest"),
    ],
)  # fmt: skip
def test_the_largest_lot_reaches_no_limit(
    limits: list[dict[str, Any]], figures: dict[str, float | None], expected: float
) -> None:
    told = [Limit(name=f"limit {n}", **one) for n, one in enumerate(limits)]
    assert lots(*told, **figures) == pytest.approx(expected)


def test_what_is_held_counts_against_the_volume_of_the_symbol() -> None:
    assert lots(of=facts(held_lots=49.5)) == 0.5
    assert lots(of=facts(held_lots=50.0)) == 0.0


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    budget=st.floats(0.5, 20), equity=st.integers(80_000, 120_000), stop=st.integers(5, 300),
    step=st.sampled_from([0.01, 0.1, 0.25, 1.0]),
)  # fmt: skip
def test_a_loss_at_the_stop_never_acts_and_a_step_more_would(
    budget: float, equity: int, stop: int, step: float
) -> None:
    limit = Limit(name="daily", figure="daily_loss", limit=budget)
    rules = Rules(account=Account(initial_balance=100_000.0), limits=(limit,))
    references = known(rules)
    one = facts(
        EURUSD.model_copy(update={"volume_step_lots": step, "volume_min_lots": step,
                                  "volume_max_lots": 10_000.0}),
        stop=stop * 1e-4,
    )  # fmt: skip
    figures = FLAT | {"equity": float(equity), "margin_free": 1e9}
    volume = largest_lot(rules, references, figures, one)
    assert math.isclose(volume / step, round(volume / step), abs_tol=1e-6)

    def acts(extra: float) -> bool:
        left = equity - (volume + extra) * one.loss_at_stop
        told = judge(rules, references, {"equity": left + 1e-6, "balance": left}, now_ms=1_000)
        return any(verdict.level == "act" for verdict in told)

    assert volume == 0 or not acts(-1e-9)
    assert acts(step + 1e-6)
