"""Signals of two runs side by side. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from consumers.parity.comparing.causes import Cause
from consumers.parity.live import LiveSignal
from events.decisions import TradeSignal

T = TypeVar("T")
UNCOMPARED = frozenset({"number"})
"""Fields that one signal more or less before them changes."""
Key = tuple[str, str, int, int]
"""Symbol, leg, time in ms, and the how-manieth of these."""


@dataclass(frozen=True, slots=True)
class SignalDifference:
    """missing: the backtest gives it, live did not. extra: live gave it, the backtest does not."""

    kind: Literal["missing", "extra", "different"]
    live: LiveSignal | None
    modelled: TradeSignal | None
    fields: tuple[str, ...] = ()
    """Those that differ, as `name: live / backtest`."""
    cause: Cause = Cause.UNEXPLAINED
    detail: str = ""

    @property
    def event(self) -> TradeSignal:
        """Either of the two."""
        found = self.live.event if self.live is not None else self.modelled
        assert found is not None, "one of them is there"
        return found


@dataclass(slots=True)
class SignalParity:
    """What came of comparing the signals of a span."""

    live: int = 0
    modelled: int = 0
    matched: int = 0
    differences: list[SignalDifference] = field(default_factory=list)

    @property
    def compared(self) -> int:
        """Signals that either of them gave."""
        return self.matched + len(self.differences)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known beside the two lists; each part may be asked for once differences exist."""

    derived_again: Callable[[], frozenset[str]]
    """What follows from all that was read at the time, as texts of `told`."""
    problem: Callable[[], str]
    """Why that could not be derived whole; or empty."""
    other_version: Callable[[SignalDifference], str]
    """Says so where other code, or other parameters, were at work live; else empty."""
    looks_at_account: bool
    late: Callable[[int], bool]
    """Whether ticks around a moment came late or were pulled after a gap."""


def compare(
    live: Sequence[LiveSignal], modelled: Sequence[TradeSignal], evidence: Evidence
) -> SignalParity:
    """Signal by signal: those of one symbol, leg and time belong together."""
    found = SignalParity(len(live), len(modelled))
    of_live = {key: one for key, one in _keyed(live, lambda one: one.event)}
    of_model = {key: one for key, one in _keyed(modelled, lambda one: one)}
    for key in sorted({*of_live, *of_model}, key=lambda key: (key[2], key)):
        one, other = of_live.get(key), of_model.get(key)
        if one is not None and other is not None:
            fields = differing(one.event, other)
            if not fields:
                found.matched += 1
                continue
            found.differences.append(SignalDifference("different", one, other, fields))
        else:
            kind: Literal["missing", "extra"] = "extra" if other is None else "missing"
            found.differences.append(SignalDifference(kind, one, other))
    found.differences = [_explained(one, evidence) for one in found.differences]
    return found


def _keyed(signals: Iterable[T], event: Callable[[T], TradeSignal]) -> Iterator[tuple[Key, T]]:
    seen: dict[tuple[str, str, int], int] = {}
    for one in signals:
        signal = event(one)
        key = signal.symbol, signal.leg, signal.event_time_ms
        seen[key] = seen.get(key, 0) + 1
        yield (*key, seen[key]), one


def differing(live: TradeSignal, modelled: TradeSignal) -> tuple[str, ...]:
    """Fields of which the values differ."""
    ours, theirs = live.model_dump(), modelled.model_dump()
    return tuple(
        f"{name}: {ours[name]} / {theirs[name]}"
        for name in ours
        if name not in UNCOMPARED and ours[name] != theirs[name]
    )


def told(signal: TradeSignal) -> str:
    """A signal as text, without what one more before it changes."""
    return signal.model_dump_json(exclude=set(UNCOMPARED))


def _explained(one: SignalDifference, evidence: Evidence) -> SignalDifference:
    cause, detail = _cause(one, evidence)
    return SignalDifference(one.kind, one.live, one.modelled, one.fields, cause, detail)


def _cause(one: SignalDifference, evidence: Evidence) -> tuple[Cause, str]:
    other = evidence.other_version(one)
    if other:
        return Cause.VERSION, other
    repeats = told(one.event) in evidence.derived_again()
    problem = evidence.problem()
    if (one.live is not None) == repeats and not (problem and not repeats):
        # The same code says the same of what it read at the time: the backtest read something else.
        if evidence.looks_at_account:
            return Cause.ACCOUNT, "the strategy looks at the account, and that was another one"
        return Cause.ORDER, "live handled ticks, seconds and facts in another order"
    if problem:
        return Cause.DATA, problem
    if evidence.late(one.event.event_time_ms):
        return Cause.DATA, "ticks around it came late, or were pulled after a gap"
    return Cause.UNEXPLAINED, "the same entries lead to something else now"
