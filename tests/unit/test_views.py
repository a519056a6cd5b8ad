"""What people see: moments in three clocks, state from the log, lines of tail."""

from __future__ import annotations

import json
from io import StringIO

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from events.codec import AnyEvent, encode
from events.durations import parse_duration_s
from events.log import SOURCE, EntryId, Lane, NewEntry, Slot
from events.marks import MARK_DTYPE, Marks
from events.memory_log import MemoryLog
from events.operations import (
    ClockChanged,
    ClockTick,
    ProducerState,
    SymbolState,
    TerminalDown,
    TerminalUp,
)
from events.ticks import TICK_DTYPE, Mark, OffsetSource, TickBatch
from events.trading import Account, Book, Position
from events.views import lines
from events.views.moments import (
    ago_text,
    clock_face,
    offset_text,
    server_text,
    three_times,
    utc_text,
)
from events.views.state import collect
from events.views.tables import page, status_view

NOW_MS = 1_795_447_000_123
SLOT = Slot("demo", SOURCE, 0)


def batch(count: int = 3, symbol: str = "EURUSD") -> TickBatch:
    ticks = np.zeros(count, TICK_DTYPE)
    ticks["time_msc"] = NOW_MS + 7_200_000 + np.arange(count)
    ticks["bid"], ticks["ask"] = 1.1, 1.2
    return TickBatch(symbol, ticks, 7_200, OffsetSource.LIVE, NOW_MS, NOW_MS, Mark.LATE)


def account() -> Account:
    return Account(
        event_time_ms=NOW_MS, recv_time_ms=NOW_MS, login=7, server="Demo", currency="EUR",
        trade_mode=0, margin_mode=2, leverage=30, balance=1000.0, credit=0.0, profit=-5.25,
        equity=994.75, margin=10.0, margin_free=984.75, margin_level_percent=9947.5,
    )  # fmt: skip


def book() -> Book:
    position = Position(
        ticket=2**63 + 5, identifier=1, symbol="EURUSD", side=1, volume_lots=0.1, price_open=1.1,
        time_ms=NOW_MS, time_server_ms=NOW_MS + 7_200_000,
    )  # fmt: skip
    return Book(event_time_ms=NOW_MS, recv_time_ms=NOW_MS, login=7, positions=(position,))


def state() -> ProducerState:
    return ProducerState(
        event_time_ms=NOW_MS,
        terminal="demo",
        offset_s=7_200,
        rule="Europe/Athens",
        offset_source=OffsetSource.LIVE,
        ticks_appended=3,
        last_error="IPC timeout",
        last_error_ms=NOW_MS - 5_000,
        symbols=(
            SymbolState(
                symbol="EURUSD", broker_symbol="EURUSD.x", state="live", ticks=3,
                last_tick_ms=NOW_MS, bid=1.1, ask=1.2,
            ),
        ),
    )  # fmt: skip


def filled(*events: AnyEvent) -> MemoryLog:
    log = MemoryLog()
    log.open_namespace("demo", 2)
    claim = log.claim(SLOT, "this test", alive_within_s=0)
    log.append(claim, [encode(event) for event in events])
    return log


def shown(log: MemoryLog) -> str:
    console = Console(file=StringIO(), width=140)
    console.print(status_view(collect(log), now_ms=NOW_MS + 1_500))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_a_small_window_shows_the_lag_and_whole_positions() -> None:
    log = filled(account(), book(), state())
    console = Console(file=StringIO(), width=80)
    console.print(status_view(collect(log), now_ms=NOW_MS))
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    assert str(2**63 + 5) in text, "a ticket is not cut"
    assert text.index("entries") < text.index("position ")


