"""A spec file: account, symbols and costs in TOML, every problem with its line."""

from __future__ import annotations

import math
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from consumers.backtest.broker.options import SymbolCosts
from consumers.backtest.broker.prices.hours import BadHours, WeeklyHours
from consumers.backtest.broker.spec.account import AccountSpec
from consumers.backtest.broker.spec.facts import Spec
from events.accounting.contract import CalcMode, SwapMode
from events.market import Instrument
from events.rules.files.lines import Located, Unreadable, located_toml

BYTES_MAX = 1_048_576
SYMBOLS_MAX = 10_000
MARGIN_MODES = {"netting": 0, "exchange": 1, "hedging": 2}
CALC_MODES = {mode.name.lower(): int(mode) for mode in CalcMode}
SWAP_MODES = {mode.name.lower(): int(mode) for mode in SwapMode}
EXECUTION_MODES = {"request": 0, "instant": 1, "market": 2, "exchange": 3}
WEEKDAYS = {
    name: number
    for number, name in enumerate(
        ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
    )
}
_CURRENCY = r"^[A-Z0-9]{3,8}$"


class BadSpec(ValueError):
    """A spec that cannot be used: `file:line: key: reason, cure`, one line for each problem."""


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def _named(names: dict[str, int]) -> BeforeValidator:
    """Accepts a name or MT5's number."""

    def read(value: Any) -> Any:
        if isinstance(value, str):
            if value.lower() not in names:
                raise ValueError(f"is none of {', '.join(names)}")
            return names[value.lower()]
        if isinstance(value, bool) or value not in names.values():
            raise ValueError(f"is none of {', '.join(names)}, nor a number of MT5 for one of them")
        return value

    return BeforeValidator(read)


