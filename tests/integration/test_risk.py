"""Group risk as people run it: a simulated account that trades, its guard, the commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from consumers.risk.deciding import Moment, block, unblock
from events.codec import decode, encode
from events.decisions import Command, RiskMetrics, RulesSet
from events.guarding import FlattenEnded, FlattenStep, LatchChanged
from events.log import OPERATOR, SOURCE, Lane, Slot
from events.postgres import connect
from events.redis import RedisLog
from events.trading import Account
from tests.golden import sample_model
from tests.integration.guarding import guard_of, guarded, hosted, spec_of
from tests.integration.persisting import drain
from tests.integration.test_replay import Bridge
from tests.servers import wait_until

TERMINALS = """
[terminals.demo]
kind = "simulated"
symbols = ["BTCUSD", "ETHUSD"]
clock = "America/New_York+7h"
rules_file = "rules.toml"
[terminals.demo.options]
seed = 5
[terminals.demo.options.trader]
every_s = 0.5
hold_max_s = 60.0
"""
RULES = """
name = "mine"
[account]
reset_zone = "Europe/Prague"
[[limits]]
name = "daily"
figure = "daily_loss"
limit = 5.0
action = "flatten"
lock = "until_reset"
hard = true
[[limits]]
name = "total"
figure = "drawdown_peak"
limit = 10.0
action = "flatten"
lock = "manual"
[[limits]]
name = "trailing"
figure = "var_99"
act = 1.0
action = "alert"
"""
VOLUME = """
[[limits]]
name = "volume"
figure = "lots_open"
act = 0.01
action = "flatten"
lock = "manual"
"""
STRICTER = RULES.replace("limit = 5.0", "limit = 0.000001").replace(
    "[account]", "[account]\ninitial_balance = 100000\nhigh_water = 100000"
)


@contextmanager
def running(bridge: Bridge, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command in a process group of its own, ended with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bridgectl", *words], env=bridge.environment, cwd=bridge.folder,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def kill(process: subprocess.Popen[bytes]) -> None:
    """With everything it started, at once."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


def derived(log: RedisLog, kind: type, lane: Lane) -> list[Any]:
    stream = Slot("demo", "risk", 0).stream(lane)
    found = [decode(entry) for entry in log.between(stream, count_max=100_000)]
    return [event for event in found if isinstance(event, kind)]


def metrics(log: RedisLog) -> list[RiskMetrics]:
    return derived(log, RiskMetrics, Lane.HIGH)


@pytest.fixture
def bridge(tmp_path: Path, redis_url: str) -> Bridge:
    (tmp_path / "terminals.toml").write_text(TERMINALS, encoding="utf-8")
    (tmp_path / "rules.toml").write_text(RULES, encoding="utf-8")
    (tmp_path / "stricter.toml").write_text(STRICTER, encoding="utf-8")
    return Bridge(tmp_path, redis_url)


@pytest.mark.skipif(sys.platform == "win32", reason="kills a group of processes by POSIX means")
def test_figures_survive_kills_and_derive_again_and_people_see_them(
    bridge: Bridge, redis_log: RedisLog, postgres_url: str
) -> None:
    with running(bridge, "produce", "--terminal", "demo"):
        with running(bridge, "consume", "--group", "risk", "--plain") as first:
            wait_until(lambda: any(one.headroom for one in metrics(redis_log)), timeout_s=40)
            kill(first)
        before = len(metrics(redis_log))
        states_what_nobody_knows(bridge, redis_log)
        with running(bridge, "consume", "--group", "risk", "--plain"):
            wait_until(lambda: len(metrics(redis_log)) >= before + 10, timeout_s=40)
            wait_until(lambda: not unknown_references(metrics(redis_log)[-1]), timeout_s=20)
            held = [one for one in metrics(redis_log) if one.positions_open]
            assert held
            wait_until(lambda: metrics(redis_log)[-1].figures["var_99"] is not None, timeout_s=20)
            looks_right(metrics(redis_log)[-1])
            code, out = bridge.here("risk", "status", "--json")
            assert code == 0
            shown = json.loads(out.splitlines()[-1])["accounts"][0]
            assert shown["guard"]["state"] in ("watching", "blocked")
            assert shown["metrics"]["headroom"].keys() == {"daily", "total", "trailing"}
            a_limit_of_the_group_stops_the_account(bridge, redis_log)
    code, out, told = bridge.run("consume", "--group", "risk", "--until-idle", "--plain")
    assert code == 0, told
    code, out = bridge.here("replay", "--verify", "--group", "risk", "--json")
    assert code == 0, out
    [task] = json.loads(out.splitlines()[-1])["tasks"]
    assert task["good"]
    assert task["equal"] >= before + 10
    other_rules(bridge)
    rows(redis_log, postgres_url)


