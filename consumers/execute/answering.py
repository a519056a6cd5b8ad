"""What answers, deals and finished orders make of intents and targets."""

from __future__ import annotations

from consumers.execute.memory import Intent, Memory, Target
from events.executing import OrderAnswer
from events.magic import parts_of
from events.ownership import DUST_LOTS, held_lots
from events.trading import Deal, OrderDone, Orders

APART_MS = 10_000
"""Answers, deals and the book are no one snapshot: so long they may tell different things."""
TRIES_MAX = 4
"""Intents of one signal that may come to nothing."""
CLOSE_TRIES_MAX = 20
RESTS_MAX = 1
"""How often a partial fill is topped up; what then is missing is done without."""
BACK_OFF_MS = 2_000
BACK_OFF_GROWTH = 4
BACK_OFF_MS_MAX = 60_000
AGAIN_MS = 10_000
"""A refused target that is signalled again unchanged waits so long: signals may come per tick."""
CLOSED_MS = 300_000
"""A closed market is asked again so often."""
MARKET_CLOSED, NO_ANSWER = 10018, 0
_PASSING = frozenset(
    {NO_ANSWER, 10004, 10006, 10012, MARKET_CLOSED, 10020, 10021, 10023, 10024, 10028, 10029,
     10031, 10036, 10038, 10039}
)  # fmt: skip
"""Codes after which the same may be asked again later (MQL5 reference, "Return codes of the trade
server"); 0: no broker was asked."""
FIRST_PENDING = 2
"""MT5's ORDER_TYPE: 0 and 1 are market orders."""
_CANCELLED, _REJECTED, _EXPIRED = 2, 5, 6
"""MT5's ORDER_STATE."""


def take_answer(memory: Memory, answer: OrderAnswer) -> Target | None:
    """The target that an answer is about, changed; None: it is about none of ours."""
    intent = memory.intents.get(answer.intent_id)
    target = None if intent is None else memory.target(intent["key"])
    if intent is None or target is None:
        return None
    if intent["answered"] >= 0:
        return None  # it had its final answer
    if answer.state == "sent":
        intent["state"] = "sent"
    elif answer.state == "unknown":
        intent["state"] = "unknown"
        target["state"] = "unknown"
        target["reason"] = answer.detail or "the answer was lost"
    elif answer.state == "placed":
        _placed(target, intent, answer)
    else:
        _final(memory, target, intent, answer)
    return target


def _placed(target: Target, intent: Intent, answer: OrderAnswer) -> None:
    """A pending order stands; a market order that was accepted is still under way."""
    intent["state"] = "placed"
    if not intent["terms"] or not answer.order:
        return
    target["order"], target["order_terms"] = answer.order, intent["terms"]
    target["order_intent"] = answer.intent_id
    target["tries"] = 0
    _known_again(target)
    if target["intent"] == answer.intent_id:
        target["intent"] = 0


def _final(memory: Memory, target: Target, intent: Intent, answer: OrderAnswer) -> None:
    intent["state"], intent["answered"] = answer.state, max(0.0, answer.volume_lots)
    intent["until_ms"] = memory.now_ms + APART_MS
    _known_again(target)
    if intent["verb"] in ("open", "close") and intent["filled"] < intent["answered"] - DUST_LOTS:
        intent["detail"], intent["retcode"] = answer.detail, answer.retcode
        return  # its deals are still to come
    end(memory, target, answer.intent_id, detail=answer.detail, retcode=answer.retcode)


def _known_again(target: Target) -> None:
    if target["state"] == "unknown":
        target["state"], target["reason"] = "wanted", ""


def take_fill(memory: Memory, deal: Deal) -> None:
    """A deal of an intent of ours; its end may have waited for it."""
    intent = memory.intents.get(deal.magic)
    target = None if intent is None else memory.target(intent["key"])
    if intent is None or target is None:
        return
    intent["filled"] = round(intent["filled"] + deal.volume_lots, 8)
    whole = intent["filled"] >= intent["lots"] - DUST_LOTS
    if intent["state"] == "placed" and intent["terms"] and whole:
        end(memory, target, deal.magic)
    elif 0 <= intent["answered"] <= intent["filled"] + DUST_LOTS:
        end(memory, target, deal.magic, detail=intent["detail"], retcode=intent["retcode"])


def take_order_done(memory: Memory, event: OrderDone) -> None:
    """A pending order of ours ended otherwise than by us."""
    order = event.order
    intent = memory.intents.get(order.magic)
    target = None if intent is None else memory.target(intent["key"])
    if intent is None or target is None or target["order"] != order.ticket:
        return
    if order.state not in (_CANCELLED, _REJECTED, _EXPIRED):
        return  # filled: its deals tell
    asked = target["intent"] and memory.intents[target["intent"]]["verb"] == "cancel"
    drop_order(memory, target)
    if asked or target["state"] not in ("wanted", "reached", "unknown"):
        return
    if order.state == _EXPIRED:
        target["state"], target["reason"] = "expired", "the pending order expired"
    elif order.state == _REJECTED:
        target["state"], target["reason"] = "refused", "the broker rejected the pending order"
    else:
        target["state"], target["reason"] = "retired", "manual"


