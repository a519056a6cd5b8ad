"""What a new signal makes of a target, and how targets are told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from consumers.execute.memory import TARGETS_MAX, Memory, Target
from consumers.execute.sending import terms_of
from consumers.execute.sizing import Refused, Wanted, wanted_size
from events.alerts import Alert
from events.decisions import TradeSignal
from events.executing import TargetState
from events.magic import owner_of
from events.ownership import held_lots

_SIDES = {"long": 1, "short": -1, "flat": 0}
_UNDER_WAY = ("wanted", "reached", "unknown")
REPEATED = "a repeated {} is no new signal"


def take_signal(memory: Memory, signal: TradeSignal, place: str) -> Target:
    """The target as the signal wants it. Raises Refused where nothing can be remembered."""
    target = memory.target(signal.key)
    if target is None:
        target = _new(memory, signal)
    side = _SIDES[signal.target]
    if _repeats(target, side, signal.target):
        return target
    before, terms = target["state"], terms_of(target)
    size: Wanted | None = None
    problem = ""
    try:
        size = wanted_size(signal)
    except Refused as refused:
        problem = str(refused)
    owned = held_lots(memory.holdings, target["owner"])
    kept = owned * side > 0 and before in _UNDER_WAY
    same_size = size is not None and target["size"] == [size.kind, size.amount]
    going_on = before in _UNDER_WAY and side == target["side"] and same_size
    if not going_on:
        target["lots"] = None
    elif before == "reached" and kept:
        target["lots"] = abs(owned)  # what changed since (equity, prices) resizes nothing
    _renew(target, signal, place, kept=kept)
    if size is not None:
        target["size"] = [size.kind, size.amount]
    if going_on and before == "reached" and kept:
        target["state"] = "reached"
    if terms_of(target) != terms:
        target["not_before_ms"] = 0
    _take_price(memory, signal)
    if problem:
        target["state"], target["reason"] = "refused", problem
    return target


def _take_price(memory: Memory, signal: TradeSignal) -> None:
    """What it was decided at is known too."""
    if signal.bid is not None and signal.ask is not None:
        memory.take_price(signal.symbol, signal.bid, signal.ask, signal.event_time_ms)


def _repeats(target: Target, side: int, name: str) -> bool:
    """Whether a signal only says again what the strategy had been saying over and over when
    somebody else closed it: that is no new signal. One that had said it once means it anew."""
    if not side or side != target["side"]:
        target["repeated"] = False
    elif target["state"] in _UNDER_WAY:
        target["repeated"] = True
    elif target["state"] == "retired" and target.get("repeated", False):
        target["reason"] = f"{target['reason'].partition(';')[0]}; {REPEATED.format(name)}"
        return True
    return False


def _renew(target: Target, signal: TradeSignal, place: str, *, kept: bool) -> None:
    """Everything else of it. A position that is kept keeps its stops where the signal names
    none: only an entry has to bring them."""
    stop, profit = signal.stop_loss or 0.0, signal.take_profit or 0.0
    target["side"] = _SIDES[signal.target]
    target["stop_loss"] = stop or (target["stop_loss"] if kept else 0.0)
    target["take_profit"] = profit or (target["take_profit"] if kept else 0.0)
    target["price_limit"], target["price_stop"] = signal.price_limit, signal.price_stop
    target["no_stop"], target["valid_until_ms"] = signal.no_stop, signal.valid_until_ms
    target["deviation_points"] = signal.price_deviation_points_max
    target["bid"], target["ask"] = signal.bid or 0.0, signal.ask or 0.0
    target["at_ms"], target["signal"] = signal.event_time_ms, place
    if not (target["state"] == "unknown" and target["intent"]):
        target["state"], target["reason"] = "wanted", ""
    target["tries"] = target["orders"] = target["rests"] = target["waiting_since_ms"] = 0


def _new(memory: Memory, signal: TradeSignal) -> Target:
    owner = owner_of(signal.strategy, signal.symbol, signal.leg)
    taken = memory.owners.get(owner)
    if taken not in (None, signal.key):
        raise Refused(f"its number is that of {taken}: give it another leg or name")
    _make_room(memory)
    target = Target(
        key=signal.key, strategy=signal.strategy, symbol=signal.symbol, leg=signal.leg,
        owner=owner, side=0, size=[], lots=None, stop_loss=0.0, take_profit=0.0,
        price_limit=None, price_stop=None, no_stop=False, valid_until_ms=None,
        deviation_points=None, bid=0.0, ask=0.0, at_ms=0, signal="", state="reached", reason="",
        tries=0, orders=0, rests=0, not_before_ms=0, waiting_since_ms=0, order=0, order_terms=[],
        order_intent=0, intent=0, last_number=0, told=[], alarmed=False,
        repeated=False,
    )  # fmt: skip
    memory.add_target(target)
    return target


def _make_room(memory: Memory) -> None:
    """Forget the target that has been idle for longest, once there are too many. Raises Refused."""
    if len(memory.owners) < TARGETS_MAX:
        return
    targets = memory.targets()
    if len(targets) < TARGETS_MAX:
        return
    idle = [
        one for one in targets
        if not (one["intent"] or one["order"] or held_lots(memory.holdings, one["owner"]))
    ]  # fmt: skip
    if not idle:
        raise Refused(f"{TARGETS_MAX} targets are open already")
    memory.forget_target(min(idle, key=lambda one: (one["at_ms"], one["key"]))["key"])


def retire(target: Target, reason: str, *, owned_before: float) -> None:
    """Somebody else closed a part of what it holds: it opens nothing until a new signal. One that
    wants just that, or the other side, goes on."""
    if target["side"] * owned_before > 0 and target["state"] not in ("refused", "expired"):
        target["state"], target["reason"] = "retired", reason


def tell(memory: Memory, target: Target) -> Iterator[TargetState | Alert]:
    """How it stands, where that is news; and what a human has to do about it."""
    owned = held_lots(memory.holdings, target["owner"])
    yield from _alarm(memory, target, owned)
    lots = target["lots"] or 0.0
    now: list[Any] = [target["state"], target["side"], lots, owned, target["reason"]]
    if now == target["told"]:
        return
    target["told"] = now
    yield TargetState(
        event_time_ms=memory.now_ms,
        login=memory.login,
        strategy=target["strategy"],
        symbol=target["symbol"],
        leg=target["leg"],
        state=target["state"],
        target="long" if target["side"] > 0 else "short" if target["side"] < 0 else "flat",
        volume_lots=lots,
        held_lots=owned,
        reason=target["reason"],
        signal=target["signal"],
    )


def _alarm(memory: Memory, target: Target, owned: float) -> Iterator[Alert]:
    """Something is held that is not wanted, or may be, and nothing more is tried."""
    stuck = target["state"] == "refused" and owned != 0 and owned * target["side"] <= 0
    if target["state"] == "unknown":
        intent = memory.intents.get(target["intent"])
        stuck = intent is None or not intent["state"]
    if stuck == target["alarmed"]:
        return
    target["alarmed"] = stuck
    yield Alert(
        event_time_ms=memory.now_ms,
        severity="critical",
        topic="execution",
        subject=f"{memory.login}/{target['key']}",
        text=f"target {target['key']} is {target['state']}, {owned:g} lots are held: "
        f"{target['reason'] or 'as wanted'}",
        cure="" if not stuck else "look at `bridgectl execution status`; close by hand if need be",
        resolved=not stuck,
    )


def refused_state(memory: Memory, signal: TradeSignal, place: str, reason: str) -> TargetState:
    """Of a signal that no target can be made of."""
    return TargetState(
        event_time_ms=memory.now_ms, login=memory.login, strategy=signal.strategy,
        symbol=signal.symbol, leg=signal.leg, state="refused", target=signal.target,
        reason=reason, signal=place,
    )  # fmt: skip
