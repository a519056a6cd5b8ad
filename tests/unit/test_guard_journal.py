"""The guard's journal: durable, shared, and every request known before and after it was made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from events.codec import decode_data
from events.guarding import FlattenStep, LatchChanged
from events.latch import Latch
from producers.guard.journal import Journal, JournalUnusable

BIG = 2**64 - 5
"""Tickets and accounts are 64-bit and unsigned; SQLite's own integers are signed."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "guard" / "1.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    opened = Journal(path)
    yield opened
    opened.close()


def latch(latch_id: str = "a1") -> Latch:
    return Latch(login=BIG, latch_id=latch_id, reason="r", by="me", since_ms=5)


def changed(latched: bool) -> LatchChanged:
    return LatchChanged(
        event_time_ms=1, login=BIG, terminal="t", latched=latched, latch_id="a1", reason="r", by="b"
    )


def step(number: int) -> FlattenStep:
    return FlattenStep(
        event_time_ms=1, login=1, terminal="t", flatten_id="f", number=number, step="close",
        ticket=BIG,
    )  # fmt: skip


def test_another_process_finds_the_latch_and_clears_only_the_one_it_saw(
    journal: Journal, path: Path
) -> None:
    journal.set(latch(), events=[changed(True)])
    other = Journal(path)
    assert other.read(BIG) == latch()
    assert other.id == journal.id
    assert not other.clear(BIG, "another")
    assert other.clear(BIG, "a1")
    assert journal.read(BIG) is None
    assert [row.type for row in journal.hear(0)] == ["latch.1"], "the refused clearing told nothing"
    other.close()


def test_a_request_without_outcome_is_seen_after_a_crash(journal: Journal, path: Path) -> None:
    first = journal.intend("f1", "close", ticket=BIG, symbol="EURUSD", volume_lots=0.3,
                           request={"action": 1, "position": BIG})  # fmt: skip
    second = journal.intend("f1", "cancel", ticket=7)
    journal.intend("f2", "close", ticket=8)
    journal.outcome(first, "done", retcode=10009, detail="d", events=[step(1)])
    again = Journal(path)  # the first one is not closed: its process died
    done, open_ = again.intents("f1")
    assert (done.ticket, done.outcome, done.retcode, done.request["position"]) == (
        BIG, "done", 10009, BIG,
    )  # fmt: skip
    assert (open_.id, open_.outcome) == (second, None)
    again.close()


def test_a_command_is_remembered_with_its_first_answer(journal: Journal) -> None:
    assert journal.command("c1") is None
    journal.take_command("c1", verb="halt", by="me", accepted=True, text="halted")
    journal.take_command("c1", verb="halt", by="me", accepted=False, text="again")
    assert journal.command("c1") == (True, "halted")


def test_events_are_heard_in_order_and_once_per_row(journal: Journal) -> None:
    for number in range(1, 6):
        journal.emit(step(number))
    rows = journal.hear(0, 3)
    rows += journal.hear(rows[-1].row)
    found = [decode_data(row.type, row.key, row.data) for row in rows]
    assert found == [step(number) for number in range(1, 6)]
    assert journal.newest_row == rows[-1].row
    assert journal.hear(journal.newest_row) == []


def test_facts_of_none_are_forgotten(journal: Journal) -> None:
    journal.set_facts({"a": {"x": 1}, "b": 2})
    journal.set_facts({"a": None})
    assert (journal.fact("a"), journal.fact("b")) == (None, 2)


def test_a_journal_that_cannot_be_opened_names_the_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(JournalUnusable, match="check the folder's rights"):
        Journal(tmp_path / "file" / "1.sqlite")