def take_orders(memory: Memory, event: Orders) -> list[Target]:
    """Notice pending orders with a magic of ours that nobody remembers: memory was lost."""
    seen: dict[int, list[int]] = {}
    for order in event.orders:
        ours = parts_of(order.magic)
        if ours is None or order.magic in memory.intents or order.type < FIRST_PENDING:
            continue
        target = memory.of_owner(ours[0])
        if target is None or target["order"] != order.ticket:
            before = memory.strays.get(ours[0])
            known = before is not None and before[0] == order.ticket
            since_ms = before[2] if before is not None and known else memory.now_ms
            seen[ours[0]] = [order.ticket, order.magic, since_ms]
    memory.strays.clear()
    memory.strays.update(seen)
    return []


def take_strays(memory: Memory) -> list[Target]:
    """Give them to their targets, who do not want them: an order that is known again is cancelled
    and, where it is wanted, placed anew. Not at once: a look may be older than an answer."""
    found = []
    for owner, (ticket, magic, since_ms) in list(memory.strays.items()):
        target = memory.of_owner(owner)
        if target is None or target["order"] or memory.now_ms - since_ms < APART_MS:
            continue
        del memory.strays[owner]
        target["order"], target["order_intent"], target["order_terms"] = ticket, magic, []
        found.append(target)
    return found


def drop_order(memory: Memory, target: Target) -> None:
    """No pending order stands for the target any more."""
    memory.intents.pop(target["order_intent"], None)
    target["order"], target["order_intent"], target["order_terms"] = 0, 0, []


def give_up_deals(memory: Memory) -> list[Target]:
    """Intents whose deals did not come for so long end: the book decides what is held."""
    changed = []
    for intent_id, intent in list(memory.intents.items()):
        if intent["answered"] >= 0 and memory.now_ms >= intent["until_ms"]:
            target = memory.target(intent["key"])
            if target is not None:
                detail, retcode = intent["detail"], intent["retcode"]
                end(memory, target, intent_id, detail=detail, retcode=retcode)
                changed.append(target)
            memory.intents.pop(intent_id, None)
    return changed


def end(
    memory: Memory, target: Target, intent_id: int, *, detail: str = "", retcode: int = 0
) -> None:
    """An intent is over: what it left undone is tried again, done without, or refused."""
    intent = memory.intents.pop(intent_id)
    if target["order_intent"] == intent_id:
        target["order"], target["order_intent"], target["order_terms"] = 0, 0, []
    if target["intent"] == intent_id:
        target["intent"] = 0
    deals = intent["verb"] in ("open", "close")  # one of them without a deal came to nothing
    failed = intent["filled"] < DUST_LOTS and (deals or intent["state"] in ("refused", "expired"))
    if failed:
        _failed(memory, target, intent, detail or intent["state"], retcode)
    elif intent["verb"] == "cancel":
        drop_order(memory, target)
    elif intent["verb"] == "modify":
        _moved(memory, intent)
    elif intent["filled"] < intent["lots"] - DUST_LOTS:
        _partly(memory, target, intent)
    else:
        target["tries"], target["rests"] = 0, 0


def _moved(memory: Memory, intent: Intent) -> None:
    held = memory.holdings.get(intent["holding"])
    if held is not None:
        held["stops"] = list(intent["stops"])


def _partly(memory: Memory, target: Target, intent: Intent) -> None:
    """A part was filled: the rest once, and then that is what is wanted."""
    if not intent["opens"]:
        return
    target["rests"] += 1
    if target["rests"] > RESTS_MAX and target["lots"] is not None:
        owned = abs(held_lots(memory.holdings, target["owner"]))
        target["state"] = "reached"
        target["reason"] = f"{owned:g} of {target['lots']:g} lots were filled, the rest is let be"
        target["lots"] = owned


def _failed(memory: Memory, target: Target, intent: Intent, detail: str, retcode: int) -> None:
    opens, closes = intent["opens"], intent["verb"] in ("close", "cancel")
    target["tries"] += 1
    shut = retcode == MARKET_CLOSED
    if shut and closes:
        target["tries"] -= 1  # nobody can close before it opens
    most = CLOSE_TRIES_MAX if closes else TRIES_MAX
    passing = retcode in _PASSING or closes
    if passing and target["tries"] < most:
        growing = BACK_OFF_MS * BACK_OFF_GROWTH ** min(target["tries"] - 1, 4)
        wait_ms = CLOSED_MS if shut else min(growing, BACK_OFF_MS_MAX)
        target["not_before_ms"] = memory.now_ms + int(wait_ms)
        target["reason"] = f"tried again in {wait_ms / 1000:g} s: {detail}"
        return
    if intent["verb"] == "modify":
        _moved(memory, intent)  # asked for in vain: not again until another signal
        target["reason"] = f"stops were not moved: {detail}"
        return
    if intent["verb"] == "cancel":  # it stands, and must not be forgotten
        target["state"] = "unknown"
        target["reason"] = f"the pending order {target['order']} was not cancelled: {detail}"
        target["not_before_ms"] = memory.now_ms + CLOSED_MS
        return
    target["not_before_ms"] = memory.now_ms + AGAIN_MS
    if opens or closes or intent["verb"] == "open":
        target["state"], target["reason"] = "refused", detail
