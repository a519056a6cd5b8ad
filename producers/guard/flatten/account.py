"""What the closing machine reads of an account, and the calls it makes: all before everyone else's.

Nothing is concluded from an answer that is unknown. A look is four reads that were asked for at
once; it is good only when the terminal is connected, on the right account, and its lists agree
with the account's own figures (right after a reconnect a terminal shows empty lists).
"""

from __future__ import annotations

import math
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Any, Literal

from producers.terminals import constants as mt5
from producers.terminals.interface import Priority, Reply, TerminalClient, TerminalLost

READ_S = 2.0
"""Deadline of a read, from its beginning at the terminal."""
HISTORY_S = 8.0
"""The same for deals, which a terminal may have to fetch first."""
READ_WAIT_S = 4.0
"""Until a read is given up whose host is away; whoever looks tells of it and looks again."""
MONEY_DUST = 0.01
VOLUME_DUST_LOTS = 1e-8

Key = tuple[Literal["position", "order"], int]
"""A position by its identifier, an order by its ticket: the order that opened a position has the
position's number."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which part of the account: all of it, what carries a magic, or one symbol."""

    magic: int | None = None
    symbol: str | None = None

    @classmethod
    def parse(cls, text: str) -> Scope:
        """From account, magic=N or symbol=NAME. Raises ValueError."""
        name, _, value = text.partition("=")
        if name == "account" and not value:
            return cls()
        if name == "magic" and value.isdecimal():
            return cls(magic=int(value))
        if name == "symbol" and value:
            return cls(symbol=value)
        raise ValueError(f"{text!r} is no scope: use account, magic=N or symbol=NAME")

    def __str__(self) -> str:
        if self.magic is not None:
            return f"magic={self.magic}"
        return "account" if self.symbol is None else f"symbol={self.symbol}"

    @property
    def whole(self) -> bool:
        return self.magic is None and self.symbol is None

    def holds(self, magic: int, symbol: str) -> bool:
        """Whether a position or an order belongs to it."""
        if self.magic is not None:
            return magic == self.magic
        return self.symbol is None or symbol == self.symbol


@dataclass(frozen=True, slots=True)
class Held:
    """An open position. Money in account currency, times are the broker's clock in ms."""

    ticket: int
    identifier: int
    symbol: str
    side: int
    volume_lots: float
    price_open: float
    price_current: float
    profit: float
    magic: int
    time_ms: int

    @property
    def key(self) -> Key:
        return ("position", self.identifier or self.ticket)

    @property
    def lots_signed(self) -> float:
        return -self.volume_lots if self.side else self.volume_lots


@dataclass(frozen=True, slots=True)
class Working:
    """An active order: pending, or a market order the broker has not finished."""

    ticket: int
    symbol: str
    type: int
    volume_lots: float
    price: float
    price_current: float
    magic: int
    position_id: int
    position_by_id: int

    @property
    def key(self) -> Key:
        return ("order", self.ticket)

    @property
    def pending(self) -> bool:
        return mt5.ORDER_TYPE_BUY_LIMIT <= self.type <= mt5.ORDER_TYPE_SELL_STOP_LIMIT

    @property
    def distance(self) -> float:
        """To its trigger, as a share of the price; infinite when the price is unknown."""
        if self.price_current <= 0 or self.price <= 0:
            return math.inf
        return abs(self.price - self.price_current) / self.price_current


@dataclass(frozen=True, slots=True)
class Look:
    """An account at one moment. `blind`: why nothing may be concluded; "" when all is known."""

    blind: str = ""
    wrong_account: bool = False
    trade_off: str = ""
    """Why the terminal refuses every order; "" when it does not."""
    hedging: bool = False
    fifo: bool = False
    equity: float = 0.0
    margin: float = 0.0
    margin_free: float = 0.0
    floating: float = 0.0
    """Equity - balance - credit."""
    positions: tuple[Held, ...] = ()
    orders: tuple[Working, ...] = ()

    def position(self, ticket: int) -> Held | None:
        return next((p for p in self.positions if p.ticket == ticket), None)

    def of_identifier(self, identifier: int) -> Held | None:
        return next((p for p in self.positions if p.identifier == identifier), None)

    def working_on(self, held: Held) -> tuple[Working, ...]:
        """Market orders that the broker has not finished and that may close a position. Until it
        is executed an order need not name its position (MQL5 reference, ORDER_POSITION_ID)."""
        numbers = {held.identifier, held.ticket} - {0}
        closes = mt5.ORDER_TYPE_BUY if held.side else mt5.ORDER_TYPE_SELL
        return tuple(
            order
            for order in self.orders
            if not order.pending
            and (
                numbers & {order.position_id, order.position_by_id}
                or (not order.position_id and order.symbol == held.symbol and order.type == closes)
            )
        )


