"""What is read of an account before an order leaves, and after one whose outcome nobody knows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any

from producers.guard.flatten.account import judge_look
from producers.ordering.carrying.instruments import Tradable, tradable_of
from producers.terminals.client import HostClient
from producers.terminals.interface import Priority, Reply, TerminalLost

SYMBOL_KEPT_S = 5.0
"""A symbol's facts are read again when they are older."""
HISTORY_BACK_S = 2 * 3600
"""More than a clock is ever put forward or back."""
HISTORY_BACK_BLIND_S = 16 * 3600
"""How far back history is asked for where the broker's clock is not known."""
AHEAD_S = 2 * 86_400


class Unreadable(Exception):
    """The account cannot be read, or not be believed; nothing may be concluded or sent."""


@dataclass(frozen=True, slots=True)
class Scene:
    """An account right before an order leaves."""

    account: Any
    positions: tuple[Any, ...]
    orders: tuple[Any, ...]
    symbol: Tradable
    bid: float
    ask: float
    utc_ms: int
    """The host's clock at the answer."""

    @property
    def hedging(self) -> bool:
        return int(self.account.margin_mode) == 2

    def net_lots(self, symbol: str) -> float:
        """Of a symbol: bought minus sold."""
        return net_lots(self.positions, symbol)


@dataclass(frozen=True, slots=True)
class Seen:
    """An account while somebody looks for what became of an order."""

    positions: tuple[Any, ...]
    orders: tuple[Any, ...]
    done_orders: tuple[Any, ...]
    deals: tuple[Any, ...]
    utc_ms: int


class AccountReads:
    """Reads at the priority of trades, each within `within_s`. Used by one thread."""

    def __init__(
        self,
        client: HostClient,
        *,
        within_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._within_s, self._monotonic = client, within_s, monotonic
        self._symbols: dict[str, tuple[float, Tradable]] = {}

    def forget(self, symbol: str) -> None:
        """The broker disagrees with what is known of a symbol: read it again."""
        self._symbols.pop(symbol, None)

    def scene(self, symbol: str, *, login: int) -> Scene:
        """Everything a request is built from, asked for at once. Raises Unreadable."""
        names = ["terminal_info", "account_info", "positions_get", "orders_get"]
        asked = [self._submit(name) for name in names]
        asked.append(self._submit("symbol_info_tick", symbol))
        kept = self._symbols.get(symbol)
        fresh = kept is not None and self._monotonic() - kept[0] < SYMBOL_KEPT_S
        if not fresh:
            asked.append(self._submit("symbol_info", symbol))
        terminal, account, positions, orders, tick, *info = self._values(asked)
        look = judge_look(terminal, account, orders, positions, login=login)
        if look.blind:
            raise Unreadable(look.blind)
        if look.trade_off:
            raise Unreadable(look.trade_off)
        if info:
            kept = self._known_symbol(symbol, info[0])
        assert kept is not None
        if tick is None or not kept[1].selected:
            tick = self._selected(symbol)
        bid, ask = float(tick.bid), float(tick.ask)
        if not (math.isfinite(bid) and math.isfinite(ask) and bid > 0 and ask > 0):
            raise Unreadable(f"{symbol} has no prices")
        utc_ms = asked[1].result(timeout=0).utc_ms
        return Scene(account, tuple(positions), tuple(orders), kept[1], bid, ask, utc_ms)

    def seen(self, *, login: int, since_server_s: int, until_server_s: int, order: int = 0) -> Seen:
        """The account with its history of a span, and of one older order. Raises Unreadable."""
        names = ["terminal_info", "account_info", "positions_get", "orders_get"]
        asked = [self._submit(name) for name in names]
        asked += [
            self._submit(name, since_server_s, until_server_s)
            for name in ("history_orders_get", "history_deals_get")
        ]
        if order:
            asked.append(self._submit("history_orders_get", ticket=order))
        terminal, account, positions, orders, done, deals, *older = self._values(asked)
        look = judge_look(terminal, account, orders, positions, login=login)
        if look.blind:
            raise Unreadable(look.blind)
        if done is None or deals is None or None in older:
            raise Unreadable("the history is not known")
        utc_ms = asked[1].result(timeout=0).utc_ms
        done = (*done, *(row for rows in older for row in rows))
        return Seen(tuple(positions), tuple(orders), done, tuple(deals), utc_ms)

    def _known_symbol(self, symbol: str, info: Any) -> tuple[float, Tradable]:
        if info is None:
            raise Unreadable(f"the terminal does not know {symbol}")
        kept = (self._monotonic(), tradable_of(info))
        self._symbols[symbol] = kept
        return kept

    def _selected(self, symbol: str) -> Any:
        """The newest tick of a symbol that left Market Watch, or never stood there."""
        self._symbols.pop(symbol, None)
        _, tick = self._values(
            [self._submit("symbol_select", symbol, True), self._submit("symbol_info_tick", symbol)]
        )
        if tick is None:
            raise Unreadable(f"{symbol} has no prices: it is not in Market Watch")
        return tick

    def _submit(self, method: str, *args: Any, **named: Any) -> Future[Reply]:
        try:
            return self._client.submit(
                method, *args, priority=Priority.TRADE, timeout_s=self._within_s, **named
            )
        except TerminalLost as error:
            failed: Future[Reply] = Future()
            failed.set_exception(error)
            return failed

    def _values(self, asked: list[Future[Reply]]) -> list[Any]:
        """Of each call its value, None where nothing may be concluded. Raises Unreadable when the
        terminal did not answer at all."""
        due = self._monotonic() + self._within_s
        values: list[Any] = []
        for call in asked:
            try:
                reply = call.result(timeout=max(0.0, due - self._monotonic()))
            except (TerminalLost, CancelledError, FutureTimeout) as error:
                for left in asked:
                    left.cancel()
                text = str(error) or f"no answer within {self._within_s:g} s"
                raise Unreadable(f"the terminal cannot be read: {text}") from error
            values.append(None if reply.unknown else reply.value)
        return values


def net_lots(positions: tuple[Any, ...], symbol: str) -> float:
    """Of a symbol: bought minus sold."""
    signed = (-p.volume if p.type else p.volume for p in positions if p.symbol == symbol)
    return round(float(sum(signed)), 8)


def history_span(sent_ms: int, now_ms: int, offset_s: int | None) -> tuple[int, int]:
    """(from, until) in whole seconds of the server's clock: what an order of then left behind."""
    back_s = HISTORY_BACK_BLIND_S if offset_s is None else HISTORY_BACK_S
    shift_s = offset_s or 0
    return sent_ms // 1000 + shift_s - back_s, now_ms // 1000 + shift_s + AHEAD_S
