"""The command line as people and scripts meet it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pytest

import bridgectl
from events.codec import encode
from events.decisions import TradeSignal
from events.log import SOURCE, Slot
from events.operations import ClockTick, ProducerState
from events.redis import RedisLog
from events.settings import TerminalKind, TerminalSettings
from events.ticks import TICK_DTYPE, OffsetSource, TickBatch
from producers.setup.inspection import inspect
from tests.servers import wait_until

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass
class Command:
    """Runs commands in this process, as `bridgectl WORDS` would."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]
    folder: Path

    def set(self, **settings: str) -> None:
        for name, value in settings.items():
            self.monkeypatch.setenv(name, value)

    def __call__(self, *words: str) -> Done:
        self.monkeypatch.setattr(sys, "argv", ["bridgectl", *words])
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            bridgectl.main()
        said = self.capsys.readouterr()
        return Done(int(ended.value.code or 0), said.out, said.err)


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """No settings but the test's own, in a folder of its own."""
    for name in os.environ:
        if name.startswith(("MT5_", "BRIDGE_", "RISK_", "MAX_", "REDIS_", "POSTGRES_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("BRIDGE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys, tmp_path)


@pytest.fixture
def captured(redis_log: RedisLog, redis_url: str, command: Command) -> Command:
    """A log with a little in it, and settings that lead there."""
    now_ms = time.time_ns() // 1_000_000
    redis_log.open_namespace("demo")
    claim = redis_log.claim(Slot("demo", SOURCE, 0), "this test", alive_within_s=0.1)
    ticks = np.zeros(2, TICK_DTYPE)
    ticks["time_msc"], ticks["bid"], ticks["ask"] = now_ms, 1.5, 1.6
    state = ProducerState(event_time_ms=now_ms, terminal="demo", last_error="IPC timeout")
    batch = TickBatch("EURUSD", ticks, 0, OffsetSource.LIVE, now_ms, now_ms)
    redis_log.append(claim, [encode(batch), encode(state)])
    command.set(REDIS_URL=redis_url)
    return command


def test_help_lists_every_command_in_a_line(command: Command) -> None:
    done = command("--help")
    assert done.code == 0
    for name in (
        "up", "produce", "consume", "status", "tail", "doctor", "verify", "import", "init",
        "probe", "autostart", "terminal", "migrate", "sandbox",
    ):  # fmt: skip
        assert f"\n  {name} " in done.out, name


def test_every_command_can_be_loaded_and_explains_itself(command: Command) -> None:
    def explained(group: click.Group, *path: str) -> Iterator[str]:
        context = click.Context(group)
        for name in group.list_commands(context):
            done = command(*path, name, "--help")
            assert done.code == 0, done.err
            assert f"Usage: bridgectl {' '.join([*path, name])} " in done.out
            yield name
            found = group.get_command(context, name)
            if isinstance(found, click.Group):
                yield from explained(found, *path, name)

    assert len(list(explained(bridgectl.cli))) >= 15


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["up", "--for", "soon"], 2, "is no duration"),
        (["up", "--terminal", "recorded"], 2, "add --ticks FILE"),
        (["up", "--terminal", "nope"], 2, "no terminal is called 'nope'"),
        (["status"], 1, "start `bridgectl up`, or set REDIS_URL"),
        (["tail", "--type", "tiks"], 2, "did you mean ticks?"),
        (["--env-file", "gone", "status"], 2, "does not exist"),
        (["consume", "--group", "nope"], 2, "there is no group"),
        (["init", "--yes"], 2, "--simulated"),
    ],
)
def test_errors_are_a_line_with_cause_and_cure(
    words: list[str], code: int, told: str, command: Command
) -> None:
    done = command(*words)
    assert done.code == code
    assert told in done.err
    assert "Traceback" not in done.err
    assert done.out == ""


def test_bad_settings_stop_every_command_and_are_all_named(command: Command) -> None:
    (command.folder / ".env").write_text("MAX_WORKERS=many\nMT5_PASSWROD=sesame\n")
    done = command("status")
    assert done.code == 2
    assert "MAX_WORKERS in .env is 'many': allowed is 1 to 64" in done.err
    assert "did you mean MT5_PASSWORD?" in done.err
    assert "sesame" not in done.err


def test_a_traceback_is_shown_on_request_alone(command: Command) -> None:
    command.set(REDIS_URL="redis://127.0.0.1:1/0")
    assert "Traceback" not in command("status").err
    assert "Traceback" in command("-v", "status").err


