"""What operators see of groups, and what removing one takes away."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

import bridgectl
from events.groups.readers import Kind, collect, group_of
from events.groups.removal import NoSuchGroup, StillRunning, remove
from events.log import BEGIN, Claim, EntryId, Lane, Log, NewEntry, Slot
from events.offset import Offset
from events.redis import RedisLog
from events.retention import SegmentFolder
from events.tasks import Commit, OffsetChange, Output
from tests.contract.test_retained import spilled

SOURCE_SLOT = Slot("demo", "source", 0)
TASK = Slot("demo", "risk", 0)
NORMAL = SOURCE_SLOT.stream(Lane.NORMAL)
HIGH = SOURCE_SLOT.stream(Lane.HIGH)


def filled(log: Log) -> list[EntryId]:
    log.open_namespace("demo", 1)
    claim = log.claim(SOURCE_SLOT, "me", alive_within_s=0)
    return list(log.append(claim, [NewEntry(Lane.NORMAL, "t.1", "k", b"x")] * 10).ids)


def risk_task(log: Log, ids: list[EntryId], count: int) -> Claim:
    """Group risk, which read `count` entries and derived one event."""
    log.tasks.open_group("demo", "risk", 1)
    log.tasks.join("risk.0", [NORMAL, HIGH])
    found = log.tasks.acquire(TASK, "host-1", seen="")
    assert found is not None
    claim, record = found
    offset = Offset(ids[count - 1], count, 7)
    derived = Output(EntryId(9, 1), NewEntry(Lane.NORMAL, "out.1", "k", b"1", "a@1-1"))
    moved = {NORMAL: OffsetChange(Offset(), offset)}
    log.tasks.commit(Commit(claim, record.newest, moved, outputs=[derived]))
    log.mirror("risk.0", NORMAL, offset.last, count)
    return claim


def living(log: Log, claim: Claim) -> Callable[[float], None]:
    """In place of waiting: the task's owner beats meanwhile."""
    return lambda _: log.beat(claim)


def test_readers_are_told_with_place_lag_and_life(log: Log) -> None:
    ids = filled(log)
    claim = risk_task(log, ids, 4)
    log.tasks.join("persist.0", [NORMAL])
    log.mirror("persist.0", NORMAL, ids[9], 10)
    log.mirror("grafana", NORMAL, ids[6], 7)
    found = {one.name: one for one in collect(log, sleep=living(log, claim))}
    risk = found["risk.0"]
    assert (risk.group, risk.kind, risk.holder, risk.alive) == ("risk", Kind.TASK, "host-1", True)
    assert (risk.lag, risk.holds_back, risk.spilled) == (6, True, 0)
    assert risk.oldest_unread_ms == ids[4].ms
    assert risk.lag_by_lane() == {"critical": 0, "high": 0, "normal": 6, "low": 0}
    assert (found["persist.0"].kind, found["persist.0"].alive) == (Kind.ELSEWHERE, None)
    assert (found["persist.0"].lag, found["persist.0"].holds_back) == (0, False)
    assert found["grafana"].kind is Kind.UNREGISTERED
    assert not found["grafana"].holds_back, "risk is further behind"
    dead = {one.name: one for one in collect(log, sleep=lambda _: None)}
    assert dead["risk.0"].alive is False


def test_what_waits_on_disk_for_a_reader_is_counted(log: Log, tmp_path: Path) -> None:
    ids = filled(log)
    risk_task(log, ids, 3)
    spilled(log, SegmentFolder(tmp_path, bytes_max=1 << 30), 8)
    log.mirror("risk.0", NORMAL, ids[2], 3)
    [risk] = collect(log, sleep=lambda _: None)
    assert (risk.lag, risk.spilled, risk.oldest_unread_ms) == (7, 5, ids[0].ms)


