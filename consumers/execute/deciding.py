"""The next step from what a target owns to what it wants: one intent at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from consumers.execute import checks, stops
from consumers.execute.memory import Memory, Target
from consumers.execute.sending import Plan, open_intent, terms_of, waits
from consumers.execute.sizing import STEP_SLACK, Refused, Wanted, lots_of
from events.accounting import BUY, SELL
from events.executing import OrderIntent
from events.market import Instrument
from events.ownership import DUST_LOTS, Held, held_by, held_lots, net_lots

ORDERS_MAX = 50
"""Intents of one signal; a volume above the symbol's largest order takes several."""
WAIT_MS = 60_000
"""So long an entry waits for facts, prices or a sign of the account before it is refused."""
NO_ANSWER_MS = 60_000
"""Behind the life of an intent: by then its sender should have said something."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry that may be asked for."""

    instrument: Instrument
    lots: float
    price: float


class Deciding:
    """Steps of the targets of one account, now."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._now_ms = memory.now_ms

    def step(self, target: Target) -> Iterator[OrderIntent]:
        """At most one intent; the target's state says how it stands."""
        if target["intent"]:
            self._overdue(target)
            return
        owned = held_lots(self._memory.holdings, target["owner"])
        if waits(target, self._now_ms):
            entry = target["state"] == "wanted" and target["side"] * owned >= 0
            if entry and target["side"] and not target["order"] and self._late(target):
                _expire(target)
            return
        if target["order"]:
            yield from self._pending(target)
            return
        if target["state"] in ("retired", "refused"):
            return
        off = checks.switched_off(self._memory, target["strategy"])
        if off:
            if target["state"] in ("wanted", "unknown"):
                _refuse(target, off)
            return
        try:
            yield from self._towards(target, owned)
        except Refused as refused:
            self._refused(target, refused)

    def _overdue(self, target: Target) -> None:
        """Nobody answers: nothing more is asked for, and that is said."""
        intent = self._memory.intents.get(target["intent"])
        if intent is None:
            target["intent"] = 0
        elif not intent["state"] and self._now_ms > intent["valid_until_ms"] + NO_ANSWER_MS:
            target["state"] = "unknown"
            target["reason"] = "the order sender does not answer: does the producer run?"

    def _pending(self, target: Target) -> Iterator[OrderIntent]:
        """A pending order stands: it goes when it is not what is wanted any more."""
        late = self._late(target)
        wanted = target["state"] not in ("retired", "refused", "expired") and not late
        off = checks.switched_off(self._memory, target["strategy"])
        if off:
            target["reason"] = f"a pending order stands, and {off}"
            return
        if wanted and target["order_terms"] == terms_of(target):
            target["state"], target["reason"] = "wanted", "a pending order stands"
            return
        if late and target["state"] in ("wanted", "reached", "unknown"):
            target["state"], target["reason"] = "expired", "its time is over"
        yield self._plan(target, Plan("cancel", order=target["order"]))

    def _towards(self, target: Target, owned: float) -> Iterator[OrderIntent]:
        sign = target["side"]
        if owned * sign < 0 or (not sign and owned):
            yield self._close(target, owned, abs(owned))
            return
        if not sign:
            _reached(target)
            yield from stops.follow(self._memory, target)
            return
        if target["state"] == "expired" or (self._late(target) and target["state"] != "reached"):
            _expire(target)
            return
        lots = self._sized(target, owned)
        difference = round(lots - abs(owned), 8)
        if difference < -DUST_LOTS:
            yield self._close(target, owned, -difference)
        elif difference > DUST_LOTS and not _enough(target):
            yield self._open(target, difference)
        else:
            _reached(target)
            yield from stops.follow(self._memory, target)

    def _late(self, target: Target) -> bool:
        until_ms = target["valid_until_ms"]
        return until_ms is not None and self._now_ms > until_ms

    def _sized(self, target: Target, owned: float) -> float:
        """The volume that is wanted; decided once per signal."""
        lots = target["lots"]
        if lots is None:
            lots = target["lots"] = self._entry(target).lots
        return lots

    def _entry(self, target: Target) -> _Entry:
        """Raises Refused."""
        memory, symbol = self._memory, target["symbol"]
        instrument, account = memory.instrument(symbol), memory.account
        if instrument is None:
            raise Refused(f"the facts of {symbol} are unknown: is it a symbol of this terminal?",
                          passing=True)  # fmt: skip
        price = self._price(target)
        if price is None or account is None:
            raise Refused(f"no price of {symbol} is known", passing=True)
        if account["deals_pending"]:
            raise Refused("deals of the past are still being pulled", passing=True)
        lots = target["lots"]
        if lots is None:
            kind, amount = target["size"]
            lots = lots_of(
                Wanted(kind, amount), instrument, memory.market,
                side=BUY if target["side"] > 0 else SELL, price=price,
                stop_loss=target["stop_loss"] or None, equity=account["equity"],
            )  # fmt: skip
        return _Entry(instrument, lots, price)

    def _price(self, target: Target) -> float | None:
        """Where an entry would be: its own price, else the far side of the spread."""
        for own in (target["price_limit"], target["price_stop"]):
            if own is not None:
                return own
        quote = self._memory.price(target["symbol"])
        if quote is None:
            return None
        return quote[1] if target["side"] > 0 else quote[0]

    def _open(self, target: Target, lots: float) -> OrderIntent:
        """Raises Refused."""
        entry = self._entry(target)
        self._count(target)
        whole, lots = lots, min(lots, entry.instrument.volume_max_lots or lots)
        if lots < entry.instrument.volume_min_lots - STEP_SLACK:
            raise Refused(f"{lots:g} lots more are below the smallest volume")
        checks.check_entry(
            self._memory, target, entry.instrument, lots=whole, order_lots=lots, price=entry.price
        )
        target["waiting_since_ms"] = 0  # should it wait again, its time begins anew
        levels = stops.of_entry(self._memory, target, lots)
        decided_at = target["ask"] if target["side"] > 0 else target["bid"]
        target["state"], target["reason"] = "wanted", ""
        return self._plan(
            target,
            Plan("open", side=BUY if target["side"] > 0 else SELL, lots=lots, stops=levels,
                 price=decided_at or entry.price, pending=_is_pending(target)),
        )  # fmt: skip

    def _close(self, target: Target, owned: float, excess: float) -> OrderIntent:
        """The oldest position first, a whole one where it fits. Raises Refused."""
        side = SELL if owned > 0 else BUY
        key, held = held_by(self._memory.holdings, target["owner"])[0]
        lots = min(excess, abs(held["parts"][target["owner"]]["lots"]))
        instrument = self._memory.instrument(target["symbol"])
        if instrument is not None and instrument.volume_max_lots:
            lots = min(lots, instrument.volume_max_lots)
        target["state"], target["reason"] = "wanted", ""
        quote = self._memory.price(target["symbol"])
        price = 0.0 if quote is None else quote[0] if side == SELL else quote[1]
        if self._memory.hedging:
            return self._plan(
                target,
                Plan("close", side=side, lots=lots, position=held["ticket"], holding=key,
                     price=price),
            )  # fmt: skip
        return self._close_netted(target, held, side=side, lots=lots, price=price)

    def _close_netted(
        self, target: Target, held: Held, *, side: int, lots: float, price: float
    ) -> OrderIntent:
        """Of a part: what it does to the whole position says whether it closes or opens."""
        signed = lots if side == BUY else -lots
        net = net_lots(held)
        smaller = abs(net + signed) < abs(net) - DUST_LOTS and net * signed < 0
        if smaller and abs(signed) > abs(net) + DUST_LOTS:
            lots, signed = abs(net), -net  # first what closes, then what would open
        levels = [0.0, 0.0]
        if not smaller:
            reason = checks.halted(self._memory, target["symbol"])
            if reason:
                raise Refused(f"closing this part enlarges the whole position: {reason}")
            levels = stops.after(self._memory, target, signed)
        return self._plan(
            target,
            Plan("close" if smaller else "open", side=side, lots=lots, stops=levels, price=price,
                 position=held["ticket"] if smaller else 0, holding=target["symbol"]),
        )  # fmt: skip

    def _count(self, target: Target) -> None:
        if target["orders"] >= ORDERS_MAX:
            raise Refused(f"{ORDERS_MAX} orders for one signal are too many")
        target["orders"] += 1

    def _plan(self, target: Target, plan: Plan) -> OrderIntent:
        return open_intent(self._memory, target, plan)

    def _refused(self, target: Target, refused: Refused) -> None:
        """What passes is waited for, for a while."""
        if refused.passing:
            since_ms = target["waiting_since_ms"] or self._now_ms
            target["waiting_since_ms"] = since_ms
            if self._now_ms - since_ms < WAIT_MS:
                target["state"], target["reason"] = "wanted", f"waiting: {refused}"
                return
        _refuse(target, str(refused))


def _is_pending(target: Target) -> bool:
    return target["price_limit"] is not None or target["price_stop"] is not None


def _enough(target: Target) -> bool:
    """A target that was reached once is topped up by nothing but a new signal."""
    return target["state"] == "reached"


def _reached(target: Target) -> None:
    if target["state"] != "reached":
        target["reason"] = ""
    target["state"], target["waiting_since_ms"] = "reached", 0


def _expire(target: Target) -> None:
    target["state"] = "expired"
    target["reason"] = "its time was over before it was reached"


def _refuse(target: Target, reason: str) -> None:
    target["state"], target["reason"] = "refused", reason
