"""The producer with its terminal host and a real log, while things die around it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from events.candles import CandleBatch
from events.codec import AnyEvent, decode
from events.log import SOURCE, Lane, Log, Slot, WriterHeld
from events.operations import (
    ClockChanged,
    ClockTick,
    GapHealed,
    ProducerState,
    TerminalDown,
    TerminalUp,
)
from events.redis import open_log
from events.settings import Settings, TerminalKind, TerminalSettings
from events.tick_files import load_ticks
from events.ticks import TICK_DTYPE, Mark, OffsetSource, TickBatch
from events.trading import Account, Book, Deal
from producers.cli import build_producer
from producers.producer import Producer
from producers.terminals.client import HostClient
from producers.terminals.simulated import SimulatedOptions, SimulatedTerminal
from tests.servers import FaultProxy, RedisServer, redis_binaries, wait_until

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
SYMBOLS = ("BTCUSD", "ETHUSD")
"""Open on every day of the week."""
OPTIONS: dict[str, Any] = {
    "seed": 5,
    "symbols": list(SYMBOLS),
    "clock": "America/New_York+7h",
    "ticks": {"rate": 3.0, "same_ms_share": 0.2, "identical_share": 0.1},
}
TRADER = {"every_s": 0.7, "hold_max_s": 1.5, "flash_share": 0.5}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own, that it may kill: every acknowledged write is on disk."""
    folder = tmp_path / "redis"
    folder.mkdir()
    binary = next(iter(redis_binaries().values()))
    server = RedisServer(binary, folder, options=["--appendfsync", "always"]).start()
    yield server
    server.kill()


def settings_in(folder: Path, **more: Any) -> Settings:
    values = {"bridge_state_dir": folder / "state", "worker_timeout": 5.0, "price_interval_s": 0.05}
    return Settings(_env_file=None, **{**values, "candle_timeframes": ("M1",), **more})


def simulated(**options: Any) -> TerminalSettings:
    return TerminalSettings(
        name="demo",
        kind=TerminalKind.SIMULATED,
        symbols=SYMBOLS,
        clock="America/New_York+7h",
        options={**OPTIONS, "trader": TRADER, **options},
    )


def recorded(*files: str, clock: str, **options: Any) -> TerminalSettings:
    return TerminalSettings(
        name="played",
        kind=TerminalKind.RECORDED,
        clock=clock,
        options={"files": list(files), "clock": clock, "speed": "max", **options},
    )


@contextmanager
def running(
    settings: Settings, terminal: TerminalSettings, log: Log
) -> Iterator[tuple[Producer, HostClient]]:
    producer, client = build_producer(settings, terminal, log)
    try:
        producer.start()
        yield producer, client
    finally:
        producer.stop()
        client.close()


def events_of(log: Log, namespace: str, *kinds: type, lane: Lane | None = None) -> list[Any]:
    found: list[AnyEvent] = []
    for partition in range(log.namespaces()[namespace]):
        for stream in Slot(namespace, SOURCE, partition).streams():
            if lane is None or stream.lane is lane:
                found += [decode(entry) for entry in log.between(stream, count_max=100_000)]
    return [event for event in found if isinstance(event, kinds)]


def batches(log: Log, namespace: str, symbol: str) -> list[TickBatch]:
    found = events_of(log, namespace, TickBatch, lane=Lane.NORMAL)
    return [batch for batch in found if batch.symbol == symbol]


def ticks_in(log: Log, namespace: str, symbol: str) -> Any:
    parts = [batch.ticks for batch in batches(log, namespace, symbol)]
    return np.concatenate(parts) if parts else np.empty(0, TICK_DTYPE)


def count_in(log: Log, symbol: str) -> int:
    return len(ticks_in(log, "demo", symbol))


def assert_is_truth(log: Log, context: str = "") -> None:
    """From the first whole second on, every tick that the broker had is there once."""
    truth = SimulatedTerminal(SimulatedOptions.model_validate({**OPTIONS, "trader": None}))
    for symbol in SYMBOLS:
        found = ticks_in(log, "demo", symbol)
        assert len(found), f"{symbol}: nothing {context}"
        begin_ms = int(found["time"].min()) * 1000
        end_ms = int(found["time_msc"].max()) // 1000 * 1000
        found = found[found["time_msc"] < end_ms]
        expected = truth.truth(symbol, begin_ms, end_ms)
        assert len(expected) > 20
        found, expected = (np.sort(rows, order=["time_msc", "bid", "ask"]) for rows in
                           (found, expected))  # fmt: skip
        same = found.tobytes() == expected.tobytes()
        assert same, f"{symbol}: {len(found)} of {len(expected)} ticks {context}"