MarginMode = Annotated[int, _named(MARGIN_MODES)]
CalcModeCode = Annotated[int, _named(CALC_MODES)]
SwapModeCode = Annotated[int, _named(SWAP_MODES)]
ExecutionMode = Annotated[int, _named(EXECUTION_MODES)]
Weekday = Annotated[int, _named(WEEKDAYS)]
Finite = Annotated[float, AfterValidator(_finite)]
Positive = Annotated[Finite, Field(gt=0)]
NotNegative = Annotated[Finite, Field(ge=0)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AccountTable(_Table):
    """`[account]`."""

    currency: str = Field(pattern=_CURRENCY)
    balance: Positive
    leverage: int = Field(ge=1, le=10_000)
    mode: MarginMode
    currency_digits: int = Field(2, ge=0, le=8)
    credit: NotNegative = 0.0
    fifo: bool = False
    hedge_prohibited: bool = False
    limit_orders: int = Field(0, ge=0)
    limit_positions: int = Field(0, ge=0)
    stop_out_percent: NotNegative | None = None
    stop_out_money: Finite | None = None
    margin_call: NotNegative = 100.0
    login: int = Field(1, gt=0)
    server: str = "Backtest"

    def spec(self) -> AccountSpec:
        """Raises ValueError unless exactly one stop-out level is given."""
        if (self.stop_out_percent is None) == (self.stop_out_money is None):
            raise ValueError("write either stop_out_percent or stop_out_money")
        money = self.stop_out_money
        return AccountSpec(
            currency=self.currency,
            leverage=self.leverage,
            balance=self.balance,
            margin_mode=self.mode,
            login=self.login,
            server=self.server,
            currency_digits=self.currency_digits,
            credit=self.credit,
            fifo_close=self.fifo,
            hedge_prohibited=self.hedge_prohibited,
            limit_orders=self.limit_orders,
            limit_positions=self.limit_positions,
            margin_so_mode=0 if money is None else 1,
            margin_so_call=self.margin_call,
            margin_so_so=(self.stop_out_percent or 0.0) if money is None else money,
        )


class SymbolTable(_Table):
    """`[symbols.NAME]`."""

    digits: int = Field(ge=0, le=10)
    contract_size: Positive
    currency_base: str = Field(pattern=_CURRENCY)
    currency_profit: str = Field(pattern=_CURRENCY)
    currency_margin: str = ""
    volume_min_lots: Positive
    volume_max_lots: Positive
    volume_step_lots: Positive
    volume_limit_lots: NotNegative = 0.0
    calc_mode: CalcModeCode
    swap_mode: SwapModeCode
    swap_long: Finite = 0.0
    swap_short: Finite = 0.0
    swap_triple: Weekday = 3
    tick_size: NotNegative = 0.0
    tick_value: NotNegative = 0.0
    stops_level_points: int = Field(0, ge=0)
    freeze_level_points: int = Field(0, ge=0)
    execution: ExecutionMode = 2
    filling_mode: int = Field(3, ge=0)
    margin_initial: NotNegative = 0.0
    margin_hedged: NotNegative | None = None
    margin_hedged_use_leg: bool = False
    commission_per_lot: NotNegative = 0.0
    commission_on: Literal["both", "in", "out"] = "both"
    fee_per_deal: NotNegative = 0.0
    hours: tuple[str, ...] = ()

    def instrument(self, symbol: str) -> Instrument:
        point = round(10.0**-self.digits, self.digits)
        hedged = self.contract_size if self.margin_hedged is None else self.margin_hedged
        return Instrument(
            event_time_ms=0,
            recv_time_ms=0,
            symbol=symbol,
            broker_symbol=symbol,
            currency_base=self.currency_base,
            currency_profit=self.currency_profit,
            currency_margin=self.currency_margin,
            digits=self.digits,
            point=point,
            tick_size=self.tick_size or point,
            tick_value=self.tick_value,
            contract_size=self.contract_size,
            volume_min_lots=self.volume_min_lots,
            volume_max_lots=self.volume_max_lots,
            volume_step_lots=self.volume_step_lots,
            volume_limit_lots=self.volume_limit_lots,
            calc_mode=self.calc_mode,
            execution_mode=self.execution,
            filling_mode=self.filling_mode,
            stops_level_points=self.stops_level_points,
            freeze_level_points=self.freeze_level_points,
            swap_mode=self.swap_mode,
            swap_long=self.swap_long,
            swap_short=self.swap_short,
            swap_rollover_weekday=self.swap_triple,
            margin_initial=self.margin_initial,
            margin_hedged=hedged,
            margin_hedged_use_leg=self.margin_hedged_use_leg,
        )

    @property
    def costs(self) -> SymbolCosts:
        return SymbolCosts(self.commission_per_lot, self.commission_on, self.fee_per_deal)


class SpecFile(_Table):
    """The whole file."""

    account: AccountTable
    symbols: dict[str, SymbolTable] = Field(min_length=1, max_length=SYMBOLS_MAX)
    rates: dict[Annotated[str, Field(pattern=r"^[A-Z]{6}$")], Positive] = {}


def load_spec(path: Path | str) -> Spec:
    """Read a spec file. Raises BadSpec."""
    path = Path(path)
    try:
        if path.stat().st_size > BYTES_MAX:
            raise BadSpec(f"{path}:1: larger than {BYTES_MAX} bytes: that is no spec")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadSpec(f"{path}:1: cannot be read: {error}") from error
    return spec_of_text(text, where=str(path))


def spec_of_text(text: str, *, where: str) -> Spec:
    """The spec of a text of a file called `where`. Raises BadSpec."""
    try:
        located = located_toml(text)
    except Unreadable as error:
        raise BadSpec(f"{where}:{error.line or 1}: {error}") from error
    try:
        read = SpecFile.model_validate(located.content)
    except ValidationError as error:
        problems = [
            _problem(located, where, tuple(one["loc"]), _reason(one))
            for one in error.errors(include_url=False)
        ]
        raise BadSpec("\n".join(dict.fromkeys(problems))) from error
    try:
        account = read.account.spec()
    except ValueError as error:
        raise BadSpec(_problem(located, where, ("account",), str(error))) from error
    return Spec(
        account=account,
        instruments={name: table.instrument(name) for name, table in read.symbols.items()},
        costs={name: table.costs for name, table in read.symbols.items() if table.costs},
        hours=_hours(read, located, where),
        rates=dict(read.rates),
        source=where,
    )


def _hours(read: SpecFile, located: Located, where: str) -> dict[str, WeeklyHours]:
    found = {}
    for name, table in read.symbols.items():
        if not table.hours:
            continue
        try:
            found[name] = WeeklyHours.parse(table.hours)
        except BadHours as error:
            path = ("symbols", name, "hours")
            raise BadSpec(_problem(located, where, path, str(error))) from error
    return found


def _problem(located: Located, where: str, path: tuple[str | int, ...], reason: str) -> str:
    key = ".".join(str(part) for part in path if part != "[key]")
    return f"{where}:{located.line(path)}: {key}: {reason}"


def _reason(detail: Any) -> str:
    path, kind = tuple(detail["loc"]), detail["type"]
    if kind == "missing":
        return "is missing: write it (bridgectl backtest --write-spec FILE shows a whole one)"
    if kind == "extra_forbidden":
        near = get_close_matches(str(path[-1]), _keys(len(path)), n=1)
        return "is no key here: " + (f"did you mean {near[0]}?" if near else "remove it")
    given = repr(detail.get("input"))
    return f"{detail['msg'].removeprefix('Value error, ')} (not {given[:60]})"


def _keys(depth: int) -> list[str]:
    """The keys that may stand in a table so deep."""
    tables: dict[int, type[BaseModel]] = {2: AccountTable, 3: SymbolTable}
    return list(tables.get(depth, SpecFile).model_fields)
