"""Settings: what is read from where, and what is said about what cannot be used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from events.settings import (
    BadSettings,
    TerminalChoice,
    TerminalKind,
    chosen_terminals,
    load,
    setting_rows,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings but the test's own."""
    names = {row.name for row in setting_rows()}
    for name in os.environ:
        if name.upper() in names or name.startswith(("BRIDGE_", "MT5_", "RISK_", "MAX_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BRIDGE_STATE_DIR", str(tmp_path / "state"))


def problems_of(**overrides: Any) -> tuple[str, ...]:
    with pytest.raises(BadSettings) as caught:
        load(**overrides)
    return caught.value.problems


def test_without_any_setting_the_simulated_terminal_and_embedded_servers_are_meant() -> None:
    settings = load()
    (terminal,) = settings.terminals()
    assert terminal.kind is TerminalKind.SIMULATED
    assert "BTCUSD" in terminal.symbols, "something must move on a Saturday"
    assert settings.redis_url() is None
    assert settings.postgres_url() is None
    assert not settings.mt5_configured


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("MAX_WORKERS=2\nWORKER_TIMEOUT=5\nLOG_LEVEL=debug\n")
    monkeypatch.setenv("WORKER_TIMEOUT", "6")
    settings = load(log_level="ERROR")
    assert settings.max_workers == 2
    assert settings.worker_timeout == 6.0
    assert settings.log_level == "ERROR"


def test_a_file_with_byte_order_mark_and_quotes_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text('﻿MT5_SERVER="Demo Größe"\n', encoding="utf-8")
    assert load().mt5_server == "Demo Größe"


def test_one_terminal_of_the_older_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "MT5_ACCOUNT": "12345",
        "MT5_PASSWORD": "pä:ss",
        "MT5_SERVER": "Broker-Demo",
        "MT5_PATH": r"C:\MT5\terminal64.exe",
        "FOREX_PAIRS": "EURUSD, GBPUSD,EURUSD",
        "CRYPTO_PAIRS": "BTCUSD",
        "MT5_ALIASES": "EURUSD=EURUSD.x, BTCUSD=BTCUSD#",
    }.items():
        monkeypatch.setenv(name, value)
    (terminal,) = load().terminals()
    assert terminal.kind is TerminalKind.NATIVE
    assert terminal.login == 12345
    assert terminal.password is not None
    assert terminal.password.get_secret_value() == "pä:ss"
    assert terminal.symbols == ("EURUSD", "GBPUSD", "BTCUSD")
    assert terminal.aliases == {"EURUSD": "EURUSD.x", "BTCUSD": "BTCUSD#"}
    assert "pä:ss" not in repr(terminal)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("MAX_WORKERS", "many", "1 to 64"),
        ("MAX_WORKERS", "0", "1 to 64"),
        ("WORKER_TIMEOUT", "-1", "seconds, 0.1 to 600"),
        ("MT5_ACCOUNT", "abc", "a whole number above 0"),
        ("LOG_LEVEL", "LOUD", "DEBUG, INFO, WARNING, ERROR"),
        ("MT5_KIND", "magic", "native, remote"),
        ("FOREX_PAIRS", "EUR USD", "names with commas between"),
        ("CANDLE_TIMEFRAMES", "M7", "some of M1"),
        ("MT5_ALIASES", "EURUSD", "EURUSD=EURUSD.x"),
        ("MAX_DAILY_LOSS", "500", "above 0 to 100"),
        ("BRIDGE_PARTITIONS", "65", "1 to 64"),
    ],
)
def test_a_malformed_value_is_told_with_name_value_and_what_is_allowed(
    name: str, value: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    (problem,) = problems_of()
    assert problem.startswith(name)
    assert repr(value) in problem
    assert allowed in problem
    assert "the environment" in problem
    assert "\n" not in problem


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MAX_WORKERS=x\nMT5_PASSWROD=y\nPOSTGRES_PORT=99999\n")
    problems = problems_of()
    assert len(problems) == 3
    assert any("did you mean MT5_PASSWORD?" in problem for problem in problems)


def test_a_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "http://user:sesame@host")
    (problem,) = problems_of()
    assert "sesame" not in problem
    assert "redis://" in problem


def test_misspelt_names_of_ours_in_the_environment_are_told_foreign_names_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS_SOMETHING", "of another program")
    load()
    monkeypatch.setenv("BRIDGE_PARTITION", "8")
    (problem,) = problems_of()
    assert "did you mean BRIDGE_PARTITIONS?" in problem


