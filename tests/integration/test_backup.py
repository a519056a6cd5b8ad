"""`bridgectl backup` and `restore`: under load, wrecked, brought back, gone on with."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import bridgectl
from consumers.persist import PersistGroup
from events.backup import Archive, ArchiveDamaged, back_up, restore
from events.continuity import findings
from events.log import BEGIN, SOURCE, EntryId, Lane, LogError, NewEntry, Slot
from events.offset import Offset, checksum_of
from events.postgres import DatabaseRefused, connect, migrate, read_ticks
from events.postgres.forks import stored_offsets
from events.redis import RedisLog, open_log
from events.tasks import Commit, OffsetChange, Output
from tests.conftest import REDIS_KINDS, RunningServers
from tests.integration.persisting import Feed, drain, options, stored_equals_log
from tests.integration.test_producer import (
    SYMBOLS,
    assert_is_truth,
    running,
    settings_in,
    simulated,
    ticks_in,
    wait_for_ticks,
)
from tests.postgres_server import PostgresServer
from tests.redis_topologies import BINARY, redis_cluster
from tests.servers import RedisServer, wait_until

GROUP = Slot("demo", "count", 0)


@pytest.fixture
def second_redis(tmp_path: Path) -> Iterator[RedisServer]:
    (tmp_path / "second").mkdir()
    server = RedisServer(BINARY, tmp_path / "second").start()
    yield server
    server.kill()


def everything_in(log: RedisLog) -> dict[str, Any]:
    """Every key, as a person would compare two servers."""
    found: dict[str, Any] = {}
    for key in sorted(log.client.scan_iter(match="*", count=1000)):
        name, kind = key.decode(), log.client.type(key)
        if name.endswith(":workers"):
            continue
        if kind == b"stream":
            info = log.client.xinfo_stream(key)
            groups = [(g["name"], g["last-delivered-id"], g["entries-read"], g["lag"])
                      for g in log.client.xinfo_groups(key)]  # fmt: skip
            if not info["entries-added"] and not groups:
                continue  # a stream that somebody waits for
            found[name] = (log.client.xrange(key), info["last-generated-id"],
                           info["entries-added"], groups)  # fmt: skip
        elif kind == b"hash":
            found[name] = {
                field: value
                for field, value in log.client.hgetall(key).items()
                if field not in (b"token", b"holder", b"beat")
            }
        else:
            found[name] = (
                log.client.smembers(key) if kind == b"set"
                else log.client.zrange(key, 0, -1, withscores=True) if kind == b"zset"
                else log.client.get(key)
            )  # fmt: skip
    return found


def fill(log: RedisLog) -> Feed:
    """Entries, a trimmed stream, an emptied one, operators' posts, a task with a snapshot."""
    feed = Feed(log, seed=31)
    feed.append(60)
    normal = Slot("demo", SOURCE, 0).stream(Lane.NORMAL)
    entries = feed.entries()[normal]
    log.client.xtrim(str(normal), minid=str(entries[5].id), approximate=False)
    log.append(feed.claims[0], [NewEntry(Lane.LOW, "test.1", "k", b"gone")])
    log.client.xtrim(str(normal.slot.stream(Lane.LOW)), maxlen=0, approximate=False)
    log.mirror("persist.0", normal, entries[9].id, 10)
    log.post(Slot("demo", "operator", 0), NewEntry(Lane.CRITICAL, "command.1", "c1", b"{}"))
    log.tasks.open_group("demo", "count", 1)
    taken = log.tasks.acquire(GROUP, "me", seen="")
    assert taken is not None
    offset = Offset(entries[9].id, 10, checksum_of(entries[9]))
    output = Output(EntryId(entries[9].id.ms, 1), NewEntry(Lane.NORMAL, "o.1", "k", b"\xff", "c"))
    log.tasks.commit(
        Commit(
            taken[0], BEGIN, {normal: OffsetChange(Offset(), offset)}, {"s": b"\x00\xfe"},
            outputs=[output], journal=b"J", version="v", snapshot=0,
        )
    )  # fmt: skip
    return feed


