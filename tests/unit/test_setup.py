"""Setting up: terminals found, settings merged, calibration made, starting at logon."""

from __future__ import annotations

import tomllib
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import click
import pytest
from dotenv import dotenv_values
from pydantic import SecretStr

from events.settings import BadSettings, TerminalKind, TerminalSettings
from events.settings.terminals import TradeMode
from producers.setup import autostart
from producers.setup.calibration import calibration, write_calibration
from producers.setup.discovery import PROGRAM, installed_terminals
from producers.setup.files import env_draft, terminals_draft, write
from producers.setup.inspection import Clock, Inspected
from producers.setup.interview import Interview, settings_of, table_of
from producers.setup.questions import Answer
from producers.terminals.configured import terminal_spec

SEEN = Inspected(
    login=77, server="FTMO-Server 2", company="FTMO", trade_mode=TradeMode.REAL, build=5000,
    connected=True, path="C:\\FTMO", symbols=("EURUSD", "XAUUSD"),
    aliases={"EURUSD": "EURUSD.x"}, clock=Clock("America/New_York+7h", "60 of 60 weeks"),
)  # fmt: skip
NATIVE = TerminalSettings(
    name="t", kind=TerminalKind.NATIVE, path="C:\\Program Files\\FTMO's MT5\\terminal64.exe"
)


def test_installed_terminals_are_found_by_their_data_folders_and_programs(tmp_path: Path) -> None:
    installed = tmp_path / "C" / "Broker MT5"
    portable = tmp_path / "Programs" / "Portable"
    for folder in (installed, portable):
        folder.mkdir(parents=True)
        (folder / PROGRAM).touch()
    data = tmp_path / "Roaming" / "MetaQuotes" / "Terminal"
    for name, text in (("A1", str(installed)), ("B2", str(tmp_path / "removed"))):
        (data / name).mkdir(parents=True)
        (data / name / "origin.txt").write_bytes(text.encode("utf-16"))
    (data / "C3").mkdir()
    environment = {"APPDATA": str(tmp_path / "Roaming"), "ProgramFiles": str(tmp_path / "Programs")}
    assert installed_terminals(environment) == (installed / PROGRAM, portable / PROGRAM)
    assert installed_terminals({}) == ()


