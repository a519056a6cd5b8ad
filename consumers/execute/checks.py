"""What keeps an entry from being asked for: switch, latch, guard, risk limits, rules of the symbol.

The order sender looks at the latch again right before it sends; this is the look that comes first
and can say why.
"""

from __future__ import annotations

from typing import Any

from consumers.execute.memory import Memory, Target
from consumers.execute.sizing import STEP_SLACK, Refused
from events.decisions import Command
from events.guarding import GuardState, LatchChanged
from events.market import Instrument

ASKED_MS = 10_000
"""So long a halt or flatten that was asked for stops entries by itself: the guard has obeyed it
by then, or says that it did not."""
METRICS_OLD_MS = 30_000
"""Risk figures older than this bind nobody: the group does not run."""
BLOCKS_MAX = 256
_TRADE_MODES = {
    0: "disabled", 1: "open for buys only", 2: "open for sells only", 3: "open for closes only",
}  # fmt: skip
_MARKET, _LIMIT, _STOP, _STOP_LIMIT = 1, 2, 4, 8
"""Bits of SYMBOL_ORDER_MODE."""


def take_command(memory: Memory, command: Command) -> None:
    """Hear of a halt, flatten, block or resume before the guard has carried it out."""
    stopping, now_ms = memory.stopping, memory.now_ms
    if command.login not in (None, memory.login):
        return
    arguments = command.arguments
    if command.verb == "block" or (arguments.get("hold") == "symbol" and "until_ms" in arguments):
        _block(stopping, command, now_ms)
    elif command.verb in ("halt", "flatten"):
        stopping["asked"], stopping["asked_ms"] = f"{command.verb} by {command.issued_by}", now_ms
    elif command.verb == "resume" and str(arguments.get("typed_login", "")) == str(memory.login):
        stopping["asked"] = ""
        stopping.pop("blocks", None)


def _block(stopping: dict[str, Any], command: Command, now_ms: int) -> None:
    """No new trades while a cause lasts, of everything or of some symbols and currencies."""
    blocks: dict[str, list[Any]] = stopping.setdefault("blocks", {})
    arguments = command.arguments
    cause = str(arguments.get("cause", command.issued_by))
    symbol = [arguments["symbol"]] if arguments.get("symbol") else []
    only = [*symbol, *(arguments.get("symbols") or ()), *(arguments.get("concerns") or ())]
    if symbol:
        cause = f"{cause}/{symbol[0]}"
    until_ms = arguments.get("until_ms")
    blocks.pop(cause, None)
    if until_ms is None or int(until_ms) > now_ms:
        until = None if until_ms is None else int(until_ms)
        blocks[cause] = [until, str(arguments.get("reason", cause)), list(map(str, only))]
    for one, (until, *_) in list(blocks.items()):
        if until is not None and until <= now_ms:
            del blocks[one]
    while len(blocks) > BLOCKS_MAX:
        del blocks[next(iter(blocks))]


def take_latch(memory: Memory, event: LatchChanged) -> None:
    memory.stopping["latch"] = f"{event.reason} (by {event.by})" if event.latched else ""
    if event.latched or event.event_time_ms >= memory.stopping["asked_ms"]:
        memory.stopping["asked"] = ""
    if not event.latched and event.command_id:  # a human resumed: every lock is over
        memory.stopping.pop("blocks", None)


def take_guard(memory: Memory, event: GuardState) -> None:
    stopping = memory.stopping
    said = event.state in ("blocked", "halted", "flattening", "blind")
    stopping["guard"] = f"{event.state}: {event.reason}".rstrip(": ") if said else ""
    stopping["until_ms"] = event.blocked_until_ms if event.state == "blocked" else None
    stopping["only"] = list(event.blocked_only)
    if not event.latched and event.state == "watching":
        stopping["latch"] = ""


def halted(memory: Memory, symbol: str) -> str:
    """Why nothing may be opened in a symbol now; empty: it may."""
    stopping, now_ms = memory.stopping, memory.now_ms
    if stopping["latch"]:
        return f"the account is latched: {stopping['latch']}"
    until_ms = stopping["until_ms"]
    if stopping["guard"] and (until_ms is None or until_ms > now_ms):
        return f"the guard says {stopping['guard']}"
    if stopping["asked"] and now_ms - stopping["asked_ms"] < ASKED_MS:
        return f"{stopping['asked']} was asked for"
    names = _names(memory, symbol)
    if names & set(stopping.get("only", ())):
        return f"the guard blocks {symbol}"
    for until, reason, only in stopping.get("blocks", {}).values():
        if (until is None or until > now_ms) and (not only or names & set(only)):
            return f"new trades are blocked: {reason}"
    return ""


