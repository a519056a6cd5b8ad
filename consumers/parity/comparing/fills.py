"""Fills of a live run beside those of the broker model. Pure.

A fill is matched when the model has it too (same signal, same kind, same side and volume) and its
price is one that was quoted at its moment, so that the model, at work at that moment, would have
given the same. What the moment itself changed is told as latency, not hidden.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from consumers.parity.comparing.causes import Cause
from consumers.parity.comparing.quotes import Quote
from events.executing import OrderIntent
from events.ownership import why_closed
from events.trading import Deal

EXPERT = 3
DUST_LOTS = 1e-8
CENT = 0.005
HALF_POINT = 0.5


class Key(NamedTuple):
    """Which fill it is, in both runs."""

    symbol: str
    leg: str
    signal_ms: int
    """Time of the signal that led to the order, or to the position that was closed."""
    kind: str
    """open, close, or what closed it: stop_loss, take_profit, stop_out, manual, other."""
    number: int
    """The how-manieth of these."""


@dataclass(frozen=True, slots=True)
class FillDifference:
    """missing: the model has it, live has not. extra: live has it alone. different: both, other
    side, volume, price or charge."""

    kind: Literal["missing", "extra", "different"]
    key: Key
    live: Deal | None
    modelled: Deal | None
    cause: Cause
    detail: str


@dataclass(slots=True)
class FillParity:
    """What came of comparing the fills of a span. Lists have one number per fill that both have."""

    live: int = 0
    modelled: int = 0
    matched: int = 0
    differences: list[FillDifference] = field(default_factory=list)
    later_ms: list[int] = field(default_factory=list)
    """How much later than its signal (market orders), or than the model (others), live filled."""
    by_latency_points: list[float] = field(default_factory=list)
    """How much worse live's price was since it filled later than the model did."""
    by_slippage_points: list[float] = field(default_factory=list)
    """How much worse than the quotes of that moment; 0 is what the model gives there."""
    charged: float = 0.0
    """Commission, fee and swap of live fills; negative: paid."""
    charged_modelled: float = 0.0

    @property
    def compared(self) -> int:
        return self.matched + len(self.differences)


def keyed(
    deals: Iterable[Deal],
    intents: Mapping[int, OrderIntent],
    signal_ms: Callable[[OrderIntent], int | None],
) -> Iterator[tuple[Key, Deal]]:
    """Deals by what they are; those of intents that are not known are left out."""
    seen: Counter[tuple[str, str, int, str]] = Counter()
    openers: dict[int, OrderIntent] = {}
    for deal in deals:
        intent = intents.get(deal.magic)
        ours = deal.reason == EXPERT
        if intent is not None and ours and intent.verb == "open" and deal.entry != 1:
            openers[deal.position_id] = intent
        if intent is None or not ours:
            intent = openers.get(deal.position_id, intent)
        moment = signal_ms(intent) if intent is not None else None
        if intent is None or moment is None:
            continue
        kind = ("open" if intent.verb == "open" else "close") if ours else why_closed(deal)
        what = (intent.symbol, intent.leg, moment, kind)
        seen[what] += 1
        yield Key(*what, seen[what]), deal


@dataclass(frozen=True, slots=True)
class FillEvidence:
    """What is known beside the two lists."""

    quotes: Callable[[str, int], Sequence[Quote]]
    """Quotes that a fill of (symbol, UTC ms) could have met."""
    point: Callable[[str], float]
    signals_differ: Callable[[Key], bool]
    """Whether the signal itself is in one of the runs alone."""
    refused: Callable[[Key], str]
    """Why live did not act on a signal, as execution told; or empty."""
    pending: Callable[[Key], bool]
    """Whether an order waited at the broker: its fill is a matter of ticks, not of latency."""


def compare(
    live: Sequence[tuple[Key, Deal]], modelled: Sequence[tuple[Key, Deal]], evidence: FillEvidence
) -> FillParity:
    """Fill by fill."""
    found = FillParity(len(live), len(modelled))
    ours, theirs = dict(live), dict(modelled)
    for key in sorted({*ours, *theirs}, key=lambda key: (key.signal_ms, key)):
        deal, model = ours.get(key), theirs.get(key)
        if deal is not None and model is not None:
            _both(found, key, deal, model, evidence)
        else:
            found.differences.append(_alone(key, deal, model, evidence))
    return found


def _alone(
    key: Key, live: Deal | None, modelled: Deal | None, evidence: FillEvidence
) -> FillDifference:
    kind: Literal["missing", "extra"] = "missing" if live is None else "extra"
    if evidence.signals_differ(key):
        return FillDifference(kind, key, live, modelled, Cause.ACCOUNT, "its signal differs")
    refused = evidence.refused(key) if live is None else ""
    detail = refused or (
        "the broker did not fill it" if live is None else "the model did not fill it"
    )
    return FillDifference(kind, key, live, modelled, Cause.ACCOUNT, detail)


def _both(found: FillParity, key: Key, live: Deal, modelled: Deal, evidence: FillEvidence) -> None:
    charged, expected = _charged(live), _charged(modelled)
    found.charged += charged
    found.charged_modelled += expected
    direct = key.kind in ("open", "close") and not evidence.pending(key)
    begun_ms = key.signal_ms if direct else modelled.event_time_ms
    found.later_ms.append(live.event_time_ms - begun_ms)
    slipped = _slipped(live, modelled, evidence, direct=direct)
    worse = _worse(live.price - modelled.price, live.type) / evidence.point(live.symbol)
    found.by_slippage_points.append(slipped or 0.0)
    found.by_latency_points.append(worse - (slipped or 0.0))

    def differs(cause: Cause, detail: str) -> None:
        found.differences.append(FillDifference("different", key, live, modelled, cause, detail))

    if live.type != modelled.type:
        differs(Cause.ACCOUNT, "another side")
    elif abs(live.volume_lots - modelled.volume_lots) > DUST_LOTS:
        differs(
            Cause.ACCOUNT,
            f"{live.volume_lots:g} lots, {modelled.volume_lots:g} in the model: sized by another "
            "account or price, or filled in part",
        )
    elif slipped is None:
        differs(Cause.DATA, "no quote of that moment was recorded")
    elif abs(slipped) > HALF_POINT:
        differs(Cause.TIMING, f"{slipped:+.1f} points worse than the quotes of that moment")
    elif abs(charged - expected) > CENT:
        differs(Cause.COSTS, f"charged {charged:.2f}, {expected:.2f} in the model")
    else:
        found.matched += 1


def _slipped(live: Deal, modelled: Deal, evidence: FillEvidence, *, direct: bool) -> float | None:
    """Points by which a fill was worse than what was quoted; None: nothing was recorded.

    What waited at the broker (stops, targets, pending orders) may be filled at the level itself, as
    the model's is: the nearer of the two counts.
    """
    prices = [quote.price(live.type) for quote in evidence.quotes(live.symbol, live.event_time_ms)]
    if not direct:
        prices.append(modelled.price)
    if not prices:
        return None
    point = evidence.point(live.symbol)
    return min((_worse(live.price - one, live.type) / point for one in prices), key=abs)


def _worse(difference: float, side: int) -> float:
    """A buy is worse when dearer, a sell when cheaper."""
    return -difference if side else difference


def _charged(deal: Deal) -> float:
    return deal.commission + deal.fee + deal.swap