def test_an_env_file_keeps_its_other_lines_and_tells_what_changes(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("# mine\nMT5_ACCOUNT=1\nREDIS_URL=redis://x\nexport MT5_SERVER = Old\n")
    draft = env_draft(path, settings_of(NATIVE, SEEN))
    assert set(draft.replaces) == {"MT5_ACCOUNT", "MT5_SERVER"}
    write(draft)
    assert "# mine\n" in path.read_text()
    values = dotenv_values(path)
    assert values["REDIS_URL"] == "redis://x"
    assert values["MT5_ACCOUNT"] == "77"
    assert values["MT5_SERVER"] == "FTMO-Server 2"
    assert values["MT5_PATH"] == NATIVE.path
    assert values["MT5_ALIASES"] == "EURUSD=EURUSD.x"
    assert (tmp_path / ".env.bak").read_text().startswith("# mine\nMT5_ACCOUNT=1")
    assert env_draft(path, settings_of(NATIVE, SEEN)).replaces == (), "the same again changes none"


def test_further_terminals_join_their_file_and_a_taken_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "terminals.toml"
    path.write_text('# mine\n[terminals.old]\nkind = "simulated"\n')
    remote = TerminalSettings(
        name="r", kind=TerminalKind.REMOTE, host="pc", port=1234, token=SecretStr('t"k')
    )
    write(terminals_draft(path, {"ftmo": table_of(NATIVE, SEEN), "far.1": table_of(remote, SEEN)}))
    content = tomllib.loads(path.read_text())["terminals"]
    assert list(content) == ["old", "ftmo", "far.1"]
    assert content["ftmo"]["path"] == NATIVE.path
    assert content["ftmo"]["login"] == 77
    assert content["far.1"]["token"] == 't"k'
    assert content["far.1"]["aliases"] == {"EURUSD": "EURUSD.x"}
    with pytest.raises(BadSettings, match="called ftmo already"):
        terminals_draft(path, {"ftmo": {}})


def test_names_are_made_of_the_server_and_made_unlike() -> None:
    asking = Interview(silent=True)
    assert asking.name_for(SEEN, taken=set()) == "ftmo-server-2"
    assert asking.name_for(SEEN, taken={"ftmo-server-2"}) == "ftmo-server-2-2"
    assert replace(SEEN, server="...").suggested_name == "mt5"


def test_where_nobody_can_answer_the_missing_option_is_named() -> None:
    asking = Interview(silent=True)
    with pytest.raises(BadSettings, match="--simulated"):
        asking.terminal_without_any(None)
    with pytest.raises(BadSettings, match="--token"):
        asking.remote_terminal("pc:1", None)
    with pytest.raises(BadSettings, match="expected HOST:PORT"):
        asking.remote_terminal("pc:x", "token")


def test_a_person_settles_what_is_not_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    said = iter(["GOLD", "Europe/Athens"])
    monkeypatch.setattr(click, "prompt", lambda *_, **__: next(said))
    unsure = replace(
        SEEN,
        symbols=("EURUSD",),
        unresolved={"XAUUSD": ["GOLD", "GOLDmicro"]},
        clock=Clock("", "cannot tell", ("America/New_York+7h", "Europe/Athens")),
    )
    settled = Interview(silent=False).completed(unsure)
    assert settled.symbols == ("EURUSD", "XAUUSD")
    assert settled.aliases["XAUUSD"] == "GOLD"
    assert settled.clock.rule == "Europe/Athens"
    assert Interview(silent=True).completed(unsure).clock.rule == "", "silent: never guessed"


def test_a_calibration_shapes_a_simulated_terminal(tmp_path: Path) -> None:
    found = [
        Answer("cost", "", {"symbol_info_tick": {"p50_ms": 2.12}}),
        Answer("ticks", "", {"ticks": 5, "same_ms_share": 0.1, "flag_bits": 1024}),
    ]
    path = tmp_path / "c.json"
    write_calibration(path, calibration(SEEN, found))
    like = TerminalSettings(
        name="like", kind=TerminalKind.SIMULATED, options={"calibration": str(path), "seed": 3}
    )
    options = terminal_spec(like).options
    assert options["latency_ms"] == 2.0
    assert options["ticks"] == {"same_ms_share": 0.1, "flag_bits": 1024}
    assert options["clock"] == "America/New_York+7h"
    assert options["seed"] == 3
    path.write_text("{}")
    with pytest.raises(BadSettings, match="no calibration file"):
        terminal_spec(like)


def test_a_systemd_unit_starts_up_in_its_folder(tmp_path: Path) -> None:
    plan = autostart.plan("linux", folder=tmp_path / "a b", arguments=["--terminal", "50% x"])
    assert f"WorkingDirectory={tmp_path / 'a b'}\n" in plan.text
    assert '-m bridgectl up --plain --terminal "50%% x"\n' in plan.text
    assert plan.path is not None
    assert plan.path.name == "mt5-bridge.service"
    assert ("systemctl", "--user", "enable", "--now", "mt5-bridge.service") in plan.commands


def test_a_windows_task_runs_in_the_logged_on_session() -> None:
    plan = autostart.plan("win32", folder=Path("C:/bridge & co"), arguments=["--symbols", "A<B"])
    root = ElementTree.fromstring(plan.text.partition("?>")[2])
    space = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}

    def text(path: str) -> str:
        return root.findtext(path, namespaces=space) or ""

    assert text("t:Principals/t:Principal/t:LogonType") == "InteractiveToken"
    assert text("t:Settings/t:ExecutionTimeLimit") == "PT0S"
    assert text("t:Actions/t:Exec/t:Arguments") == "-m bridgectl up --plain --symbols A<B"
    assert "bridge & co" in text("t:Actions/t:Exec/t:WorkingDirectory")
    [command] = plan.commands
    assert command[:2] == ("schtasks", "/Create")


def test_other_systems_are_told_what_to_run() -> None:
    with pytest.raises(autostart.AutostartError, match="-m bridgectl up"):
        autostart.plan("sunos5", folder=Path("/x"))


def test_installing_writes_the_file_and_runs_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(autostart, "_run_all", ran.extend)
    plan = autostart.plan("linux", folder=tmp_path)
    autostart.install(plan)
    unit = tmp_path / "systemd" / "user" / "mt5-bridge.service"
    assert unit.read_text() == plan.text
    assert len(ran) == 2
    autostart.remove(plan)
    assert not unit.exists()
    assert ran[2][2] == "disable"


def test_a_failed_install_leaves_nothing_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    plan = replace(autostart.plan("linux", folder=tmp_path), commands=(("no-such-command",),))
    assert plan.path is not None
    with pytest.raises(autostart.AutostartError, match=r"needs systemd.*-m bridgectl up"):
        autostart.install(plan)
    assert not plan.path.exists()
    with pytest.raises(autostart.AutostartError, match="nothing to remove"):
        autostart.remove(plan)
    plan.path.write_text("an earlier one")
    with pytest.raises(autostart.AutostartError):
        autostart.install(plan)
    assert plan.path.read_text() == "an earlier one"


def test_a_failing_system_command_is_told() -> None:
    plan = autostart.Plan(None, "x", (("false-no-such-command",),), ())
    with pytest.raises(autostart.AutostartError, match="cannot be run"):
        autostart.install(plan)
