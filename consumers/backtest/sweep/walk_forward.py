"""Walk-forward: parameters are chosen on one window and traded on the next, again and again.

Pardo, "The Evaluation and Optimization of Trading Strategies", 2nd edition (2008), chapter 11. The
span is cut into equal windows; what trades in one was chosen on those right before it, and saw
nothing of it. The efficiency is what was earned per time out of sample by what the chosen
parameters earned per time in sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from consumers.backtest.result import BacktestResult
from consumers.backtest.sources.source import Span
from consumers.backtest.sweep.trial import Outcome

WINDOWS_MAX = 500
WINDOW_MS_MIN = 60_000


class BadWalk(ValueError):
    """A walk-forward run that cannot be made of what there is. Names cause and cure."""


@dataclass(frozen=True, slots=True)
class Window:
    """Where parameters are chosen, and where they are traded right behind that."""

    number: int
    """1 for the first."""
    chosen: Span
    traded: Span


@dataclass(frozen=True, slots=True)
class Step:
    """One window with what came of it."""

    window: Window
    choice: Outcome
    """Of the parameters that were chosen, over the window they were chosen on."""
    balance: float
    """Before it traded."""
    result: BacktestResult
    """Over the window that was traded."""

    @property
    def parameters(self) -> Mapping[str, str]:
        return self.choice.trial.parameters

    @property
    def return_percent(self) -> float:
        """Of what was traded."""
        return (self.result.equity_final / self.balance - 1) * 100 if self.balance > 0 else 0.0


def windows_of(reach: Span, count: int, in_sample: int) -> list[Window]:
    """`count` windows that are traded, each chosen for on the `in_sample` times longer one before
    it. Raises BadWalk."""
    assert reach.from_ms is not None, "the reach of ticks that are there"
    assert reach.to_ms is not None, "the reach of ticks that are there"
    length = (reach.to_ms - reach.from_ms) // (count + in_sample)
    if length < WINDOW_MS_MIN:
        raise BadWalk(
            f"--walk-forward {count}: a window would be shorter than a minute; ask for fewer, or "
            "for a longer span"
        )
    found = []
    for number in range(count):
        begin = reach.from_ms + number * length
        turn = begin + in_sample * length
        # The last window takes the ticks that the division left over.
        end = reach.to_ms if number == count - 1 else turn + length
        found.append(Window(number + 1, Span(begin, turn), Span(turn, end)))
    return found


def efficiency(steps: Sequence[Step]) -> float | None:
    """Return per time out of sample by that in sample, of all windows together; None where
    nothing was earned in sample, or too little is known."""
    gained_in = spent_in = gained_out = spent_out = 0.0
    for step in steps:
        share = step.choice.figures.get("return_percent")
        if share is None:
            return None
        gained_in += share
        spent_in += _length_ms(step.window.chosen)
        gained_out += step.return_percent
        spent_out += _length_ms(step.window.traded)
    if gained_in <= 0 or not spent_out:
        return None
    return (gained_out / spent_out) / (gained_in / spent_in)


def _length_ms(span: Span) -> int:
    assert span.from_ms is not None, "windows have two ends"
    assert span.to_ms is not None, "windows have two ends"
    return span.to_ms - span.from_ms
