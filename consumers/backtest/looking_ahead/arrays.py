"""Strategies that take arrays, held to saying at each tick what they say without the ticks behind.

`on_ticks` gets many ticks at once, and could look at later ones than the tick it decides at. So
whatever it says is asked again: a fresh object with the same memory gets the ticks up to the one
that was decided at, as copies, and must say the same there. That costs nothing where nothing is
said, and about the same again where something is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np

from consumers.strategies.authoring.signal import Signal
from consumers.strategies.authoring.strategy import Strategy
from consumers.strategies.running.instances import Instances
from consumers.strategies.running.part import Part, guarded
from consumers.strategies.running.remembering import NotStorable, remembered, restore
from consumers.strategies.running.tick_run import TickRun
from consumers.strategies.running.walking import StrategyFailed, signals_of
from events.views.moments import utc_text


class CheckedInstances(Instances):
    """Instances that let no array be looked through ahead of time."""

    def said_of_arrays(self, name: str, part: Part, seen: TickRun) -> Sequence[Signal]:
        """See `Instances`. Raises StrategyFailed, also for a strategy that looks ahead."""
        try:
            before = remembered(part.strategy)
        except NotStorable as error:
            raise StrategyFailed(f"it could not go on after a restart: {error}") from error
        said = super().said_of_arrays(name, part, seen)
        if said and all(one.at is not None and 0 <= one.at < len(seen) for one in said):
            self._ask_again(name, before, seen, said)
        return said

    def _ask_again(
        self, name: str, before: Mapping[str, Any], seen: TickRun, said: Sequence[Signal]
    ) -> None:
        twin = self.made(name)
        restore(twin, before)
        begin = 0
        for at, given in groupby(said, key=lambda one: one.at or 0):
            if at < begin:
                return  # not in order: whoever walks it refuses that
            cut = seen.picked(np.arange(begin, at + 1))
            expected = [replace(one, at=at - begin) for one in given]
            found = _asked(twin, cut)
            if found != expected:
                raise StrategyFailed(_difference(seen, at, expected, found))
            begin = at + 1


def _asked(twin: Strategy, cut: TickRun) -> list[Signal]:
    return guarded("on_ticks", twin.symbol, lambda: signals_of(twin.on_ticks(cut), "on_ticks"))


def _difference(seen: TickRun, at: int, expected: Sequence[Signal], found: Sequence[Signal]) -> str:
    return (
        f"on_ticks looks ahead: at the tick of {seen.symbol_of(at)} at "
        f"{utc_text(int(seen.time_ms[at]))} UTC it says {_told(expected)} with the ticks behind "
        f"that one, and {_told(found)} without them (or it depends on how arrays are cut)"
    )


def _told(signals: Sequence[Signal]) -> str:
    if not signals:
        return "nothing"
    told = ", ".join(f"{one.target} at={one.at}" for one in signals[:3])
    return told if len(signals) <= 3 else f"{told} and {len(signals) - 3} more"
