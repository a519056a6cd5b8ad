"""The attach sequence against a scripted line: who is asked what, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from producers.terminals.attach import (
    AttachFailed,
    Attachment,
    LoginRefused,
    SymbolsRefused,
    WrongAccount,
    candidates,
)
from producers.terminals.interface import AttachRefused, Reply
from producers.terminals.spec import TerminalSpec, TradeMode
from producers.terminals.structs import AccountInfo, SymbolInfo, TerminalInfo

OK = (1, "Success")


class ScriptedLine:
    """A terminal that is attached or not, logged in or not."""

    def __init__(
        self,
        *,
        attached: bool = False,
        login: int = 0,
        server: str = "Broker-Demo",
        trade_mode: int = 0,
        password: str = "right",
        initialize_error: tuple[int, str] = OK,
        symbols: tuple[SymbolInfo, ...] = (),
        unselectable: tuple[str, ...] = (),
    ) -> None:
        self.attached = attached
        self.login = login
        self.server = server
        self.trade_mode = trade_mode
        self.password = password
        self.initialize_error = initialize_error
        self.symbols = {symbol.name: symbol for symbol in symbols}
        self.unselectable = unselectable
        self.selected: list[str] = []
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def call(self, method: str, *args: Any, timeout_s: float | None = None, **kwargs: Any) -> Reply:
        self.calls.append((method, args, kwargs))
        value, error = getattr(self, f"do_{method}")(*args, **kwargs)
        return Reply(value, error, 0, 0.0)

    def named(self, method: str) -> list[dict[str, Any]]:
        return [kwargs for name, _, kwargs in self.calls if name == method]

    def do_terminal_info(self) -> Any:
        if not self.attached:
            return None, (-10004, "No IPC connection")
        return TerminalInfo.of(connected=True, trade_allowed=True, build=6140), OK

    def do_shutdown(self) -> Any:
        self.attached = False
        return None, OK

    def do_initialize(self, *path: str, **named: Any) -> Any:
        if self.initialize_error != OK:
            return False, self.initialize_error
        if "login" in named:
            if named["password"] != self.password:
                return False, (-6, "Terminal: Authorization failed")
            self.login = named["login"]
        self.attached = True
        return True, OK

    def do_account_info(self) -> Any:
        if not self.login:
            return None, (-6, "Terminal: Authorization failed")
        return AccountInfo.of(login=self.login, server=self.server, trade_mode=self.trade_mode), OK

    def do_version(self) -> Any:
        return (500, 6140, "1 Oct 2026"), OK

    def do_symbol_info(self, name: str) -> Any:
        found = self.symbols.get(name)
        return (found, OK) if found else (None, (-4, "Terminal: Not found"))

    def do_symbols_get(self) -> Any:
        return tuple(self.symbols.values()), OK

    def do_symbol_select(self, name: str, enable: bool) -> Any:
        if name in self.unselectable:
            return False, (-1, "Terminal: Call failed")
        self.selected.append(name)
        return True, OK


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def spec(
    *, login: int | None = 77, password: str | None = "right", trade_mode: TradeMode | None = None
) -> TerminalSpec:
    return TerminalSpec(
        kind="native",
        login=login,
        password=SecretStr(password) if password else None,
        server="Broker-Demo",
        trade_mode=trade_mode,
        path="C:/MT5/terminal64.exe",
    )


def attachment(given: TerminalSpec, **options: Any) -> Attachment:
    clock = Clock()
    return Attachment(given, sleep=clock.sleep, clock=clock, **options)


def symbol(name: str, *, trade_mode: int = 4, base: str = "", profit: str = "") -> SymbolInfo:
    return SymbolInfo.of(
        name=name, trade_mode=trade_mode, currency_base=base, currency_profit=profit
    )


def test_a_terminal_that_is_logged_in_is_attached_without_credentials() -> None:
    line = ScriptedLine(login=77)
    attached = attachment(spec())(line)
    assert attached.account.login == 77
    assert attached.version[1] == 6140
    (initialize,) = [call for call in line.calls if call[0] == "initialize"]
    assert initialize[1] == ("C:/MT5/terminal64.exe",)
    assert "password" not in initialize[2]
    assert "login" not in {method for method, _, _ in line.calls}


def test_a_terminal_that_is_attached_already_is_not_initialized() -> None:
    line = ScriptedLine(attached=True, login=77)
    attachment(spec())(line)
    assert line.named("initialize") == []
    assert line.named("shutdown") == []


def test_credentials_are_used_where_the_terminal_has_no_account() -> None:
    line = ScriptedLine(login=0)
    attached = attachment(spec())(line)
    assert attached.account.login == 77
    assert [named.get("password") for named in line.named("initialize")] == [None, "right"]


def test_another_account_is_an_incident_and_is_never_switched() -> None:
    line = ScriptedLine(attached=True, login=88)
    with pytest.raises(WrongAccount, match="login 88 instead of 77"):
        attachment(spec())(line)
    assert line.login == 88
    assert line.named("initialize") == []


def test_a_real_account_where_a_demo_is_configured_is_an_incident() -> None:
    line = ScriptedLine(attached=True, login=77, trade_mode=2)
    with pytest.raises(WrongAccount, match="a real account instead of demo"):
        attachment(spec(trade_mode="demo"))(line)


def test_another_server_is_an_incident_another_spelling_is_not() -> None:
    attachment(spec())(ScriptedLine(attached=True, login=77, server="broker-DEMO"))
    with pytest.raises(WrongAccount, match="server Broker-Live"):
        attachment(spec())(ScriptedLine(attached=True, login=77, server="Broker-Live"))


def test_a_wrong_password_is_not_tried_again_soon() -> None:
    line = ScriptedLine(login=0)
    with pytest.raises(LoginRefused, match="check login, password and server") as refused:
        attachment(spec(password="wrong"))(line)
    assert refused.value.retry_after_s >= 60
    assert "wrong" not in str(refused.value).replace("wrong login", "")
    assert len([named for named in line.named("initialize") if "password" in named]) == 1


def test_without_credentials_a_terminal_without_account_is_refused() -> None:
    with pytest.raises(AttachFailed, match="not logged in"):
        attachment(spec(login=None, password=None))(ScriptedLine(login=0))


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        ((-10003, "IPC initialize failed, MetaTrader 5 x64 not found"), "terminal64.exe"),
        ((-10005, "IPC timeout"), "dialogs"),
        ((-8, "Auto-Trading using Python API disabled"), "Expert Advisors"),
        ((-5, "Terminal: Incompatible versions"), "update both"),
        ((-1, "Terminal: Call failed"), "journal"),
    ],
)
def test_each_refusal_names_its_code_cause_and_cure(error: tuple[int, str], cure: str) -> None:
    with pytest.raises(AttachFailed, match=cure) as refused:
        attachment(spec())(ScriptedLine(initialize_error=error))
    assert refused.value.code == error[0]
    assert str(error[0]) in str(refused.value)


def test_symbols_are_found_selected_and_selected_again_after_a_new_start() -> None:
    line = ScriptedLine(
        login=77, symbols=(symbol("EURUSD.m"), symbol("XAUUSD"), symbol("GER40.cash"))
    )
    attach = attachment(spec(), symbols=("EURUSD", "XAUUSD", "DAX"), aliases={"DAX": "GER40.cash"})
    attached = attach(line)
    assert attached.symbols == {"EURUSD": "EURUSD.m", "XAUUSD": "XAUUSD", "DAX": "GER40.cash"}
    assert line.selected == ["EURUSD.m", "XAUUSD", "GER40.cash"]
    line.calls.clear()
    line.selected.clear()
    attach(line)
    assert line.selected == ["EURUSD.m", "XAUUSD", "GER40.cash"]
    assert line.named("symbols_get") == []


def test_every_symbol_problem_is_named_with_its_candidates() -> None:
    line = ScriptedLine(login=77, symbols=(symbol("EURUSD.m"), symbol("EURUSD.raw")))
    attach = attachment(spec(), symbols=("EURUSD", "NOPE", "DAX"), aliases={"DAX": "GER30"})
    with pytest.raises(SymbolsRefused) as refused:
        attach(line)
    text = str(refused.value)
    assert "EURUSD could be EURUSD.m, EURUSD.raw: set an alias" in text
    assert "NOPE: the broker has no such symbol" in text
    assert "DAX: the broker has no GER30, correct the alias" in text


def test_a_symbol_that_cannot_be_selected_is_refused() -> None:
    line = ScriptedLine(login=77, symbols=(symbol("EURUSD"),), unselectable=("EURUSD",))
    with pytest.raises(SymbolsRefused, match=r"EURUSD \(EURUSD\) cannot be selected"):
        attachment(spec(), symbols=("EURUSD",))(line)


def test_unknown_is_not_taken_for_not_there() -> None:
    class Unsure(ScriptedLine):
        def do_symbol_info(self, name: str) -> Any:
            return None, (-1, "Terminal: Call failed")

    with pytest.raises(AttachRefused, match="unknown for now"):
        attachment(spec(), symbols=("EURUSD",))(Unsure(login=77))


@pytest.mark.parametrize(
    ("wanted", "broker", "expected"),
    [
        ("EURUSD", ["EURUSD", "EURUSD.m"], ["EURUSD"]),
        ("EURUSD", ["EURUSDm", "GBPUSDm"], ["EURUSDm"]),
        ("EURUSD", ["EURUSD.m", "EURUSD.raw"], ["EURUSD.m", "EURUSD.raw"]),
        ("US30", ["US300", "US3000.cash"], []),
        ("US30", ["US30.cash", "US300"], ["US30.cash"]),
        ("US500", [".US500", "#US5000"], [".US500"]),
        ("eurusd", ["EURUSD.m"], ["EURUSD.m"]),
        ("GBPJPY", ["EURUSD"], []),
    ],
)
def test_suffixes_and_signs_are_seen_through(
    wanted: str, broker: list[str], expected: list[str]
) -> None:
    assert candidates(wanted, [symbol(name) for name in broker]) == expected


def test_symbols_that_may_not_be_traded_give_way_to_one_that_may() -> None:
    found = [symbol("EURUSD.old", trade_mode=0), symbol("EURUSD.new")]
    assert candidates("EURUSD", found) == ["EURUSD.new"]
    assert candidates("EURUSD", found[:1]) == ["EURUSD.old"]


def test_another_name_for_the_same_two_currencies_is_found() -> None:
    gold = symbol("GOLD", base="XAU", profit="USD")
    assert candidates("XAUUSD", [gold, symbol("SILVER", base="XAG", profit="USD")]) == ["GOLD"]
