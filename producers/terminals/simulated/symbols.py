"""The catalogue of instruments a simulated broker offers, with figures of real life."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from producers.terminals import constants as mt5

Session = Literal["fx", "metal", "stock", "always"]


class SymbolSpec(BaseModel):
    """One instrument. Prices in `currency_profit`; volumes in lots; spreads in points."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=31)
    description: str = ""
    path: str = "Custom"
    currency_base: str
    currency_profit: str
    currency_margin: str = ""
    digits: int = Field(ge=0, le=10)
    tick_size: float = 0.0
    """0 means one point."""
    contract_size: float = Field(gt=0)
    calc_mode: int = mt5.SYMBOL_CALC_MODE_FOREX
    price: float = Field(gt=0)
    """Level around which the generated price walks."""
    volatility_percent: float = Field(0.6, gt=0, le=50)
    """Standard deviation of one day's move."""
    ticks_per_second: float = Field(2.0, gt=0, le=10_000)
    """Average over the active hours."""
    spread_points: int = Field(8, ge=0)
    session: Session = "fx"
    trades: bool = False
    """Whether rows carry last price and volume, as exchanges do."""
    volume_min: float = 0.01
    volume_max: float = 100.0
    volume_step: float = 0.01
    volume_limit: float = 0.0
    swap_mode: int = mt5.SYMBOL_SWAP_MODE_POINTS
    swap_long: float = -5.0
    swap_short: float = -2.0
    swap_rollover3days: int = 3
    stops_level: int = 0
    freeze_level: int = 0
    execution_mode: int = mt5.SYMBOL_TRADE_EXECUTION_MARKET
    filling_mode: int = mt5.SYMBOL_FILLING_FOK | mt5.SYMBOL_FILLING_IOC
    order_mode: int = 127
    expiration_mode: int = 15
    trade_mode: int = mt5.SYMBOL_TRADE_MODE_FULL
    margin_initial: float = 0.0
    margin_hedged: float | None = None
    """None: like the contract size, so that a hedge costs one leg."""
    margin_hedged_use_leg: bool = False
    commission_per_lot: float = 0.0
    """Account currency, charged on entry and again on exit."""
    commission_on: Literal["both", "in", "out"] = "both"
    fee_per_deal: float = 0.0
    """Account currency, charged with every deal but those of a close-by."""

    @property
    def point(self) -> float:
        return round(10.0**-self.digits, self.digits)

    @property
    def step(self) -> float:
        """Smallest change of the price."""
        return self.tick_size or self.point


def _forex(name: str, price: float, **more: Any) -> SymbolSpec:
    base, profit = name[:3], name[3:6]
    digits = 3 if profit == "JPY" else 5
    return SymbolSpec(
        name=name,
        description=f"{base} against {profit}",
        path=f"Forex\\{name}",
        currency_base=base,
        currency_profit=profit,
        currency_margin=base,
        digits=digits,
        contract_size=100_000,
        price=price,
        commission_per_lot=3.5,
        **more,
    )


def _cfd(
    name: str, price: float, *, base: str, digits: int, size: float, folder: str, **more: Any
) -> SymbolSpec:
    return SymbolSpec(
        name=name,
        path=f"{folder}\\{name}",
        currency_base=base,
        currency_profit="USD",
        currency_margin="USD",
        digits=digits,
        contract_size=size,
        calc_mode=mt5.SYMBOL_CALC_MODE_CFDLEVERAGE,
        price=price,
        **more,
    )


