"""What each answer of a broker or a terminal means for a request that closes or cancels.

Pure tables. The meaning of every return code is that of the MQL5 reference ("Return codes of the
trade server"); what follows from it holds for requests that only reduce: a close that names its
position, a cancel that names its order. Whatever leaves open whether a request was carried out is
UNCERTAIN: positions, orders and deals are read before anything is sent again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from producers.terminals import constants as mt5


class Act(Enum):
    """What to do after an answer."""

    CONFIRM = "confirm"
    """Carried out, at least in part: read the position, close what remains."""
    AWAIT = "await"
    """Accepted and not carried out yet: look until the order is final, send nothing meanwhile."""
    RECONCILE = "reconcile"
    """Nobody knows: positions, orders and deals first, for longer than a late deal takes."""
    REREAD = "reread"
    """Our picture of it is old: read it again, then build the request anew."""
    RETRY = "retry"
    """Build it anew with a fresh price."""
    NEXT_FILLING = "next_filling"
    DROP_COMMENT = "drop_comment"
    SMALLER = "smaller"
    """Too much at once for the margin: the other leg first, or a part."""
    PARK = "park"
    """The market is closed: again when it trades."""
    RECONNECT = "reconnect"
    """The terminal or its broker is away: wait for it; what was sent is reconciled."""
    HUMAN = "human"
    """Only a person can change that: page, and try again slowly."""


@dataclass(frozen=True, slots=True)
class Decision:
    """`wait_s`: before the ticket is looked at again. `page`: why a human is told; "" is not."""

    act: Act
    wait_s: float = 0.0
    page: str = ""

    @property
    def uncertain(self) -> bool:
        """Whether the request may have been carried out."""
        return self.act in (Act.RECONCILE, Act.AWAIT, Act.CONFIRM)


IMMEDIATE_TRIES = 10
"""Requotes and moved prices are answered at once so often, then in rounds."""
CONFUSED_TRIES = 3
"""A request that is called wrong is built anew so often before a human is told."""
BUSY_S = 0.3
"""A position that is being processed is looked at again after that."""
RATE_LIMIT_S = 1.0
SLOW_S = 2.0
"""Between two tries that only a human's act can make succeed."""
PARK_S = 5.0
QUOTE_S = 0.2

_DONE = Decision(Act.CONFIRM)
_UNKNOWN = Decision(Act.RECONCILE)
_AGAIN = Decision(Act.RETRY)
_ALGO_OFF = "Algo Trading is switched off in the terminal: press the button, nothing can be closed"

