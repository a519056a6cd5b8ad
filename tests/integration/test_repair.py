"""`bridgectl repair`: rows and tasks that stand on entries the log has lost."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import bridgectl
from consumers.repair import Repair
from events.codec import encode
from events.continuity import findings
from events.log import SOURCE, Entry, EntryId, Lane, LogError, NewEntry, Slot, Stream
from events.offset import Offset
from events.postgres import connect, read_entries, read_ticks
from events.redis import RedisLog
from events.tasks import Commit, OffsetChange, Output, TaskRecord
from tests.integration.persisting import (
    SYMBOLS,
    Feed,
    account,
    drain,
    stored_equals_log,
)

GROUP = Slot("demo", "count", 0)
SOURCE_SLOTS = [Slot("demo", SOURCE, 0), Slot("demo", SOURCE, 1)]
SNAPSHOT_EVERY = 7
"""Commits."""


class Past:
    """What some slots were at a moment, to make a log that lost what came later."""

    def __init__(self, log: RedisLog, *slots: Slot) -> None:
        self._log, self._slots = log, slots
        self._dumps = {key: log.client.dump(key) for key in self._keys()}

    def _keys(self) -> list[bytes]:
        return [key for slot in self._slots for key in self._log.client.keys(f"{slot}:*")]

    def come_back(self) -> None:
        self._log.client.delete(*self._keys())
        for key, dump in self._dumps.items():
            self._log.client.restore(key, 0, dump)


@pytest.fixture
def repaired(redis_log: RedisLog, postgres_url: str, tmp_path: Path) -> Iterator[Repair]:
    with connect(postgres_url, application="test") as connection:
        yield Repair(redis_log, connection, kept_folder=tmp_path / "forks", stamp="now")


def halted(redis_log: RedisLog, postgres_url: str) -> list[str]:
    return list(drain(redis_log, postgres_url).progress().halted.values())


def test_rows_of_a_lost_tail_are_replaced_by_those_of_the_log(
    redis_log: RedisLog, postgres_url: str, repaired: Repair, tmp_path: Path
) -> None:
    feed = Feed(redis_log, seed=21)
    feed.append(60)
    drain(redis_log, postgres_url)
    past = Past(redis_log, *SOURCE_SLOTS)
    feed.append(40)
    drain(redis_log, postgres_url)
    lost = {stream: set(entries) for stream, entries in feed.entries().items()}
    past.come_back()
    lost = {stream: lost[stream] - set(entries) for stream, entries in feed.entries().items()}
    feed.append(50)
    assert len(halted(redis_log, postgres_url)) == 2
    plans = repaired.plans()
    forked = {stream for stream, entries in lost.items() if entries}
    assert {plan.finding.stream for plan in plans} == forked
    assert {plan.finding.stream: plan.entries_undone for plan in plans} == {
        stream: len(lost[stream]) for stream in forked
    }
    for _, done in repaired.run():
        assert done.rows_removed
        assert done.kept_in is not None
    assert repaired.plans() == []
    kept = [
        json.loads(line)
        for file in (tmp_path / "forks").glob("*.gz")
        for line in gzip.open(file, "rt")  # noqa: SIM115 - closed when read to its end
    ]
    assert {(one["stream"], one["id"]) for one in kept} == {
        (str(entry.stream), str(entry.id)) for entries in lost.values() for entry in entries
    }
    assert halted(redis_log, postgres_url) == []
    stored_equals_log(feed, postgres_url)


def test_an_offset_ahead_of_a_log_that_has_not_grown_again(
    redis_log: RedisLog, postgres_url: str, repaired: Repair
) -> None:
    feed = Feed(redis_log, seed=22)
    feed.append(30)
    drain(redis_log, postgres_url)
    past = Past(redis_log, *SOURCE_SLOTS)
    feed.append(30)
    drain(redis_log, postgres_url)
    past.come_back()
    assert all("ends at" in plan.finding.cause for plan in repaired.plans())
    assert list(repaired.run())
    stored_equals_log(feed, postgres_url)
    feed.append(20)
    assert halted(redis_log, postgres_url) == []
    stored_equals_log(feed, postgres_url)


def test_a_log_begun_anew_keeps_what_is_stored_and_doubles_nothing(
    redis_log: RedisLog, postgres_url: str, repaired: Repair
) -> None:
    """The new log begins with a span that was pulled and sent again: other ids, other batches."""
    feed = Feed(redis_log, seed=23)
    for number in range(20):
        feed.append(4)
        redis_log.append(feed.claims[0], [encode(account(feed.now_ms + number, 100.0 + number))])
    drain(redis_log, postgres_url)
    everything = feed.entries()
    with connect(postgres_url, application="test") as connection:
        before = {symbol: read_ticks(connection, "demo", symbol) for symbol in SYMBOLS}
    redis_log.client.flushall()
    anew = Feed(redis_log, seed=24, now_ms=feed.now_ms)
    for stream, entries in everything.items():
        ticks = [entry for entry in entries if entry.type.startswith("ticks")]
        for entry in [*ticks[len(ticks) // 2 :], *_newest(entries, "account", 12)]:
            again = NewEntry(stream.lane, entry.type, entry.key, entry.data)
            redis_log.append(anew.claims[stream.slot.partition], [again])
    anew.append(20)
    assert halted(redis_log, postgres_url)
    for plan, _ in repaired.run():
        assert "begun anew" in plan.cure
    assert halted(redis_log, postgres_url) == []
    assert repaired.plans() == []
    with connect(postgres_url, application="test") as connection:
        for stream, entries in anew.entries().items():
            assert read_entries(connection, stream) == entries
        for symbol, ticks in before.items():
            stored = read_ticks(connection, "demo", symbol)
            old = stored[stored["time_msc"] <= ticks["time_msc"].max()]
            assert np.sort(old, axis=0).tobytes() == np.sort(ticks, axis=0).tobytes(), symbol
        [count] = connection.execute("SELECT count(*) FROM raw.accounts").fetchone() or [0]
    told = {entry.data for entries in everything.values() for entry in _newest(entries, "account")}
    new = {e.data for entries in anew.entries().values() for e in _newest(entries, "account")}
    assert count == len(told | new)


def _newest(entries: list[Entry], kind: str, count: int = 1_000) -> list[Entry]:
    return [entry for entry in entries if entry.type.startswith(kind)][-count:]


def test_a_hole_that_nobody_can_fill_is_told_and_passed_over(
    redis_log: RedisLog, postgres_url: str, repaired: Repair
) -> None:
    feed = Feed(redis_log, seed=25)
    feed.append(20)
    drain(redis_log, postgres_url)
    stored = feed.entries()
    feed.append(40)
    normal = SOURCE_SLOTS[0].stream(Lane.NORMAL)
    entries = feed.entries()[normal]
    hole = len(stored[normal]) + 5
    redis_log.client.xtrim(str(normal), minid=str(entries[hole].id), approximate=False)
    assert "removed from the log before" in halted(redis_log, postgres_url)[0]
    [plan] = repaired.plans()
    assert plan.entries_undone == 5
    assert list(repaired.run())
    assert halted(redis_log, postgres_url) == []
    with connect(postgres_url, application="test") as connection:
        found = read_entries(connection, normal)
    assert found == entries[: len(stored[normal])] + entries[hole:]


# ---- tasks


def derive(log: RedisLog, *, portion: int = 3) -> None:
    """A group in a few lines: one output per entry, which tells how many came before it."""
    streams = [slot.stream(Lane.NORMAL) for slot in SOURCE_SLOTS]
    [holding] = log.tasks.look([GROUP])
    taken = log.tasks.acquire(GROUP, "me", seen=holding.token)
    assert taken is not None
    claim, record = taken
    for stream in streams:
        while entries := log.between(
            stream, record.offsets.get(stream, Offset()).last.next(), count_max=portion
        ):
            log.tasks.commit(_step(claim, record, stream, entries))
            record = log.tasks.peek(GROUP)
    log.release(claim)


def _step(claim: object, record: TaskRecord, stream: Stream, entries: list[Entry]) -> Commit:
    before = record.offsets.get(stream, Offset())
    count, newest, outputs = int(record.state.get("count", b"0")), record.newest, []
    for entry in entries:
        count += 1
        newest = EntryId(max(newest.ms, entry.id.ms), newest.seq + 1)
        made = NewEntry(Lane.NORMAL, "counted.1", "k", b"%d" % count, entry.place, b"%d" % count)
        outputs.append(Output(newest, made))
    commits = record.commits + 1
    snapshot = commits // SNAPSHOT_EVERY % 8 if commits % SNAPSHOT_EVERY == 0 else None
    moves = {stream: OffsetChange(before, before.after(entries[-1], len(entries)))}
    return Commit(
        claim, record.newest, moves, {"count": b"%d" % count},  # type: ignore[arg-type] # a Claim
        outputs=outputs, journal=b"%d" % commits, snapshot=snapshot,
    )  # fmt: skip


def outputs_of(log: RedisLog) -> list[tuple[str, bytes]]:
    found = log.between(GROUP.stream(Lane.NORMAL), count_max=100_000)
    assert [entry.id.seq for entry in found] == list(range(1, len(found) + 1))
    return [(entry.cause, entry.data) for entry in found]


@pytest.mark.parametrize("early", [False, True])
def test_a_task_goes_back_to_a_snapshot_below_the_fork_and_derives_again(
    redis_log: RedisLog, postgres_url: str, repaired: Repair, early: bool
) -> None:
    """The task's own slot keeps what it derived of entries that its source lost: in a cluster
    slots fail over one by one. With `early`, no snapshot lies before the fork."""
    feed = Feed(redis_log, seed=26)
    redis_log.tasks.open_group("demo", "count", 1)
    feed.append(8 if early else 120)
    derive(redis_log)
    past = Past(redis_log, *SOURCE_SLOTS)
    feed.append(60)
    derive(redis_log)
    drain(redis_log, postgres_url)
    past.come_back()
    feed.append(70)
    assert findings(redis_log, redis_log.tasks.peek(GROUP).offsets)
    [(plan, done), *_] = list(repaired.run())
    assert plan.reader == "count.0"
    assert done.outputs_removed > 0
    assert ("snapshot after commit" in plan.cure) is not early
    record = redis_log.tasks.peek(GROUP)
    assert findings(redis_log, record.offsets) == []
    assert bool(record.commits) is not early
    assert repaired.plans() == []
    derive(redis_log)
    entries = feed.entries()
    outputs = outputs_of(redis_log)
    inputs = {e.place for s in SOURCE_SLOTS for e in entries[s.stream(Lane.NORMAL)]}
    assert {cause for cause, _ in outputs} == inputs
    assert len(outputs) == len(inputs)
    assert [data for _, data in outputs] == [b"%d" % n for n in range(1, len(outputs) + 1)]
    assert halted(redis_log, postgres_url) == []
    stored_equals_log(feed, postgres_url)
    with connect(postgres_url, application="test") as connection:
        derived = read_entries(connection, GROUP.stream(Lane.NORMAL))
    assert [(entry.cause, entry.data) for entry in derived] == outputs


def test_a_running_owner_is_fenced_by_the_repair(redis_log: RedisLog, repaired: Repair) -> None:
    from events.log import Fenced

    feed = Feed(redis_log, seed=27)
    redis_log.tasks.open_group("demo", "count", 1)
    feed.append(10)
    past = Past(redis_log, *SOURCE_SLOTS)
    feed.append(40)
    derive(redis_log)
    past.come_back()
    taken = redis_log.tasks.acquire(GROUP, "owner", seen="")
    assert taken is not None
    assert list(repaired.run())
    with pytest.raises(Fenced):
        redis_log.tasks.commit(Commit(taken[0], taken[1].newest, {}))


def test_a_task_whose_outputs_lie_on_disk_is_not_put_back_by_halves(redis_log: RedisLog) -> None:
    Feed(redis_log, seed=29).append(20)
    derive(redis_log)
    redis_log.client.hset(f"{GROUP}:spilled", "normal", str(redis_log.tasks.peek(GROUP).newest))
    taken = redis_log.tasks.acquire(GROUP, "repair", seen="")
    assert taken is not None
    before = outputs_of(redis_log)
    with pytest.raises(LogError, match="groups remove --outputs"):
        redis_log.tasks.rewind(taken[0], TaskRecord(GROUP, {}, {}, EntryId(0, 0), 0, ""))
    assert outputs_of(redis_log) == before


# ---- the command


def test_the_command_looks_asks_and_tells(
    redis_log: RedisLog,
    redis_url: str,
    postgres_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("POSTGRES_URL", postgres_url)
    monkeypatch.setenv("BRIDGE_STATE_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def repair(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(bridgectl.cli, ["repair", *arguments])
        return done.exit_code, done.output

    feed = Feed(redis_log, seed=28)
    feed.append(30)
    drain(redis_log, postgres_url)
    code, told = repair()
    assert (code, "nothing to repair" in told) == (0, True)
    past = Past(redis_log, *SOURCE_SLOTS)
    feed.append(30)
    drain(redis_log, postgres_url)
    past.come_back()
    feed.append(30)
    code, told = repair("--dry-run", "--json")
    assert code == 3
    found = json.loads(told)["found"]
    assert {one["problem"] for one in found} == {"cut"}
    assert not any(one["applied"] for one in found)
    assert repair("--dry-run")[0] == 3
    code, told = repair()
    assert (code, "add --yes" in told) == (2, True)
    code, told = repair("--yes", "--json")
    assert code == 0
    assert all(one["applied"] and one["rows_removed"] for one in json.loads(told)["found"])
    assert halted(redis_log, postgres_url) == []
    stored_equals_log(feed, postgres_url)
    assert repair("--dry-run")[0] == 0
    redis_log.client.flushall()
    code, told = repair("--yes")
    assert code == 1
    assert repair("--yes", "--without-producer")[0] == 0
    assert repair("--dry-run")[0] == 0