def test_a_name_without_value_is_told(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MAX_WORKERS\n")
    (problem,) = problems_of()
    assert "has no value" in problem


def test_lines_of_the_file_that_are_no_settings_are_told_by_number_alone(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LOG_LEVEL=INFO\nmy password hunter2\n\n=x\n")
    problems = problems_of()
    assert [problem.split(" cannot")[0] for problem in problems] == [
        "line 2 of .env",
        "line 4 of .env",
    ]
    assert "hunter2" not in str(problems)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", "redis://:hunter2@h:99999/0"),
        ("REDIS_URL", "redis://:hunter2@h:abc/0"),
        ("REDIS_URL", "redis://:hunter2@h:6379/first"),
        ("REDIS_URL", "redis://:hunter2@[h:6379/0"),
        ("REDIS_URL", "redis+sentinel://:hunter2@a:26379,b:x/master/0"),
        ("POSTGRES_URL", "postgresql://u:hunter2@h:99999/d"),
        ("POSTGRES_URL", "postgresql://u:hunter2@h:abc/d"),
        ("REDIS_HOST", "redis://localhost"),
        ("REDIS_HOST", "localhost:6379"),
        ("POSTGRES_HOST", "a host"),
        ("MT5_HOST", "192.0.2.1:18813"),
    ],
)
def test_addresses_that_can_be_none_are_told_before_anything_starts(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    (problem,) = problems_of()
    assert problem.startswith(f"{name} in the environment is ")
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POSTGRES_URL", "postgresql:///bridge?host=/run/postgresql"),
        ("POSTGRES_URL", "postgresql://u:p@a:5432,b:5433/bridge"),
        ("POSTGRES_URL", "postgresql://u:p%40@[::1]:5432/bridge"),
        ("REDIS_URL", "unix:///run/redis.sock"),
        ("REDIS_URL", "redis://h"),
        ("POSTGRES_HOST", "/run/postgresql"),
        ("REDIS_HOST", "::1"),
        ("REDIS_HOST", "[::1]"),
        ("MT5_HOST", "my_box.lan"),
    ],
)
def test_addresses_of_every_form_are_taken(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert load()


def test_an_env_file_that_was_asked_for_must_exist(tmp_path: Path) -> None:
    (problem,) = problems_of(env_file=tmp_path / "nope.env")
    assert "nope.env is not there" in problem


def test_server_addresses_are_made_of_their_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "REDIS_HOST": "::1", "REDIS_PORT": "6380", "REDIS_PASSWORD": "a/b@c", "REDIS_TLS": "yes",
        "POSTGRES_HOST": "db", "POSTGRES_USER": "me", "POSTGRES_PASSWORD": "p w",
        "POSTGRES_DB": "x",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    settings = load()
    assert settings.redis_url() == "rediss://:a%2Fb%40c@[::1]:6380/0"
    assert settings.postgres_url() == "postgresql://me:p%20w@db:5432/x"
    assert set(settings.secrets()) == {"a/b@c", "p w"}


@pytest.mark.parametrize(
    "url",
    ["rediss://u:p@h:1/0", "redis+sentinel://h:1,h:2/mymaster", "redis+cluster://h:7000"],
)
def test_every_form_of_redis_address_is_taken(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    assert load().redis_url() == url


def test_a_running_embedded_server_is_found_by_its_address_file(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "redis"
    folder.mkdir(parents=True)
    (folder / "address").write_text("redis://:pw@127.0.0.1:1234/0")
    settings = load()
    assert settings.redis_url() == "redis://:pw@127.0.0.1:1234/0"
    assert not settings.redis_configured


def test_settings_are_frozen() -> None:
    settings = load()
    with pytest.raises(ValueError, match="frozen"):
        settings.max_workers = 9  # type: ignore[misc]  # that it cannot be set is the point


TERMINALS = """
[terminals.ftmo]
kind = "native"
path = 'C:\\FTMO\\terminal64.exe'
login = 77
password_env = "FTMO_PASSWORD"
server = "FTMO-Server"
clock = "America/New_York+7h"
symbols = ["EURUSD", "XAUUSD"]
aliases = {EURUSD = "EURUSD.x"}
rules = {max_daily_loss_percent = 4.5}

[terminals.demo]
kind = "simulated"
options = {seed = 7}
"""


def test_several_terminals_come_from_their_file(tmp_path: Path) -> None:
    (tmp_path / "terminals.toml").write_text(TERMINALS)
    (tmp_path / ".env").write_text("FTMO_PASSWORD=sesame\nFOREX_PAIRS=USDJPY\n")
    settings = load()
    ftmo, demo = settings.terminals()
    assert ftmo.password is not None
    assert ftmo.password.get_secret_value() == "sesame"
    assert ftmo.aliases == {"EURUSD": "EURUSD.x"}
    assert ftmo.rules == {"max_daily_loss_percent": 4.5}
    assert demo.symbols == ("USDJPY",), "general symbols where a terminal names none"
    assert "sesame" in settings.secrets()
    assert settings.terminal("ftmo") is ftmo
    with pytest.raises(BadSettings, match="allowed is ftmo, demo, simulated"):
        settings.terminal("nope")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[terminals.a]\nkind='native'\nlogn=5", "did you mean login?"),
        ("[terminals.a]\nlogin=5", "kind is missing"),
        ("[terminals.a]\nkind='native'\nlogin='x'", "login"),
        ("[terminals.A]\nkind='simulated'", "1-48 of a-z"),
        ("[terminals.a]\nkind='native'\npassword_env='NOT_SET'", "NOT_SET"),
        ("[terminal.a]\nkind='native'", "did you mean terminals?"),
        ("kind = ", "cannot be read"),
        ("", "names no terminals"),
        ('[terminals."B B"]\nkind = "simulated"\n', "is 'B B': allowed is 1-48"),
    ],
)
def test_a_bad_terminals_file_is_told(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "terminals.toml").write_text(text)
    assert any(told in problem for problem in problems_of()), told


def test_the_example_file_names_every_setting_and_is_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    for row in setting_rows():
        assert f"{row.name}=" in text, f"{row.name} is missing in .env.example"
    everything_on = "\n".join(
        line.removeprefix("#") if "=" in line and line.startswith("#") and line[1:2].isupper()
        else line for line in text.splitlines()
    )  # fmt: skip
    known = {row.name for row in setting_rows()}
    for line in everything_on.splitlines():
        if "=" in line and not line.startswith("#"):
            assert line.partition("=")[0] in known, line
    (tmp_path / ".env").write_text(text, encoding="utf-8")
    load()


def test_tick_files_mean_a_recorded_terminal_known_by_its_files(tmp_path: Path) -> None:
    (tmp_path / "EURUSD.csv").write_text("x")
    (tmp_path / "other.csv").write_text("xy")
    settings = load()
    (first,) = chosen_terminals(settings, TerminalChoice(ticks=("EURUSD.csv",), speed="max"))
    (again,) = chosen_terminals(settings, TerminalChoice("recorded", ("EURUSD.csv",)))
    (other,) = chosen_terminals(settings, TerminalChoice(ticks=("GBPUSD=other.csv",)))
    assert first.kind is TerminalKind.RECORDED
    assert first.name == again.name != other.name
    assert first.options["speed"] == "max"
    assert first.clock == "UTC"
    assert other.options["files"] == [f"GBPUSD={tmp_path / 'other.csv'}"]


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        (TerminalChoice("recorded"), "add --ticks FILE"),
        (TerminalChoice("recorded", ("gone.csv",)), "there is no file gone.csv"),
        (TerminalChoice("simulated", ("gone.csv",)), "--ticks is only for a recorded"),
        (TerminalChoice("simulated", file_clock="UTC"), "--file-clock is only for"),
        (TerminalChoice("simulated", symbols="EUR USD"), "--symbols is 'EUR USD'"),
        (TerminalChoice("nope"), "no terminal is called 'nope'"),
    ],
)
def test_a_choice_that_fits_nothing_is_told(choice: TerminalChoice, told: str) -> None:
    with pytest.raises(BadSettings, match=told):
        chosen_terminals(load(), choice)


def test_a_choice_is_handed_to_a_child_word_by_word(tmp_path: Path) -> None:
    (tmp_path / "EURUSD.csv").write_text("x")
    choice = TerminalChoice(ticks=("EURUSD.csv",), speed="max", clock="UTC")
    (terminal,) = chosen_terminals(load(), choice)
    assert choice.arguments(terminal) == (
        "--terminal", "recorded", "--speed", "max", "--clock", "UTC", "--ticks", "EURUSD.csv",
    )  # fmt: skip
