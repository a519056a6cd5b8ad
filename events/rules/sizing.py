"""The largest volume of a symbol that could be opened now without reaching a limit. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from events.accounting.contract import Contract
from events.accounting.conversion import Rates
from events.market import Instrument
from events.rules.judging import levels, standings
from events.rules.model import Rules
from events.rules.references import References

STEP_SLACK = 1e-9
"""Of a volume step: 0.3 / 0.1 is a little less than 3."""
BUY = 0


@dataclass(frozen=True, slots=True)
class LotFacts:
    """What one lot of a symbol means for the account. Money in account currency."""

    symbol: str
    step_lots: float
    min_lots: float
    max_lots: float
    notional: float
    """Of one lot."""
    margin: float
    """Of one lot, other positions disregarded."""
    loss_at_stop: float
    """What one lot loses between entry and stop, spread included; without a stop the spread."""
    held_lots: float = 0.0
    """Gross volume of the symbol that is open already."""


def lot_facts(
    instrument: Instrument,
    rates: Rates,
    *,
    bid: float,
    ask: float,
    currency: str,
    leverage: int,
    stop_distance: float = 0.0,
    held_lots: float = 0.0,
) -> LotFacts:
    """Facts of one lot from a symbol's contract and prices; `stop_distance` in price units.

    Raises MissingRate where no price converts into the account's currency.
    """
    contract = Contract.of(instrument)
    loss_rate = rates.rate(contract.currency_profit, currency, side=1)
    margin_rate = rates.rate(contract.currency_margin, currency, side=1)
    lost: Any = contract.profit(BUY, 1.0, ask, bid - stop_distance)
    return LotFacts(
        symbol=instrument.symbol,
        step_lots=instrument.volume_step_lots,
        min_lots=instrument.volume_min_lots,
        max_lots=instrument.volume_limit_lots or instrument.volume_max_lots,
        notional=float(contract.contract_size * ask * loss_rate),
        margin=float(contract.margin(1.0, ask, leverage) * margin_rate),
        loss_at_stop=abs(float(lost * loss_rate)),
        held_lots=held_lots,
    )


def largest_lot(
    rules: Rules,
    references: References,
    figures: Mapping[str, float | None],
    facts: LotFacts,
) -> float:
    """Lots, in steps of the symbol; 0 where not even the smallest volume fits.

    What counts: headroom of every loss limit against the loss at the stop, limits on lots,
    leverage, gross exposure and margin level, free margin, and the symbol's own bounds. Limits
    whose figure is unknown allow nothing that needs it.
    """
    volume = min(_allowed(rules, references, figures, facts), default=facts.max_lots)
    volume = max(0.0, min(volume, facts.max_lots - facts.held_lots))
    steps = math.floor(volume / facts.step_lots + STEP_SLACK) if facts.step_lots else 0
    lots = round(steps * facts.step_lots, 8)
    return lots if lots >= facts.min_lots else 0.0


def _allowed(
    rules: Rules,
    references: References,
    figures: Mapping[str, float | None],
    facts: LotFacts,
) -> Iterator[float]:
    """The volume each limit would allow, in lots."""
    free = figures.get("margin_free")
    if free is not None and facts.margin > 0:
        yield free / facts.margin
    for one in standings(rules, references, figures):
        limit = rules.limit(one.limit)
        own = limit.definition.subject == "symbol"
        if own and one.key.partition(":")[2] not in (facts.symbol, "*"):
            continue
        if limit.definition.loss and facts.loss_at_stop > 0:
            yield 0.0 if one.headroom is None else one.headroom / facts.loss_at_stop
        elif limit.figure in ("lots_open", "symbol_lots"):
            yield 0.0 if one.headroom is None else one.headroom
        elif limit.figure == "exposure_gross" and facts.notional > 0:
            yield 0.0 if one.headroom is None else one.headroom / facts.notional
    yield from _of_each(rules, references, figures, facts)


def _of_each(
    rules: Rules,
    references: References,
    figures: Mapping[str, float | None],
    facts: LotFacts,
) -> Iterator[float]:
    """Limits that are no plain sum: one position's volume, leverage, margin level, risk."""
    equity = figures.get("equity")
    for limit in rules.limits:
        act = levels(limit, references, rules, figures).act
        if limit.figure == "position_lots_max":
            yield act
        elif limit.figure == "leverage_used" and equity is not None and facts.notional > 0:
            used = figures.get("leverage_used")
            yield 0.0 if used is None else (act - used) * equity / facts.notional
        elif limit.figure == "margin_level_percent" and equity is not None and facts.margin > 0:
            margin = figures.get("margin")
            room = 0.0 if margin is None or act <= 0 else equity / act * 100 - margin
            yield room / facts.margin
        elif limit.figure == "risk_to_stop" and facts.loss_at_stop > 0:
            risk = figures.get("risk_to_stop")
            yield 0.0 if risk is None else (act - risk) / facts.loss_at_stop