def wait_for_ticks(log: Log, more: int) -> None:
    before = {symbol: count_in(log, symbol) for symbol in SYMBOLS}

    def arrived() -> bool:
        return all(count_in(log, symbol) >= before[symbol] + more for symbol in SYMBOLS)

    wait_until(arrived, timeout_s=30, what=f"{more} more ticks of each symbol")


def test_everything_a_terminal_shows_arrives_once(server: RedisServer, tmp_path: Path) -> None:
    log = open_log(server.url)
    with running(settings_in(tmp_path), simulated(), log):
        wait_for_ticks(log, 60)
        wait_until(lambda: len(events_of(log, "demo", Deal)) > 8, timeout_s=20, what="deals")
    assert_is_truth(log)
    for batch in events_of(log, "demo", TickBatch):
        assert batch.offset_s in (7_200, 10_800)
        assert batch.offset_source >= OffsetSource.ASSUMED
    assert [type(event) for event in events_of(log, "demo", TerminalUp, TerminalDown)] == [
        TerminalUp,
        TerminalDown,
    ]
    deals = events_of(log, "demo", Deal)
    assert len({deal.ticket for deal in deals}) == len(deals)
    opened = {deal.position_id for deal in deals if deal.entry == 0}
    booked = {p.identifier for book in events_of(log, "demo", Book) for p in book.positions}
    assert opened - booked, "a position opened and closed between two polls shows in deals alone"
    # The stop may come between a look at the account and the look at the deal that moved it.
    newest_ms = max(deal.event_time_ms for deal in deals)
    looks = [a for a in events_of(log, "demo", Account) if a.event_time_ms <= newest_ms]
    last = max(looks, key=lambda account: account.event_time_ms)
    money = sum(
        deal.profit + deal.commission + deal.swap + deal.fee
        for deal in deals
        if deal.event_time_ms <= last.event_time_ms
    )
    assert money == pytest.approx(last.balance, abs=0.01)
    assert {change.offset_source for change in events_of(log, "demo", ClockChanged)} >= {
        OffsetSource.ASSUMED
    }
    assert len(events_of(log, "demo", ClockTick)) >= 4
    state = events_of(log, "demo", ProducerState)[-1]
    assert state.connection == "stopped"
    assert state.ticks_appended == sum(count_in(log, symbol) for symbol in SYMBOLS)
    log.close()


def test_a_second_producer_is_refused_with_the_holders_name(
    server: RedisServer, tmp_path: Path
) -> None:
    log = open_log(server.url)
    with running(settings_in(tmp_path), simulated(), log):
        producer, client = build_producer(settings_in(tmp_path / "other"), simulated(), log)
        try:
            with pytest.raises(WriterHeld, match=rf"pid {os.getpid()}.*stop that one first"):
                producer.start()
        finally:
            producer.stop()
            client.close()
    log.close()


def test_a_hung_call_is_cut_and_everything_goes_on(server: RedisServer, tmp_path: Path) -> None:
    log = open_log(server.url)
    settings = settings_in(tmp_path, worker_timeout=1.0)
    with running(settings, simulated(), log) as (producer, client):
        wait_for_ticks(log, 20)
        client.call("inject", "hang", methods=["copy_ticks_from"], symbols=["BTCUSD"])
        wait_until(lambda: producer.connection.generation == 2, timeout_s=30, what="up again")
        wait_for_ticks(log, 20)
        assert producer.pulse.state().host_restarts == 1
        assert producer.pulse.state().call_timeouts == 1
    assert [down.reason for down in events_of(log, "demo", TerminalDown)] == ["hung", "stopped"]
    wait_until(lambda: bool(events_of(log, "demo", GapHealed)), what="the gap is told")
    assert_is_truth(log)
    log.close()


def test_kill_9_of_the_terminal_host_loses_and_doubles_nothing(
    server: RedisServer, tmp_path: Path
) -> None:
    log = open_log(server.url)
    with running(settings_in(tmp_path), simulated(), log) as (producer, client):
        for generation in (2, 3):
            wait_for_ticks(log, 20)
            pid = client.state().pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            wait_until(
                lambda: producer.connection.generation == generation,  # noqa: B023 - used at once
                timeout_s=30,
                what="up again",
            )
        wait_for_ticks(log, 20)
    assert_is_truth(log)
    log.close()


