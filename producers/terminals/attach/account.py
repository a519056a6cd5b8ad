"""The attach sequence: connect to the terminal, never switch its account, check who it is.

A terminal is shared with people and other programs, and `login()` switches the account of all
of them. So the module is first connected without credentials; these are used only where the
terminal has no account at all. Any other account than the configured one is an incident.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from producers.terminals.attach.symbols import resolve, select
from producers.terminals.client.life import AttachLine
from producers.terminals.interface import AttachRefused, Reply
from producers.terminals.spec import TRADE_MODES, TerminalSpec
from producers.terminals.structs import StructSequence

logger = logging.getLogger(__name__)

ACCOUNT_WAIT_S = 15.0
"""A terminal that was just started needs a moment until it knows its account."""
ACCOUNT_LOOK_S = 0.5
LOGIN_RETRY_S = 300.0
"""After a refused password: brokers lock accounts that are tried too often."""
CALL_MARGIN_S = 15.0
"""What `initialize` may take beyond its own timeout."""

_AUTH_FAILED = -6
_CAUSES: dict[int, tuple[str, str]] = {
    -5: (
        "terminal and MetaTrader5 package are of different versions",
        "update both (the terminal may have updated itself): pip install -U MetaTrader5",
    ),
    -6: (
        "the broker refused the login, or the account uses one-time passwords",
        "check login, password and server in the settings, or log in once in the terminal",
    ),
    -8: (
        "the terminal forbids the Python API",
        "Tools > Options > Expert Advisors: clear 'Disable automated trading via the external"
        " Python API'",
    ),
    -10003: (
        "the terminal could not be found or started",
        "set the path of terminal64.exe, and run as the Windows user who owns the terminal, in"
        " the logged-on session and with the same elevation",
    ),
    -10004: ("there is no connection to a terminal", "start the terminal, check its path"),
    -10005: (
        "the terminal was found but did not answer",
        "look at its window: login, update or agreement dialogs, still loading, another user or"
        " elevation, a virus scanner, another program in a long call",
    ),
}


class AttachFailed(AttachRefused):
    """The terminal does not let us in. `code` is the module's last_error()."""

    def __init__(self, text: str, *, code: int = 0, retry_after_s: float = 0.0) -> None:
        super().__init__(text, retry_after_s=retry_after_s)
        self.code = code


class LoginRefused(AttachFailed):
    """Wrong login, password or server; tried again only after a long wait."""


class WrongAccount(AttachRefused):
    """The terminal is on another account than configured: nothing of it may be recorded."""


