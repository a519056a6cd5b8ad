"""The account a backtest trades on."""

from __future__ import annotations

from dataclasses import dataclass, replace

from events.trading import Account


@dataclass(frozen=True, slots=True)
class AccountSpec:
    """The conditions of one account; money in `currency`, codes are MT5's."""

    currency: str
    leverage: int
    balance: float
    margin_mode: int
    """0 netting, 1 exchange, 2 hedging."""
    login: int = 1
    server: str = "Backtest"
    name: str = ""
    company: str = ""
    currency_digits: int = 2
    credit: float = 0.0
    fifo_close: bool = False
    hedge_prohibited: bool = False
    limit_orders: int = 0
    limit_positions: int = 0
    """0: no limit, as with orders."""
    requests_per_s_max: int = 0
    margin_so_mode: int = 0
    """0: levels are percent of the margin; 1: they are money."""
    margin_so_call: float = 100.0
    margin_so_so: float = 50.0
    trade_mode: int = 0

    @classmethod
    def of(cls, account: Account) -> AccountSpec:
        """The conditions of an account that was seen at a terminal, and its balance then."""
        return cls(
            currency=account.currency,
            leverage=account.leverage,
            balance=account.balance,
            margin_mode=account.margin_mode,
            login=account.login,
            server=account.server,
            name=account.name,
            company=account.company,
            currency_digits=account.currency_digits,
            credit=account.credit,
            fifo_close=account.fifo_close,
            limit_orders=account.limit_orders,
            margin_so_mode=account.margin_so_mode,
            margin_so_call=account.margin_so_call,
            margin_so_so=account.margin_so_so,
        )

    def opened_with(self, balance: float) -> AccountSpec:
        """The same account with another balance and no credit."""
        return replace(self, balance=balance, credit=0.0)