def states_what_nobody_knows(bridge: Bridge, log: RedisLog) -> None:
    """While no group runs: it holds when one does."""
    blocks = derived(log, Command, Lane.CRITICAL)
    assert [(one.verb, one.arguments["cause"]) for one in blocks[:1]] == [("block", "references")]
    code, out = bridge.here(
        "risk", "reference", "set", "--terminal", "demo", "--initial", "100000", "--high-water",
        "100000", "--day", "100000", "--reason", "the account is new",
    )  # fmt: skip
    assert code == 0, out
    assert "risk status" in out
    [stated] = log.between(Slot("demo", OPERATOR, 0).stream(Lane.CRITICAL), count_max=10)
    assert stated.type == "reference_set.1"
    rules = [
        event
        for entry in log.between(Slot("demo", SOURCE, 0).stream(Lane.HIGH), count_max=10_000)
        if isinstance(event := decode(entry), RulesSet)
    ]
    assert [one.rules["name"] for one in rules] == ["mine"]


def a_limit_of_the_group_stops_the_account(bridge: Bridge, log: RedisLog) -> None:
    """Through the log: the group judges, its command reaches the guard, which closes."""
    (bridge.folder / "rules.toml").write_text(RULES + VOLUME, encoding="utf-8")

    def told(kind: type) -> list[Any]:
        stream = Slot("demo", SOURCE, 0).stream(Lane.CRITICAL)
        found = map(decode, log.between(stream, count_max=100_000))
        return [event for event in found if isinstance(event, kind)]

    wait_until(lambda: any(one.latched for one in told(LatchChanged)), timeout_s=40)
    wait_until(lambda: bool(told(FlattenEnded)), timeout_s=40)
    [command, *_] = [c for c in derived(log, Command, Lane.CRITICAL) if c.verb == "flatten"]
    assert command.arguments["breach"] == "volume"
    latch = next(one for one in told(LatchChanged) if one.latched)
    assert (latch.by, latch.command_id, latch.lock) == ("risk", command.command_id, "manual")
    closed = [one for one in told(FlattenStep) if one.step == "close" and one.outcome == "done"]
    assert closed
    wait_until(lambda: metrics(log)[-1].locks == {"volume": "manual"}, timeout_s=20)


def unknown_references(seen: RiskMetrics) -> list[str]:
    return [name for name in seen.unknown if "balance" in name or "water" in name]


def looks_right(seen: RiskMetrics) -> None:
    """Independently, out of what the event itself tells."""
    named = seen.figures
    assert seen.equity == pytest.approx(seen.balance + seen.credit + seen.floating, abs=0.01)
    assert named["exposure_gross"] == pytest.approx(
        sum(part["exposure"] for part in seen.by_symbol.values()), abs=1e-4
    )
    assert seen.leverage_used == pytest.approx(
        (named["exposure_gross"] or 0) / seen.equity, abs=1e-6
    )
    assert sum(seen.exposure_by_currency.values()) == pytest.approx(0, abs=1e-3)
    assert set(seen.largest_lot) == {"BTCUSD", "ETHUSD"}
    assert seen.references["zone"] == "Europe/Prague"
    assert named["daily_loss"] == pytest.approx(
        float(seen.references["day_reference"] or 0) - seen.equity + seen.cost_of_closing, abs=1e-4
    )


def other_rules(bridge: Bridge) -> None:
    code, out = bridge.here("risk", "what-if", "stricter.toml", "--terminal", "demo", "--json")
    if code:  # the command looks for the file where it runs
        path = str(bridge.folder / "stricter.toml")
        code, out = bridge.here("risk", "what-if", path, "--terminal", "demo", "--json")
    assert code == 0, out
    [found] = json.loads(out.splitlines()[-1])["terminals"]
    assert [trip["limit"] for trip in found["trips"] if trip["action"] == "flatten"] == ["daily"]
    assert found["trips"][0]["saved"] is not None
    code, out = bridge.here("risk", "headroom", "--json")
    assert json.loads(out.splitlines()[-1])["accounts"][0]["headroom"]["daily"] > 0
    for words in (("status",), ("headroom",), ("what-if", "ftmo-1-step", "--initial", "100000")):
        code, out = bridge.here("risk", *words)
        assert code == 0, out
        assert "demo" in out