_BY_RETCODE: Mapping[int, Decision] = {
    mt5.TRADE_RETCODE_REQUOTE: _AGAIN,
    mt5.TRADE_RETCODE_REJECT: _AGAIN,
    mt5.TRADE_RETCODE_CANCEL: _AGAIN,
    mt5.TRADE_RETCODE_PLACED: Decision(Act.AWAIT),
    mt5.TRADE_RETCODE_DONE: _DONE,
    mt5.TRADE_RETCODE_DONE_PARTIAL: _DONE,
    mt5.TRADE_RETCODE_ERROR: _UNKNOWN,
    mt5.TRADE_RETCODE_TIMEOUT: _UNKNOWN,
    mt5.TRADE_RETCODE_INVALID: Decision(Act.REREAD, BUSY_S),
    mt5.TRADE_RETCODE_INVALID_VOLUME: Decision(Act.REREAD),
    mt5.TRADE_RETCODE_INVALID_PRICE: _AGAIN,
    mt5.TRADE_RETCODE_INVALID_STOPS: _AGAIN,
    mt5.TRADE_RETCODE_TRADE_DISABLED: Decision(
        Act.HUMAN, SLOW_S, "trading is disabled for the account or the symbol: call the broker"
    ),
    mt5.TRADE_RETCODE_MARKET_CLOSED: Decision(Act.PARK, PARK_S),
    mt5.TRADE_RETCODE_NO_MONEY: Decision(Act.SMALLER),
    mt5.TRADE_RETCODE_PRICE_CHANGED: _AGAIN,
    mt5.TRADE_RETCODE_PRICE_OFF: Decision(Act.RETRY, QUOTE_S),
    mt5.TRADE_RETCODE_INVALID_EXPIRATION: Decision(Act.REREAD),
    mt5.TRADE_RETCODE_ORDER_CHANGED: Decision(Act.REREAD),
    mt5.TRADE_RETCODE_TOO_MANY_REQUESTS: Decision(Act.RETRY, RATE_LIMIT_S),
    mt5.TRADE_RETCODE_NO_CHANGES: Decision(Act.REREAD),
    mt5.TRADE_RETCODE_SERVER_DISABLES_AT: Decision(
        Act.HUMAN, SLOW_S, "the broker forbids trading by programs: close by hand, call the broker"
    ),
    mt5.TRADE_RETCODE_CLIENT_DISABLES_AT: Decision(Act.HUMAN, SLOW_S, _ALGO_OFF),
    mt5.TRADE_RETCODE_LOCKED: Decision(Act.REREAD, BUSY_S),
    mt5.TRADE_RETCODE_FROZEN: Decision(Act.REREAD, RATE_LIMIT_S),
    mt5.TRADE_RETCODE_INVALID_FILL: Decision(Act.NEXT_FILLING),
    mt5.TRADE_RETCODE_CONNECTION: Decision(Act.RECONNECT, BUSY_S),
    mt5.TRADE_RETCODE_ONLY_REAL: Decision(
        Act.HUMAN, SLOW_S, "the broker takes this from real accounts only: close by hand"
    ),
    mt5.TRADE_RETCODE_LIMIT_ORDERS: Decision(
        Act.HUMAN, SLOW_S, "the number of orders is at its limit: cancel some by hand"
    ),
    mt5.TRADE_RETCODE_LIMIT_VOLUME: Decision(
        Act.HUMAN, SLOW_S, "the volume is at its limit: close by hand, call the broker"
    ),
    mt5.TRADE_RETCODE_INVALID_ORDER: Decision(
        Act.HUMAN, SLOW_S, "the symbol does not take such orders: close by hand"
    ),
    mt5.TRADE_RETCODE_POSITION_CLOSED: _DONE,
    mt5.TRADE_RETCODE_INVALID_CLOSE_VOLUME: Decision(Act.REREAD),
    mt5.TRADE_RETCODE_CLOSE_ORDER_EXIST: Decision(Act.AWAIT, BUSY_S),
    mt5.TRADE_RETCODE_LIMIT_POSITIONS: Decision(
        Act.HUMAN, SLOW_S, "the number of positions is at its limit: close by hand"
    ),
    mt5.TRADE_RETCODE_REJECT_CANCEL: Decision(Act.REREAD, BUSY_S),
    mt5.TRADE_RETCODE_LONG_ONLY: Decision(
        Act.HUMAN, SLOW_S, "the symbol is long-only and this close was refused: call the broker"
    ),
    mt5.TRADE_RETCODE_SHORT_ONLY: Decision(
        Act.HUMAN, SLOW_S, "the symbol is short-only and this close was refused: call the broker"
    ),
    mt5.TRADE_RETCODE_CLOSE_ONLY: Decision(
        Act.HUMAN, SLOW_S, "the symbol is close-only and this close was refused: call the broker"
    ),
    mt5.TRADE_RETCODE_FIFO_CLOSE: Decision(Act.REREAD),
    mt5.TRADE_RETCODE_HEDGE_PROHIBITED: Decision(
        Act.HUMAN, SLOW_S, "opposite positions are prohibited and this close was refused"
    ),
}

_BY_ERROR: Mapping[int, Decision] = {
    mt5.RES_E_INVALID_PARAMS: Decision(Act.REREAD),
    mt5.RES_E_AUTO_TRADING_DISABLED: Decision(
        Act.HUMAN, SLOW_S, "the terminal's options forbid trading by external programs: allow it"
    ),
    mt5.RES_E_INTERNAL_FAIL_CONNECT: Decision(Act.RECONNECT, BUSY_S),
    mt5.RES_E_INVALID_VERSION: Decision(
        Act.HUMAN, SLOW_S, "terminal and MetaTrader5 package are of different versions: update both"
    ),
    mt5.RES_E_AUTH_FAILED: Decision(
        Act.HUMAN, SLOW_S, "the terminal is not logged in: log in by hand"
    ),
    mt5.RES_E_UNSUPPORTED: Decision(
        Act.HUMAN, SLOW_S, "the terminal is too old for this call: close by hand"
    ),
}
"""Errors after which a request was certainly not sent; every other one leaves it open."""

