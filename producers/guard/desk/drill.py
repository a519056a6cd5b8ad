"""The drill: a breach on a simulated terminal, through everything a real one would go through.

A host process, a guard with a hard limit, positions, a price that falls through the floor. What
is timed is what the guard's journal says.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from events.codec import decode_data
from events.decisions import LimitBreach
from events.guarding import FlattenEnded, LatchChanged
from events.rules import Rules
from producers.guard.keeper import GuardKeeper
from producers.guard.options import GuardOptions
from producers.terminals import constants as mt5
from producers.terminals.attach import Attachment
from producers.terminals.client import HostClient, open_client
from producers.terminals.interface import NotSent, Priority
from producers.terminals.simulated.options import AccountOptions, SimulatedOptions
from producers.terminals.spec import TerminalSpec

SYMBOL = "BTCUSD"
"""Trades around the clock, so that a drill works on a Sunday."""
NAME = "drill"
LOTS = 0.1
POSITIONS_MAX = 200
UP_S = 30.0
LOOK_S = 0.02
WAIT_S = 120.0
FALL_PERCENT = -10.0
BUDGET_SHARE = 0.5
"""Of what the fall costs: the limit is reached on the way down."""


class DrillFailed(RuntimeError):
    """The drill could not be carried out. The message says where it stopped."""


@dataclass(frozen=True, slots=True)
class DrillResult:
    """How a drill went. Times in ms from the moment the price had fallen."""

    state: str
    positions: int
    """Opened, and to be closed."""
    left: int | None
    orders_refused: bool
    """Whether an order after the latch was refused."""
    breach_to_seen_ms: float
    breach_to_latch_ms: float
    breach_to_flat_ms: float | None
    verified_ms: float | None
    requests: int
    opened_s: float

    @property
    def good(self) -> bool:
        return self.state == "FLAT" and self.orders_refused and self.left == 0

    def to_json(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "state": self.state,
            "good": self.good,
            "positions": self.positions,
            "positions_left": self.left,
            "orders_refused": self.orders_refused,
            "breach_to_seen_ms": round(self.breach_to_seen_ms, 1),
            "breach_to_latch_ms": round(self.breach_to_latch_ms, 1),
            "breach_to_flat_ms": _rounded(self.breach_to_flat_ms),
            "verified_ms": _rounded(self.verified_ms),
            "requests": self.requests,
        }


def run_drill(
    folder: Path,
    *,
    positions: int,
    latency: Literal["none", "native"],
    tell: Callable[[str], None],
) -> DrillResult:
    """Rehearse in a folder of its own. Raises DrillFailed, TerminalLost."""
    options = SimulatedOptions(
        symbols=(SYMBOL,),
        selected=(SYMBOL,),
        latency=latency,
        account=AccountOptions(balance=1_000_000.0, leverage=500, limit_orders=0),
        memory=str(folder / "broker.jsonl"),
    )
    spec = TerminalSpec(name=NAME, kind="simulated", options=options.model_dump(mode="json"))
    guarding = GuardOptions(terminal=NAME, folder=folder / "guard", virtual=True)
    with open_client(spec, attach=Attachment(spec)) as client:
        client.wait_until_up(UP_S)
        tell("a simulated terminal is up; its account belongs to nobody")
        keeper = GuardKeeper(client, guarding)
        try:
            keeper.start()
            return _rehearsed(client, keeper, positions, tell)
        finally:
            keeper.close()


def _rehearsed(
    client: HostClient, keeper: GuardKeeper, positions: int, tell: Callable[[str], None]
) -> DrillResult:
    if not keeper.known.wait(UP_S) or keeper.guard is None:
        raise DrillFailed("the guard did not come to know its account")
    begun = time.monotonic()
    for _ in range(positions):
        _open(client)
    opened_s = time.monotonic() - begun
    tell(f"{positions} positions are open ({opened_s:.1f} s)")
    rules = _rules(client, positions)
    keeper.guard.set_rules(rules)
    tell(f"a hard limit holds: a loss of {rules.limits[0].limit:.2f} flattens the account")
    client.call("inject", "price_jump", symbols=[SYMBOL], percent=FALL_PERCENT)
    fallen_ms = time.time_ns() / 1e6
    tell(f"{SYMBOL} fell by {-FALL_PERCENT:g} %")
    breach, latched, ended = _watched(keeper)
    tell(f"latched: {latched.reason}")
    refused = _refuses_orders(client)
    tell(f"an order after the latch was {'refused' if refused else 'TAKEN'}")
    left = client.call("positions_get")
    # The events of a simulated account carry its own clock; the rows carry the computer's.
    seen = keeper.guard.journal.told_at_ms("limit_breach")
    latch = keeper.guard.journal.told_at_ms("latch")
    late_ms = (latch or fallen_ms) - fallen_ms
    return DrillResult(
        state=ended.state,
        positions=positions,
        left=None if left.unknown else len(left.value),
        orders_refused=refused,
        breach_to_seen_ms=max(0.0, (seen or fallen_ms) - fallen_ms - breach.delay_ms),
        breach_to_latch_ms=max(0.0, late_ms),
        breach_to_flat_ms=ended.breach_to_flat_ms,
        verified_ms=ended.verified_ms,
        requests=ended.requests,
        opened_s=opened_s,
    )


def _open(client: HostClient) -> None:
    tick = client.call("symbol_info_tick", SYMBOL)
    if tick.unknown:
        raise DrillFailed(f"{SYMBOL} has no price: {tick.error}")
    reply = client.call("order_send", _order(tick.value.ask), priority=Priority.TRADE)
    if reply.value is None or reply.value.retcode not in (
        mt5.TRADE_RETCODE_DONE,
        mt5.TRADE_RETCODE_PLACED,
    ):
        raise DrillFailed(f"a position could not be opened: {reply.value or reply.error}")


def _order(price: float) -> dict[str, Any]:
    return {
        "action": mt5.TRADE_ACTION_DEAL,
        "symbol": SYMBOL,
        "volume": LOTS,
        "type": mt5.ORDER_TYPE_BUY,
        "price": price,
        "deviation": 1_000_000,
        "type_filling": mt5.ORDER_FILLING_IOC,
        "comment": "drill",
    }


def _rules(client: HostClient, positions: int) -> Rules:
    """A floor that the fall will break."""
    price = float(client.call("symbol_info_tick", SYMBOL).value.bid)
    contract = float(client.call("symbol_info", SYMBOL).value.trade_contract_size)
    budget = positions * LOTS * contract * price * -FALL_PERCENT / 100 * BUDGET_SHARE
    balance = float(client.call("account_info").value.balance)
    return Rules.model_validate(
        {
            "name": NAME,
            "account": {"initial_balance": balance, "high_water": balance},
            "limits": [
                {
                    "name": "drill",
                    "figure": "drawdown_absolute",
                    "limit": budget,
                    "act": budget,
                    "of": "money",
                    "action": "flatten",
                    "lock": "manual",
                    "hard": True,
                }
            ],
        }
    )


def _watched(keeper: GuardKeeper) -> tuple[LimitBreach, LatchChanged, FlattenEnded]:
    """What the guard tells, until the flatten ended."""
    breach: LimitBreach | None = None
    latched: LatchChanged | None = None
    row, deadline = 0, time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        for heard in keeper.hear(row):
            row = heard.row
            event = decode_data(heard.type, heard.key, heard.data)
            if isinstance(event, LimitBreach):
                breach = event
            elif isinstance(event, LatchChanged):
                latched = event
            elif isinstance(event, FlattenEnded) and breach is not None and latched is not None:
                return breach, latched, event
        time.sleep(LOOK_S)
    stopped_at = "the flatten" if latched else "the breach"
    raise DrillFailed(f"{stopped_at} did not come to its end within {WAIT_S:g} s")


def _refuses_orders(client: HostClient) -> bool:
    try:
        client.call("order_send", _order(0.0), priority=Priority.TRADE)
    except NotSent:
        return True
    return False


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
