"""Options of a simulated terminal. They are frozen and JSON-able: they cross to its host."""

from __future__ import annotations

from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_serializer, field_validator

from events.clock_rules import ClockRule
from producers.terminals import constants as mt5
from producers.terminals.simulated.faults import Fault
from producers.terminals.simulated.symbols import SymbolSpec

CALL_LATENCIES_MS: dict[str, float] = {
    "symbol_info_tick": 0.12, "copy_ticks_from": 1.5, "copy_ticks_range": 1.5,
    "copy_rates_range": 2.0, "copy_rates_from": 2.0, "copy_rates_from_pos": 2.0,
    "symbols_get": 5.0, "initialize": 2.6, "order_send": 250.0, "order_check": 0.5,
}  # fmt: skip
"""Figures published for native terminals (warm history); what is not named takes 0.15 ms."""
CALL_LATENCY_OTHER_MS = 0.15


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AccountOptions(_Options):
    """One account at the simulated broker. Money in `currency`."""

    login: int = Field(5_000_001, gt=0)
    password: SecretStr = SecretStr("simulated")
    server: str = "Simulated-Demo"
    name: str = "Simulated Trader"
    company: str = "Simulated Broker"
    currency: str = "USD"
    currency_digits: int = Field(2, ge=0, le=8)
    balance: float = 100_000.0
    credit: float = 0.0
    leverage: int = Field(100, gt=0)
    margin_mode: int = Field(mt5.ACCOUNT_MARGIN_MODE_RETAIL_HEDGING, ge=0, le=2)
    trade_mode: int = Field(mt5.ACCOUNT_TRADE_MODE_DEMO, ge=0, le=2)
    fifo_close: bool = False
    hedge_prohibited: bool = False
    """Hedging accounts that take no opposite positions of a symbol."""
    limit_orders: int = Field(200, ge=0)
    limit_positions: int = Field(0, ge=0)
    """0: no limit."""
    requests_per_s_max: int = Field(0, ge=0)
    """More requests in a (virtual) second are refused; 0: no limit."""
    margin_so_mode: int = mt5.ACCOUNT_STOPOUT_MODE_PERCENT
    margin_so_call: float = 100.0
    margin_so_so: float = 50.0
    trade_allowed: bool = True
    trade_expert: bool = True

    @field_serializer("password", when_used="json")
    def _password_for_the_host(self, value: SecretStr) -> str:
        return value.get_secret_value()


class TickOptions(_Options):
    """Which peculiarities of real feeds the generated ticks have. Shares are of all ticks."""

    rate: float = Field(1.0, gt=0, le=1000)
    """Times the symbols' own tick rates."""
    same_ms_share: float = Field(0.02, ge=0, le=1)
    """Ticks that share the millisecond of the one before."""
    identical_share: float = Field(0.002, ge=0, le=1)
    """Ticks equal in every field to the one before."""
    bursts_per_hour: float = Field(2.0, ge=0, le=60)
    burst_ticks: int = Field(60, ge=0, le=50_000)
    """Further ticks that fall into one second."""
    flag_bits: int = Field(0, ge=0)
    """Undocumented bits set on every tick (0x80, 0x400 are seen)."""
    flag_bits_live: int = Field(0, ge=0)
    """Undocumented bits set only while a tick is younger than a minute."""
    zero_price_share: float = Field(0.0, ge=0, le=1)
    zero_time_share: float = Field(0.0, ge=0, le=1)
    outlier_share: float = Field(0.0, ge=0, le=1)
    crossed_share: float = Field(0.0, ge=0, le=1)
    late_share: float = Field(0.0, ge=0, le=1)
    """Ticks that copy_ticks_* shows only some time after their own time."""
    late_max_ms: int = Field(1500, ge=1, le=600_000)


class TraderOptions(_Options):
    """A background trader (a human, another program) who trades on the account."""

    every_s: float = Field(20.0, gt=0)
    """One position is opened in each such span."""
    hold_max_s: float = Field(90.0, gt=0)
    flash_share: float = Field(0.2, ge=0, le=1)
    """Positions opened and closed within a few hundred milliseconds."""
    pending_share: float = Field(0.2, ge=0, le=1)
    """Pending orders instead of market orders."""
    stops_share: float = Field(0.5, ge=0, le=1)
    """Positions with stop loss and take profit."""
    symbols: tuple[str, ...] = ()
    """Broker's names; empty: the first selected ones."""
    volume_lots_max: float = Field(0.1, gt=0)


class SimulatedOptions(_Options):
    """Everything a simulated terminal is made of. The same options and the same virtual times
    give the same answers to the byte."""

    seed: int = 1
    symbols: tuple[str | SymbolSpec, ...] = ()
    """Names of the catalogue or whole specs; empty: the whole catalogue."""
    suffixes: tuple[str, ...] = ("",)
    selected: tuple[str, ...] = ()
    """What stands in Market Watch at the start, as far as it is offered; else the first four."""
    account: AccountOptions = AccountOptions()
    other_accounts: tuple[AccountOptions, ...] = ()
    clock: str = "America/New_York+7h"
    """The broker's clock as a rule (see events.clock_rules)."""
    start_utc_ms: int | None = None
    """Virtual time at the start; None: the computer's time."""
    speed: float = Field(1.0, ge=0, le=1_000_000)
    """Virtual seconds per second; 0: the clock stands and is stepped by hand."""
    host_clock_error_ms: int = 0
    """How wrong the computer's own clock is."""
    pc_zone: str = "UTC"
    """Zone of the computer, in which naive datetimes are read."""
    ticks: TickOptions = TickOptions()
    history_days: int = Field(400, ge=1, le=5000)
    """How far back ticks and bars reach."""
    maxbars: int = Field(100_000, ge=1)
    select_delay_s: float = Field(0.0, ge=0)
    """Time between symbol_select and the first tick."""
    first_answer: Literal["full", "none", "empty", "partial"] = "full"
    """What the first copy_ticks_* of each symbol gives."""
    first_answer_calls: int = Field(1, ge=0)
    latency: Literal["none", "native"] = "none"
    latency_ms: float = Field(0.0, ge=0)
    """Added to every call (a network, a slow machine)."""
    execution_ms: float = Field(0.0, ge=0)
    """Virtual time from order_send to the deal."""
    liquidity_lots: float | None = Field(None, ge=0)
    """What one order gets at once; None: all it wants."""
    slippage_points: float = Field(0.0, ge=0)
    """Market orders are filled up to so much worse than the price (Market and Exchange
    execution)."""
    comment_chars_max: int = Field(29, ge=0)
    """Longer comments never leave the terminal (builds differ: 27 to 31)."""
    memory: str | None = None
    """File in which the account lives on: another process that opens it, or this one later,
    finds the same account. None: a new account with every start."""
    moves: tuple[dict[str, Any], ...] = ()
    """Prices that were pushed already, as the memory of an account tells them."""
    trader: TraderOptions | None = None
    faults: tuple[Fault, ...] = ()

    @field_validator("clock")
    @classmethod
    def _known_clock(cls, value: str) -> str:
        return str(ClockRule.parse(value))

    @field_validator("pc_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"{value!r} is no time zone: use an IANA name or UTC") from None
        return value

    def call_latency_s(self, method: str) -> float:
        """Real seconds that one call takes."""
        native = 0.0
        if self.latency == "native":
            native = CALL_LATENCIES_MS.get(method, CALL_LATENCY_OTHER_MS)
        return (native + self.latency_ms) / 1000