@dataclass(frozen=True, slots=True)
class Attached:
    """What was attached to. `symbols` maps the names asked for to the broker's."""

    account: StructSequence
    terminal: StructSequence
    version: tuple[int, int, str]
    symbols: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Attachment:
    """The `attach` step of a HostClient for one terminal.

    `symbols` are resolved once (aliases first), and selected in Market Watch on every attach.
    """

    def __init__(
        self,
        spec: TerminalSpec,
        *,
        symbols: Sequence[str] = (),
        aliases: Mapping[str, str] | None = None,
        account_wait_s: float = ACCOUNT_WAIT_S,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spec = spec
        self._symbols = tuple(symbols)
        self._aliases = dict(aliases or {})
        self._account_wait_s = account_wait_s
        self._sleep = sleep
        self._clock = clock
        self._resolved: dict[str, str] | None = None

    def __call__(self, line: AttachLine) -> Attached:
        """Raises AttachRefused (WrongAccount, LoginRefused, SymbolsRefused) or TerminalLost."""
        terminal = line.call("terminal_info")
        if terminal.value is None:
            self._connect(line)
            terminal = line.call("terminal_info")
        account = self._account(line)
        check_account(account, self._spec)
        if terminal.value is None:
            raise _failure("terminal_info", terminal)
        if self._resolved is None:
            self._resolved = resolve(line, self._symbols, self._aliases)
        select(line, self._resolved)
        version = line.call("version").value or (500, terminal.value.build, "")
        return Attached(
            account, terminal.value, version, dict(self._resolved), _warnings(terminal.value)
        )

    def _connect(self, line: AttachLine) -> None:
        """Connect without credentials; the terminal keeps the account it has."""
        # A connection left half open by a killed process is closed first.
        line.call("shutdown")
        reply = self._initialize(line)
        if reply.value is not True and reply.error[0] == _AUTH_FAILED and self._has_credentials():
            reply = self._initialize(line, **self._credentials())
        if reply.value is not True:
            raise _failure("initialize", reply)

    def _account(self, line: AttachLine) -> StructSequence:
        """The terminal's account, logged in to only where it has none."""
        due = self._clock() + self._account_wait_s
        logged_in = False
        while True:
            reply = line.call("account_info")
            if reply.value is not None and reply.value.login:
                account: StructSequence = reply.value
                return account
            if self._clock() >= due:
                if logged_in or not self._has_credentials():
                    raise _no_account(reply)
                logged_in = True
                due = self._clock() + self._account_wait_s
                answer = self._initialize(line, **self._credentials())
                if answer.value is not True:
                    raise _failure("initialize", answer)
            self._sleep(ACCOUNT_LOOK_S)

    def _initialize(self, line: AttachLine, **credentials: Any) -> Reply:
        timeout_ms = self._spec.initialize_timeout_ms
        path = () if self._spec.path is None else (self._spec.path,)
        named: dict[str, Any] = {**credentials, "timeout": timeout_ms}
        if self._spec.portable:
            named["portable"] = True
        timeout_s = timeout_ms / 1000.0 + CALL_MARGIN_S
        return line.call("initialize", *path, timeout_s=timeout_s, **named)

    def _has_credentials(self) -> bool:
        return self._spec.login is not None and self._spec.password is not None

    def _credentials(self) -> dict[str, Any]:
        assert self._spec.password is not None
        named: dict[str, Any] = {
            "login": self._spec.login,
            "password": self._spec.password.get_secret_value(),
        }
        if self._spec.server is not None:
            named["server"] = self._spec.server
        return named


def check_account(account: StructSequence, spec: TerminalSpec) -> None:
    """Raises WrongAccount when login, server or trade mode are not those of the spec."""
    mode = account.trade_mode
    mode_name = TRADE_MODES[mode] if 0 <= mode < len(TRADE_MODES) else str(mode)
    wrong = []
    if spec.login is not None and account.login != spec.login:
        wrong.append(f"login {account.login} instead of {spec.login}")
    if spec.server is not None and account.server.casefold() != spec.server.casefold():
        wrong.append(f"server {account.server} instead of {spec.server}")
    if spec.trade_mode is not None and mode_name != spec.trade_mode:
        wrong.append(f"a {mode_name} account instead of {spec.trade_mode}")
    if wrong:
        raise WrongAccount(
            f"the terminal {spec.name} is on another account: {', '.join(wrong)};"
            " log in to the right one in the terminal, or correct the settings"
        )


def _failure(method: str, reply: Reply) -> AttachFailed:
    code, text = reply.error
    cause, cure = _CAUSES.get(code, ("the terminal refused", "look at the terminal's journal"))
    message = f"{method} failed ({code}, {text}): {cause}; {cure}"
    if code == _AUTH_FAILED:
        return LoginRefused(message, code=code, retry_after_s=LOGIN_RETRY_S)
    return AttachFailed(message, code=code)


def _no_account(reply: Reply) -> AttachFailed:
    code, text = reply.error
    return AttachFailed(
        f"the terminal is not logged in to any account ({code}, {text}): log in once in the"
        " terminal with 'save account information', or set login, password and server",
        code=code,
    )


def _warnings(terminal: StructSequence) -> tuple[str, ...]:
    found = []
    if not terminal.connected:
        found.append("the terminal is not connected to the broker")
    if terminal.tradeapi_disabled:
        found.append(f"{_CAUSES[-8][0]} to trade: {_CAUSES[-8][1]}")
    if not terminal.trade_allowed:
        found.append("Algo Trading is switched off in the terminal: orders will be refused")
    return tuple(found)
