"""How large an entry is: lots, risk to the stop, or value, in steps of the symbol. Pure.

The same arithmetic sizes targets live and in a backtest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from consumers.risk.figures.holdings import Market
from events.accounting import BUY
from events.decisions import TradeSignal
from events.market import Instrument

STEP_SLACK = 1e-9
"""Of a volume step: 0.3 / 0.1 is a little less than 3."""
LOTS_DIGITS = 8
PERCENT_MAX = 100.0
SMALLEST, LOTS, RISK, NOTIONAL = "smallest", "lots", "risk", "notional"


class Refused(ValueError):
    """Nothing is opened for this target; the message says why. `passing`: asked again later, it
    may fare better."""

    def __init__(self, reason: str, *, passing: bool = False) -> None:
        super().__init__(reason)
        self.passing = passing


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a signal asks for: one of lots, percent of equity at risk, value, or the smallest."""

    kind: str
    amount: float = 0.0


def wanted_size(signal: TradeSignal) -> Wanted:
    """Raises Refused when it names two sizes, or one that is no size."""
    given: Mapping[str, float | None] = {
        LOTS: signal.volume_lots, RISK: signal.risk_percent, NOTIONAL: signal.notional,
    }  # fmt: skip
    named = [(kind, amount) for kind, amount in given.items() if amount is not None]
    if len(named) > 1:
        kinds = " and ".join(kind for kind, _ in named)
        raise Refused(f"the signal is sized by {kinds}: give one of them")
    if not named:
        return Wanted(SMALLEST)
    kind, amount = named[0]
    if not (math.isfinite(amount) and amount > 0):
        raise Refused(f"a size of {amount:g} ({kind}) is none: it must be above 0")
    if kind == RISK and amount > PERCENT_MAX:
        raise Refused(f"a risk of {amount:g} % is more than all of the equity")
    return Wanted(kind, amount)


def lots_of(
    wanted: Wanted,
    instrument: Instrument,
    market: Market,
    *,
    side: int,
    price: float,
    stop_loss: float | None,
    equity: float | None,
) -> float:
    """The volume of an entry at `price` (the ask of a buy, the bid of a sell), rounded down to
    the symbol's step.

    By risk it is what loses that share of equity between the entry and the stop; an entry at the
    far side of the spread is what makes the spread part of it. Raises Refused below the smallest
    volume, and where something to compute it from is unknown.
    """
    if wanted.kind == SMALLEST:
        lots = instrument.volume_min_lots
    elif wanted.kind == LOTS:
        lots = wanted.amount
    elif wanted.kind == RISK:
        lots = _by_risk(wanted, instrument, market, side=side, price=price, stop_loss=stop_loss,
                        equity=equity)  # fmt: skip
    else:
        worth = market.notional(market.contracts[instrument.symbol], 1.0, price)
        lots = wanted.amount / _known(worth, instrument, market)
    return in_steps(lots, instrument, what=wanted.kind)


def _by_risk(
    wanted: Wanted,
    instrument: Instrument,
    market: Market,
    *,
    side: int,
    price: float,
    stop_loss: float | None,
    equity: float | None,
) -> float:
    if stop_loss is None or stop_loss <= 0:
        raise Refused("a size by risk needs a stop-loss: give one, or a size in lots")
    if equity is None or equity <= 0:
        raise Refused("equity is unknown: no size by risk", passing=True)
    if (price - stop_loss) * (1 if side == BUY else -1) <= 0:
        raise Refused(f"the stop-loss {stop_loss:g} is on the wrong side of {price:g}")
    money = market.money(market.contracts[instrument.symbol], side, 1.0, price, stop_loss)
    lost = _known(money if money is None else -money, instrument, market)
    return equity * wanted.amount / 100 / lost


def in_steps(lots: float, instrument: Instrument, *, what: str = LOTS) -> float:
    """Rounded down to the symbol's step. Raises Refused below its smallest volume and above what
    it allows in all."""
    step = instrument.volume_step_lots
    steps = math.floor(lots / step + STEP_SLACK) if step > 0 else 0
    rounded = round(steps * step, LOTS_DIGITS) if step > 0 else lots
    if rounded < instrument.volume_min_lots - STEP_SLACK or rounded <= 0:
        raise Refused(
            f"{lots:.6g} lots (by {what}) are below the smallest volume of "
            f"{instrument.symbol}, {instrument.volume_min_lots:g}"
        )
    most = instrument.volume_limit_lots
    if most and rounded > most + STEP_SLACK:
        raise Refused(f"{rounded:g} lots are above the {most:g} that {instrument.symbol} allows")
    return rounded


def _known(money: float | None, instrument: Instrument, market: Market) -> float:
    if money is None:
        raise Refused(
            f"no price converts {instrument.currency_profit} to {market.currency}: add a pair of "
            "both to the terminal's symbols",
            passing=True,
        )
    if money <= 0:
        raise Refused(f"one lot of {instrument.symbol} is worth nothing: its facts are wrong")
    return money
