"""Outcomes in order of a figure: the best first, those that failed last."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from consumers.backtest.report.labels import GROUPS
from consumers.backtest.sweep.trial import Outcome

LOW_IS_GOOD = frozenset(
    {"drawdown_max", "drawdown_max_percent", "drawdown_longest_days", "volatility_yearly_percent",
     "losses_in_a_row_max", "cost_commission", "cost_swap", "cost_fee", "cost_spread",
     "cost_slippage", "cost_total", "trades_open"}
)  # fmt: skip
NAMES = tuple(name for group in GROUPS.values() for name in group)


class BadFigure(ValueError):
    """There is no such figure. Says which is meant."""


def checked_figure(name: str) -> str:
    """The name of a figure, as `figures` knows it. Raises BadFigure."""
    found = name.strip().lower().replace("-", "_").replace(" ", "_")
    if found in NAMES:
        return found
    close = difflib.get_close_matches(found, NAMES, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise BadFigure(f"there is no figure {name!r}: {hint}There are: {', '.join(NAMES)}")


def ranked(outcomes: Iterable[Outcome], figure: str) -> list[Outcome]:
    """The best first. A figure that is unknown stands behind those that are known, a failure
    behind both; among equals the order given stays."""

    def place(outcome: Outcome) -> tuple[int, float]:
        if outcome.error:
            return 2, 0.0
        value = outcome.figures.get(figure)
        if value is None:
            return 1, 0.0
        return 0, float(value) if figure in LOW_IS_GOOD else -float(value)

    return sorted(outcomes, key=place)


def best(outcomes: Sequence[Outcome], figure: str) -> Outcome:
    """The best that did not fail. Raises ValueError with the reason of the first, where all did."""
    first = ranked(outcomes, figure)[0]
    if first.error:
        raise ValueError(f"every combination failed; the first one: {outcomes[0].error}")
    return first