def test_a_redis_that_is_killed_and_comes_back_misses_nothing(
    server: RedisServer, tmp_path: Path
) -> None:
    log = open_log(server.url)
    with running(settings_in(tmp_path), simulated(), log) as (producer, _):
        wait_for_ticks(log, 20)
        server.kill()
        wait_until(lambda: producer._spool.size.rows > 3, what="events wait in the spool")
        server.start()
        wait_until(lambda: not producer._spool.size.rows, what="the spool is empty again")
        wait_for_ticks(log, 20)
    assert_is_truth(log)
    deals = [deal.ticket for deal in events_of(log, "demo", Deal)]
    assert len(set(deals)) == len(deals)
    log.close()


def test_lost_replies_and_requests_of_redis_lose_and_double_nothing(
    server: RedisServer, tmp_path: Path
) -> None:
    chance = random.Random(7)
    proxy = FaultProxy(server.port)
    near, far = open_log(server.url), open_log(f"redis://127.0.0.1:{proxy.port}/0")
    with running(settings_in(tmp_path), simulated(), far):
        wait_for_ticks(near, 10)
        for _ in range(12):
            chance.choice([proxy.drop_replies, proxy.drop_requests])(chance.randint(1, 3))
            time.sleep(chance.uniform(0.02, 0.2))
        wait_for_ticks(near, 20)
        assert proxy.dropped > 3
    assert_is_truth(near)
    deals = [deal.ticket for deal in events_of(near, "demo", Deal)]
    assert len(set(deals)) == len(deals)
    for log in (near, far):
        log.close()
    proxy.close()


def produce(folder: Path, url: str, *arguments: str) -> subprocess.Popen[str]:
    toml = folder / "terminals.toml"
    if not toml.exists():
        toml.write_text(_toml())
    environment = {
        **os.environ, "REDIS_URL": url, "BRIDGE_STATE_DIR": str(folder / "state"),
        "BRIDGE_TERMINALS": str(toml), "PRICE_INTERVAL_S": "0.05", "CANDLE_TIMEFRAMES": "M1",
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "bridgectl", "produce", "--terminal", "demo", *arguments],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def _toml() -> str:
    ticks = ", ".join(f"{name} = {value}" for name, value in OPTIONS["ticks"].items())
    trader = ", ".join(f"{name} = {value}" for name, value in TRADER.items())
    return f"""
        [terminals.demo]
        kind = "simulated"
        clock = "{OPTIONS["clock"]}"
        symbols = {json.dumps(SYMBOLS)}
        [terminals.demo.options]
        seed = {OPTIONS["seed"]}
        symbols = {json.dumps(OPTIONS["symbols"])}
        ticks = {{ {ticks} }}
        trader = {{ {trader} }}
    """


def killed_again_and_again(server: RedisServer, folder: Path, seed: int, kills: int) -> None:
    chance = random.Random(seed)
    log = open_log(server.url)
    for _ in range(kills):
        with produce(folder, server.url) as child:
            wait_for_ticks_of(child, log, 5)
            time.sleep(chance.uniform(0.0, 1.0))
            child.kill()
    with produce(folder, server.url, "--json") as child:
        wait_for_ticks_of(child, log, 10)
        child.send_signal(signal.SIGTERM)
        assert child.stdout is not None
        state = json.loads(child.stdout.read())
        assert child.wait(30) == 0
    assert state["connection"] == "stopped"
    assert_is_truth(log, f"seed {seed}")
    deals = [deal.ticket for deal in events_of(log, "demo", Deal)]
    assert len(set(deals)) == len(deals), f"seed {seed}"
    log.close()


def wait_for_ticks_of(child: subprocess.Popen[str], log: Log, more: int) -> None:
    def alive_and_there() -> bool:
        assert child.poll() is None, f"produce ended with {child.returncode}"
        return "demo" in log.namespaces()

    wait_until(alive_and_there, what="the producer opens its namespace")
    wait_for_ticks(log, more)


def test_kill_9_of_the_producer_loses_and_doubles_nothing(
    server: RedisServer, tmp_path: Path
) -> None:
    killed_again_and_again(server, tmp_path, seed=1, kills=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(5))
def test_kill_9_of_the_producer_many_times(server: RedisServer, tmp_path: Path, seed: int) -> None:
    killed_again_and_again(server, tmp_path, seed=seed, kills=12)


