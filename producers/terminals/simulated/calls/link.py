"""Calls about the link: initialize, login, versions, account and terminal."""

from __future__ import annotations

from typing import Any

from producers.terminals import constants as mt5
from producers.terminals.simulated.calls.arguments import (
    CallFailed,
    int_at,
    invalid,
    text_at,
    typed,
)
from producers.terminals.simulated.calls.core import TerminalCore, api
from producers.terminals.structs import AccountInfo, TerminalInfo

BUILD = 6140
RELEASED = "27 Sep 2026"
PING_US = 24_500
_LOGIN_KINDS: dict[str, type] = {"login": int, "password": str, "server": str, "timeout": int}


class LinkCalls(TerminalCore):
    """One connection, one terminal, one account at a time."""

    @api(failed=False)
    def initialize(self, *args: Any, **kwargs: Any) -> bool:
        """initialize([path], *, login, password, server, timeout, portable) -> bool"""
        given = typed(kwargs, {**_LOGIN_KINDS, "path": str, "portable": int})
        if len(args) > 1:
            raise invalid("Invalid number of arguments")
        if args:
            given["path"] = text_at(args, 0)
        now = self.clock.utc_ms()
        self.attached = self.ipc_lost = False
        if self.faults.active("incompatible", now):
            raise CallFailed(mt5.RES_E_INVALID_VERSION)
        if "login" in given:
            self._authorise(given)
        elif self.faults.active("wrong_password", now):
            raise CallFailed(mt5.RES_E_AUTH_FAILED)
        self.attached = True
        self._process(now)
        return True

    @api(failed=False)
    def login(self, *args: Any, **kwargs: Any) -> bool:
        """login(login, *, password, server, timeout) -> bool; switches the whole terminal"""
        given = typed(kwargs, _LOGIN_KINDS)
        if len(args) > 1:
            raise invalid("Invalid number of arguments")
        if args:
            given["login"] = int_at(args, 0)
        if "login" not in given:
            raise invalid('Invalid "login" argument')
        self._authorise(given)
        return True

    @api(failed=None)
    def shutdown(self, *args: Any, **kwargs: Any) -> None:
        """shutdown() -> None"""
        self.attached = self.ipc_lost = False

    @api(failed=None)
    def version(self, *args: Any, **kwargs: Any) -> tuple[int, int, str]:
        """version() -> (500, build, release date)"""
        return (500, BUILD, RELEASED)

    @api(failed=None)
    def account_info(self, *args: Any, **kwargs: Any) -> AccountInfo:
        """account_info() -> AccountInfo"""
        server, account, now = self.broker, self.account_now(), self.clock.utc_ms()
        figures = server.valuer.figures(server.ledger, server.now_ms)
        return AccountInfo.of(
            login=account.login,
            trade_mode=account.trade_mode,
            leverage=account.leverage,
            limit_orders=account.limit_orders,
            margin_so_mode=account.margin_so_mode,
            trade_allowed=account.trade_allowed and not self.faults.active("investor", now),
            trade_expert=account.trade_expert and not self.faults.active("expert_off", now),
            margin_mode=account.margin_mode,
            currency_digits=account.currency_digits,
            fifo_close=account.fifo_close,
            balance=figures.balance,
            credit=figures.credit,
            profit=figures.profit,
            equity=figures.equity,
            margin=figures.margin,
            margin_free=figures.margin_free,
            margin_level=figures.margin_level_percent,
            margin_so_call=account.margin_so_call,
            margin_so_so=account.margin_so_so,
            name=account.name,
            server=account.server,
            currency=account.currency,
            company=account.company,
        )

    @api(failed=None)
    def terminal_info(self, *args: Any, **kwargs: Any) -> TerminalInfo:
        """terminal_info() -> TerminalInfo"""
        now = self.clock.utc_ms()
        return TerminalInfo.of(
            connected=self.feed.connected(now),
            trade_allowed=not self.faults.active("algo_off", now),
            tradeapi_disabled=self.faults.active("api_off", now) is not None,
            notifications_enabled=False,
            build=BUILD,
            maxbars=self.options.maxbars,
            codepage=0,
            ping_last=PING_US,
            company=self.account_now().company,
            name="MetaTrader 5 (simulated)",
            language="English",
            path="simulated",
            data_path="simulated",
            commondata_path="simulated",
        )

    def _authorise(self, given: dict[str, Any]) -> None:
        """Log in to an account the broker knows. Raises CallFailed."""
        account = self.accounts.known.get(given["login"])
        refused = self.faults.active("wrong_password", self.clock.utc_ms()) is not None
        if account is None or refused:
            raise CallFailed(mt5.RES_E_AUTH_FAILED)
        password = given.get("password")
        if password is not None and password != account.password.get_secret_value():
            raise CallFailed(mt5.RES_E_AUTH_FAILED)
        if given.get("server", account.server) != account.server:
            raise CallFailed(mt5.RES_E_AUTH_FAILED)
        self.login_now = account.login