class AccountCalls:
    """Calls with deadlines of their own, at emergency priority as long as `urgent` is True: an
    emergency ends a host that is stuck in a read. No method raises TerminalLost."""

    def __init__(self, client: TerminalClient, *, login: int, order_s: float) -> None:
        self._client = client
        self._login = login
        self.order_s = order_s
        self.urgent = True
        """False while nothing is open that must be closed: then reads take their turn."""

    def submit(self, method: str, *args: Any, **kwargs: Any) -> Future[Reply]:
        timeout_s = HISTORY_S if method.startswith("history_") else READ_S
        timeout_s = self.order_s if method == "order_send" else timeout_s
        urgent = self.urgent or method == "order_send"
        priority = Priority.EMERGENCY if urgent else Priority.ACCOUNT
        try:
            return self._client.submit(
                method, *args, priority=priority, timeout_s=timeout_s, **kwargs
            )
        except TerminalLost as error:
            failed: Future[Reply] = Future()
            failed.set_exception(error)
            return failed

    def read(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """The value of a read; None when it is unknown."""
        return known(self.submit(method, *args, **kwargs))

    def look(self) -> Look:
        """Terminal, account, orders and positions, asked for at once."""
        calls = [
            self.submit(name)
            for name in ("terminal_info", "account_info", "orders_get", "positions_get")
        ]
        terminal, account, orders, positions = map(known, calls)
        whys = [why_unknown(call) for call in calls]
        return judge_look(
            terminal,
            account,
            orders,
            positions,
            login=self._login,
            why=next(filter(None, whys), ""),
        )

    def on_right_account(self) -> bool:
        """Whether the terminal is on our account at this moment; an unknown answer is a no."""
        account = self.read("account_info")
        return account is not None and account.login == self._login


def judge_look(
    terminal: Any, account: Any, orders: Any, positions: Any, *, login: int, why: str = ""
) -> Look:
    """What four answers of the module say together; each is None when it is unknown."""
    if account is not None and account.login != login:
        text = f"the terminal is on account {account.login or 'none'} instead of {login}"
        return Look(blind=text, wrong_account=bool(account.login))
    if terminal is None or account is None or orders is None or positions is None:
        return Look(blind=why or "the terminal does not answer")
    if not terminal.connected:
        return Look(blind="the terminal has no connection to the broker")
    figures = (account.equity, account.balance, account.credit, account.margin)
    if not all(math.isfinite(figure) for figure in figures):
        return Look(blind="the account's figures are no numbers")
    floating = account.equity - account.balance - account.credit
    # Where margin is blocked for pending orders, it says nothing about positions.
    blocked = account.margin > 0 and not orders
    if not positions and (blocked or abs(floating) >= MONEY_DUST):
        text = f"no positions are shown, but margin {account.margin:.2f}, floating {floating:.2f}"
        return Look(blind=f"the terminal is not synchronised: {text}")
    return Look(
        trade_off=_trade_off(terminal, account),
        hedging=account.margin_mode == mt5.ACCOUNT_MARGIN_MODE_RETAIL_HEDGING,
        fifo=bool(account.fifo_close),
        equity=account.equity,
        margin=account.margin,
        margin_free=account.margin_free,
        floating=floating,
        positions=tuple(map(held_of, positions)),
        orders=tuple(map(working_of, orders)),
    )


def held_of(position: Any) -> Held:
    """From a TradePosition."""
    return Held(
        ticket=position.ticket,
        identifier=position.identifier,
        symbol=position.symbol,
        side=position.type,
        volume_lots=position.volume,
        price_open=position.price_open,
        price_current=position.price_current,
        profit=position.profit + position.swap,
        magic=position.magic,
        time_ms=position.time_msc,
    )


def working_of(order: Any) -> Working:
    """From a TradeOrder."""
    return Working(
        ticket=order.ticket,
        symbol=order.symbol,
        type=order.type,
        volume_lots=order.volume_current,
        price=order.price_open,
        price_current=order.price_current,
        magic=order.magic,
        position_id=order.position_id,
        position_by_id=order.position_by_id,
    )


def known(call: Future[Reply]) -> Any:
    """The value of a read, None when nothing may be concluded from it. Never raises, and never
    waits for long: a read that nobody answers is given up."""
    reply = _reply(call)
    return None if reply is None or reply.unknown else reply.value


def why_unknown(call: Future[Reply]) -> str:
    """Why a read tells nothing; "" when it does."""
    try:
        reply = call.result(timeout=0)
    except (TerminalLost, CancelledError, TimeoutError) as error:
        return str(error) or "the terminal does not answer"
    return f"{reply.error[1]} ({reply.error[0]})" if reply.unknown else ""


def _reply(call: Future[Reply]) -> Reply | None:
    try:
        return call.result(timeout=READ_WAIT_S)
    except TerminalLost:
        return None
    except TimeoutError:
        call.cancel()  # a read that comes too late would only be in the way
        return None


def _trade_off(terminal: Any, account: Any) -> str:
    if terminal.tradeapi_disabled:
        return "the terminal's options forbid trading by external programs: allow it"
    if not terminal.trade_allowed:
        return "Algo Trading is switched off in the terminal: press the button"
    if not account.trade_allowed:
        return "the account may not trade (investor password, or disabled by the broker)"
    if not account.trade_expert:
        return "the broker forbids trading by programs: close by hand"
    return ""