def played(log: Log, symbol: str) -> tuple[Any, Any]:
    """(ticks, UTC times in ms) of a recorded terminal, as the log has them."""
    found = batches(log, "played", symbol)
    return np.concatenate([b.ticks for b in found]), np.concatenate([b.utc_ms() for b in found])


def play(server: RedisServer, folder: Path, terminal: TerminalSettings) -> Log:
    log = open_log(server.url)
    with running(settings_in(folder, price_interval_s=0.02), terminal, log) as (producer, _):
        producer.wait(60)
        assert producer.finished
    return log


@pytest.mark.parametrize("name", ["EURUSD_20140504-20140507", "BTCUSD_20230220T12"])
def test_a_file_at_full_speed_arrives_row_for_row(
    server: RedisServer, tmp_path: Path, name: str
) -> None:
    file, symbol = DATA / f"{name}.csv.gz", name[:6]
    terminal = recorded(str(file), clock="America/New_York+7h", file_clock="UTC")
    log = play(server, tmp_path, terminal)
    rows = load_ticks(file, symbol=symbol)
    ticks, utc_ms = played(log, symbol)
    assert np.array_equal(utc_ms, rows["time_msc"])
    for field in ("bid", "ask", "last", "volume", "flags", "volume_real"):
        assert np.array_equal(ticks[field], rows[field]), field
    assert set(np.unique(ticks["time_msc"] - utc_ms)) <= {7_200_000, 10_800_000}
    assert len(events_of(log, "played", Account)) >= 1
    assert sum(map(len, events_of(log, "played", CandleBatch))) >= 50
    log.close()
    # The same file once more adds nothing.
    log = play(server, tmp_path, terminal)
    assert len(played(log, symbol)[0]) == len(rows)
    log.close()


def csv_file(folder: Path, symbol: str, begin: datetime, step_s: float, count: int) -> Path:
    file = folder / f"{symbol}.csv"
    lines = ["time,bid,ask"]
    for number in range(count):
        at_ms = int(begin.timestamp() * 1000) + int(number * step_s * 1000)
        lines.append(f"{at_ms},{20_000 + number % 50},{20_001 + number % 50}")
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.mark.parametrize(
    "begin", [datetime(2026, 11, 1, 4, tzinfo=UTC), datetime(2026, 3, 8, 5, tzinfo=UTC)]
)
def test_a_clock_put_back_or_forward_keeps_every_tick_and_its_utc_time(
    server: RedisServer, tmp_path: Path, begin: datetime
) -> None:
    """06:00 UTC on 1 November 2026: a New-York-close clock shows 08:00-09:00 twice."""
    file = csv_file(tmp_path, "BTCUSD", begin, 0.7, 18_000)
    terminal = recorded(str(file), clock="America/New_York+7h", file_clock="UTC")
    log = play(server, tmp_path, terminal)
    rows = load_ticks(file, symbol="BTCUSD")
    _, utc_ms = played(log, "BTCUSD")
    assert np.array_equal(utc_ms, rows["time_msc"])
    assert {batch.offset_s for batch in batches(log, "played", "BTCUSD")} == {7_200, 10_800}
    log.close()


def test_an_hour_without_the_broker_is_filled_in_afterwards(
    server: RedisServer, tmp_path: Path
) -> None:
    begin = datetime(2026, 9, 7, 10, tzinfo=UTC)
    file = csv_file(tmp_path, "EURUSD", begin, 1.0, 14_400)
    from_ms = int(begin.timestamp() * 1000) + 3_600_000
    outage = {"from_utc_ms": from_ms, "until_utc_ms": from_ms + 3_600_000}
    terminal = recorded(str(file), clock="fixed+3h", file_clock="UTC", outages=[outage])
    log = play(server, tmp_path, terminal)
    _, utc_ms = played(log, "EURUSD")
    rows = load_ticks(file, symbol="EURUSD")
    assert np.array_equal(np.sort(utc_ms), rows["time_msc"])
    filled = [b for b in batches(log, "played", "EURUSD") if b.marks & (Mark.BACKFILL | Mark.LATE)]
    assert sum(map(len, filled)) >= 3_000
    log.close()


def test_an_unknown_symbol_stops_the_command_and_names_it(
    server: RedisServer, tmp_path: Path
) -> None:
    (tmp_path / "terminals.toml").write_text(_toml().replace('"ETHUSD"]', '"ETHUSX"]', 1))
    with produce(tmp_path, server.url) as child:
        assert child.wait(60) == 2