def test_completion_knows_lazy_commands(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bridgectl"],
        env={
            **os.environ, "PYTHONPATH": str(ROOT), "_BRIDGECTL_COMPLETE": "bash_complete",
            "COMP_WORDS": "bridgectl st", "COMP_CWORD": "1",
        },
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "plain,status" in done.stdout


def test_status_and_tail_show_the_log(captured: Command) -> None:
    text = captured("status")
    assert text.code == 0
    assert "demo" in text.out
    assert "IPC timeout" in text.out
    [namespace] = json.loads(captured("status", "--json").out)["namespaces"]
    assert namespace["entries_by_lane"]["normal"] == 1
    assert namespace["producer"]["last_error"] == "IPC timeout"
    assert "EURUSD  2 ticks, bid 1.5 ask 1.6; server" in captured("tail", "--type", "ticks").out
    [entry] = captured("tail", "--key", "EURUSD", "--json").out.splitlines()
    assert json.loads(entry)["event"]["count"] == 2
    unknown = captured("status", "--terminal", "nope")
    assert unknown.code == 1
    assert "there is demo" in unknown.err


def test_tail_of_a_type_shows_what_groups_derived(captured: Command, redis_log: RedisLog) -> None:
    signal = TradeSignal(event_time_ms=1, strategy="mine", symbol="EURUSD", target="long")
    redis_log.tasks.open_group("demo", "mine", 1)
    claim = redis_log.claim(Slot("demo", "mine", 0), "this test", alive_within_s=0.1)
    redis_log.append(claim, [encode(signal)])
    assert "trade_signal.1 mine/EURUSD" in captured("tail", "--type", "trade_signal").out
    assert "trade_signal" not in captured("tail").out


def test_tail_follows(captured: Command, redis_log: RedisLog) -> None:
    following = subprocess.Popen(
        [sys.executable, "-m", "bridgectl", "tail", "-f", "--type", "clock", "--json"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert following.stdout is not None
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(following.stdout or ()))
    reader.start()
    try:
        claim = redis_log.claim(Slot("demo", SOURCE, 1), "this test", alive_within_s=0.1)

        def told() -> bool:
            redis_log.append(claim, [encode(ClockTick(event_time_ms=7))])
            return bool(lines)

        wait_until(told, timeout_s=60, what="a followed entry")
        assert json.loads(lines[0])["event"]["event_time_ms"] == 7
    finally:
        following.kill()
        following.wait()
        reader.join(5)
        following.stdout.close()


def test_doctor_says_what_is_well_and_what_is_not(captured: Command, postgres_url: str) -> None:
    captured.set(POSTGRES_URL=postgres_url)
    well = captured("doctor", "--json")
    found = {one["subject"]: one for one in json.loads(well.out)["findings"]}
    assert found["redis"]["verdict"] == "ok"
    assert found["schema"]["verdict"] == "ok"
    assert well.code == 0
    captured.set(POSTGRES_URL="postgresql://x@127.0.0.1:1/x")
    ill = captured("doctor")
    assert ill.code == 1
    assert "bad   database" in ill.out


def test_init_and_probe_set_up_a_simulated_terminal(command: Command) -> None:
    env_file = command.folder / ".env"
    env_file.write_text("# mine\nFOREX_PAIRS=GBPUSD\n")
    words = ("init", "--simulated", "--json", "--symbols", "EURUSD,BTCUSD")
    refused = command(*words)
    assert refused.code == 2
    assert "add --overwrite" in refused.err
    assert env_file.read_text() == "# mine\nFOREX_PAIRS=GBPUSD\n", "nothing changes without a yes"
    done = command(*words, "--overwrite")
    assert done.code == 0, done.err
    assert json.loads(done.out)["terminals"][0]["login"] == 5_000_001
    assert "# mine\nFOREX_PAIRS=EURUSD,BTCUSD\n" in env_file.read_text()
    probed = command("probe", "--output", "found.json", "--json")
    assert probed.code == 0, probed.err
    content = json.loads((command.folder / "found.json").read_text())
    assert content == json.loads(probed.out)
    facts = {name: value for one in content["answers"] for name, value in one["facts"].items()}
    assert facts["comment_chars_max"] == 29
    assert facts["symbol_info_tick"]["p50_ms"] > 0
    assert content["simulated_options"]["ticks"]["same_ms_share"] > 0


def test_a_look_into_a_terminal_finds_names_and_clock() -> None:
    terminal = TerminalSettings(
        name="x", kind=TerminalKind.SIMULATED,
        options={"suffixes": [".m"], "clock": "Europe/Athens", "history_days": 300},
    )  # fmt: skip
    seen = inspect(terminal, wanted=["EURUSD", "NOSUCH"])
    assert seen.aliases == {"EURUSD": "EURUSD.m"}
    assert seen.unresolved == {"NOSUCH": []}
    assert seen.clock.rule == "Europe/Athens"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="shows a systemd unit")
def test_autostart_shows_what_it_would_write(command: Command) -> None:
    done = command("autostart", "install", "--print", "--", "--terminal", "ftmo")
    assert done.code == 0
    assert "ExecStart=" in done.out
    assert "up --plain --terminal ftmo" in done.out