def test_a_halted_task_says_why(log: Log) -> None:
    ids = filled(log)
    claim = risk_task(log, ids, 2)
    newest = log.tasks.peek(TASK).newest
    log.tasks.commit(Commit(claim, newest, {}, halted="a deal could not be read"))
    [risk] = collect(log, sleep=lambda _: None)
    assert risk.halted == "a deal could not be read"
    assert risk.to_json()["halted"] == risk.halted


def test_a_running_group_is_not_removed(log: Log) -> None:
    claim = risk_task(log, filled(log), 2)
    with pytest.raises(StillRunning, match=r"risk runs \(host-1"):
        remove(log, "risk", sleep=living(log, claim))
    assert "risk.0" in log.groups(NORMAL)


@pytest.mark.parametrize("outputs", [False, True])
def test_a_removed_group_holds_back_nothing(log: Log, outputs: bool) -> None:
    ids = filled(log)
    risk_task(log, ids, 2)
    done = remove(log, "risk", outputs=outputs, sleep=lambda _: None)
    assert (done.readers, done.namespaces, done.streams) == (("risk.0",), ("demo",), 2)
    assert log.tasks.readers("demo") == {}
    assert log.groups(NORMAL) == {}
    assert log.retained.trim(NORMAL, ids[9], []).entries == 9
    assert log.info(TASK.stream(Lane.NORMAL)).length == (0 if outputs else 1)
    assert not log.tasks.peek(TASK).offsets


@pytest.mark.parametrize("outputs", [False, True])
def test_what_was_spilled_of_its_outputs_goes_with_them(
    log: Log, tmp_path: Path, outputs: bool
) -> None:
    risk_task(log, filled(log), 2)
    folder = SegmentFolder(tmp_path, bytes_max=1 << 30)
    stream = TASK.stream(Lane.NORMAL)
    entries = log.between(stream, count_max=9)
    assert log.retained.spill(folder.write(stream, entries, first=entries[0].id, before=0))
    remove(log, "risk", outputs=outputs, folder=folder, sleep=lambda _: None)
    assert bool(log.retained.spans([TASK])) is not outputs
    assert bool(folder.used_bytes) is not outputs


def test_what_is_not_there_is_told_with_what_is(log: Log) -> None:
    risk_task(log, filled(log), 2)
    with pytest.raises(NoSuchGroup, match="known are risk"):
        remove(log, "rsik", sleep=lambda _: None)


def test_a_consumer_group_of_somebody_else_can_be_removed(log: Log) -> None:
    ids = filled(log)
    log.mirror("grafana", NORMAL, ids[0], 1)
    done = remove(log, "grafana", sleep=lambda _: None)
    assert (done.readers, done.streams) == (("grafana",), 1)
    assert log.groups(NORMAL) == {}


def test_names_of_readers_tell_their_group() -> None:
    assert group_of("strategy.ema.12") == "strategy.ema"
    assert group_of("grafana") == "grafana"


def test_the_commands_list_and_remove(
    redis_log: RedisLog, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setattr("events.groups.cli.WATCH_S", 0.0)
    run = CliRunner()
    assert "nobody reads" in run.invoke(bridgectl.cli, ["groups", "list"]).output
    ids = filled(redis_log)
    risk_task(redis_log, ids, 4)
    shown = run.invoke(bridgectl.cli, ["groups", "list", "--json"])
    [risk] = json.loads(shown.output)["readers"]
    assert (risk["reader"], risk["lag"], risk["alive"]) == ("risk.0", 6, False)
    page = run.invoke(bridgectl.cli, ["groups", "list"]).output
    assert "risk.0" in page
    assert "holds back trimming" in page
    asked = run.invoke(bridgectl.cli, ["groups", "remove", "risk"], input="n\n")
    assert asked.exit_code == 2, "nothing was changed"
    done = run.invoke(bridgectl.cli, ["groups", "remove", "risk", "--yes"])
    assert "removed risk (risk.0) from demo" in done.output
    assert redis_log.tasks.readers("demo") == {}
    assert redis_log.newest(NORMAL)[0].id == ids[9]
    assert redis_log.read({NORMAL: BEGIN})[NORMAL]