def rows(log: RedisLog, postgres_url: str) -> None:
    drain(log, postgres_url)
    with connect(postgres_url, application="test") as connection:

        def count(query: str) -> int:
            row = connection.execute(query).fetchone()
            assert row is not None
            return int(row[0])

        assert count("SELECT count(*) FROM risk_metrics WHERE equity > 0") > 10
        assert count("SELECT count(DISTINCT currency) FROM exposure_by_currency") >= 2
        assert count("SELECT count(DISTINCT symbol) FROM risk_by_symbol WHERE exposure > 0") >= 1
        assert count("SELECT count(*) FROM limit_breaches WHERE \"limit\" = 'trailing'") >= 1
        assert count("SELECT count(*) FROM guard_events WHERE event = 'guard_state'") >= 1
        far = "SELECT count(*) FROM limit_breaches WHERE locked_until > now() + interval '9 days'"
        assert count(far) == 0


def seen(log: RedisLog, *logins: int) -> None:
    """A terminal whose accounts were seen once."""
    log.open_namespace("demo", 1)
    claim = log.claim(Slot("demo", SOURCE, 0), "test", alive_within_s=0)
    account = sample_model(Account)
    assert isinstance(account, Account)
    log.append(claim, [encode(account.model_copy(update={"login": login})) for login in logins])
    log.release(claim)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("reference", "set", "--terminal", "demo", "--reason", "x"), "at least one of --initial"),
        (("reference", "set", "--terminal", "nosuch", "--day", "1", "--reason", "x"),
         "terminals in the log: demo"),
        (("reference", "set", "--terminal", "demo", "--day", "1", "--reason", "x"),
         "add --login, one of 7, 8"),
        (("reference", "set", "--terminal", "demo", "--login", "9", "--day", "1", "--reason", "x"),
         "never had account 9"),
        (("headroom",), "run `bridgectl consume --group risk`"),
        (("what-if", "ftmo-1-step", "--terminal", "nosuch"), "no terminal 'nosuch'; there is:"),
        (("what-if", "ftmo-1-step", "--from", "yesterday"), "write 2026-11-20"),
    ],
    ids=lambda one: "-".join(one[:2]) if isinstance(one, tuple) else "",
)  # fmt: skip
def test_a_wrong_command_names_its_cure(
    bridge: Bridge, redis_log: RedisLog, words: tuple[str, ...], told: str
) -> None:
    seen(redis_log, 7, 8)
    code, out = bridge.here("risk", *words)
    assert code != 0
    assert told in " ".join(out.split())


def test_references_may_be_stated_more_than_once(bridge: Bridge, redis_log: RedisLog) -> None:
    seen(redis_log, 7)
    for money in ("100", "200"):
        code, out = bridge.here("risk", "reference", "set", "--terminal", "demo", "--day", money,
                                "--reason", "seen", "--json")  # fmt: skip
        assert code == 0, out
    stream = Slot("demo", OPERATOR, 0).stream(Lane.CRITICAL)
    stated = [decode(entry) for entry in redis_log.between(stream, count_max=10)]
    assert [getattr(one, "day_reference", None) for one in stated] == [100.0, 200.0]


def test_what_the_group_blocks_for_ends_each_by_its_cause(tmp_path: Path) -> None:
    """The group's own commands, carried out by a real guard."""
    with hosted(spec_of()) as client, guarded(client, tmp_path) as keeper:
        guard = guard_of(keeper)

        def at(place: str) -> Moment:
            return Moment(guard.now_ms(), guard.login, place)

        def causes() -> set[str]:
            return {block.cause for block in guard.blocks.all()}

        for number, cause in enumerate(("references", "limit:volume")):
            answer = guard.tell(block(cause, "why", at(f"begin{number}")), "risk")
            assert answer.accepted, answer
        assert causes() == {"risk:references", "risk:limit:volume"}
        # Who says so may read a clock that is ahead of the guard's newest look.
        ahead = Moment(guard.now_ms() + 60_000, guard.login, "end")
        answer = guard.tell(unblock("references", "known", ahead), "risk")
        assert (answer.accepted, answer.text) == (True, "no longer blocked: known")
        assert causes() == {"risk:limit:volume"}
        guard.tell(block("window:news", "nfp", at("news"), until_ms=guard.now_ms() + 300), "risk")
        assert "risk:window:news" in causes()
        wait_until(lambda: causes() == {"risk:limit:volume"}, what="the window ends by itself")
