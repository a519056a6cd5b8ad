"""The spool: nothing it took is lost or sent twice, whatever dies when."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from events.log import (
    SOURCE,
    Appended,
    Claim,
    CursorMove,
    Lane,
    LogUnavailable,
    NewEntry,
    Slot,
)
from events.memory_log import MemoryLog
from producers.append import Writer
from producers.report import Report
from producers.spool.file import Known, Spool, SpoolFull, SpoolUnusable
from producers.spool.sender import FEED, Sender

NAMESPACE = "demo"


def entry(number: int, lane: Lane = Lane.HIGH) -> NewEntry:
    return NewEntry(lane, "account.1", "7", str(number).encode())


def waiting(spool: Spool, partition: int = 0, row: int = 0) -> list[bytes]:
    found = spool.after(partition, row, count_max=10_000, bytes_max=1 << 30)
    return [spooled.entry.data for spooled in found]


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool.sqlite")
    yield spool
    spool.close()


def writer_of(log: MemoryLog, report: Report | None = None) -> Writer:
    writer = Writer(
        log, NAMESPACE, 2, holder="test", report=report or Report(), alive_within_s=0.05
    )
    writer.open()
    return writer


def in_log(log: MemoryLog, partition: int, lane: Lane = Lane.HIGH) -> list[bytes]:
    stream = Slot(NAMESPACE, SOURCE, partition).stream(lane)
    return [entry.data for entry in log.between(stream, count_max=100_000)]


def test_what_was_put_is_there_after_reopening_in_order_and_per_partition(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.sqlite")
    spool.put([(0, entry(1)), (1, entry(2)), (0, entry(3))], [Known("deal", 11, 100)])
    spool_id = spool.id
    spool.close()
    again = Spool(tmp_path / "spool.sqlite")
    assert again.id == spool_id
    assert waiting(again, 0) == [b"1", b"3"]
    assert waiting(again, 1) == [b"2"]
    assert again.size.rows == 3
    assert again.unknown("deal", [11, 12]) == {12}
    assert again.unknown("order", [11]) == {11}
    assert again.known_newest_s("deal") == 100
    again.close()


def test_rows_keep_lane_type_key_cause_and_last_state(spool: Spool) -> None:
    whole = NewEntry(Lane.CRITICAL, "terminal_up.1", "mt5", b"{}", "a@1-0", b"{}")
    spool.put([(0, whole)])
    [(row, found)] = spool.after(0, 0, count_max=9, bytes_max=9)
    assert (row, found) == (1, whole)


def test_after_gives_at_least_one_row_however_small_the_byte_limit(spool: Spool) -> None:
    spool.put([(0, NewEntry(Lane.HIGH, "book.1", "7", b"x" * 1000)), (0, entry(2))])
    assert len(spool.after(0, 0, count_max=10, bytes_max=10)) == 1


def test_a_full_spool_refuses_whole_batches_and_takes_again_when_the_log_took_rows(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path / "spool.sqlite", bytes_max=1_000)
    rows = 7
    for number in range(rows):
        spool.put([(0, entry(number)), (0, entry(number))], [Known("deal", number, 1)])
    with pytest.raises(SpoolFull, match="bring the log back"):
        spool.put([(0, entry(rows)), (0, entry(rows)), (0, entry(rows))], [Known("deal", rows, 1)])
    assert spool.alarming
    assert spool.size.rows == 2 * rows
    assert spool.unknown("deal", [rows]) == {rows}
    spool.mark_sent(0, 2 * rows)
    spool.put([(0, entry(99))])
    assert waiting(spool, 0, 2 * rows) == [b"99"]
    assert not spool.alarming
    spool.close()


def test_a_spool_in_a_place_that_cannot_be_is_refused_with_a_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(SpoolUnusable, match="check the folder"):
        Spool(tmp_path / "file" / "spool.sqlite")


def test_a_damaged_spool_is_refused_with_a_cure(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(SpoolUnusable, match="move the file aside"):
        Spool(path)


def test_sent_rows_stay_a_while_for_a_log_that_lost_its_tail(tmp_path: Path) -> None:
    now = 1_000.0
    spool = Spool(tmp_path / "spool.sqlite", wall=lambda: now, keep_sent_s=60)
    spool.put([(0, entry(1)), (0, entry(2))])
    spool.mark_sent(0, 2)
    assert waiting(spool) == [b"1", b"2"]
    assert spool.size.rows == 0
    now += 61
    spool.put([(0, entry(3))])
    spool.mark_sent(0, 2)
    assert waiting(spool) == [b"3"]
    spool.close()


def test_sender_appends_everything_in_order_with_the_row_as_cursor(spool: Spool) -> None:
    log = MemoryLog()
    writer = writer_of(log)
    sender = Sender(spool, writer, Report())
    sender.start()
    for number in range(1_200):
        spool.put([(number % 2, entry(number))])
    assert sender.drain(10)
    sender.stop()
    assert in_log(log, 0) == [str(n).encode() for n in range(0, 1_200, 2)]
    assert in_log(log, 1) == [str(n).encode() for n in range(1, 1_200, 2)]
    assert log.cursors(writer.slot(1))[FEED].startswith(f"{spool.id}:1200@")
    writer.close()


class LosingLog(MemoryLog):
    """Loses requests and replies at random; `off` loses every request."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.chance = random.Random(seed)
        self.off = False

    def append(
        self, claim: Claim, entries: Sequence[NewEntry], cursors: Sequence[CursorMove] = ()
    ) -> Appended:
        if self.off or self.chance.random() < 0.3:
            raise LogUnavailable("request lost")
        appended = super().append(claim, entries, cursors)
        if self.chance.random() < 0.3:
            raise LogUnavailable("reply lost")
        return appended

    def cursors(self, slot: Slot) -> dict[str, str]:
        if self.off or self.chance.random() < 0.3:
            raise LogUnavailable("no answer")
        return super().cursors(slot)