_ONCE = frozenset({mt5.TRADE_RETCODE_REJECT, mt5.TRADE_RETCODE_CANCEL})
_AT_ONCE = frozenset(
    {
        mt5.TRADE_RETCODE_REQUOTE, mt5.TRADE_RETCODE_PRICE_CHANGED,
        mt5.TRADE_RETCODE_INVALID_STOPS, mt5.TRADE_RETCODE_INVALID_PRICE,
    }
)  # fmt: skip
_CONFUSED = frozenset(
    {
        mt5.TRADE_RETCODE_INVALID, mt5.TRADE_RETCODE_INVALID_VOLUME,
        mt5.TRADE_RETCODE_INVALID_PRICE, mt5.TRADE_RETCODE_INVALID_STOPS,
        mt5.TRADE_RETCODE_INVALID_EXPIRATION, mt5.TRADE_RETCODE_INVALID_FILL,
        mt5.TRADE_RETCODE_NO_MONEY, mt5.TRADE_RETCODE_INVALID_CLOSE_VOLUME,
        mt5.TRADE_RETCODE_FIFO_CLOSE, mt5.TRADE_RETCODE_REJECT_CANCEL,
    }
)  # fmt: skip

NAMES: Mapping[int, str] = {
    value: name.removeprefix("TRADE_RETCODE_")
    for name, value in vars(mt5).items()
    if name.startswith("TRADE_RETCODE_")
}
"""Return codes by number: 10018 is MARKET_CLOSED."""


def decide_close(retcode: int | None, error: tuple[int, str], attempt: int) -> Decision:
    """What follows from the answer to a close.

    `retcode` None: there was no answer, and `error` (code, text) is the module's last_error().
    `attempt` counts, from 1, how often this ticket got this answer. Unknown codes are taken as
    the worst case: it may have been carried out.
    """
    if retcode is None:
        return _without_answer(error, attempt)
    found = _BY_RETCODE.get(retcode)
    if found is None:
        return replace(_UNKNOWN, page=f"the broker answered {retcode}, which is no known code")
    name = NAMES.get(retcode, str(retcode))
    if retcode in _ONCE and attempt > 1:
        text = f"the broker refused it {attempt} times ({retcode} {name}): call the broker"
        return Decision(Act.HUMAN, SLOW_S, text)
    if retcode in _CONFUSED and attempt > CONFUSED_TRIES:
        return replace(
            found,
            wait_s=max(found.wait_s, SLOW_S),
            page=f"the broker calls the request wrong ({retcode} {name}): close by hand",
        )
    if retcode in _AT_ONCE and attempt > IMMEDIATE_TRIES:
        return replace(found, wait_s=RATE_LIMIT_S)
    return found


def decide_close_by(retcode: int | None, error: tuple[int, str], attempt: int) -> Decision:
    """What follows from the answer to a close of two positions by each other, as `decide_close`.
    That one of them is closed says nothing about the other: nothing was done."""
    if retcode == mt5.TRADE_RETCODE_POSITION_CLOSED:
        return Decision(Act.REREAD)
    return decide_close(retcode, error, attempt)


def decide_cancel(retcode: int | None, error: tuple[int, str], attempt: int) -> Decision:
    """What follows from the answer to the cancelling of a pending order, as `decide_close`.

    A cancel may be sent twice without harm, so what is uncertain is only read again. An order
    that is gone (filled, expired, cancelled by someone) is INVALID to the broker.
    """
    found = decide_close(retcode, error, attempt)
    if found.act is Act.RECONCILE:
        return replace(found, act=Act.REREAD, wait_s=max(found.wait_s, BUSY_S))
    if found.act in (Act.SMALLER, Act.NEXT_FILLING):
        return replace(found, act=Act.REREAD, wait_s=max(found.wait_s, BUSY_S))
    return found


def _without_answer(error: tuple[int, str], attempt: int) -> Decision:
    code, text = error
    if code == mt5.RES_E_INVALID_PARAMS and "comment" in text.lower():
        return Decision(Act.DROP_COMMENT)
    found = _BY_ERROR.get(code)
    if found is None:
        return _UNKNOWN
    if code == mt5.RES_E_INVALID_PARAMS and attempt > CONFUSED_TRIES:
        return Decision(
            Act.HUMAN, SLOW_S, f"the terminal refuses the request ({code}, {text}): close by hand"
        )
    return found
