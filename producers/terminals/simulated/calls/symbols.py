"""Calls about symbols: Market Watch, facts, newest tick, market book."""

from __future__ import annotations

from typing import Any

from events.accounting import MissingRate
from producers.terminals import constants as mt5
from producers.terminals.simulated.calls.arguments import (
    CallFailed,
    by_group,
    invalid,
    text_at,
    typed,
    unnamed,
)
from producers.terminals.simulated.calls.core import TerminalCore, api
from producers.terminals.simulated.market.rates import aggregated
from producers.terminals.simulated.symbols import SymbolSpec
from producers.terminals.structs import BookInfo, SymbolInfo, Tick

BOOK_DEPTH = 5
DAY_S = 86_400


class SymbolCalls(TerminalCore):
    """What the broker offers, and what Market Watch shows of it."""

    @api(failed=None)
    def symbols_total(self, *args: Any, **kwargs: Any) -> int:
        """symbols_total() -> int, all symbols"""
        return len(self.specs)

    @api(failed=None)
    def symbols_get(self, *args: Any, **kwargs: Any) -> tuple[SymbolInfo, ...]:
        """symbols_get([group]) -> tuple of SymbolInfo"""
        given = typed(kwargs, {"group": str})
        if len(args) > 1:
            raise invalid("Invalid number of arguments")
        group = text_at(args, 0) if args else given.get("group")
        names = set(self.specs) if group is None else by_group(self.specs, group)
        return tuple(self._symbol_info(name) for name in self.specs if name in names)

    @api(failed=None)
    def symbol_info(self, *args: Any, **kwargs: Any) -> SymbolInfo:
        """symbol_info(symbol) -> SymbolInfo"""
        unnamed(args, kwargs, least=1, most=1)
        return self._symbol_info(self._known(text_at(args, 0)))

    @api(failed=None)
    def symbol_info_tick(self, *args: Any, **kwargs: Any) -> Tick:
        """symbol_info_tick(symbol) -> Tick"""
        unnamed(args, kwargs, least=1, most=1)
        symbol = self._watched(text_at(args, 0))
        rows = self.feed.last(symbol, now_utc_ms=self.clock.utc_ms())
        if not len(rows):
            raise CallFailed(mt5.RES_E_NOT_FOUND)
        return Tick(rows[0].item())

    @api(failed=False)
    def symbol_select(self, *args: Any, **kwargs: Any) -> bool:
        """symbol_select(symbol, [enable=True]) -> bool"""
        given = typed(kwargs, {"enable": int})
        if not 1 <= len(args) <= 2:
            raise invalid("Invalid number of arguments")
        symbol = text_at(args, 0)
        enable = bool(args[1]) if len(args) == 2 else bool(given.get("enable", True))
        if symbol not in self.specs:
            raise CallFailed(mt5.RES_E_FAIL)
        if enable:
            self.selected_at.setdefault(symbol, self.clock.utc_ms())
        elif self._in_use(symbol):
            raise CallFailed(mt5.RES_E_FAIL)
        else:
            self.selected_at.pop(symbol, None)
        return True

    @api(failed=False)
    def market_book_add(self, *args: Any, **kwargs: Any) -> bool:
        """market_book_add(symbol) -> bool"""
        unnamed(args, kwargs, least=1, most=1)
        self.books.add(self._watched(text_at(args, 0)))
        return True

    @api(failed=False)
    def market_book_release(self, *args: Any, **kwargs: Any) -> bool:
        """market_book_release(symbol) -> bool"""
        unnamed(args, kwargs, least=1, most=1)
        symbol = self._known(text_at(args, 0))
        if symbol not in self.books:
            raise CallFailed(mt5.RES_E_FAIL)
        self.books.discard(symbol)
        return True

    @api(failed=None)
    def market_book_get(self, *args: Any, **kwargs: Any) -> tuple[BookInfo, ...]:
        """market_book_get(symbol) -> tuple of BookInfo; () where the broker has no book"""
        unnamed(args, kwargs, least=1, most=1)
        symbol = self._known(text_at(args, 0))
        if symbol not in self.books:
            raise CallFailed(mt5.RES_E_FAIL)
        spec = self.specs[symbol]
        rows = self.feed.last(symbol, now_utc_ms=self.clock.utc_ms())
        if not spec.trades or not len(rows):
            return ()
        return _levels(spec, float(rows["bid"][0]), float(rows["ask"][0]))

    def _known(self, symbol: str) -> str:
        if symbol not in self.specs:
            raise CallFailed(mt5.RES_E_NOT_FOUND)
        return symbol

    def _watched(self, symbol: str) -> str:
        """A symbol of Market Watch that is past its selection delay. Raises CallFailed."""
        since = self.selected_at.get(self._known(symbol))
        delay_ms = int(self.options.select_delay_s * 1000)
        if since is None or (since and self.clock.utc_ms() < since + delay_ms):
            raise CallFailed(mt5.RES_E_NOT_FOUND)
        return symbol

    def _in_use(self, symbol: str) -> bool:
        held = bool(self.broker.ledger.of_symbol(symbol))
        return held or any(order.symbol == symbol for order in self.broker.orders.values())

    def _symbol_info(self, symbol: str) -> SymbolInfo:
        spec = self.specs[symbol]
        selected = symbol in self.selected_at
        trade_mode = self.conditions.trade_mode(symbol, self.clock.utc_ms(), usual=spec.trade_mode)
        return SymbolInfo.of(
            **{**_facts(spec), "trade_mode": trade_mode},
            **self._tick_values(spec),
            **(self._prices(spec) if selected else {}),
            select=selected,
            visible=selected,
        )

    def _prices(self, spec: SymbolSpec) -> dict[str, Any]:
        """Newest prices and those of the server's day."""
        now = self.clock.utc_ms()
        rows = self.feed.last(spec.name, now_utc_ms=now)
        if not len(rows):
            return {}
        tick = Tick(rows[0].item())
        prices: dict[str, Any] = {
            "time": tick.time, "bid": tick.bid, "ask": tick.ask, "last": tick.last,
            "volume": tick.volume, "volume_real": tick.volume_real,
            "spread": round((tick.ask - tick.bid) / spec.point),
        }  # fmt: skip
        midnight_s = tick.time // DAY_S * DAY_S - self.server_clock.offset_s(now)
        minutes = self.feed.minute_bars(spec.name, midnight_s, now // 1000 + 1, now_utc_ms=now)
        minutes = minutes.copy()
        minutes["time"] += self.server_clock.offset_s(now)
        day = aggregated(minutes, mt5.TIMEFRAME_D1)[-1:]
        if len(day):
            gap = spec.spread_points * spec.point
            high, low = float(day["high"][0]), float(day["low"][0])
            prices |= {
                "bidhigh": high, "bidlow": low, "session_open": float(day["open"][0]),
                "askhigh": round(high + gap, spec.digits),
                "asklow": round(low + gap, spec.digits),
                "price_change": (tick.bid / float(day["open"][0]) - 1) * 100,
            }  # fmt: skip
        return prices

    def _tick_values(self, spec: SymbolSpec) -> dict[str, float]:
        """One tick of one lot in account currency, at current rates."""
        server = self.broker
        per_tick = server.valuer.contract(spec.name).contract_size * spec.step
        values = {}
        try:
            for name, side in (("_profit", 0), ("_loss", 1)):
                rate = server.valuer.rate(spec.currency_profit, side, server.now_ms)
                values[f"trade_tick_value{name}"] = per_tick * rate
        except MissingRate:
            return {}
        return {**values, "trade_tick_value": values["trade_tick_value_profit"]}


def _facts(spec: SymbolSpec) -> dict[str, Any]:
    return {
        "digits": spec.digits, "spread_float": True, "trade_calc_mode": spec.calc_mode,
        "trade_mode": spec.trade_mode, "trade_stops_level": spec.stops_level,
        "trade_freeze_level": spec.freeze_level, "trade_exemode": spec.execution_mode,
        "swap_mode": spec.swap_mode, "swap_rollover3days": spec.swap_rollover3days,
        "margin_hedged_use_leg": spec.margin_hedged_use_leg,
        "expiration_mode": spec.expiration_mode, "filling_mode": spec.filling_mode,
        "order_mode": spec.order_mode, "point": spec.point, "trade_tick_size": spec.step,
        "trade_contract_size": spec.contract_size, "volume_min": spec.volume_min,
        "volume_max": spec.volume_max, "volume_step": spec.volume_step,
        "volume_limit": spec.volume_limit, "swap_long": spec.swap_long,
        "swap_short": spec.swap_short, "margin_initial": spec.margin_initial,
        "margin_hedged": spec.contract_size if spec.margin_hedged is None
        else spec.margin_hedged,
        "chart_mode": mt5.SYMBOL_CHART_MODE_LAST if spec.trades else mt5.SYMBOL_CHART_MODE_BID,
        "ticks_bookdepth": BOOK_DEPTH * 2 if spec.trades else 0,
        "currency_base": spec.currency_base, "currency_profit": spec.currency_profit,
        "currency_margin": spec.currency_margin or spec.currency_base,
        "description": spec.description, "name": spec.name, "path": spec.path,
    }  # fmt: skip


def _levels(spec: SymbolSpec, bid: float, ask: float) -> tuple[BookInfo, ...]:
    """A book around the newest prices, offers first, as terminals give it."""
    offers = [
        BookInfo((mt5.BOOK_TYPE_SELL, round(ask + n * spec.step, spec.digits), 10 * (n + 1),
                  10.0 * (n + 1)))
        for n in reversed(range(BOOK_DEPTH))
    ]  # fmt: skip
    wanted = [
        BookInfo((mt5.BOOK_TYPE_BUY, round(bid - n * spec.step, spec.digits), 10 * (n + 1),
                  10.0 * (n + 1)))
        for n in range(BOOK_DEPTH)
    ]  # fmt: skip
    return (*offers, *wanted)
