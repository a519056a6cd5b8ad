"""Which quotes risk needs: of held symbols, and of the pairs that convert their currencies."""

from __future__ import annotations

from typing import Any

from producers.pollers.context import Context
from producers.terminals.interface import Priority

SYMBOLS_MAX = 200
PIVOT = "USD"


class Conversions:
    """Keeps `wanted`: canonical name -> broker's name of every symbol to quote; and those that
    are `held`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._profit: dict[str, tuple[str, ...]] = {}
        self._pairs: dict[tuple[str, str], str | None] = {}
        self.wanted: dict[str, str] = {}
        self.held: dict[str, str] = {}

    def hold(self, held: set[str], account_currency: str) -> None:
        """Positions are open in these (broker's) symbols. Raises TerminalLost."""
        wanted = set(held)
        self.held = {self._context.canonical(symbol): symbol for symbol in sorted(held)}
        for symbol in held:
            for currency in self._currencies(symbol):
                wanted |= self._path(currency, account_currency)
        self.wanted = {
            self._context.canonical(symbol): symbol for symbol in sorted(wanted)[:SYMBOLS_MAX]
        }

    def _currencies(self, symbol: str) -> tuple[str, ...]:
        """Base, profit and margin currency of a symbol."""
        if symbol not in self._profit:
            reply = self._context.client.call("symbol_info", symbol, priority=Priority.ACCOUNT)
            if reply.unknown:
                return ()
            info = reply.value
            currencies = {info.currency_base, info.currency_profit, info.currency_margin}
            self._profit[symbol] = tuple(sorted(currencies - {""}))
        return self._profit[symbol]

    def _path(self, currency: str, account_currency: str) -> set[str]:
        """The pair between two currencies, or the two that meet in the pivot."""
        if currency == account_currency:
            return set()
        direct = self._pair(currency, account_currency)
        if direct is not None:
            return {direct}
        legs = (self._pair(currency, PIVOT), self._pair(account_currency, PIVOT))
        return {leg for leg in legs if leg is not None}

    def _pair(self, one: str, other: str) -> str | None:
        key = (min(one, other), max(one, other))
        if one != other and key not in self._pairs:
            reply = self._context.client.call(
                "symbols_get", f"*{one}*{other}*,*{other}*{one}*", priority=Priority.ACCOUNT
            )
            if reply.value is None:
                return None
            found = self._pairs[key] = _best(reply.value, {one, other})
            if found is not None:
                self._context.client.call("symbol_select", found, True, priority=Priority.ACCOUNT)
        return self._pairs.get(key)


def _best(symbols: Any, currencies: set[str]) -> str | None:
    """The tradable, already visible, plainest symbol between two currencies."""
    fitting = [info for info in symbols if {info.currency_base, info.currency_profit} == currencies]
    fitting.sort(key=lambda info: (info.trade_mode != 4, not info.visible, len(info.name)))
    return fitting[0].name if fitting else None