CATALOGUE: dict[str, SymbolSpec] = {
    spec.name: spec
    for spec in (
        _forex("EURUSD", 1.0850, ticks_per_second=2.5, spread_points=6, swap_long=-7.2,
               swap_short=3.1),
        _forex("GBPUSD", 1.2700, ticks_per_second=2.2, spread_points=9),
        _forex("USDJPY", 151.20, ticks_per_second=2.6, spread_points=9, swap_long=9.0,
               swap_short=-19.0),
        _forex("AUDUSD", 0.6550, ticks_per_second=1.6, spread_points=8),
        _forex("NZDUSD", 0.6020, ticks_per_second=1.3, spread_points=11),
        _forex("USDCHF", 0.8830, ticks_per_second=1.5, spread_points=10),
        _forex("USDCAD", 1.3620, ticks_per_second=1.6, spread_points=11),
        _forex("EURGBP", 0.8543, ticks_per_second=1.4, spread_points=10),
        _forex("EURJPY", 164.05, ticks_per_second=2.2, spread_points=14),
        _forex("GBPJPY", 192.02, ticks_per_second=2.4, spread_points=19,
               volatility_percent=0.8),
        _forex("EURCHF", 0.9580, ticks_per_second=1.1, spread_points=15,
               volatility_percent=0.4),
        _forex("AUDJPY", 99.04, ticks_per_second=1.5, spread_points=15),
        _cfd("XAUUSD", 2350.0, base="XAU", digits=2, size=100, folder="Metals",
             session="metal", ticks_per_second=6.0, spread_points=16, volatility_percent=1.0,
             description="Gold against US dollar", swap_long=-28.0, swap_short=15.0,
             commission_per_lot=3.5),
        _cfd("XAGUSD", 28.40, base="XAG", digits=3, size=5000, folder="Metals",
             session="metal", ticks_per_second=3.0, spread_points=22, volatility_percent=1.7,
             description="Silver against US dollar"),
        _cfd("US30", 39200.0, base="USD", digits=1, size=1, folder="Indices",
             session="metal", ticks_per_second=3.0, spread_points=24, volatility_percent=0.9,
             description="Wall Street 30", volume_min=0.1, volume_step=0.1),
        _cfd("BTCUSD", 66500.0, base="BTC", digits=2, size=1, folder="Crypto",
             session="always", ticks_per_second=4.0, spread_points=1500,
             volatility_percent=3.0, description="Bitcoin against US dollar",
             swap_mode=mt5.SYMBOL_SWAP_MODE_INTEREST_CURRENT, swap_long=-20.0,
             swap_short=-20.0, swap_rollover3days=5),
        _cfd("ETHUSD", 3450.0, base="ETH", digits=2, size=1, folder="Crypto",
             session="always", ticks_per_second=3.0, spread_points=180,
             volatility_percent=3.8, description="Ethereum against US dollar",
             swap_mode=mt5.SYMBOL_SWAP_MODE_INTEREST_CURRENT, swap_long=-20.0,
             swap_short=-20.0, swap_rollover3days=5),
        SymbolSpec(name="ACME", description="Acme Inc, exchange stock",
                   path="Stocks\\ACME", currency_base="USD", currency_profit="USD",
                   currency_margin="USD", digits=2, contract_size=1,
                   calc_mode=mt5.SYMBOL_CALC_MODE_EXCH_STOCKS, price=182.5,
                   volatility_percent=1.6, ticks_per_second=3.0, spread_points=2,
                   session="stock", trades=True, volume_min=1, volume_step=1,
                   volume_max=100_000, swap_mode=mt5.SYMBOL_SWAP_MODE_DISABLED,
                   execution_mode=mt5.SYMBOL_TRADE_EXECUTION_EXCHANGE),
    )
}  # fmt: skip
"""What the simulated broker offers when nothing else is asked, by canonical name."""


CURRENCIES = frozenset(
    currency
    for spec in CATALOGUE.values()
    if spec.calc_mode == mt5.SYMBOL_CALC_MODE_FOREX
    for currency in (spec.currency_base, spec.currency_profit)
)
"""Currencies that the catalogue's pairs convert into each other."""


def guess_spec(name: str, *, price: float, digits: int) -> SymbolSpec:
    """A spec for a symbol met in a tick file: the catalogue's where the name begins with one of
    its names (`EURUSD.raw`), else a pair of two currencies or a CFD in US dollars."""
    for known in sorted(CATALOGUE, key=len, reverse=True):
        if name.upper().startswith(known):
            return CATALOGUE[known].model_copy(update={"name": name, "price": price})
    letters = name.upper()[:6]
    if letters[:3] in CURRENCIES and letters[3:] in CURRENCIES:
        spec = _forex(letters, price)
        return spec.model_copy(update={"name": name, "digits": digits})
    return _cfd(name, price, base="USD", digits=digits, size=1, folder="CFD")


def catalogue_of(
    wanted: tuple[str | SymbolSpec, ...], suffixes: tuple[str, ...]
) -> dict[str, SymbolSpec]:
    """Specs by the broker's names: every wanted symbol with every suffix (`EURUSD` + `.raw`).

    Names of the catalogue and whole specs may be mixed. Raises ValueError on an unknown name.
    """
    offered: dict[str, SymbolSpec] = {}
    for item in wanted or tuple(CATALOGUE):
        spec = CATALOGUE.get(item) if isinstance(item, str) else item
        if spec is None:
            known = ", ".join(CATALOGUE)
            raise ValueError(f"symbol {item!r} is not in the catalogue ({known}): give its spec")
        for suffix in suffixes:
            name = spec.name + suffix
            path = spec.path + suffix
            offered[name] = spec.model_copy(update={"name": name, "path": path})
    return offered
