"""The stand-in for the MetaTrader5 module: its names, its helpers, scripts that run on it."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from producers.terminals import constants as mt5
from producers.terminals.simulated import SimulatedOptions, SimulatedTerminal
from producers.terminals.stand_in import MODULE_NAME, build_module, install, installed
from producers.terminals.stand_in.cli import run_on_simulator, run_script

SAMPLES = Path(__file__).parents[1] / "data"
START_UTC_MS = 1_763_553_600_000  # Wednesday 19 November 2025, 12:00 UTC

FUNCTIONS = {
    "initialize", "login", "shutdown", "version", "last_error", "account_info", "terminal_info",
    "symbols_total", "symbols_get", "symbol_info", "symbol_info_tick", "symbol_select",
    "market_book_add", "market_book_get", "market_book_release", "copy_rates_from",
    "copy_rates_from_pos", "copy_rates_range", "copy_ticks_from", "copy_ticks_range",
    "orders_total", "orders_get", "order_calc_margin", "order_calc_profit", "order_check",
    "order_send", "positions_total", "positions_get", "history_orders_total",
    "history_orders_get", "history_deals_total", "history_deals_get",
}  # fmt: skip
HELPERS = {"Buy", "Sell", "Close"}
STRUCTS = {
    "AccountInfo", "TerminalInfo", "SymbolInfo", "Tick", "BookInfo", "TradePosition", "TradeOrder",
    "TradeDeal", "TradeRequest", "OrderSendResult", "OrderCheckResult",
}  # fmt: skip


def terminal(**changes: Any) -> SimulatedTerminal:
    options = {"symbols": ("EURUSD", "BTCUSD"), "start_utc_ms": START_UTC_MS, "speed": 0.0}
    return SimulatedTerminal(SimulatedOptions.model_validate(options | changes))


@pytest.fixture
def module() -> ModuleType:
    built = build_module(terminal())
    assert built.initialize() is True
    return built


def test_the_public_names_are_those_of_the_real_module(module: ModuleType) -> None:
    names = {name for name in vars(module) if not name.startswith("_")}
    assert names == FUNCTIONS | HELPERS | STRUCTS | mt5.EXPORTED.keys()
    assert all(callable(getattr(module, name)) for name in FUNCTIONS | HELPERS)
    assert module.__version__ == "5.0.6231"
    assert module.__author__ == "MetaQuotes Ltd."
    assert module.TIMEFRAME_H1 == 16385
    assert not hasattr(module, "SYMBOL_FILLING_FOK")


def test_install_and_the_context_manager_put_it_into_sys_modules() -> None:
    assert MODULE_NAME not in sys.modules
    with installed(terminal()) as outer:
        assert importlib.import_module(MODULE_NAME) is outer
        assert importlib.util.find_spec(MODULE_NAME) is not None
        with installed(terminal()) as inner:
            assert sys.modules[MODULE_NAME] is inner is not outer
        assert sys.modules[MODULE_NAME] is outer
        names: dict[str, Any] = {}
        exec("from MetaTrader5 import *", names)
        assert names["ORDER_TYPE_BUY"] == 0
    assert MODULE_NAME not in sys.modules
    try:
        assert install(terminal()) is sys.modules[MODULE_NAME]
    finally:
        del sys.modules[MODULE_NAME]


def test_values_are_the_structs_of_the_module(module: ModuleType) -> None:
    assert type(module.account_info()) is module.AccountInfo
    assert type(module.symbol_info_tick("EURUSD")) is module.Tick
    assert module._RawOrder(0, "EURUSD", 0.1, 1.0).request.deviation == 10
    assert module.symbol_info("NOPE") is None
    assert module.last_error() == (module.RES_E_NOT_FOUND, "Terminal: Not found")


def test_functions_have_names_and_docs(module: ModuleType) -> None:
    assert module.copy_ticks_from.__name__ == "copy_ticks_from"
    assert module.copy_ticks_from.__module__ == MODULE_NAME
    assert "copy_ticks_from(" in (inspect.getdoc(module.copy_ticks_from) or "")
    assert str(inspect.signature(module.Buy)) == (
        "(symbol: 'str', volume: 'float', price: 'float | None' = None, *, "
        "comment: 'str | None' = None, ticket: 'int | None' = None) -> 'Any'"
    )


def test_functions_do_not_bind_to_classes_that_keep_them(module: ModuleType) -> None:
    class Wrapper:
        last_error = module.last_error
        symbol_info = module.symbol_info

    assert Wrapper().last_error() == (1, "Success")
    assert Wrapper().symbol_info("EURUSD").name == "EURUSD"
    assert repr(module.version) == "<built-in function version>"


def test_buy_sell_and_close_trade(module: ModuleType) -> None:
    bought = module.Buy("EURUSD", 0.1, comment="one")
    assert bought.retcode == module.TRADE_RETCODE_DONE
    assert bought.request.deviation == 10
    assert bought.request.comment == "one"
    tick = module.symbol_info_tick("EURUSD")
    assert module.Sell("EURUSD", 0.2, tick.bid).retcode == module.TRADE_RETCODE_DONE
    assert [position.volume for position in module.positions_get()] == [0.1, 0.2]
    (ticket,) = (position.ticket for position in module.positions_get() if position.volume == 0.2)
    assert module.Close("EURUSD", ticket=ticket) is True
    assert module.Close("EURUSD") is True
    assert module.Close("EURUSD") is False
    assert module.positions_get() == ()


def answers(module: ModuleType, *results: Any) -> list[dict[str, Any]]:
    """Let order_send give these results; returns what it was asked."""
    given, asked = iter(results), []

    def order_send(request: dict[str, Any]) -> Any:
        asked.append(request)
        return next(given)

    module.order_send = order_send  # type: ignore[attr-defined]
    return asked


def test_helpers_try_again_on_a_requote_and_on_nothing_else(module: ModuleType) -> None:
    requote = SimpleNamespace(retcode=module.TRADE_RETCODE_REQUOTE)
    done = SimpleNamespace(retcode=module.TRADE_RETCODE_DONE)
    rejected = SimpleNamespace(retcode=module.TRADE_RETCODE_REJECT)
    assert len(answers(module, requote, requote, done)) == 0
    assert module.Buy("EURUSD", 0.1) is done
    answers(module, rejected)
    assert module.Sell("EURUSD", 0.1) is rejected
    answers(module, None)
    assert module.Buy("EURUSD", 0.1) is None
    asked = answers(module, *[requote] * 20)
    assert module.Buy("EURUSD", 0.1) is requote
    assert len(asked) == 10
    asked = answers(module, requote)
    assert module.Buy("EURUSD", 0.1, 1.1) is requote
    assert len(asked) == 1


def test_close_tells_of_a_part_and_of_a_lost_answer(module: ModuleType) -> None:
    module.Buy("EURUSD", 0.1)
    module.Buy("EURUSD", 0.1)
    done = SimpleNamespace(retcode=module.TRADE_RETCODE_DONE)
    rejected = SimpleNamespace(retcode=module.TRADE_RETCODE_REJECT)
    answers(module, done, rejected)
    assert module.Close("EURUSD") == "Partially"
    answers(module, None)
    assert module.Close("EURUSD") is None


SCRIPT = """
import sys
import MetaTrader5 as mt5
from helper import WORD