@pytest.mark.parametrize(
    "target",
    [
        REDIS_KINDS[0],
        *(pytest.param(k, marks=pytest.mark.slow) for k in REDIS_KINDS[1:]),
        "cluster",
    ],
)
def test_a_log_comes_back_key_by_key_on_every_engine(
    redis_log: RedisLog, servers: RunningServers, tmp_path: Path, target: str
) -> None:
    fill(redis_log)
    before = everything_in(redis_log)
    done = back_up(tmp_path / "a.zip", redis_log, None, segments=tmp_path / "none")
    assert everything_in(redis_log) == before, "a backup leaves nothing behind"
    if target == "cluster":
        with (
            redis_cluster(tmp_path / "cluster") as nodes,
            closing(open_log(f"redis+cluster://127.0.0.1:{nodes[0].port}")) as log,
        ):
            restored = restore(tmp_path / "a.zip", log, None, segments=tmp_path / "none")
            assert log.namespaces() == {"demo": 2}
            assert log.tasks.peek(GROUP).state == {"s": b"\x00\xfe"}
            # And from a cluster back into one server.
            back_up(tmp_path / "b.zip", log, None, segments=tmp_path / "none")
        redis_log.client.flushall()
        restore(tmp_path / "b.zip", redis_log, None, segments=tmp_path / "none")
        assert everything_in(redis_log) == before
    else:
        with closing(open_log(servers.redis(target).url)) as log:
            log.client.flushall()
            restored = restore(tmp_path / "a.zip", log, None, segments=tmp_path / "none")
            assert everything_in(log) == before
            claim = log.claim(Slot("demo", SOURCE, 0), "new", alive_within_s=0)
            assert log.append(claim, [NewEntry(Lane.LOW, "test.1", "k", b"on")]).ids
    assert (restored.entries, restored.streams) == (done.entries, done.streams)


def test_unacknowledged_entries_of_a_redis_group_come_again(
    redis_log: RedisLog, second_redis: RedisServer, tmp_path: Path
) -> None:
    feed = Feed(redis_log, seed=32)
    feed.append(30)
    key = str(Slot("demo", SOURCE, 0).stream(Lane.NORMAL))
    redis_log.client.xgroup_create(key, "unordered", "0")
    read = redis_log.client.execute_command(
        "XREADGROUP", "GROUP", "unordered", "one", "COUNT", 6, "STREAMS", key, ">"
    )
    ids = [id_ for _, rows in read for id_, _ in rows]
    redis_log.client.xack(key, "unordered", *ids[:2], ids[4])
    back_up(tmp_path / "a.zip", redis_log, None, segments=tmp_path / "none")
    with closing(open_log(second_redis.url)) as log:
        restore(tmp_path / "a.zip", log, None, segments=tmp_path / "none")
        again = log.client.execute_command(
            "XREADGROUP", "GROUP", "unordered", "one", "COUNT", 4, "STREAMS", key, ">"
        )
    assert [id_ for _, rows in again for id_, _ in rows] == ids[2:6]


def test_servers_that_hold_something_are_refused_with_a_cure(
    redis_log: RedisLog, second_redis: RedisServer, postgres_url: str, tmp_path: Path
) -> None:
    feed = Feed(redis_log, seed=33)
    feed.append(10)
    drain(redis_log, postgres_url)
    back_up(tmp_path / "a.zip", redis_log, postgres_url, segments=tmp_path / "none")
    with pytest.raises(LogError, match="holds demo already: restore into an empty one"):
        restore(tmp_path / "a.zip", redis_log, postgres_url, segments=tmp_path / "none")
    with closing(open_log(second_redis.url)) as log:
        with pytest.raises(DatabaseRefused, match="holds data already: restore into an empty one"):
            restore(tmp_path / "a.zip", log, postgres_url, segments=tmp_path / "none")
        with pytest.raises(DatabaseRefused, match="none is configured"):
            restore(tmp_path / "a.zip", log, None, segments=tmp_path / "none")
        assert log.namespaces() == {}


