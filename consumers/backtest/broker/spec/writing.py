"""A spec as text: to fill in, or with the facts that were recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from consumers.backtest.broker.options import SymbolCosts
from consumers.backtest.broker.spec.account import AccountSpec
from consumers.backtest.broker.spec.facts import Spec
from consumers.backtest.broker.spec.file import (
    CALC_MODES,
    EXECUTION_MODES,
    MARGIN_MODES,
    SWAP_MODES,
    WEEKDAYS,
)
from events.market import Instrument

CURRENCIES = frozenset(
    {
        "AUD", "CAD", "CHF", "CNH", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF", "JPY", "MXN", "NOK",
        "NZD", "PLN", "SEK", "SGD", "THB", "TRY", "USD", "ZAR",
    }
)  # fmt: skip
_HEAD = """\
# What a backtest takes for granted. Nothing in here is known unless you know it: compare every
# line with your account and with the symbols' specification in the terminal.
"""


def spec_text(spec: Spec) -> str:
    """A spec as a file that `load_spec` reads back. Raises ValueError without an account."""
    if spec.account is None:
        raise ValueError("a spec file needs an account")
    parts = [_HEAD, _account(spec.account)]
    for symbol in sorted(spec.instruments):
        hours = spec.hours.get(symbol)
        parts.append(
            _symbol(
                spec.instruments[symbol],
                spec.costs.get(symbol, SymbolCosts()),
                () if hours is None else hours.lines,
            )
        )
    if spec.rates:
        lines = "".join(f"{pair} = {rate!r}\n" for pair, rate in sorted(spec.rates.items()))
        parts.append(f"[rates]\n{lines}")
    return "\n".join(parts)


def example_spec(symbols: Iterable[str] = ("EURUSD",), *, currency: str = "USD") -> Spec:
    """Figures as they are usual for such symbols, to be corrected by hand before they are used:
    pairs of two known currencies as forex, others as leveraged contracts for difference."""
    account = AccountSpec(currency=currency, leverage=100, balance=10_000.0, margin_mode=2)
    instruments = {symbol: _usual(symbol, currency) for symbol in symbols}
    costs = {
        symbol: SymbolCosts(commission_per_lot=3.5)
        for symbol, one in instruments.items()
        if one.calc_mode == CALC_MODES["forex"]
    }
    return Spec(account=account, instruments=instruments, costs=costs)


def _usual(symbol: str, currency: str) -> Instrument:
    base, profit = symbol[:3].upper(), symbol[3:6].upper()
    pair = base in CURRENCIES and profit in CURRENCIES
    digits = (3 if profit == "JPY" else 5) if pair else 2
    point = round(10.0**-digits, digits)
    size = 100_000.0 if pair else 1.0
    return Instrument(
        event_time_ms=0,
        recv_time_ms=0,
        symbol=symbol,
        broker_symbol=symbol,
        currency_base=base if pair else currency,
        currency_profit=profit if pair else currency,
        currency_margin=base if pair else currency,
        digits=digits,
        point=point,
        tick_size=point,
        contract_size=size,
        volume_min_lots=0.01,
        volume_max_lots=100.0,
        volume_step_lots=0.01,
        calc_mode=CALC_MODES["forex" if pair else "cfd_leverage"],
        swap_mode=SWAP_MODES["points"],
        swap_long=-7.2 if pair else 0.0,
        swap_short=-2.0 if pair else 0.0,
        filling_mode=3,
        margin_hedged=size,
    )


def _account(account: AccountSpec) -> str:
    level = "stop_out_money" if account.margin_so_mode else "stop_out_percent"
    return _table(
        "account",
        {
            "currency": (account.currency, ""),
            "balance": (account.balance, "what it begins with"),
            "leverage": (account.leverage, "1:100 is 100"),
            "mode": (_name(MARGIN_MODES, account.margin_mode), "hedging, netting or exchange"),
            level: (account.margin_so_so, "of the margin, or money (stop_out_money)"),
            "margin_call": (account.margin_so_call, ""),
            "fifo": (account.fifo_close, "only the oldest position may be closed"),
            "currency_digits": (account.currency_digits, ""),
            "credit": (account.credit, ""),
            "hedge_prohibited": (account.hedge_prohibited, ""),
            "limit_orders": (account.limit_orders, "0: no limit"),
            "limit_positions": (account.limit_positions, "0: no limit"),
            "login": (account.login, ""),
            "server": (account.server, ""),
        },
    )


def _symbol(one: Instrument, costs: SymbolCosts, hours: tuple[str, ...]) -> str:
    return _table(
        f"symbols.{_key(one.symbol)}",
        {
            "digits": (one.digits, "a point is the last of them"),
            "contract_size": (one.contract_size, "of one lot"),
            "currency_base": (one.currency_base or one.currency_profit, ""),
            "currency_profit": (one.currency_profit, ""),
            "currency_margin": (one.currency_margin, ""),
            "calc_mode": (_name(CALC_MODES, one.calc_mode), "how profit and margin are computed"),
            "volume_min_lots": (one.volume_min_lots, ""),
            "volume_max_lots": (one.volume_max_lots, ""),
            "volume_step_lots": (one.volume_step_lots or one.volume_min_lots, ""),
            "volume_limit_lots": (one.volume_limit_lots, "of one direction; 0: no limit"),
            "tick_size": (one.tick_size, ""),
            "tick_value": (one.tick_value, "account currency; futures need it"),
            "stops_level_points": (one.stops_level_points, ""),
            "freeze_level_points": (one.freeze_level_points, ""),
            "execution": (_name(EXECUTION_MODES, one.execution_mode), ""),
            "filling_mode": (one.filling_mode or 3, "1 FOK, 2 IOC, 3 both"),
            "swap_mode": (_name(SWAP_MODES, one.swap_mode), "disabled, points, ..."),
            "swap_long": (one.swap_long, "a night and lot; negative is paid"),
            "swap_short": (one.swap_short, ""),
            "swap_triple": (_name(WEEKDAYS, one.swap_rollover_weekday), "three nights are charged"),
            "margin_initial": (one.margin_initial, ""),
            "margin_hedged": (one.margin_hedged, ""),
            "margin_hedged_use_leg": (one.margin_hedged_use_leg, ""),
            "commission_per_lot": (costs.commission_per_lot, "account currency, a side"),
            "commission_on": (costs.commission_on, "both, in or out"),
            "fee_per_deal": (costs.fee_per_deal, ""),
            "hours": (
                hours,
                'broker\'s clock, such as ["mon-fri 00:05-23:55"]; []: with its ticks',
            ),
        },
    )


def _table(name: str, rows: Mapping[str, tuple[object, str]]) -> str:
    lines = [f"[{name}]"]
    for key, (value, remark) in rows.items():
        line = f"{key} = {_value(value)}"
        lines.append(f"{line:<38}# {remark}" if remark else line)
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, tuple):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    return repr(value)


def _key(symbol: str) -> str:
    plain = symbol.replace("_", "").replace("-", "").isalnum() and symbol.isascii()
    return symbol if plain else _value(symbol)


def _name(names: Mapping[str, int], number: int) -> object:
    """The name of a code, or the number itself."""
    return next((name for name, value in names.items() if value == number), number)