def test_a_pipe_is_wide_enough_for_every_column(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    page().print("x" * 150)
    assert capsys.readouterr().out == "x" * 150 + "\n"


def test_texts_are_shown_as_they_are_whatever_they_look_like(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = Table("stream", "reason")
    table.add_row("{demo:watch:0}", "[news] at 14:30 [/x]")
    page().print(table, "halted: [red]")
    shown_as = capsys.readouterr().out
    for text in ("{demo:watch:0}", "[news] at 14:30 [/x]", "halted: [red]"):
        assert text in shown_as


def test_a_moment_is_told_in_all_three_clocks() -> None:
    text = three_times(NOW_MS, 7_200)
    assert "UTC 2026-11-23 15:16:40.123" in text
    assert "server 2026-11-23 17:16:40.123" in text
    assert "local " in text
    assert utc_text(None) == "-"
    assert server_text(2**62, 0) == f"{2**62} ms", "a time beyond all calendars is still told"
    assert clock_face(utc_text(NOW_MS)) == "15:16:40"


@pytest.mark.parametrize(
    ("offset_s", "text"),
    [(0, "UTC+00:00"), (-12_600, "UTC-03:30"), (20_700, "UTC+05:45"), (61, "UTC+00:01:01")],
)
def test_an_offset_is_told_with_sign_and_minutes(offset_s: int, text: str) -> None:
    assert offset_text(offset_s) == text


@pytest.mark.parametrize(
    ("age_ms", "text"),
    [
        (500, "0.5 s ago"),
        (59_000, "59 s ago"),
        (600_000, "10 min ago"),
        (3 * 86_400_000, "3 d ago"),
        (-60_000, "in 60 s"),
    ],
)
def test_an_age_is_told_in_the_largest_fitting_unit(age_ms: int, text: str) -> None:
    assert ago_text(NOW_MS - age_ms, NOW_MS) == text


def test_the_state_shows_terminal_account_clock_prices_lanes_and_last_error() -> None:
    up = TerminalUp(
        event_time_ms=NOW_MS, recv_time_ms=NOW_MS, terminal="demo", kind="native", login=7,
        server="Demo",
    )  # fmt: skip
    clock = ClockChanged(
        event_time_ms=NOW_MS, server="Demo", rule="Europe/Athens", offset_s=7_200,
        offset_source=OffsetSource.LIVE,
    )  # fmt: skip
    log = filled(up, clock, account(), book(), state(), batch())
    log.mirror("persist.0", SLOT.stream(Lane.NORMAL), EntryId(0, 0), 0)
    text = shown(log)
    for part in (
        "demo", "up", "native, account 7 at Demo", "equity 994.75 EUR", "floating -5.25",
        "UTC+02:00 by Europe/Athens (live)", "IPC timeout (6.5 s ago)", "EURUSD", "17:16:40",
        "15:16:40", "1.5 s ago", "this test", "persist behind", str(2**63 + 5), "sell",
    ):  # fmt: skip
        assert part in text, part
    [namespace] = collect(log)
    assert namespace.connection == "up"
    assert namespace.lag_by_group() == {"persist": 1}
    assert namespace.entries_by_lane() == {"critical": 1, "high": 3, "normal": 1, "low": 1}
    json.dumps(namespace.to_json(), allow_nan=False)


def test_a_terminal_that_went_down_is_told_with_its_reason() -> None:
    down = TerminalDown(event_time_ms=NOW_MS, terminal="demo", reason="hung", detail="30 s")
    text = shown(filled(down))
    assert "hung" in text
    assert "30 s" in text


def test_a_log_that_was_begun_anew_shows_what_its_producer_says() -> None:
    [namespace] = collect(filled(state().model_copy(update={"connection": "hung"})))
    assert (namespace.up, namespace.connection) == (None, "hung")


def test_without_anybody_writing_it_says_so() -> None:
    log = MemoryLog()
    assert "holds no terminal yet" in shown(log)
    log.open_namespace("demo", 1)
    assert "no producer" in shown(log)


def test_last_states_that_cannot_be_read_are_named_and_do_not_hide_the_rest() -> None:
    log = filled(state())
    claim = log.claim(Slot("demo", SOURCE, 1), "x", alive_within_s=0)
    log.append(claim, [NewEntry(Lane.HIGH, "account.99", "7", b"{}", last=b"{}")])
    [namespace] = collect(log)
    assert namespace.producer is not None
    assert len(namespace.unreadable) == 1
    assert "account" in namespace.unreadable[0]


def test_lines_tell_every_kind_of_event() -> None:
    marks = np.zeros(2, MARK_DTYPE)
    log = filled(
        batch(),
        ClockTick(event_time_ms=NOW_MS, offset_s=7_200),
        Marks(7, marks, NOW_MS, NOW_MS, 7_200, OffsetSource.LIVE),
        account(),
    )
    ends = {stream: log.info(stream).last_id for stream in SLOT.streams()}
    told = [lines.line(entry) for entry in lines.newest(log, ends, count_max=10)]
    assert len(told) == 4
    assert "3 ticks [LATE], bid 1.1 ask 1.2; server 2026-11-23 17:16:40.123" in told[0]
    assert "UTC+02:00" in told[1]
    assert "2 marks" in told[2]
    assert "equity=994.75" in told[3]


def test_json_lines_hold_the_records_and_foreign_bytes_are_kept() -> None:
    log = filled(batch())
    claim = log.claim(Slot("demo", SOURCE, 1), "x", alive_within_s=0)
    log.append(claim, [NewEntry(Lane.NORMAL, "ticks.9", "EURUSD", b"\xff")])
    streams = lines.streams_of(log, namespace=None, writers=[SOURCE], lanes=[Lane.NORMAL])
    ends = {stream: log.info(stream).last_id for stream in streams}
    shown_json = [lines.as_json(entry) for entry in lines.newest(log, ends, count_max=10)]
    json.dumps(shown_json)
    ticks = next(one for one in shown_json if "event" in one)
    foreign = next(one for one in shown_json if "error" in one)
    assert ticks["event"]["count"] == 3
    assert ticks["event"]["records"][0]["bid"] == 1.1
    assert foreign["data_hex"] == "ff"


def test_only_wanted_entries_are_taken_and_looked_for_further_back() -> None:
    log = filled(batch(symbol="GBPUSD"), *[batch() for _ in range(300)])
    ends = {stream: log.info(stream).last_id for stream in SLOT.streams()}
    wanted = lines.Wanted(types=frozenset({"ticks"}), keys=frozenset({"GBPUSD"}))
    [found] = lines.newest(log, ends, count_max=5, wanted=wanted)
    assert found.key == "GBPUSD"


def test_following_begins_where_the_newest_ended_and_leaves_nothing_out() -> None:
    log = filled(batch())
    ends = {stream: log.info(stream).last_id for stream in SLOT.streams()}
    claim = log.claim(SLOT, "this test", alive_within_s=0)
    log.append(claim, [encode(batch(symbol="A")), encode(account()), encode(batch(symbol="B"))])
    feed = lines.follow(log, ends, block_ms=1)
    assert [next(feed).key for _ in range(3)] == ["A", "7", "B"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1h30m", 5_400), ("90", 90), ("500ms", 0.5), ("2d", 172_800), (" 5 ", 5)],
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "10x", "5m3", "-5s", "0s", "999d", "1h 30m"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration_s(text)
