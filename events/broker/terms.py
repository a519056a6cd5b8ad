"""What a trade server must be told of its account, its symbols and its surroundings."""

from __future__ import annotations

from typing import Any, Literal, Protocol


class AccountTerms(Protocol):
    """The conditions of one account. Money in `currency`; codes are MT5's."""

    @property
    def currency(self) -> str: ...
    @property
    def currency_digits(self) -> int: ...
    @property
    def balance(self) -> float:
        """What it was opened with."""
        ...

    @property
    def credit(self) -> float: ...
    @property
    def leverage(self) -> int: ...
    @property
    def margin_mode(self) -> int: ...
    @property
    def fifo_close(self) -> bool: ...
    @property
    def hedge_prohibited(self) -> bool: ...
    @property
    def limit_orders(self) -> int: ...
    @property
    def limit_positions(self) -> int:
        """0: no limit, as with orders."""
        ...

    @property
    def requests_per_s_max(self) -> int: ...
    @property
    def margin_so_mode(self) -> int: ...
    @property
    def margin_so_so(self) -> float: ...


class SymbolTerms(Protocol):
    """How one symbol may be traded, and what a deal costs. Volumes in lots, levels in points."""

    @property
    def name(self) -> str: ...
    @property
    def digits(self) -> int: ...
    @property
    def point(self) -> float: ...
    @property
    def volume_min(self) -> float: ...
    @property
    def volume_max(self) -> float: ...
    @property
    def volume_step(self) -> float: ...
    @property
    def volume_limit(self) -> float: ...
    @property
    def stops_level(self) -> int: ...
    @property
    def freeze_level(self) -> int: ...
    @property
    def execution_mode(self) -> int: ...
    @property
    def filling_mode(self) -> int: ...
    @property
    def order_mode(self) -> int: ...
    @property
    def trade_mode(self) -> int: ...
    @property
    def commission_per_lot(self) -> float:
        """Account currency, for every deal that pays (positive)."""
        ...

    @property
    def commission_on(self) -> Literal["both", "in", "out"]: ...
    @property
    def fee_per_deal(self) -> float: ...


class Quotes(Protocol):
    """Prices at a moment."""

    def at(self, symbol: str, utc_ms: int) -> tuple[float, float] | None:
        """(bid, ask) at a moment; None: there is no price yet."""
        ...

    def moment(self, utc_ms: int) -> Any:
        """Equal for two questions exactly when all prices are the same."""
        ...


class Clock(Protocol):
    """The broker's wall clock."""

    def offset_s(self, utc_ms: int) -> int:
        """Server time minus UTC in seconds."""
        ...

    def server_ms(self, utc_ms: int) -> int: ...


class Hours(Protocol):
    """When markets are open."""

    def is_open(self, symbol: str, utc_ms: int) -> bool: ...


class Conditions(Protocol):
    """What a broker lets happen at a moment, beyond the rules of its symbols. Times are UTC ms."""

    def liquidity_lots(self, symbol: str, utc_ms: int) -> float | None:
        """How much one order gets at once; None: all it wants."""
        ...

    def slippage_points(self, order_ticket: int) -> float:
        """How much worse than the price a market order is filled."""
        ...

    def comment(self, comment: str, utc_ms: int) -> str:
        """The comment the broker writes on the deal of an order."""
        ...

    def closed(self, symbol: str, utc_ms: int) -> bool:
        """Whether the market is closed though its hours say otherwise."""
        ...

    def trade_mode(self, symbol: str, utc_ms: int, *, usual: int) -> int:
        """SYMBOL_TRADE_MODE as it is now."""
        ...


class _NoConditions:
    def liquidity_lots(self, symbol: str, utc_ms: int) -> float | None:
        return None

    def slippage_points(self, order_ticket: int) -> float:
        return 0.0

    def comment(self, comment: str, utc_ms: int) -> str:
        return comment

    def closed(self, symbol: str, utc_ms: int) -> bool:
        return False

    def trade_mode(self, symbol: str, utc_ms: int, *, usual: int) -> int:
        return usual


NO_CONDITIONS: Conditions = _NoConditions()
"""Everything as the symbols say."""
