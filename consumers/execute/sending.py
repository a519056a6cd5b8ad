"""From a step that was decided to an `OrderIntent`, and what is remembered of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from consumers.execute.memory import Intent, Memory, Target
from events.executing import OrderIntent
from events.magic import comment_of, magic_of, number_after

INTENT_LIFE_MS = 60_000
"""An intent that is sent later than this acts on a world that is gone."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A request that is worth asking for. Prices and stops 0: none."""

    verb: Literal["open", "close", "modify", "cancel"]
    side: int = 0
    lots: float = 0.0
    stops: list[float] = field(default_factory=lambda: [0.0, 0.0])
    price: float = 0.0
    position: int = 0
    order: int = 0
    holding: str = ""
    """Key of the holding it works on."""
    pending: bool = False


def waits(target: Target, now_ms: int) -> bool:
    """Whether its next try is still to come."""
    return now_ms < target["not_before_ms"]


def open_intent(memory: Memory, target: Target, plan: Plan) -> OrderIntent:
    """The intent of a plan, which is under way from here on."""
    now_ms = memory.now_ms
    number = number_after(target["last_number"], now_ms)
    magic = magic_of(target["owner"], number)
    until_ms = now_ms + INTENT_LIFE_MS
    opens = plan.verb == "open" and not plan.holding
    if opens and target["valid_until_ms"] is not None:
        until_ms = min(until_ms, target["valid_until_ms"])
    target["last_number"], target["intent"] = number, magic
    memory.intents[magic] = Intent(
        key=target["key"], verb=plan.verb, opens=opens, lots=plan.lots, filled=0.0,
        answered=-1.0, state="", valid_until_ms=until_ms, holding=plan.holding,
        stops=list(plan.stops), terms=terms_of(target) if plan.pending else [], until_ms=0,
        detail="", retcode=0,
    )  # fmt: skip
    return OrderIntent(
        event_time_ms=now_ms,
        intent_id=magic,
        login=memory.login,
        strategy=target["strategy"],
        symbol=target["symbol"],
        leg=target["leg"],
        verb=plan.verb,
        side=plan.side,
        volume_lots=plan.lots,
        price_limit=target["price_limit"] if plan.pending else None,
        price_stop=target["price_stop"] if plan.pending else None,
        stop_loss=plan.stops[0] or None,
        take_profit=plan.stops[1] or None,
        deviation_points=target["deviation_points"] if opens else None,
        valid_until_ms=until_ms,
        expires_ms=target["valid_until_ms"] if plan.pending else None,
        price_seen=plan.price,
        magic=magic,
        comment=comment_of(target["strategy"], target["leg"]),
        position=plan.position,
        order=plan.order,
        mode="live" if memory.switch["mode"] == "live" else "paper",
        signal=target["signal"],
        reason=target["reason"] or plan.verb,
    )


def terms_of(target: Target) -> list[Any]:
    """What a pending order stands for: other terms need another order."""
    return [
        target["side"], list(target["size"]), target["price_limit"], target["price_stop"],
        target["stop_loss"], target["take_profit"], target["valid_until_ms"],
    ]  # fmt: skip
