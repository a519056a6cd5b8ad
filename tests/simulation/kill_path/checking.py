"""What must hold after every flatten, judged on the broker's own records."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from producers.terminals import constants as mt5

Call = Callable[..., Any]
DUST_LOTS = 1e-8
WORKED = frozenset(
    {mt5.TRADE_RETCODE_DONE, mt5.TRADE_RETCODE_PLACED, mt5.TRADE_RETCODE_DONE_PARTIAL}
)
FOREVER_S = 4_000_000_000


@dataclass(frozen=True)
class Before:
    """An account when the flatten began: the newest request, the newest deal, the positions."""

    request: int
    deal: int
    lots: dict[int, float]
    """Identifier -> volume."""
    magic: int


def before(call: Call, *, magic: int) -> Before:
    """`call(method, ...)` gives the value of a call that must be known."""
    requests, deals = call("requests"), call("history_deals_get", 0, FOREVER_S)
    positions = call("positions_get")
    return Before(
        max((r["number"] for r in requests), default=0),
        max((d.ticket for d in deals), default=0),
        {p.identifier: p.volume for p in positions},
        magic,
    )


def violations(
    call: Call, was: Before, *, closed_by_others: bool = False, injected: Iterable[int] = ()
) -> list[str]:
    """Everything a flatten must never do that it did. Empty: nothing. `injected`: return codes
    that a fault gave instead of the broker."""
    requests = [r for r in call("requests", was.request) if r.get("magic", 0) in (0, was.magic)]
    deals = [d for d in call("history_deals_get", 0, FOREVER_S) if d.ticket > was.deal]
    return [
        *_opened(requests, deals, was),
        *_sent_twice(requests, closed_by_others=closed_by_others, injected=injected),
        *_overclosed(call, was),
    ]


def _opened(requests: Iterable[Any], deals: Iterable[Any], was: Before) -> list[str]:
    found = [
        f"a deal request without a position: {r}"
        for r in requests
        if r["action"] == mt5.TRADE_ACTION_DEAL and not r.get("position")
    ]
    found += [
        f"a request that may open: {r}"
        for r in requests
        if r["action"] in (mt5.TRADE_ACTION_PENDING, mt5.TRADE_ACTION_MODIFY)
    ]
    ours = [d for d in deals if d.magic == was.magic]
    found += [
        f"deal {d.ticket} of ours opens {d.symbol}"
        for d in ours
        if d.entry in (mt5.DEAL_ENTRY_IN, mt5.DEAL_ENTRY_INOUT)
    ]
    return found


def _sent_twice(
    requests: Iterable[Any], *, closed_by_others: bool, injected: Iterable[int]
) -> list[str]:
    """Closes that came to the broker for a position that was closed already."""
    late = {mt5.TRADE_RETCODE_POSITION_CLOSED, mt5.TRADE_RETCODE_INVALID_CLOSE_VOLUME} - set(
        injected
    )
    if closed_by_others:
        return []
    return [f"sent again though it was done: {r}" for r in requests if r["retcode"] in late]


def _overclosed(call: Call, was: Before) -> list[str]:
    """Positions whose deals do not end at what is open."""
    found = []
    now = {p.identifier: p for p in call("positions_get")}
    for identifier in was.lots:
        deals = call("history_deals_get", position=identifier)
        net = sum(-d.volume if d.type else d.volume for d in deals)
        held = now.get(identifier)
        signed = 0.0 if held is None else (-held.volume if held.type else held.volume)
        if abs(net - signed) > DUST_LOTS:
            found.append(f"position {identifier}: deals make {net:g} lots, it has {signed:g}")
    return found


def closes_that_worked(call: Call, was: Before) -> int:
    """How many of our closes did something."""
    return sum(
        bool(r.get("position")) and r["retcode"] in WORKED for r in call("requests", was.request)
    )