def _names(memory: Memory, symbol: str) -> set[str]:
    """A symbol and its currencies."""
    facts = memory.instrument(symbol)
    return {symbol} if facts is None else {symbol, facts.currency_base, facts.currency_profit}


def flattened(memory: Memory) -> bool:
    """Whether closes of another program are the guard's by all signs."""
    stopping = memory.stopping
    return bool(
        stopping["latch"] or stopping["guard"].startswith("flattening") or stopping["asked"]
    )


def switched_off(memory: Memory, strategy: str) -> str:
    """Why signals of a strategy are not acted on; empty: they are."""
    switch = memory.switch
    if switch["mode"] == "off":
        return "execution is off: `bridgectl execution on --terminal ...`"
    if switch["strategies"] and strategy not in switch["strategies"]:
        return f"execution is on for {', '.join(switch['strategies'])} only"
    return ""


def check_entry(
    memory: Memory,
    target: Target,
    instrument: Instrument,
    *,
    lots: float,
    order_lots: float,
    price: float,
) -> None:
    """Raises Refused when an entry of so many lots at this price, of which one order takes
    `order_lots`, may not be asked for."""
    reason = halted(memory, instrument.symbol)
    if reason:
        raise Refused(reason, passing=memory.stopping["guard"].startswith("blind"))
    account = memory.account
    if account is not None and not account["allowed"]:
        raise Refused("the broker does not allow this account to trade by programs")
    _check_limits(memory, target, lots, order_lots)
    _check_symbol(target, instrument)
    _check_stops(target, instrument, price)
    _check_margin(memory, instrument, lots, price)


def _check_limits(memory: Memory, target: Target, lots: float, order_lots: float) -> None:
    most = memory.switch["lots_max"]
    if most is not None and order_lots > most + STEP_SLACK:
        raise Refused(f"{order_lots:g} lots are more than the largest order, {most:g}")
    risk = memory.risk
    if risk is None or memory.now_ms - risk["at_ms"] > METRICS_OLD_MS:
        return
    if risk["locks"]:
        limit, until = next(iter(sorted(risk["locks"].items())))
        raise Refused(f"limit {limit} is locked until {until}")
    if risk["reached"]:
        raise Refused(f"limit {risk['reached'][0]} leaves no room")
    largest = risk["largest_lot"].get(target["symbol"])
    if largest is not None and lots > largest + STEP_SLACK:
        raise Refused(f"{lots:g} lots could reach a risk limit: at most {largest:g} now")


def _check_symbol(target: Target, instrument: Instrument) -> None:
    mode = instrument.trade_mode
    closed = mode in (0, 3) or (mode == 1 and target["side"] < 0)
    if closed or (mode == 2 and target["side"] > 0):
        raise Refused(f"{instrument.symbol} is {_TRADE_MODES[mode]}")
    bit, kind = _order_kind(target)
    if not instrument.order_mode & bit:
        raise Refused(f"{instrument.symbol} takes no {kind} orders")


def _order_kind(target: Target) -> tuple[int, str]:
    limit, stop = target["price_limit"] is not None, target["price_stop"] is not None
    if limit and stop:
        return _STOP_LIMIT, "stop-limit"
    return (_LIMIT, "limit") if limit else (_STOP, "stop") if stop else (_MARKET, "market")


def _check_stops(target: Target, instrument: Instrument, price: float) -> None:
    stop, profit, sign = target["stop_loss"], target["take_profit"], target["side"]
    if not stop and not target["no_stop"]:
        raise Refused("an entry without a stop-loss: give one, or declare no_stop")
    nearest = instrument.stops_level_points * instrument.point
    if stop and (price - stop) * sign <= 0:
        raise Refused(f"the stop-loss {stop:g} is on the wrong side of {price:g}")
    if profit and (profit - price) * sign <= 0:
        raise Refused(f"the take-profit {profit:g} is on the wrong side of {price:g}")
    for name, level in (("stop-loss", stop), ("take-profit", profit)):
        if level and abs(level - price) < nearest - instrument.point / 2:
            raise Refused(
                f"the {name} {level:g} is nearer than the {instrument.stops_level_points} points "
                f"that {instrument.symbol} demands"
            )


def _check_margin(memory: Memory, instrument: Instrument, lots: float, price: float) -> None:
    account, market = memory.account, memory.market
    contract = market.contracts[instrument.symbol]
    rate = market.rate(contract.currency_margin, 1)
    held = any(one.symbol == instrument.symbol for one in (memory.book or {}).values())
    if account is None or rate is None or held:
        return  # beside what is held a volume may need less: the broker decides
    needed = float(contract.margin(lots, price, account["leverage"])) * rate
    if needed > account["margin_free"]:
        raise Refused(
            f"{lots:g} lots need a margin of {needed:,.2f}, {account['margin_free']:,.2f} are free"
        )
