"""A terminal's past on its way into the archive."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.archive.folder import ArchiveFolder
from events.archive.source import EntrySource, Wanted
from events.candles import CandleBatch
from events.codec import decode
from events.log import SOURCE, Entry, Lane, LogError, LogUnavailable, Slot, partition_of
from events.memory_log import MemoryLog
from events.settings import TerminalKind, load
from events.ticks import TickArray, TickBatch
from producers.append import Writer
from producers.history.batches import Feed
from producers.history.fetching import Fetched, HistoryFetch, Span, uncovered
from producers.history.into_archive import IntoArchive
from producers.history.into_log import IntoLog
from producers.history.planning import check_second_process, spans
from producers.report import Report
from tests.made_up_past import BEGIN, HOUR_MS, RULE, Killed, MadeUp


def fetch(past: MadeUp, folder: ArchiveFolder, feed: Feed, begin: int, until: int) -> Fetched:
    target = IntoArchive(folder, "demo", 2)
    (done,) = HistoryFetch(past, target, clock=RULE, now_ms=lambda: 1).run(
        [Span(feed, begin, until)]
    )
    return done


def of(folder: ArchiveFolder, symbol: str) -> TickArray:
    found = [decode(e) for e in EntrySource(None, folder).entries(Wanted("demo"))]
    mine = [one.ticks for one in found if isinstance(one, TickBatch) and one.symbol == symbol]
    return np.concatenate(mine)


@pytest.mark.parametrize("seed", range(4))
def test_a_fetch_that_dies_goes_on_without_loss_or_doubles(tmp_path: Path, seed: int) -> None:
    folder = ArchiveFolder(tmp_path / "archive")
    past = MadeUp(random.Random(seed))
    until = BEGIN + 50 * HOUR_MS
    for symbol in ("EURUSD", "GBPUSD"):
        for _ in range(500):
            try:
                with folder.writing("demo"):
                    fetch(past, folder, Feed(symbol), BEGIN + HOUR_MS, until)
                break
            except Killed:
                continue
    times = past.rows["time_msc"]
    whole = past.rows[(times >= BEGIN + HOUR_MS) & (times < until)]
    for symbol in ("EURUSD", "GBPUSD"):
        assert of(folder, symbol).tobytes() == whole.tobytes(), f"seed {seed}"
    assert len(past.asked) == len(set(past.asked)), "no span is asked for twice"


def test_what_is_there_is_skipped_and_wider_spans_are_completed(tmp_path: Path) -> None:
    folder = ArchiveFolder(tmp_path / "archive")
    past = MadeUp()
    middle = BEGIN + 10 * HOUR_MS
    fetch(past, folder, Feed("EURUSD"), middle, middle + 5 * HOUR_MS)
    again = fetch(past, folder, Feed("EURUSD"), middle, middle + 5 * HOUR_MS)
    assert (again.steps, again.already_ms) == (0, 5 * HOUR_MS)
    wider = fetch(past, folder, Feed("EURUSD"), BEGIN, BEGIN + 20 * HOUR_MS)
    assert wider.already_ms == 5 * HOUR_MS
    times = past.rows["time_msc"]
    assert of(folder, "EURUSD").tobytes() == past.rows[times < BEGIN + 20 * HOUR_MS].tobytes()


def test_candles_are_fetched_under_the_offset_of_their_time(tmp_path: Path) -> None:
    folder = ArchiveFolder(tmp_path / "archive")
    march = 1_710_000_000_000 // 60_000 * 60_000  # 9 March 2024: the next night clocks change
    fetch(MadeUp(), folder, Feed("EURUSD", "M1"), march, march + 12 * HOUR_MS)
    fetch(MadeUp(), folder, Feed("EURUSD", "M1"), march + 72 * HOUR_MS, march + 73 * HOUR_MS)
    found = [decode(e) for e in EntrySource(None, folder).entries(Wanted("demo"))]
    bars = [one for one in found if isinstance(one, CandleBatch)]
    assert {one.offset_s for one in bars} == {2 * 3600, 3 * 3600}
    assert sum(len(one) for one in bars) == 13 * 60
    assert [one.event_time_ms for one in bars] == sorted(one.event_time_ms for one in bars)


def test_a_market_that_was_closed_leaves_no_file(tmp_path: Path) -> None:
    folder = ArchiveFolder(tmp_path / "archive")
    done = fetch(MadeUp(), folder, Feed("EURUSD"), BEGIN - 30 * HOUR_MS, BEGIN)
    assert (done.rows, done.chunks, done.empty_steps) == (0, 0, done.steps)


drawn_spans = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=8)


@given(drawn_spans, st.integers(0, 60), st.integers(1, 40))
def test_what_is_not_covered_is_exactly_the_rest(
    drawn: list[tuple[int, int]], begin: int, size: int
) -> None:
    covered = sorted((first, first + length) for first, length in drawn)
    rest = {
        at for first, end in uncovered(covered, begin, begin + size) for at in range(first, end)
    }
    there = {at for first, end in covered for at in range(first, end)}
    assert rest == set(range(begin, begin + size)) - there


# --- into a namespace of the log


@contextmanager
def opened(log: MemoryLog) -> Iterator[IntoLog]:
    writer = Writer(
        log, "demo-history", 2, holder="test", report=Report(), alive_within_s=0.0,
        origin="import",
    )  # fmt: skip
    writer.open()
    try:
        yield IntoLog(writer)
    finally:
        writer.close()


def fetch_into(log: MemoryLog, past: MadeUp, spans: Sequence[Span]) -> list[Fetched]:
    with opened(log) as target:
        return HistoryFetch(past, target, clock=RULE, now_ms=lambda: 1).run(spans)


def in_log(log: MemoryLog) -> list[Entry]:
    """By partition, each in its order."""
    slots = [Slot("demo-history", SOURCE, number) for number in range(2)]
    return sorted(
        (e for slot in slots for s in slot.streams() for e in log.between(s, count_max=10_000)),
        key=lambda entry: (entry.stream.slot, entry.id),
    )


def ticks_in(log: MemoryLog, symbol: str) -> bytes:
    events = [decode(entry) for entry in in_log(log)]
    own = [e.ticks for e in events if isinstance(e, TickBatch) and e.symbol == symbol]
    return b"".join(ticks.tobytes() for ticks in own)


@pytest.mark.parametrize("seed", range(4))
def test_a_fetch_into_the_log_that_dies_goes_on(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the terminal goes, or the log's answer is lost before or after it took effect."""
    chance, log, past = random.Random(seed), MemoryLog(), MadeUp(random.Random(seed))
    append = log.append

    def away(*arguments: object) -> object:
        if chance.random() < 0.2:
            raise LogUnavailable("before")
        found = append(*arguments)  # type: ignore[arg-type] # as they came
        if chance.random() < 0.2:
            raise LogUnavailable("after")
        return found

    monkeypatch.setattr(log, "append", away)
    until = BEGIN + 20 * HOUR_MS
    spans = [Span(Feed(symbol), BEGIN + 1, until) for symbol in ("EURUSD", "GBPUSD", "BTCUSD")]
    for _ in range(500):
        try:
            fetch_into(log, past, spans)
            break
        except (Killed, LogUnavailable):
            continue
    times = past.rows["time_msc"]
    expected = past.rows[(times > BEGIN) & (times < until)].tobytes()
    for symbol in ("EURUSD", "GBPUSD", "BTCUSD"):
        assert ticks_in(log, symbol) == expected, f"seed {seed}"
    assert log.origin("demo-history") == "import"


