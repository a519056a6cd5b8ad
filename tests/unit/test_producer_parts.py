"""Scheduler, report, writer, candles, clock finding and options of the producer."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from events.candles import CandleBatch
from events.clock_rules import ClockRule
from events.log import SOURCE, Lane, LogUnavailable, NewEntry, Slot, StaleCursor, WriterHeld
from events.memory_log import MemoryLog
from events.origin import LIVE, Origin
from events.settings import BadSettings, Settings, TerminalKind, TerminalSettings
from events.ticks import OffsetSource
from producers.append import Outcome, Writer, account_slot, cursor_entry
from producers.cli import producer_options
from producers.clock.broker_clock import BrokerClock
from producers.pollers.candles import CandlePoller
from producers.pollers.clock_finding import BARS, PAGE_BARS, find_clock, hourly_bars
from producers.pollers.server_time import HostTime
from producers.report import Report
from producers.scheduler import Scheduler
from producers.terminals.configured import terminal_spec
from producers.terminals.constants import TIMEFRAME_H1, TIMEFRAME_M1
from producers.terminals.interface import Reply
from producers.terminals.simulated.options import SimulatedOptions
from producers.terminals.simulated.terminal import SimulatedTerminal
from tests.fake_terminal import OFFSET_S, SERVER_NOW_S, DirectClient, FakeTerminal, candle_rows
from tests.simulation.kill_path.virtual import DirectClient as KillPathClient
from tests.unit.test_pollers import FlakyLog, House, Houses, houses  # noqa: F401 - houses is a fixture


def soon(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.005)


# ---- scheduler and report


def test_a_job_that_fails_is_reported_once_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    report, turns = Report(), []

    def work() -> None:
        turns.append(1)
        if len(turns) < 4:
            raise RuntimeError("broken")

    scheduler = Scheduler(report, workers=1)
    scheduler.every("work", 0.01, work)
    with caplog.at_level(logging.INFO):
        scheduler.start()
        soon(lambda: len(turns) > 5)
        scheduler.stop()
    assert report.counters["errors"] == 3
    assert report.incidents == {}
    told = [record.message for record in caplog.records if "broken" in record.message]
    assert len([text for text in told if "well again" not in text]) == 1


def test_a_job_alone_does_not_wait_for_busy_workers() -> None:
    busy, turns = threading.Event(), []
    scheduler = Scheduler(Report(), workers=1)
    scheduler.every("blocked", 0.01, lambda: [busy.wait(10)].clear())
    scheduler.every("pulse", 0.01, lambda: turns.append(1), alone=True)
    scheduler.start()
    soon(lambda: len(turns) > 3)
    busy.set()
    scheduler.stop()


def test_no_more_jobs_run_at_once_than_there_are_workers() -> None:
    lock, running, most = threading.Lock(), [0], [0]

    def work() -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.01)
        with lock:
            running[0] -= 1

    scheduler = Scheduler(Report(), workers=2)
    for number in range(6):
        scheduler.every(f"job {number}", 0.01, work)
    scheduler.start()
    soon(lambda: most[0] >= 2)
    time.sleep(0.05)
    scheduler.stop()
    assert most[0] == 2


def test_malformed_triggers_are_refused_with_what_is_allowed() -> None:
    scheduler = Scheduler(Report())
    with pytest.raises(ValueError, match="no crontab line"):
        scheduler.cron("nightly", "61 * * * *", lambda: None)
    with pytest.raises(ValueError, match="shorter than"):
        scheduler.every("fast", 0.001, lambda: None)
    with pytest.raises(ValueError, match="MAX_WORKERS"):
        Scheduler(Report(), workers=0)
    scheduler.cron("hourly", "1 * * * *", lambda: None)


def test_an_incident_is_told_when_it_begins_changes_and_ends() -> None:
    report = Report()
    told = [report.incident("log", "away"), report.incident("log", "away")]
    told += [report.incident("log", "refuses us"), report.recovered("log"), report.recovered("log")]
    assert told == [True, False, True, True, False]
    assert report.last_error == "log: refuses us"


# ---- writer


def writer_of(log: MemoryLog, holder: str = "me") -> Writer:
    return Writer(log, "demo", 2, holder=holder, report=Report(), alive_within_s=0.3, beat_s=0.05)


def test_only_an_append_shows_that_the_log_is_well() -> None:
    """A log that is full still answers heartbeats: telling it well each time would fill pages."""
    writer = writer_of(MemoryLog())
    writer.open()
    writer.start_beating(lambda: None)
    try:
        writer._report.incident("log", "full")
        beats = writer.log._slots[writer.slot(0)].beat  # type: ignore[attr-defined]
        soon(lambda: writer.log._slots[writer.slot(0)].beat > beats + 2)  # type: ignore[attr-defined]
        assert writer._report.incidents == {"log": "full"}
        writer.append(0, [NewEntry(Lane.LOW, "test.1", "k", b"x")])
        assert writer._report.incidents == {}
    finally:
        writer.close()


ENTRY = NewEntry(Lane.HIGH, "account.1", "7", b"{}")


def test_what_became_of_an_append_is_read_from_the_log() -> None:
    log = MemoryLog()
    writer = writer_of(log)
    writer.open()
    assert writer.settle(0, {"f": "1"}) == {"f": Outcome.ABSENT}
    log.append(writer._claims[0], [ENTRY], [_move("f", "", "1")])
    assert writer.settle(0, {"f": "1"}) == {"f": Outcome.LANDED}
    assert cursor_entry(writer.cursor(0, "f")) is not None
    log.append(writer._claims[0], [ENTRY], [_move("f", writer.cursor(0, "f"), "9")])
    with pytest.raises(StaleCursor):
        writer.append(0, [ENTRY], {"f": "2"})
    assert writer.settle(0, {"f": "2"}) == {"f": Outcome.FOREIGN}
    writer.append(0, [ENTRY], {"f": "2"})
    writer.close()
    assert log.holder(Slot("demo", SOURCE, 0)) == ""


def _move(feed: str, expected: str, new: str) -> Any:
    from events.log import CursorMove

    return CursorMove(feed, expected, new)


def test_a_living_producer_keeps_its_slots_and_a_dead_ones_are_taken_over() -> None:
    log = MemoryLog()
    first, second = writer_of(log, "first"), writer_of(log, "second")
    fenced = threading.Event()
    first.open()
    first.start_beating(fenced.set)
    with pytest.raises(WriterHeld, match="held by first"):
        second.open()
    assert log.holder(Slot("demo", SOURCE, 1)) == "first"
    first._stop.set()  # its process hangs
    assert first._beater is not None
    first._beater.join()
    second.open()
    first._stop.clear()
    first.start_beating(fenced.set)
    assert fenced.wait(5)
    assert first.fenced is not None
    second.close()
    first.close()


def test_accounts_have_one_slot_each_whatever_their_server_is_called() -> None:
    slots = {
        account_slot(login, server)
        for login in (1, 2)
        for server in ("Demo", "demo", "FTMO-Server 3 (Ω)", "x" * 200)
    }
    assert len(slots) == 8
    for slot in slots:
        assert Slot.parse(str(slot)) == slot


# ---- candles


@pytest.fixture
def house(houses: Houses) -> House:  # noqa: F811
    return houses.build("EURUSD", timeframes=("M1",), history_interval_s=1.0)


def poller_of(house: House) -> CandlePoller:
    context = house.producer.context
    return CandlePoller(context, house.producer.connection, settle_s=0.0, warm_up_s=0.0)


def minutes(house: House, begin_s: int, count: int) -> None:
    key = ("EURUSD", TIMEFRAME_M1)
    rows = candle_rows(60, (begin_s + 60 * n for n in range(count)))
    former = house.terminal.rates.get(key)
    house.terminal.rates[key] = rows if former is None else np.concatenate([former, rows])


def candles(house: House) -> list[int]:
    batches = house.events(CandleBatch)
    return [int(opened) for batch in batches for opened in batch.candles["time"]]


def test_only_closed_candles_are_appended_each_once(house: House) -> None:
    poller = poller_of(house)
    begin_s = SERVER_NOW_S // 60 * 60 - 600
    minutes(house, begin_s, 11)  # the last one is forming
    house.terminal.server_now_s = begin_s + 630
    poller.poll()
    assert candles(house) == [begin_s + 60 * n for n in range(10)]
    house.pass_time(40)
    minutes(house, begin_s + 660, 1)
    for _ in range(3):
        house.pass_time(2)
        poller.poll()
    assert candles(house) == [begin_s + 60 * n for n in range(11)]
    [first, _] = house.events(CandleBatch)
    assert (first.offset_s, first.offset_source) == (OFFSET_S, OffsetSource.ASSUMED)
    assert first.event_time_ms == (begin_s + 600 - OFFSET_S) * 1000


def test_a_symbol_that_slept_longer_than_a_page_is_followed_again(house: House) -> None:
    poller = poller_of(house)
    begin_s = SERVER_NOW_S // 60 * 60
    minutes(house, begin_s, 3)
    house.terminal.server_now_s = begin_s + 400
    poller.poll()
    later_s = begin_s + 20 * 86_400
    minutes(house, later_s, 3)
    house.pass_time(later_s + 400 - house.terminal.server_now_s)
    poller.poll()
    assert candles(house) == [at + 60 * n for at in (begin_s, later_s) for n in range(3)]


@pytest.mark.parametrize("fate", ["request", "reply"])
def test_candles_survive_a_lost_request_or_reply(house: House, fate: str) -> None:
    poller = poller_of(house)
    begin_s = SERVER_NOW_S // 60 * 60
    minutes(house, begin_s, 5)
    house.terminal.server_now_s = begin_s + 3_600
    house.log.fail = [fate]
    for _ in range(3):
        poller.poll()
        house.pass_time(2)
    assert candles(house) == [begin_s + 60 * n for n in range(5)]


def test_without_a_clock_the_newest_candle_is_taken_for_the_forming_one(
    houses: Houses,  # noqa: F811
) -> None:
    house = houses.build("EURUSD", timeframes=("M1",), clock=BrokerClock())
    minutes(house, SERVER_NOW_S // 60 * 60 - 6_000, 5)
    poller_of(house).poll()
    assert len(candles(house)) == 4
    assert house.events(CandleBatch)[0].offset_source is OffsetSource.UNKNOWN


# ---- clock


def test_the_clock_is_found_in_the_hours_of_a_major() -> None:
    terminal = FakeTerminal("AAPL", "EURUSD.x")
    # On a New-York-close clock the week is Monday 00:00 to Friday 24:00.
    hours = np.arange(1_735_000_000 // 3600 * 3600, 1_768_000_000, 3600)
    weekday = (hours // 86_400 + 3) % 7
    terminal.rates["EURUSD.x", TIMEFRAME_H1] = candle_rows(3600, hours[weekday < 5].tolist())
    clock = BrokerClock()
    said = find_clock(DirectClient(terminal), clock, ["AAPL", "EURUSD.x"])
    assert "EURUSD.x" in said
    assert str(clock.rule) == "America/New_York+7h"


def test_hourly_bars_are_asked_for_in_pages_and_come_as_if_in_one() -> None:
    terminal = SimulatedTerminal(
        SimulatedOptions(
            symbols=("EURUSD",), selected=("EURUSD",), start_utc_ms=1_768_000_000_000, speed=0.0
        )
    )
    assert terminal.initialize()
    whole = terminal.copy_rates_from_pos("EURUSD", TIMEFRAME_H1, 0, BARS)
    client = KillPathClient(terminal)
    bars = hourly_bars(client, "EURUSD")
    assert bars is not None
    assert len(bars) == len(whole) > 5_000
    assert np.array_equal(bars["time"], whole["time"])
    assert np.array_equal(bars["close"], whole["close"])
    assert len(client.calls) >= len(whole) // PAGE_BARS


def test_a_configured_clock_that_the_bars_contradict_is_an_incident(
    houses: Houses,  # noqa: F811
) -> None:
    house = houses.build("EURUSD", clock=BrokerClock(ClockRule.parse("fixed+3h")))
    hours = np.arange(1_735_000_000 // 3600 * 3600, 1_768_000_000, 3600)
    weekday = (hours // 86_400 + 3) % 7
    house.terminal.rates["EURUSD", TIMEFRAME_H1] = candle_rows(3600, hours[weekday < 5].tolist())
    house.pass_time(61)
    house.producer.connection._compare_clock()
    house.producer.pulse.beat()
    assert "America/New_York+7h" in house.producer.report.incidents["clock"]


def test_without_hours_the_clock_stays_unknown() -> None:
    clock = BrokerClock()
    assert find_clock(DirectClient(FakeTerminal("EURUSD")), clock, ["EURUSD"])
    assert clock.offset_now(0) == (0, OffsetSource.UNKNOWN)


@pytest.mark.parametrize(("virtual", "expected"), [(True, 5_000), (False, 7_000)])
def test_a_real_hosts_time_goes_on_between_replies_and_a_virtual_one_stands(
    virtual: bool, expected: int
) -> None:
    now = [100.0]
    host = HostTime(virtual=virtual, wall=lambda: 1.0, monotonic=lambda: now[0])
    assert host.utc_ms == 1_000
    host.heard(Reply(None, (1, "Success"), 5_000, 0.0))
    now[0] += 2
    assert host.utc_ms == expected


# ---- settings


def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, bridge_state_dir=tmp_path)


def test_a_recorded_terminal_follows_the_symbols_of_its_files(tmp_path: Path) -> None:
    terminal = TerminalSettings(
        name="played",
        kind=TerminalKind.RECORDED,
        options={"files": ["EURUSD_2014.csv", "GOLD=x.csv"], "speed": "max"},
    )
    options = producer_options(settings(tmp_path), terminal, terminal_spec(terminal))
    assert options.symbols == ("EURUSD", "GOLD")
    assert options.bulk
    assert options.virtual
    assert options.ends


def test_a_terminal_without_symbols_is_refused(tmp_path: Path) -> None:
    terminal = TerminalSettings(name="demo", kind=TerminalKind.NATIVE)
    with pytest.raises(BadSettings, match="no symbols"):
        producer_options(settings(tmp_path), terminal, terminal_spec(terminal))


def test_a_log_that_is_away_at_the_start_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Late(FlakyLog):
        refusals = 2

        def open_namespace(self, namespace: str, partitions: int = 4, origin: Origin = LIVE) -> int:
            if self.refusals:
                self.refusals -= 1
                raise LogUnavailable("not yet")
            return super().open_namespace(namespace, partitions, origin)

    house = Houses(tmp_path)
    monkeypatch.setattr("producers.producer.LOG_BACK_OFF_S", (0.01,))
    built = house.build("EURUSD", log=Late())
    assert built.producer.report.counters["errors"] == 2
    house.close(built)
