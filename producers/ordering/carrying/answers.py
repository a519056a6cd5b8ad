"""What each answer of a broker or a terminal means for an order that was sent once. Pure.

The meaning of return codes is that of the MQL5 reference ("Return codes of the trade server"),
read through the same table as a flatten's; what follows differs, since an order that opens is
never repeated unless it was certainly not carried out.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum

from producers.guard.flatten.decisions import NAMES, Act, decide_close
from producers.terminals import constants as mt5
from producers.terminals.interface import NotSent, Reply, TerminalLost


@dataclass(frozen=True, slots=True)
class Result:
    """What came back of an order_send. `retcode` None: nothing, and `error` is the module's
    last_error(); `never_sent`: it certainly did nothing."""

    retcode: int | None
    error: tuple[int, str] = (1, "Success")
    never_sent: bool = False
    order: int = 0
    deal: int = 0
    volume_lots: float = 0.0
    price: float = 0.0
    comment: str = ""

    @property
    def text(self) -> str:
        """For people."""
        if self.retcode is None:
            code, text = self.error
            return text if self.never_sent else f"{text} ({code})"
        name = NAMES.get(self.retcode, "unknown code").replace("_", " ").lower()
        return f"{name} ({self.retcode})"


class Fate(Enum):
    """What an answer makes of an order."""

    DONE = "done"
    PART = "part"
    """A part is filled; whether the rest still works the account tells."""
    PLACED = "placed"
    AWAIT = "await"
    """Accepted; the deal follows."""
    UNKNOWN = "unknown"
    REFUSED = "refused"
    RETRY = "retry"
    """Certainly not carried out: once more with a fresh price."""
    FILLING = "filling"
    """The same with another filling mode."""
    COMMENT = "comment"
    """The same without a comment."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """`wait_s`: before it is tried again."""

    fate: Fate
    wait_s: float = 0.0


BACK_OFF_S = 1.0
BUSY_S = 0.3
QUOTE_S = 0.2
_RETRIES = {
    mt5.TRADE_RETCODE_REQUOTE: 0.0,
    mt5.TRADE_RETCODE_PRICE_CHANGED: 0.0,
    mt5.TRADE_RETCODE_PRICE_OFF: QUOTE_S,
    mt5.TRADE_RETCODE_TOO_MANY_REQUESTS: BACK_OFF_S,
    mt5.TRADE_RETCODE_LOCKED: BUSY_S,
    mt5.TRADE_RETCODE_CLOSE_ORDER_EXIST: BUSY_S,
}
_BY_PRICE = frozenset({mt5.TRADE_RETCODE_REQUOTE, mt5.TRADE_RETCODE_PRICE_CHANGED})
_BY_ACT = {
    Act.RECONCILE: Fate.UNKNOWN,
    Act.NEXT_FILLING: Fate.FILLING,
    Act.DROP_COMMENT: Fate.COMMENT,
}


def result_of(call: Future[Reply]) -> Result:
    """The answer of a call that is done. Never raises."""
    try:
        reply = call.result(timeout=0)
    except NotSent as error:
        return Result(None, (mt5.RES_E_INTERNAL_FAIL_CONNECT, str(error)), never_sent=True)
    except TerminalLost as error:
        return Result(None, (mt5.RES_E_INTERNAL_FAIL_RECEIVE, str(error)))
    told = reply.value
    if told is None:
        return Result(None, reply.error)
    return Result(
        int(told.retcode), reply.error, order=int(told.order), deal=int(told.deal),
        volume_lots=float(told.volume), price=float(told.price), comment=str(told.comment),
    )  # fmt: skip


def meaning_of(
    result: Result,
    attempt: int,
    *,
    verb: str,
    pending: bool,
    requotes_max: int = 5,
    busy_tries_max: int = 3,
) -> Meaning:
    """What follows from an answer. `attempt` counts, from 1, how often this very answer came."""
    if result.never_sent:
        return Meaning(Fate.REFUSED)
    retcode = result.retcode
    if retcode in _RETRIES:
        most = requotes_max if retcode in _BY_PRICE else busy_tries_max
        wait_s = _RETRIES[retcode] * attempt
        return Meaning(Fate.RETRY, wait_s) if attempt < most else Meaning(Fate.REFUSED)
    if retcode in (mt5.TRADE_RETCODE_DONE, mt5.TRADE_RETCODE_DONE_PARTIAL):
        return Meaning(_carried_out(result, verb, pending))
    if retcode == mt5.TRADE_RETCODE_PLACED:
        return Meaning(Fate.PLACED if pending else Fate.AWAIT)
    if retcode == mt5.TRADE_RETCODE_NO_CHANGES and verb == "modify":
        return Meaning(Fate.DONE)
    if retcode == mt5.TRADE_RETCODE_POSITION_CLOSED:
        return Meaning(Fate.REFUSED)
    if retcode == mt5.TRADE_RETCODE_CONNECTION:  # the link broke: before or after, who knows
        return Meaning(Fate.UNKNOWN)
    act = decide_close(retcode, result.error, attempt).act
    fate = _BY_ACT.get(act, Fate.REFUSED)
    if fate in (Fate.FILLING, Fate.COMMENT) and attempt > busy_tries_max:
        fate = Fate.REFUSED
    return Meaning(fate)


def _carried_out(result: Result, verb: str, pending: bool) -> Fate:
    if verb in ("modify", "cancel"):
        return Fate.DONE
    if pending:
        return Fate.PLACED if result.order else Fate.AWAIT
    if not result.order and not result.deal:  # carried out, and nothing is named: the account tells
        return Fate.AWAIT
    if result.volume_lots <= 0:
        return Fate.AWAIT
    return Fate.PART if result.retcode == mt5.TRADE_RETCODE_DONE_PARTIAL else Fate.DONE