def test_feeds_of_the_log_go_on_together_hour_by_hour() -> None:
    """A group that reads several symbols meets them by time; candles come when they are closed."""
    log = MemoryLog()
    feeds = [Feed("EURUSD"), Feed("GBPUSD"), Feed("EURUSD", "M1")]
    assert len({partition_of(feed.symbol, 2) for feed in feeds}) == 1
    fetch_into(log, MadeUp(), [Span(feed, BEGIN, BEGIN + 5 * HOUR_MS) for feed in feeds])
    entries = in_log(log)
    assert {entry.stream.lane for entry in entries} == {Lane.NORMAL, Lane.LOW}
    live = [decode(entry) for entry in entries if entry.type == "ticks.1"]
    hours = [one.event_time_ms // HOUR_MS for one in live if isinstance(one, TickBatch)]
    assert hours == sorted(hours)
    assert [entry.key for entry in entries[:2]] == ["EURUSD", "GBPUSD"]
    assert "EURUSD:M1" in [entry.key for entry in entries[-3:]]


def test_a_feed_of_the_log_grows_at_its_end_alone() -> None:
    log, past, at = MemoryLog(), MadeUp(), BEGIN + 10 * HOUR_MS
    feed = Feed("EURUSD")
    fetch_into(log, past, [Span(feed, at, at + HOUR_MS)])
    with pytest.raises(LogError, match="holds later EURUSD:ticks already"):
        fetch_into(log, past, [Span(feed, BEGIN, at + 2 * HOUR_MS)])
    fetch_into(log, past, [Span(feed, at + 5 * HOUR_MS, at + 6 * HOUR_MS)])
    with pytest.raises(LogError, match="in its order"):
        fetch_into(log, past, [Span(feed, at, at + 9 * HOUR_MS)])
    (done,) = fetch_into(log, past, [Span(feed, at + 5 * HOUR_MS, at + 8 * HOUR_MS)])
    assert (done.already_ms, done.steps) == (HOUR_MS, 2)
    with opened(log) as target:
        assert target.covered(feed) == [
            (at, at + HOUR_MS), (at + 5 * HOUR_MS, at + 8 * HOUR_MS)
        ]  # fmt: skip


def test_a_closed_market_between_ticks_is_passed_and_asked_for_again_at_the_end() -> None:
    """A weekend is over once there are ticks behind it; what is empty at the end may not be."""
    log, past = MemoryLog(), MadeUp()
    times = past.rows["time_msc"]
    past.rows = past.rows[(times < BEGIN + HOUR_MS) | (times >= BEGIN + 4 * HOUR_MS)]
    wanted = Span(Feed("EURUSD"), BEGIN, BEGIN + 3 * HOUR_MS)
    assert fetch_into(log, past, [wanted])[0].empty_steps == 2
    assert fetch_into(log, past, [wanted])[0].empty_steps == 2
    wider = Span(Feed("EURUSD"), BEGIN, BEGIN + 6 * HOUR_MS)
    (done,) = fetch_into(log, past, [wider])
    assert (done.steps, done.empty_steps) == (5, 3)
    assert fetch_into(log, past, [wider])[0].steps == 0
    assert ticks_in(log, "EURUSD") == past.rows[past.rows["time_msc"] < wider.until_ms].tobytes()


def test_only_what_is_settled_and_closed_is_fetched() -> None:
    now_ms = 1_715_251_830_000  # 9 May 2024, 10:50:30 UTC, 13:50:30 of the server's clock
    server_ms = now_ms + 3 * HOUR_MS
    feeds = [Feed("EURUSD"), *(Feed("EURUSD", one) for one in ("M1", "H1", "D1", "MN1"))]
    found = spans(feeds, now_ms - 90 * 24 * HOUR_MS, now_ms, clock=RULE, now_ms=now_ms)
    assert [server_ms - one.until_ms for one in found] == [
        60_000, 90_000, 50 * 60_000 + 30_000, 13 * HOUR_MS + 50 * 60_000 + 30_000,
        (8 * 24 + 13) * HOUR_MS + 50 * 60_000 + 30_000,
    ]  # fmt: skip
    unknown = spans(feeds[:1], now_ms - 48 * HOUR_MS, now_ms, clock=None, now_ms=now_ms)
    assert now_ms - unknown[0].until_ms == 15 * HOUR_MS, "its clock may be that far behind"
    live = {"EURUSD": now_ms - 5 * HOUR_MS}
    cut = spans(feeds[:2], now_ms - 48 * HOUR_MS, now_ms, clock=RULE, now_ms=now_ms,
                live_from_ms=live)  # fmt: skip
    assert [server_ms - one.until_ms for one in cut] == [5 * HOUR_MS, 90_000]


@pytest.mark.parametrize(
    ("kind", "chosen", "holder", "refused"),
    [
        ("native", "off", "producer 7", True),
        ("native", "auto", "producer 7", False),
        ("native", "off", "", False),
        ("simulated", "off", "producer 7", False),
    ],
)
def test_a_setting_against_a_second_process_is_obeyed(
    kind: Literal["native", "simulated"], chosen: Literal["auto", "off"], holder: str,
    refused: bool,
) -> None:  # fmt: skip
    settings = load(history_host=chosen)
    terminal = settings.built_in(TerminalKind.SIMULATED).model_copy(
        update={"kind": TerminalKind(kind)}
    )
    with pytest.raises(LogError, match="HISTORY_HOST=off") if refused else nullcontext():
        check_second_process(settings, terminal, holder)