def test_a_damaged_or_cut_off_file_is_refused_before_anything_is_written(
    redis_log: RedisLog, second_redis: RedisServer, tmp_path: Path
) -> None:
    Feed(redis_log, seed=34).append(30)
    path = tmp_path / "a.zip"
    back_up(path, redis_log, None, segments=tmp_path / "none")
    whole = path.read_bytes()
    with closing(open_log(second_redis.url)) as log:
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ArchiveDamaged, match="cut off"):
            restore(path, log, None, segments=tmp_path / "none")
        for place in (200, len(whole) // 3):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(ArchiveDamaged, match="damaged"):
                restore(path, log, None, segments=tmp_path / "none")
        assert log.client.dbsize() == 0


def test_a_member_cannot_be_written_outside_of_the_segments(
    redis_log: RedisLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "segments" / "demo"
    folder.mkdir(parents=True)
    (folder / "1-0.seg").write_bytes(b"x" * 100)
    path = tmp_path / "a.zip"
    back_up(path, redis_log, None, segments=tmp_path / "segments")
    restore(path, redis_log, None, segments=tmp_path / "other")
    assert (tmp_path / "other" / "demo" / "1-0.seg").read_bytes() == b"x" * 100
    with Archive(path) as archive:
        members = {"segments/../../evil": archive.members["segments/demo/1-0.seg"]}
        monkeypatch.setattr(Archive, "check", lambda self: setattr(self, "members", members))
    with pytest.raises(ArchiveDamaged, match="outside"):
        restore(path, redis_log, None, segments=tmp_path / "third")
    assert not (tmp_path / "evil").exists()


def test_a_backup_that_fails_leaves_no_file_and_holds_nothing_back(
    redis_log: RedisLog, postgres_url: str, tmp_path: Path
) -> None:
    feed = Feed(redis_log, seed=35)
    feed.append(20)
    drain(redis_log, postgres_url)
    redis_log.client.delete(str(Slot("demo", SOURCE, 1).stream(Lane.NORMAL)))
    with pytest.raises(LogError, match="bridgectl repair"):
        back_up(tmp_path / "a.zip", redis_log, postgres_url, segments=tmp_path / "none")
    assert not any(tmp_path.glob("*.zip*"))
    readers = redis_log.tasks.readers("demo")
    assert not any("backup.0" in names for names in readers.values())


@pytest.mark.skipif(sys.platform == "win32", reason="no limit for the size of a file")
def test_a_disk_without_room_ends_a_backup_at_once_and_leaves_no_file(
    redis_log: RedisLog, postgres_url: str, tmp_path: Path
) -> None:
    import resource

    Feed(redis_log, seed=36).append(400)
    drain(redis_log, postgres_url)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            back_up(tmp_path / "a.zip", redis_log, postgres_url, segments=tmp_path / "none")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not any(tmp_path.glob("*.zip*"))
    back_up(tmp_path / "a.zip", redis_log, postgres_url, segments=tmp_path / "none")


def test_wrecked_under_load_and_brought_back_nothing_is_missing_or_doubled(
    redis_server: RedisServer,
    second_redis: RedisServer,
    postgres_server: PostgresServer,
    postgres_url: str,
    tmp_path: Path,
) -> None:
    """Producer and persist run while the copy is made, and go on for a while. Then log, database
    and the producer's own folder are gone; what is restored goes on."""
    settings = settings_in(tmp_path)
    with closing(open_log(redis_server.url)) as log:
        group = PersistGroup(options(log, postgres_url))
        with running(settings, simulated(), log):
            group.start()
            wait_for_ticks(log, 30)
            wait_until(lambda: group.progress().ticks > 30, what="something is stored")
            back_up(tmp_path / "a.zip", log, postgres_url, segments=tmp_path / "none")
            wait_for_ticks(log, 20)
        group.stop()
        assert group.join(20)
        log.client.flushall()
    shutil.rmtree(settings.state_dir)
    dsn = postgres_server.create_database("restored")
    try:
        with closing(open_log(second_redis.url)) as log:
            restore(tmp_path / "a.zip", log, dsn, segments=tmp_path / "none")
            with connect(dsn, application="test") as connection:
                offsets = {
                    one.offset.stream: one.offset.place for one in stored_offsets(connection)
                }
            assert offsets
            assert findings(log, offsets) == []
            with running(settings, simulated(), log):
                wait_for_ticks(log, 20)
                drain(log, dsn)
                wait_for_ticks(log, 10)
            drain(log, dsn)
            assert_is_truth(log)
            with connect(dsn, application="test") as connection:
                for symbol in SYMBOLS:
                    stored = read_ticks(connection, "demo", symbol)
                    assert np.array_equal(np.sort(stored), np.sort(ticks_in(log, "demo", symbol)))
    finally:
        postgres_server.drop_database("restored")


def test_rows_and_numbers_of_the_database_come_back(
    redis_log: RedisLog,
    second_redis: RedisServer,
    postgres_server: PostgresServer,
    postgres_url: str,
    tmp_path: Path,
) -> None:
    feed = Feed(redis_log, seed=36)
    feed.append(80)
    drain(redis_log, postgres_url)
    done = back_up(tmp_path / "a.zip", redis_log, postgres_url, segments=tmp_path / "none")
    assert done.rows
    dsn = postgres_server.create_database("copied")
    migrate(dsn)  # tables without rows are fine
    try:
        with closing(open_log(second_redis.url)) as log:
            restored = restore(tmp_path / "a.zip", log, dsn, segments=tmp_path / "none")
            assert restored.rows == done.rows
            again = Feed.__new__(Feed)
            again.__dict__ |= feed.__dict__ | {"log": log}
            again.claims = {
                number: log.claim(claim.slot, "feed", alive_within_s=0)
                for number, claim in feed.claims.items()
            }
            stored_equals_log(again, dsn)
            again.namespace = "demo"
            again.append(40)  # new symbols and streams get numbers behind those restored
            drain(log, dsn)
            stored_equals_log(again, dsn)
    finally:
        postgres_server.drop_database("copied")


def test_the_commands_copy_and_restore(
    redis_log: RedisLog,
    redis_url: str,
    second_redis: RedisServer,
    postgres_server: PostgresServer,
    postgres_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(bridgectl.cli, list(arguments))
        return done.exit_code, done.output

    monkeypatch.chdir(tmp_path)
    for name, text in (("REDIS_URL", redis_url), ("POSTGRES_URL", postgres_url)):
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("BRIDGE_STATE_DIR", str(tmp_path / "state"))
    feed = Feed(redis_log, seed=37)
    feed.append(20)
    drain(redis_log, postgres_url)
    code, told = run("backup", "--json")
    assert code == 0, told
    facts = json.loads(told)
    assert Path(facts["path"]).parent == tmp_path / "state" / "backups"
    assert facts["entries"] == sum(map(len, feed.entries().values()))
    code, told = run("backup", "here.zip")
    assert (code, "here.zip" in told) == (0, True)
    dsn = postgres_server.create_database("commanded")
    try:
        monkeypatch.setenv("REDIS_URL", second_redis.url)
        monkeypatch.setenv("POSTGRES_URL", dsn)
        code, told = run("restore", "here.zip", "--json")
        assert code == 0, told
        assert json.loads(told)["entries"] == facts["entries"]
        assert run("restore", "here.zip")[0] == 1
    finally:
        postgres_server.drop_database("commanded")
