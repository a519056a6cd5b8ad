"""Goals of an evaluation: profit target, trading days, share of the best day. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from events.rules.model import Basis, Rules
from events.rules.references import References


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a goal is. Money in account currency, else the figure's unit."""

    goal: str
    value: float | None
    """None: unknown yet."""
    at_least: float | None
    at_most: float | None

    @property
    def reached(self) -> bool:
        """Whether it is met now; a goal whose figure is unknown is not."""
        if self.value is None:
            return False
        enough = self.at_least is None or self.value >= self.at_least
        return enough and (self.at_most is None or self.value <= self.at_most)


def progress(
    rules: Rules, references: References, figures: Mapping[str, float | None]
) -> tuple[Progress, ...]:
    """Where every goal stands."""
    found = []
    for goal in rules.goals:
        factor = _base(goal.of, rules, references, figures)
        found.append(
            Progress(
                goal=goal.name,
                value=goal_value(goal.figure, references, figures),
                at_least=None if goal.at_least is None else goal.at_least * factor,
                at_most=None if goal.at_most is None else goal.at_most * factor,
            )
        )
    return tuple(found)


def goal_value(
    figure: str, references: References, figures: Mapping[str, float | None]
) -> float | None:
    """Figures that follow from references and the account; None: unknown."""
    if figure in figures:
        return figures[figure]
    balance, equity = figures.get("balance"), figures.get("equity")
    today = None if balance is None else balance - references.day_balance
    if figure == "profit":
        return None if balance is None else balance - references.absolute
    if figure == "profit_equity":
        return None if equity is None else equity - references.absolute
    if figure == "day_profit":
        return today
    if figure == "trading_days":
        return float(references.days_traded)
    if figure == "best_day_share_percent" and today is not None and balance is not None:
        won = balance - references.absolute
        return max(references.best_day, today) / won * 100 if won > 0 else None
    return None


def _base(
    of: Basis | None, rules: Rules, references: References, figures: Mapping[str, float | None]
) -> float:
    """What one unit of a goal's levels is in its figure's unit."""
    if of is None or of == Basis.MONEY:
        return 1.0
    if of == Basis.INITIAL_BALANCE:
        return references.initial_balance / 100
    if of == Basis.RESET_BALANCE:
        return references.day_balance / 100
    return (figures.get(of.value) or 0.0) / 100