assert mt5.initialize(login=5000001, password="simulated", server="Simulated-Demo")
print(WORD, sys.argv[1:], mt5.symbols_total(), mt5.account_info().balance)
tick = mt5.symbol_info_tick("EURUSD")
print(tick.time > 1_000_000, mt5.copy_ticks_from("EURUSD", 0, 5, mt5.COPY_TICKS_ALL).dtype.names[0])
mt5.shutdown()
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "helper.py").write_text('WORD = "found"\n', encoding="utf-8")
    path = tmp_path / "bot.py"
    path.write_text(SCRIPT, encoding="utf-8")
    monkeypatch.delitem(sys.modules, "helper", raising=False)
    return path


def test_a_script_runs_unchanged_on_the_simulated_terminal(script: Path) -> None:
    arguments = ["--symbols", "EURUSD,USDJPY", "--balance", "777", str(script), "--lots", "2", "-v"]
    result = CliRunner().invoke(run_on_simulator, arguments)
    assert result.output == "found ['--lots', '2', '-v'] 2 777.0\nTrue time\n", result.exception
    assert result.exit_code == 0
    assert MODULE_NAME not in sys.modules
    assert str(script.parent) not in sys.path


def test_a_script_runs_unchanged_on_tick_files(script: Path) -> None:
    file = SAMPLES / "EURUSD_20140504-20140507.csv.gz"
    result = CliRunner().invoke(
        run_on_simulator, ["--ticks", str(file), "--speed", "max", str(script)]
    )
    assert result.output == "found [] 1 10000.0\nTrue time\n", result.exception


def test_a_module_runs_by_its_name(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(script.parent)
    with installed(terminal()):
        run_script("bot", ("a",), as_module=True)
    assert "found ['a'] 2" in capsys.readouterr().out


def test_what_a_script_raises_is_shown_as_python_shows_it(tmp_path: Path) -> None:
    path = tmp_path / "bot.py"
    path.write_text("def f():\n    raise ValueError('oh')\nf()\n", encoding="utf-8")
    result = CliRunner().invoke(run_on_simulator, [str(path)])
    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback (most recent call last):\n  File")
    assert "stand_in" not in result.stderr
    assert result.stderr.endswith("ValueError: oh\n")
    path.write_text("raise SystemExit(3)\n", encoding="utf-8")
    assert CliRunner().invoke(run_on_simulator, [str(path)]).exit_code == 3


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nowhere.py"], "no script nowhere.py"),
        (["--ticks", "nowhere.csv", "x.py"], "cannot be opened"),
        (["--speed", "max", "x.py"], "plays tick files"),
        (["--speed", "fast", "x.py"], "speed"),
        (["--clock", "Mars", "x.py"], "no time zone"),
        (["--start", "soon", "x.py"], "give a UTC time"),
        (["--symbols", "NOPE", "x.py"], "not in the catalogue"),
        (["--ticks", "a.csv", "--symbols", "EURUSD", "x.py"], "belong to the simulated market"),
    ],
)
def test_wrong_options_are_told_in_a_line(arguments: list[str], reason: str) -> None:
    result = CliRunner().invoke(run_on_simulator, arguments)
    assert result.exit_code == 2
    assert reason in result.stderr


def test_the_virtual_start_can_be_set(tmp_path: Path) -> None:
    path = tmp_path / "bot.py"
    path.write_text(
        "import MetaTrader5 as mt5\nmt5.initialize()\nprint(mt5.symbol_info_tick('BTCUSD').time)\n",
        encoding="utf-8",
    )
    result = CliRunner().invoke(
        run_on_simulator, ["--start", "2024-03-08T14:30", "--clock", "UTC", "--symbols",
                           "BTCUSD", str(path)]
    )  # fmt: skip
    assert abs(int(result.output) - 1_709_908_200) < 60
