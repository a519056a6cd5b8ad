"""Stop-loss and take-profit of what is held: with the entry, and moved when a signal says so.

On hedging accounts every position has those of its own target. On accounts that net there is one
position per symbol: it gets the tightest stop and the nearest target of all that hold a part on
its side. Whichever is reached first closes the whole position, and every target on it retires.
"""

from __future__ import annotations

from collections.abc import Iterator

from consumers.execute.memory import Memory, Target
from consumers.execute.sending import Plan, open_intent
from events.executing import OrderIntent
from events.ownership import DUST_LOTS, Held, held_by, net_lots


def of_entry(memory: Memory, target: Target, lots: float) -> list[float]:
    """What an entry of so many lots carries."""
    own = [target["stop_loss"], target["take_profit"]]
    if memory.hedging:
        return own
    return after(memory, target, lots * target["side"])


def after(memory: Memory, target: Target, signed: float) -> list[float]:
    """What the one position of a symbol needs once a deal of `signed` lots is done for a target."""
    held = memory.holdings.get(target["symbol"])
    parts = {} if held is None else {o: p["lots"] for o, p in held["parts"].items()}
    net = (0.0 if held is None else net_lots(held)) + signed
    if net * signed <= 0:
        return [0.0, 0.0]  # it only makes the position smaller: stops of the other side stay
    parts[target["owner"]] = parts.get(target["owner"], 0.0) + signed
    return _together(memory, parts, net)


def follow(memory: Memory, target: Target) -> Iterator[OrderIntent]:
    """Move the stops of what a target holds to where they are wanted: at most one intent."""
    if not memory.hedging:
        held = memory.holdings.get(target["symbol"])
        if held is not None and held["position"] and abs(net_lots(held)) >= DUST_LOTS:
            parts = {owner: part["lots"] for owner, part in held["parts"].items()}
            wanted = _together(memory, parts, net_lots(held))
            yield from _moved(memory, target, target["symbol"], held, wanted)
        return
    for key, held in held_by(memory.holdings, target["owner"]):
        wanted = [target["stop_loss"], target["take_profit"]]
        moved = list(_moved(memory, target, key, held, wanted))
        if moved:
            yield from moved
            return


def _moved(
    memory: Memory, target: Target, key: str, held: Held, wanted: list[float]
) -> Iterator[OrderIntent]:
    if held["stops"] == wanted or not held["ticket"]:
        return
    plan = Plan("modify", stops=wanted, position=held["ticket"], holding=key)
    yield open_intent(memory, target, plan)


def _together(memory: Memory, parts: dict[int, float], net: float) -> list[float]:
    """The tightest stop and the nearest target of the parts on the net position's side."""
    long = net > 0
    stop, profit = 0.0, 0.0
    for owner, lots in parts.items():
        one = memory.of_owner(owner)
        if one is None or abs(lots) < DUST_LOTS or (lots > 0) != long:
            continue
        if one["stop_loss"]:
            better = max if long else min
            stop = better(stop, one["stop_loss"]) if stop else one["stop_loss"]
        if one["take_profit"]:
            nearer = min if long else max
            profit = nearer(profit, one["take_profit"]) if profit else one["take_profit"]
    return [stop, profit]
