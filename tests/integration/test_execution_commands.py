"""`bridgectl execution on`, `off` and `status` over a real log, with the group in a process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import bridgectl
from events.codec import encode
from events.decisions import TradeSignal
from events.log import Claim, Slot
from events.magic import owner_of, parts_of
from events.market import Contracts, Quote
from events.redis import RedisLog
from events.trading import Account, Book
from tests.servers import wait_until
from tests.unit.execution_desk import BEGIN_MS, LOGIN, instrument

HEADER = {"event_time_ms": BEGIN_MS, "recv_time_ms": BEGIN_MS, "login": LOGIN}


@pytest.fixture
def log(
    redis_log: RedisLog, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> RedisLog:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("BRIDGE_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("BRIDGE_ENV_FILE", raising=False)
    redis_log.open_namespace("demo", 1)
    return redis_log


def account(log: RedisLog) -> Claim:
    """What a producer would have told of an account without positions."""
    claim = log.claim(Slot("demo", "source", 0), "test", alive_within_s=0)
    seen = Account(
        **HEADER, server="Test", currency="USD", trade_mode=0, margin_mode=2, leverage=100,
        balance=1e4, credit=0.0, profit=0.0, equity=1e4, margin=0.0, margin_free=1e4,
        margin_level_percent=0.0,
    )  # fmt: skip
    quote = Quote(symbol="EURUSD", bid=1.1, ask=1.1001, time_ms=BEGIN_MS, time_server_ms=BEGIN_MS)
    facts = Contracts(**HEADER, instruments=(instrument(),), quotes=(quote,))
    log.append(claim, [encode(one) for one in (seen, Book(**HEADER, positions=()), facts)])
    return claim


def run(*words: str) -> Any:
    return CliRunner().invoke(bridgectl.cli, ["execution", *words])


def told(*words: str) -> Any:
    done = run(*words, "--json")
    assert done.exception is None, done.exception
    return json.loads(done.stdout)


def test_what_cannot_be_switched_says_why(log: RedisLog) -> None:
    assert "the log holds no terminal 'other'; there is: demo" in str(
        run("on", "--terminal", "other").exception
    )
    assert "no account of demo was seen yet" in str(run("on", "--terminal", "demo").exception)
    log.open_namespace("again", 1, origin="replay")
    assert "came by replay" in str(run("on", "--terminal", "again").exception)


def test_a_signal_becomes_an_intent_once_it_is_switched_on(log: RedisLog) -> None:
    account(log)
    assert told("status")["terminals"][0]["switch"] is None
    told("on", "--terminal", "demo", "--live")
    switch = told("on", "--terminal", "demo", "--strategy", "ema", "--lots-max", "0.5")
    assert (switch["login"], switch["mode"], switch["volume_lots_max"]) == (LOGIN, "paper", 0.5)
    log.tasks.open_group("demo", "strategy.ema", 1)
    claim = log.claim(Slot("demo", "strategy.ema", 0), "test", alive_within_s=0)
    signals = [
        TradeSignal(event_time_ms=BEGIN_MS, strategy=name, symbol="EURUSD", target="long",
                    volume_lots=0.2, stop_loss=1.09)
        for name in ("ema", "other")
    ]  # fmt: skip
    log.append(claim, [encode(one) for one in signals])
    consume = ("consume", "--group", "execute", "--until-idle", "--plain")
    done = subprocess.run(
        (sys.executable, "-m", "bridgectl", *consume), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    wait_until(lambda: bool(told("status")["terminals"][0]["under_way"]), what="an intent")
    [found] = told("status")["terminals"]
    [intent] = found["under_way"]
    parts = parts_of(int(intent["magic"]))
    assert parts is not None
    assert parts[0] == owner_of("ema", "EURUSD")
    states = {one["strategy"]: (one["state"], one["reason"]) for one in found["targets"]}
    assert states == {
        "ema": ("wanted", ""), "other": ("refused", "execution is on for ema only"),
    }  # fmt: skip
    shown = run("status").stdout
    for text in ("paper", "only ema", "at most 0.5 lots an order", "Targets", "Under way"):
        assert text in shown
    assert told("off", "--terminal", "demo")["mode"] == "off"
    assert "off: bridgectl execution on --terminal demo" in run("status").stdout
