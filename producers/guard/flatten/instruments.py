"""What a request must know of a symbol, kept from the first time it was read.

In an emergency nothing may depend on one more read: a symbol that cannot be read any more (it was
removed, the terminal is slow) is closed by what is known of it, or by defaults.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from producers.guard.flatten.account import AccountCalls, Held, known
from producers.terminals import constants as mt5

_LOTS_ROUNDING = 8


@dataclass(frozen=True, slots=True)
class Instrument:
    """One symbol's rules for requests. Volumes in lots."""

    name: str
    digits: int = 8
    tick_size: float = 0.0
    tick_value: float = 0.0
    """Account currency per tick and lot; 0: unknown."""
    contract_size: float = 1.0
    volume_min: float = 0.0
    volume_max: float = 0.0
    """0: no limit is known."""
    volume_step: float = 0.0
    execution: int = mt5.SYMBOL_TRADE_EXECUTION_MARKET
    filling_bits: int = 0
    order_bits: int = 127

    @property
    def takes_close_by(self) -> bool:
        return bool(self.order_bits & mt5.SYMBOL_ORDER_CLOSEBY)

    def fillings(self) -> tuple[int, ...]:
        """Filling modes for an emergency, the best first (MQL5 reference, "Order properties").

        Immediate-or-cancel takes what there is; fill-or-kill comes next. RETURN is for exchanges,
        and for instant and request execution, which take every mode. Modes that the symbol does
        not announce stand at the end: brokers announce wrongly.
        """
        ioc, fok, back = (
            mt5.ORDER_FILLING_IOC, mt5.ORDER_FILLING_FOK, mt5.ORDER_FILLING_RETURN,
        )  # fmt: skip
        free = self.execution <= mt5.SYMBOL_TRADE_EXECUTION_INSTANT
        allowed = {
            ioc: free or bool(self.filling_bits & mt5.SYMBOL_FILLING_IOC),
            fok: free or bool(self.filling_bits & mt5.SYMBOL_FILLING_FOK),
            back: free or self.execution == mt5.SYMBOL_TRADE_EXECUTION_EXCHANGE,
        }
        return tuple(sorted(allowed, key=lambda mode: not allowed[mode]))

    def exposure(self, lots_signed: float, price: float) -> float:
        """Notional in account currency, with its sign; in lots times price where the tick's
        value is unknown, which still orders positions of one symbol."""
        if self.tick_size > 0 and self.tick_value > 0:
            return lots_signed * price / self.tick_size * self.tick_value
        return lots_signed * price * self.contract_size

    def part(self, volume_lots: float, share: float) -> float:
        """A share of a volume that can be traded: rounded up to the step, at least the minimum,
        and all of it where the rest would be too small to trade."""
        if not self.volume_step:
            return volume_lots
        steps = max(1, -int(-(volume_lots * share / self.volume_step - 1e-9) // 1))
        part = max(round(steps * self.volume_step, _LOTS_ROUNDING), self.volume_min)
        rest = volume_lots - part
        return volume_lots if rest < max(self.volume_min, self.volume_step) - 1e-9 else part

    def at_most(self, volume_lots: float) -> float:
        """What one request may close of a volume."""
        if not self.volume_max or volume_lots <= self.volume_max + 1e-9:
            return volume_lots
        return self.volume_max


@dataclass(slots=True)
class InstrumentBook:
    """Every symbol seen so far, with the filling mode its broker took last. Not thread-safe."""

    _known: dict[str, Instrument] = field(default_factory=dict)
    _filling: dict[str, int] = field(default_factory=dict)
    """Place in `Instrument.fillings()`."""

    def prime(self, calls: AccountCalls, symbols: set[str]) -> None:
        """Read symbols that are not known yet, all at once."""
        missing = sorted(symbols - self._known.keys())
        for name, call in [(name, calls.submit("symbol_info", name)) for name in missing]:
            info = known(call)
            if info is not None:
                self._known[name] = instrument_of(info)

    def of(self, symbol: str) -> Instrument:
        return self._known.get(symbol) or Instrument(symbol)

    def forget(self, symbol: str) -> None:
        """Read it again before the next request: the broker disagrees with what is known."""
        self._known.pop(symbol, None)

    def filling(self, symbol: str) -> int:
        modes = self.of(symbol).fillings()
        return modes[self._filling.get(symbol, 0) % len(modes)]

    def next_filling(self, symbol: str, refused: int) -> None:
        """The broker refused a mode; several requests may have been refused by one answer."""
        if self.filling(symbol) == refused:
            self._filling[symbol] = self._filling.get(symbol, 0) + 1

    def exposure(self, held: Held) -> float:
        """Of one position at its current price, account currency, with its sign."""
        return self.of(held.symbol).exposure(held.lots_signed, held.price_current)


def instrument_of(info: object) -> Instrument:
    """From a SymbolInfo."""
    value = getattr
    return Instrument(
        name=value(info, "name"),
        digits=value(info, "digits"),
        tick_size=value(info, "trade_tick_size"),
        tick_value=value(info, "trade_tick_value_loss") or value(info, "trade_tick_value"),
        contract_size=value(info, "trade_contract_size"),
        volume_min=value(info, "volume_min"),
        volume_max=value(info, "volume_max"),
        volume_step=value(info, "volume_step"),
        execution=value(info, "trade_exemode"),
        filling_bits=value(info, "filling_mode"),
        order_bits=value(info, "order_mode"),
    )
