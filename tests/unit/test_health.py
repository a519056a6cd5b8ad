"""Findings of doctor: what is well, what is not, and what to do about it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from events.health.finding import Finding, Verdict
from events.health.machine import (
    clock_finding,
    disk_finding,
    limit_findings,
    python_finding,
    said_by,
    state_folder_finding,
    terminal_finding,
)
from events.health.servers import database_findings, judged, redis_findings
from events.health.windows import logon_finding, sleep_finding, update_finding
from events.redis.facts import ServerFacts, server_facts
from events.settings import TerminalKind, TerminalSettings, load

GOOD_SERVER = ServerFacts(
    name="Valkey", version="9.1", volatile=False, appendonly="yes", appendfsync="always",
    maxmemory_bytes=0, maxmemory_policy="noeviction", memory_used_bytes=1_000, clock_s=100.0,
)  # fmt: skip


def verdicts(findings: object) -> dict[str, Verdict]:
    assert isinstance(findings, list)
    return {finding.subject: finding.verdict for finding in findings}


def test_a_line_has_verdict_fact_and_cure() -> None:
    line = Finding("redis", Verdict.BAD, "does not answer", "start it").line()
    assert line == "bad   redis          does not answer -> start it"


def test_an_old_python_is_told() -> None:
    assert python_finding((3, 10, 1)).verdict is Verdict.BAD
    assert python_finding((3, 11, 0)).verdict is Verdict.OK


def test_a_state_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert state_folder_finding(tmp_path / "new").verdict is Verdict.OK
    assert state_folder_finding(tmp_path / "file").verdict is Verdict.BAD


def test_days_left_follow_the_growth_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10 << 30))
    (tmp_path / "x").write_bytes(b"x" * (1 << 20))
    os.utime(tmp_path / "x", (1_000_000, 1_000_000))
    young = disk_finding(tmp_path, now_s=1_000_010)
    assert "too early to tell" in young.fact
    day_s = 86_400
    calm = disk_finding(tmp_path, now_s=1_000_000 + day_s)
    assert calm.verdict is Verdict.OK
    assert "10,240 days" in calm.fact
    (tmp_path / "x").write_bytes(b"x" * (10 << 20))
    os.utime(tmp_path / "x", (1_000_000, 1_000_000))
    fast = disk_finding(tmp_path, now_s=1_000_000 + day_s // 12)
    assert fast.verdict is Verdict.OK
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2 << 30))
    assert disk_finding(tmp_path, now_s=1_000_000 + 3_700).verdict is Verdict.WARN
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    assert disk_finding(tmp_path, now_s=1_000_000).verdict is Verdict.BAD


@pytest.mark.parametrize(
    ("said", "verdict"),
    [("yes\n", Verdict.OK), ("no\n", Verdict.WARN), (None, Verdict.WARN)],
)
def test_the_clock_is_kept_or_not(
    said: str | None, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("events.health.machine.said_by", lambda *_: said)
    assert clock_finding("linux").verdict is verdict


def test_a_tool_that_is_not_there_says_nothing() -> None:
    assert said_by("no-such-tool-anywhere") is None


def test_a_native_terminal_needs_windows() -> None:
    native = TerminalSettings(name="a", kind=TerminalKind.NATIVE)
    finding = terminal_finding(native, "linux")
    assert finding.verdict is Verdict.BAD
    assert "terminal serve" in finding.cure


def test_a_far_terminal_is_knocked_at() -> None:
    far = TerminalSettings(name="a", kind=TerminalKind.REMOTE, host="127.0.0.1", port=1)
    finding = terminal_finding(far, "linux")
    assert finding.verdict is Verdict.BAD
    assert "127.0.0.1:1 does not answer" in finding.fact


def test_what_limits_come_to_is_told_and_why_nobody_can_act_on_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert list(limit_findings(load())) == []
    monkeypatch.setenv("MAX_DAILY_LOSS", "5")
    [finding] = limit_findings(load())
    assert finding.verdict is Verdict.OK
    assert "1 limits, 1 of them hard" in finding.fact
    rules = tmp_path / "rules.toml"
    rules.write_text('[[limits]]\nname = "x"\nfigure = "no_such"\nact = 1\naction = "alert"\n')
    monkeypatch.setenv("RISK_RULES", str(rules))
    [finding] = limit_findings(load())
    assert finding.verdict is Verdict.BAD
    assert "rules.toml:3" in finding.fact
    assert "risk check" in finding.cure


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("... Index: 0x00000000\n ... Index: 0x00000384\n", Verdict.OK),
        ("Aktueller Index: 0x00000708\nIndex: 0x00000384", Verdict.WARN),
        ("", Verdict.WARN),
        (None, Verdict.WARN),
    ],
)
def test_sleep_is_read_in_any_language(said: str | None, verdict: Verdict) -> None:
    assert sleep_finding(said).verdict is verdict


def test_windows_should_log_on_by_itself() -> None:
    assert logon_finding("1").verdict is Verdict.OK
    assert logon_finding(None).verdict is Verdict.WARN


def test_a_waiting_update_of_the_terminal_is_told(tmp_path: Path) -> None:
    assert update_finding(tmp_path / "none").verdict is Verdict.OK
    (tmp_path / "mt5").mkdir()
    (tmp_path / "mt5" / "terminal64.exe").write_bytes(b"")
    assert update_finding(tmp_path).verdict is Verdict.WARN


def test_a_durable_server_is_well() -> None:
    assert {one.verdict for one in judged(GOOD_SERVER, now_s=100.0)} == {Verdict.OK}


@pytest.mark.parametrize(
    ("changes", "subject", "verdict"),
    [
        ({"appendonly": "no"}, "redis disk", Verdict.BAD),
        ({"appendfsync": "everysec"}, "redis disk", Verdict.WARN),
        ({"appendonly": None}, "redis disk", Verdict.WARN),
        ({"volatile": True}, "redis disk", Verdict.BAD),
        ({"maxmemory_bytes": 9_000, "maxmemory_policy": "allkeys-lru"}, "redis memory",
         Verdict.BAD),
        ({"maxmemory_bytes": 1_100}, "redis memory", Verdict.WARN),
        ({"clock_s": 90.0}, "redis clock", Verdict.WARN),
    ],
)  # fmt: skip
def test_a_server_that_may_lose_something_is_told(
    changes: dict[str, object], subject: str, verdict: Verdict
) -> None:
    facts = replace(GOOD_SERVER, **changes)  # type: ignore[arg-type]  # fields by name
    found = verdicts(list(judged(facts, now_s=100.0)))
    assert found[subject] is verdict


def test_a_real_server_is_asked(redis_url: str) -> None:
    facts = server_facts(redis_url)
    assert facts.name in ("Redis", "Valkey")
    assert facts.appendonly == "yes"
    assert not facts.volatile
    found = verdicts(list(redis_findings(redis_url)))
    assert found["redis"] is Verdict.OK


def test_the_stand_in_is_recognised(stand_in_url: str) -> None:
    facts = server_facts(stand_in_url)
    assert facts.volatile
    assert verdicts(list(redis_findings(stand_in_url)))["redis disk"] is Verdict.BAD


def test_servers_that_do_not_answer_are_told_without_their_passwords() -> None:
    [redis] = redis_findings("redis://:sesame@127.0.0.1:1/0")
    [database] = database_findings("postgresql://me:sesame@127.0.0.1:1/x")
    for finding in (redis, database):
        assert finding.verdict is Verdict.BAD
        assert "sesame" not in finding.line()


def test_a_database_is_told_with_its_schema(postgres_url: str, empty_postgres_url: str) -> None:
    assert verdicts(list(database_findings(postgres_url)))["schema"] is Verdict.OK
    assert verdicts(list(database_findings(empty_postgres_url)))["schema"] is Verdict.WARN
