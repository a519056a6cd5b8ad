"""Events about instruments and prices. (Ticks and candles travel packed: ticks.py, candles.py.)"""

from __future__ import annotations

from typing import ClassVar

from events.event import Part, TerminalEvent
from events.log import Lane


class Instrument(TerminalEvent):
    """The facts of a symbol that arithmetic needs, as `symbol_info` gave them."""

    TYPE: ClassVar[str] = "instrument"
    KEEP_LAST: ClassVar[bool] = True

    symbol: str
    """The canonical name; `broker_symbol` is what the terminal calls it."""
    broker_symbol: str
    description: str = ""
    path: str = ""
    currency_base: str = ""
    currency_profit: str = ""
    currency_margin: str = ""
    digits: int
    point: float
    tick_size: float
    tick_value: float = 0.0
    tick_value_profit: float = 0.0
    tick_value_loss: float = 0.0
    contract_size: float
    volume_min_lots: float
    volume_max_lots: float
    volume_step_lots: float
    volume_limit_lots: float = 0.0
    calc_mode: int = 0
    trade_mode: int = 4
    execution_mode: int = 2
    filling_mode: int = 0
    order_mode: int = 127
    expiration_mode: int = 15
    stops_level_points: int = 0
    freeze_level_points: int = 0
    swap_mode: int = 0
    swap_long: float = 0.0
    swap_short: float = 0.0
    swap_rollover_weekday: int = 3
    margin_initial: float = 0.0
    margin_maintenance: float = 0.0
    margin_hedged: float = 0.0
    margin_hedged_use_leg: bool = False
    chart_mode: int = 0
    """What the terminal builds its candles of: 0 bid, 1 last price."""

    @property
    def key(self) -> str:
        return self.symbol


class Quote(Part):
    """The newest price of one symbol."""

    symbol: str
    bid: float
    ask: float
    last: float = 0.0
    time_ms: int
    """UTC time of the tick."""
    time_server_ms: int


class Quotes(TerminalEvent):
    """Newest prices of held and conversion symbols, so that risk needs no tick stream."""

    TYPE: ClassVar[str] = "quotes"
    LANE: ClassVar[Lane] = Lane.HIGH
    KEEP_LAST: ClassVar[bool] = True

    login: int
    quotes: tuple[Quote, ...]

    @property
    def key(self) -> str:
        return str(self.login)


class Contracts(TerminalEvent):
    """Facts and newest prices of every symbol that is configured, held, or converts what is held.

    They lie beside the account, so that whoever computes risk needs no other partition. Appended
    when a symbol is new, and every few minutes.
    """

    TYPE: ClassVar[str] = "contracts"
    LANE: ClassVar[Lane] = Lane.HIGH
    KEEP_LAST: ClassVar[bool] = True

    login: int
    instruments: tuple[Instrument, ...]
    quotes: tuple[Quote, ...] = ()

    @property
    def key(self) -> str:
        return str(self.login)


class Closes(TerminalEvent):
    """Closing prices of a held symbol, oldest first: what its returns are computed from."""

    TYPE: ClassVar[str] = "closes"
    LANE: ClassVar[Lane] = Lane.HIGH
    KEEP_LAST: ClassVar[bool] = True

    login: int
    symbol: str
    timeframe: str
    time_server_s: tuple[int, ...]
    """When each candle opened, by the broker's clock."""
    close: tuple[float, ...]

    @property
    def key(self) -> str:
        return f"{self.login}/{self.symbol}"