def opened(log: LosingLog, report: Report) -> Writer:
    while True:
        try:
            return writer_of(log, report)
        except LogUnavailable:
            continue


@pytest.mark.parametrize("seed", range(6))
def test_lost_requests_and_replies_neither_lose_nor_double_a_row(seed: int, tmp_path: Path) -> None:
    log, report = LosingLog(seed), Report()
    chance = random.Random(seed)
    spool = Spool(tmp_path / "spool.sqlite")
    written = 0
    for _ in range(3):  # restarts
        writer = opened(log, report)
        sender = Sender(spool, writer, report)
        sender.start()
        for _ in range(40):
            count = chance.randint(1, 5)
            spool.put([(0, entry(written + n)) for n in range(count)])
            written += count
        sender.drain(chance.choice([0.0, 0.05]))
        sender.stop()
        writer.close()
    writer = opened(log, report)
    sender = Sender(spool, writer, report)
    sender.start()
    assert sender.drain(20), f"seed {seed}"
    sender.stop()
    writer.close()
    assert in_log(log, 0) == [str(n).encode() for n in range(written)], f"seed {seed}"
    spool.close()


def test_the_checker_goes_red_without_the_cursor(tmp_path: Path) -> None:
    """The same losses with a sender that just sends again: rows are doubled."""
    log = LosingLog(1)
    writer = opened(log, Report())
    for number in range(40):
        while True:
            try:
                log.append(writer._claims[0], [entry(number)])
            except LogUnavailable:
                continue
            break
    assert len(in_log(log, 0)) > 40
    writer.close()


def test_with_the_log_away_rows_wait_and_are_healed_in_order(spool: Spool) -> None:
    log, report = LosingLog(3), Report()
    log.chance.random = lambda: 1.0  # type: ignore[method-assign]  # only `off` loses
    writer = writer_of(log, report)
    sender = Sender(spool, writer, report)
    sender.start()
    log.off = True
    for number in range(100):
        spool.put([(0, entry(number))])
    assert not sender.drain(0.1)
    assert spool.size.rows == 100
    log.off = False
    assert sender.drain(10)
    assert in_log(log, 0) == [str(n).encode() for n in range(100)]
    assert report.counters["errors"] >= 1
    sender.stop()
    writer.close()


def test_a_log_that_lost_its_tail_gets_the_rows_again(spool: Spool) -> None:
    """As after a failover: the cursor in the log stands behind what was confirmed."""
    log = MemoryLog()
    writer = writer_of(log)
    sender = Sender(spool, writer, Report())
    sender.start()
    spool.put([(0, entry(n)) for n in range(10)])
    assert sender.drain(10)
    slot = writer.slot(0)
    state = log._slots[slot]
    stream = log._streams[slot.stream(Lane.HIGH)]
    del stream.ids[4:], stream.entries[4:]
    state.cursors[FEED] = f"{spool.id}:4@{stream.ids[-1]}"
    spool.put([(0, entry(10))])
    deadline = time.monotonic() + 10
    while len(in_log(log, 0)) < 11 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert in_log(log, 0) == [str(n).encode() for n in range(11)]
    sender.stop()
    writer.close()


def test_a_new_spool_begins_at_its_first_row_whatever_the_log_had(tmp_path: Path) -> None:
    log = MemoryLog()
    for name, numbers in (("old", (1, 2, 3)), ("new", (4, 5))):
        spool = Spool(tmp_path / name)
        writer = writer_of(log)
        sender = Sender(spool, writer, Report())
        sender.start()
        spool.put([(0, entry(n)) for n in numbers])
        assert sender.drain(10)
        sender.stop()
        writer.close()
        spool.close()
    assert in_log(log, 0) == [b"1", b"2", b"3", b"4", b"5"]


def test_a_spool_restored_from_an_older_copy_numbers_on_behind_the_log(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    log = MemoryLog()
    Spool(path).close()
    copy = path.read_bytes()
    for numbers in ((1, 2, 3), (4, 5)):
        spool = Spool(path)
        writer = writer_of(log)
        sender = Sender(spool, writer, Report())
        sender.start()
        spool.put([(0, entry(n)) for n in numbers])
        assert sender.drain(10)
        sender.stop()
        writer.close()
        spool.close()
        path.write_bytes(copy)
    assert in_log(log, 0) == [b"1", b"2", b"3", b"4", b"5"]


def test_kill_9_after_put_keeps_every_row_that_was_confirmed(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from events.log import Lane, NewEntry
        from producers.spool.file import Spool
        spool = Spool(Path(sys.argv[1]))
        number = 0
        while True:
            spool.put([(0, NewEntry(Lane.HIGH, "book.1", "7", str(number).encode()))])
            print(number, flush=True)
            number += 1
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        confirmed = [int(next(child.stdout)) for _ in range(50)]
        child.kill()
        confirmed += [int(line) for line in child.stdout if line.endswith("\n")]
    spool = Spool(path)
    kept = [int(data) for data in waiting(spool)]
    spool.close()
    assert kept == list(range(len(kept)))
    assert len(kept) >= len(confirmed)
