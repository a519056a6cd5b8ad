"""Bulk import: every row once and in order, however often and wherever it was stopped."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from events.clock_rules import ClockRule
from events.codec import decode
from events.log import (
    SOURCE,
    Appended,
    Claim,
    CursorMove,
    Lane,
    LogError,
    LogUnavailable,
    NewEntry,
    Slot,
    partition_of,
)
from events.memory_log import MemoryLog
from events.tick_files import TickFileError, TickSource, load_ticks
from events.ticks import Mark, OffsetSource, TickArray, TickBatch
from producers import tick_import
from producers.append import Writer
from producers.report import Report
from producers.tick_import import ImportOptions, content_hash, import_ticks

SAMPLES = Path(__file__).parents[1] / "data"
EURUSD = TickSource("EURUSD", SAMPLES / "EURUSD_20140504-20140507.csv.gz")
BTCUSD = TickSource("BTCUSD", SAMPLES / "BTCUSD_20230220T12.csv.gz")
NAMESPACE = "imported"


def opened(log: MemoryLog) -> Writer:
    writer = Writer(log, NAMESPACE, 4, holder="test", report=Report(), alive_within_s=0.0)
    writer.open()
    return writer


def batches(log: MemoryLog, symbol: str, lane: Lane = Lane.NORMAL) -> list[TickBatch]:
    stream = Slot(NAMESPACE, SOURCE, partition_of(symbol, 4)).stream(lane)
    events = [decode(entry) for entry in log.between(stream, count_max=10**6)]
    return [event for event in events if isinstance(event, TickBatch) and event.symbol == symbol]


def imported(log: MemoryLog, symbol: str, lane: Lane = Lane.NORMAL) -> TickArray:
    return np.concatenate([batch.ticks for batch in batches(log, symbol, lane)])


class FlakyLog(MemoryLog):
    """Now and then loses a request or a reply, or the process that asked."""

    def __init__(self, seed: int, *, crash_share: float = 0.0) -> None:
        super().__init__()
        self.random, self.crash_share = random.Random(seed), crash_share

    def append(
        self, claim: Claim, entries: Sequence[NewEntry], cursors: Sequence[CursorMove] = ()
    ) -> Appended:
        chance = self.random.random()
        if chance < 0.1:
            raise LogUnavailable("request lost")
        appended = super().append(claim, entries, cursors)
        if chance < 0.2:
            raise LogUnavailable("reply lost")
        if chance > 1 - self.crash_share:
            raise KeyboardInterrupt
        return appended


def test_every_row_arrives_once_in_order_and_marked() -> None:
    log = MemoryLog()
    done = import_ticks(opened(log), [EURUSD, BTCUSD], now_ms=lambda: 77)
    assert [file.appended for file in done] == [112_572, 8_523]
    for source in (EURUSD, BTCUSD):
        assert imported(log, source.symbol).tobytes() == load_ticks(source.path).tobytes()
        for batch in batches(log, source.symbol):
            assert batch.marks == Mark.IMPORTED
            assert (batch.offset_s, batch.offset_source) == (0, OffsetSource.UNKNOWN)
            assert batch.event_time_ms == batch.ticks["time_msc"].max()
            assert batch.recv_time_ms == 77
            assert 0 < len(batch) <= tick_import.ENTRY_TICKS


def test_a_file_that_is_in_the_log_is_not_imported_again(tmp_path: Path) -> None:
    log = MemoryLog()
    import_ticks(opened(log), [BTCUSD])
    copy = tmp_path / "BTCUSD_renamed.csv.gz"
    copy.write_bytes(BTCUSD.path.read_bytes())
    (again,) = import_ticks(opened(log), [TickSource("BTCUSD", copy)])
    assert again.already_there
    assert (again.ticks, again.appended) == (8_523, 0)
    assert len(imported(log, "BTCUSD")) == 8_523


@pytest.mark.parametrize("seed", range(5))
def test_lost_requests_and_lost_replies_double_and_lose_nothing(seed: int) -> None:
    log = FlakyLog(seed)
    options = ImportOptions(entry_ticks=100)
    (done,) = import_ticks(opened(log), [EURUSD], options=options, sleep=lambda _: None)
    assert done.ticks == 112_572
    assert imported(log, "EURUSD").tobytes() == load_ticks(EURUSD.path).tobytes()


@pytest.mark.parametrize("seed", range(5))
def test_an_import_that_is_stopped_goes_on_where_it_stood(seed: int) -> None:
    log = FlakyLog(seed, crash_share=0.1)
    stops = 0
    for size in (70, 100, 33) * 40:
        options = ImportOptions(entry_ticks=size, on_error="keep")
        try:
            import_ticks(opened(log), [EURUSD], options=options, sleep=lambda _: None)
        except KeyboardInterrupt:
            stops += 1
        else:
            break
    assert stops > 0
    assert imported(log, "EURUSD").tobytes() == load_ticks(EURUSD.path).tobytes()


def test_a_log_that_stays_away_is_given_up_after_bounded_questions() -> None:
    log = MemoryLog()
    writer = opened(log)
    waits: list[float] = []

    def unavailable(*_: object) -> Appended:
        raise LogUnavailable("away")

    log.append = unavailable  # type: ignore[method-assign]
    with pytest.raises(LogUnavailable, match="away"):
        import_ticks(writer, [BTCUSD], sleep=waits.append)
    assert waits == list(tick_import.ASK_AGAIN_S)


def test_a_foreign_cursor_stops_the_import() -> None:
    log = MemoryLog()
    writer, other = opened(log), opened(log)
    del other
    partition = partition_of("BTCUSD", 4)
    feed = f"import:BTCUSD:{content_hash(BTCUSD.path)}"
    claim = log.claim(Slot(NAMESPACE, SOURCE, partition), "second", alive_within_s=0)
    log.append(claim, [], [CursorMove(feed, "", "17")])
    writer._claims[partition] = claim
    with pytest.raises(LogError, match="imported by somebody else"):
        import_ticks(writer, [BTCUSD], sleep=lambda _: None)


def broken_copy(folder: Path, rows: int) -> Path:
    path = folder / "EURUSD.csv"
    line = "2014.05.04\t21:00:00.462\t1.38817\t1.38884\t\t\t6\r\n"
    header = "<DATE>\t<TIME>\t<BID>\t<ASK>\t<LAST>\t<VOLUME>\t<FLAGS>\r\n"
    path.write_bytes((header + line * rows + "broken\r\n").encode())
    return path


@pytest.mark.parametrize("held", [10_000_000, 1_000])
def test_a_damaged_file_leaves_nothing_or_the_rows_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    monkeypatch.setattr(tick_import, "HELD_TICKS_MAX", held)
    log = MemoryLog()
    source = TickSource("EURUSD", broken_copy(tmp_path, 30_000))
    with pytest.raises(TickFileError, match="line 30002"):
        import_ticks(opened(log), [source])
    assert batches(log, "EURUSD") == []
    (done,) = import_ticks(opened(log), [source], options=ImportOptions(on_error="keep"))
    assert (done.ticks, done.appended) == (30_000, 30_000)
    assert "line 30002" in done.fault
    assert len(imported(log, "EURUSD")) == 30_000


def test_a_large_file_is_checked_first_and_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tick_import, "HELD_TICKS_MAX", 1_000)
    log = MemoryLog()
    import_ticks(opened(log), [BTCUSD])
    assert imported(log, "BTCUSD").tobytes() == load_ticks(BTCUSD.path).tobytes()


def test_symbols_with_a_live_feed_get_history_in_the_low_lane() -> None:
    log = MemoryLog()
    writer = opened(log)
    writer.append(partition_of("BTCUSD", 4), [], {"ticks:BTCUSD": "1:1:"})
    done = import_ticks(writer, [BTCUSD, EURUSD])
    assert [file.history for file in done] == [True, False]
    assert batches(log, "BTCUSD") == []
    assert len(imported(log, "BTCUSD", Lane.LOW)) == 8_523
    assert len(imported(log, "EURUSD")) == 112_572


def test_a_utc_file_becomes_server_times_with_their_offset() -> None:
    log = MemoryLog()
    options = ImportOptions(ClockRule.parse("ny-close"), ClockRule.parse("UTC"))
    import_ticks(opened(log), [BTCUSD], options=options)
    file = load_ticks(BTCUSD.path)
    assert {batch.offset_s for batch in batches(log, "BTCUSD")} == {2 * 3600}
    assert {batch.offset_source for batch in batches(log, "BTCUSD")} == {OffsetSource.ASSUMED}
    ticks = imported(log, "BTCUSD")
    assert (ticks["time_msc"] - file["time_msc"] == 2 * 3_600_000).all()
    assert (ticks["time"] == ticks["time_msc"] // 1000).all()
    utc = np.concatenate([batch.utc_ms() for batch in batches(log, "BTCUSD")])
    assert (utc == file["time_msc"]).all()


def across_the_switch(folder: Path) -> Iterator[tuple[int, Path]]:
    """A tick every ten minutes around 1 November 2026, 06:00 UTC, in UTC and in server time."""
    utc_s = np.arange(1_793_505_600, 1_793_505_600 + 8 * 3600, 600)
    rule = ClockRule.parse("ny-close")
    for name, seconds in (("utc", utc_s), ("server", utc_s + rule.offsets_s(utc_s * 1000))):
        path = folder / f"BTCUSD_{name}.csv"
        lines = [f"{second},{100 + place},101" for place, second in enumerate(seconds.tolist())]
        path.write_text("time,bid,ask\n" + "\n".join(lines) + "\n", encoding="utf-8")
        yield int(utc_s[0]), path


def test_both_showings_of_a_repeated_hour_get_their_own_offset(tmp_path: Path) -> None:
    clocks = {"utc": ClockRule.parse("UTC"), "server": None}
    for (first_s, path), (name, file_clock) in zip(
        across_the_switch(tmp_path), clocks.items(), strict=True
    ):
        log = MemoryLog()
        options = ImportOptions(ClockRule.parse("ny-close"), file_clock, entry_ticks=5)
        import_ticks(opened(log), [TickSource("BTCUSD", path)], options=options)
        found = batches(log, "BTCUSD")
        utc = np.concatenate([batch.utc_ms() for batch in found])
        assert (utc == (first_s + np.arange(48) * 600) * 1000).all(), name
        assert {batch.offset_s for batch in found} == {7200, 10800}, name


def test_a_time_the_clock_never_showed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSD.csv"
    path.write_text("time,bid,ask\n2026-03-08 08:59:59,1,2\n2026-03-08 09:30:00,1,2\n")
    options = ImportOptions(ClockRule.parse("ny-close"))
    log = MemoryLog()
    with pytest.raises(TickFileError, match=r"line 3: the clock America/New_York.7h never"):
        import_ticks(opened(log), [TickSource("BTCUSD", path)], options=options)
    assert batches(log, "BTCUSD") == []
    keeping = replace(options, on_error="keep")
    (done,) = import_ticks(opened(log), [TickSource("BTCUSD", path)], options=keeping)
    assert (done.ticks, len(imported(log, "BTCUSD"))) == (1, 1)
    assert "never showed" in done.fault
