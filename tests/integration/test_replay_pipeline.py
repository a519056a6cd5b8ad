"""`replay --into` with everything behind it: groups, the database, and who leaves it alone."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import psycopg
import pytest
from click.testing import CliRunner

import bridgectl
from consumers.groups import GroupSpec, group_specs
from consumers.persist import PersistGroup, PersistOptions, all_slots
from consumers.runtime.group import Group
from consumers.runtime.task import TaskRun
from events.codec import encode
from events.log import SOURCE, Entry, Lane, LogError, Slot
from events.operations import ClockTick
from events.postgres import connect, read_entries
from events.redis import RedisLog, open_log
from events.ticks import TICK_DTYPE, OffsetSource, TickBatch
from producers.append import Writer
from producers.report import Report
from tests.integration.persisting import account

T0 = 1_715_000_000_000
SERVER_AHEAD_S = 3 * 3600
SECONDS = 240
GROUPS = (
    GroupSpec("risk", "consumers.risk:RiskHandler"),
    GroupSpec("strategy.ema-cross", "consumers.strategies.ema_cross:EmaCross",
              {"fast": "3", "slow": "9"}),
)  # fmt: skip


def record(log: RedisLog, namespace: str) -> None:
    """Four minutes of one symbol and its account, and of the clock."""
    chance = random.Random(7)
    log.open_namespace(namespace, 1)
    claim = log.claim(Slot(namespace, SOURCE, 0), "test", alive_within_s=0.0)
    price = 1.1
    for second in range(SECONDS):
        now_ms = T0 + second * 1000
        new = [encode(ClockTick(event_time_ms=now_ms))]
        if second % 10 == 0:
            new.append(encode(account(now_ms, balance=10_000 - second)))
        ticks = np.zeros(chance.randint(1, 4), TICK_DTYPE)
        ticks["time_msc"] = now_ms + SERVER_AHEAD_S * 1000 + np.arange(len(ticks)) * 40
        ticks["time"] = ticks["time_msc"] // 1000
        price += chance.gauss(0, 0.0002)
        ticks["bid"], ticks["ask"], ticks["flags"] = price, price + 0.0001, 6
        newest_ms = int(ticks["time_msc"][-1]) - SERVER_AHEAD_S * 1000
        batch = TickBatch(
            "EURUSD", ticks, SERVER_AHEAD_S, OffsetSource.LIVE, newest_ms, newest_ms + 9
        )
        new.append(encode(batch))
        log.append(claim, new)
    log.release(claim)


def run_groups(log: RedisLog, namespace: str) -> None:
    for made in (spec.group((namespace,)) for spec in GROUPS):
        assert isinstance(made, Group)
        log.tasks.open_group(namespace, made.name, 1)
        for spec in made.specs(log):
            taken = log.tasks.acquire(spec.slot, "me", seen=log.tasks.look([spec.slot])[0].token)
            assert taken is not None
            task = TaskRun(log, made, spec, *taken, entries_max=100)
            while task.step().entries:
                pass
            task.release()


def entries(log: RedisLog, namespace: str, writer: str) -> list[Entry]:
    slot = Slot(namespace, writer, 0)
    found = [entry for lane in Lane for entry in log.between(slot.stream(lane), count_max=10_000)]
    return sorted(found, key=lambda entry: entry.id)


def said(found: list[Entry]) -> list[tuple[str, str, str, bytes]]:
    """What entries say, without their ids and causes: those are of the namespace."""
    return [(one.stream.lane.label, one.type, one.key, one.data) for one in found]


@pytest.fixture
def run(
    redis_url: str, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> CliRunner:
    monkeypatch.chdir(tmp_path)
    # Somebody gave a terminal the name of a replay.
    (tmp_path / "terminals.toml").write_text('[terminals.again]\nkind = "simulated"\n')
    monkeypatch.setattr(sys, "argv", ["bridgectl"])
    environment = {
        "REDIS_URL": redis_url, "POSTGRES_URL": postgres_url,
        "BRIDGE_STATE_DIR": str(tmp_path / "state"), "ALERT_WEBHOOK": "http://127.0.0.1:9/",
        "LOG_FILE": str(tmp_path / "log.txt"),
    }  # fmt: skip
    return CliRunner(env=environment)


def refused(run: CliRunner, *words: str) -> str:
    """The one line a command ends with."""
    done = run.invoke(bridgectl.cli, words)
    assert done.exit_code != 0, words
    line = str(done.exception) if done.exception else done.output
    assert "\n" not in line.strip(), line
    return line


def test_a_replay_runs_through_the_whole_pipeline_and_nobody_acts_on_it(
    run: CliRunner, redis_log: RedisLog, redis_url: str, postgres_url: str
) -> None:
    """Groups derive from it what they derived live, persist stores it with its own times, and
    whoever touches an account or wakes people refuses it."""
    record(redis_log, "demo")
    run_groups(redis_log, "demo")
    done = run.invoke(bridgectl.cli, ["replay", "--terminal", "demo", "--into", "again"])
    assert done.exit_code == 0, done.output
    assert said(entries(redis_log, "again", SOURCE)) == said(entries(redis_log, "demo", SOURCE))
    run_groups(redis_log, "again")
    for spec in GROUPS:
        live, again = (said(entries(redis_log, name, spec.name)) for name in ("demo", "again"))
        assert again == live
        assert live, f"{spec.name} derived nothing"
    stored(redis_url, postgres_url, redis_log)
    everybody_refuses(run, redis_log)
    part = ("--from", "2024-05-06T12:54:20Z", "--to", "2024-05-06T12:54:30Z", "--speed", "100x")
    done = run.invoke(bridgectl.cli, ["replay", "--terminal", "demo", "--into", "part", *part])
    assert done.exit_code == 0, done.output
    seconds = [entry for entry in entries(redis_log, "part", SOURCE) if entry.type == "clock.1"]
    assert len(seconds) == 10


def stored(redis_url: str, postgres_url: str, log: RedisLog) -> None:
    """Group persist stores the replay under its own name, at the times events had."""
    group = PersistGroup(
        PersistOptions(
            postgres_url, lambda: open_log(redis_url), all_slots(("again",)), "test:1",
            until_idle=True,
        ),
        workers=1,
    )  # fmt: skip
    group.start()
    assert group.join(60), group.progress()
    with connect(postgres_url, application="test") as connection:
        for lane in (Lane.HIGH, Lane.NORMAL):
            stream = Slot("again", SOURCE, 0).stream(lane)
            assert read_entries(connection, stream) == log.between(stream, count_max=10_000)
    with psycopg.connect(postgres_url) as plain:
        spans = plain.execute(
            "SELECT extract(epoch FROM min(time))::bigint, extract(epoch FROM max(time))::bigint"
            " FROM ticks WHERE terminal = 'again'"
        ).fetchone()
    assert spans == (T0 // 1000, T0 // 1000 + SECONDS - 1)


def everybody_refuses(run: CliRunner, log: RedisLog) -> None:
    past = ("--terminal", "again")
    for group in ("execute", "watch"):
        assert "again was made by replay" in refused(run, "consume", "--group", group, *past)
    assert "came by replay" in refused(run, "execution", "on", *past)
    assert "came by replay" in refused(run, "halt", *past, "--reason", "x")
    (alerts,) = group_specs("alerts", targets=("webhook",))
    with pytest.raises(LogError, match="again was made by replay"):
        alerts.group(("again",)).specs(log)
    producer = Writer(log, "again", 1, holder="producer", report=Report(), alive_within_s=0.0)
    with pytest.raises(LogError, match="holds what came by replay"):
        producer.open()
