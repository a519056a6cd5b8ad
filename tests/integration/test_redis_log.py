"""The log in Redis under lost replies, restarts, users with few rights, Sentinel and Cluster."""

from __future__ import annotations

import random
import signal
import ssl
from pathlib import Path

import pytest
import trustme

from events.codec import UnknownEvent, decode
from events.log import (
    BEGIN,
    Claim,
    CursorMove,
    Lane,
    LogError,
    LogFull,
    LogUnavailable,
    NewEntry,
    Slot,
    StaleCursor,
)
from events.redis import RedisLog, open_log
from tests.servers import RedisServer, fault_proxy, free_port, redis_binaries, wait_until

SLOT = Slot("demo", "source", 0)
NORMAL = SLOT.stream(Lane.NORMAL)
BINARY = next(iter(redis_binaries().values()))


def entry(number: int) -> NewEntry:
    return NewEntry(Lane.NORMAL, "test.1", "k", str(number).encode())


def append_by_asking(log: RedisLog, claim: Claim, number: int, expected: str) -> str:
    """Append one entry as a producer does: after a lost reply, ask where the cursor is."""
    for _ in range(50):
        try:
            done = log.append(claim, [entry(number)], [CursorMove("feed", expected, str(number))])
            return done.cursors["feed"]
        except LogUnavailable:
            try:
                found = log.cursors(claim.slot).get("feed", "")
            except LogUnavailable:
                continue
            if found.partition("@")[0] == str(number):
                return found
        except StaleCursor as stale:
            if stale.found.partition("@")[0] == str(number):
                return stale.found
            raise
    raise AssertionError("the log never answered")


def test_lost_replies_and_requests_double_nothing_and_lose_nothing(
    redis_server: RedisServer,
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # noqa: T201  (shown when the test fails)
    rng = random.Random(seed)
    with fault_proxy(redis_server.port) as proxy:
        log = open_log(f"redis://127.0.0.1:{proxy.port}/0")
        claim = log.claim(SLOT, "me", alive_within_s=0)
        cursor = ""
        for number in range(300):
            fault = rng.random()
            if fault < 0.2:
                proxy.drop_replies()
            elif fault < 0.4:
                proxy.drop_requests()
            elif fault < 0.45:
                proxy.cut()
            cursor = append_by_asking(log, claim, number, cursor)
        assert proxy.dropped > 50
        log.close()
    direct = open_log(redis_server.url)
    found = [int(e.data) for e in direct.between(NORMAL, count_max=1000)]
    direct.close()
    assert found == list(range(300))


def test_a_client_that_repeats_blindly_would_double(redis_server: RedisServer) -> None:
    """The checker above can go red: redis-py's own default appends twice."""
    import redis

    with fault_proxy(redis_server.port) as proxy, redis.Redis(port=proxy.port) as client:
        client.ping()
        proxy.drop_replies()
        client.xadd("careless", {"n": 1})
    with redis.Redis(port=redis_server.port) as client:
        assert client.xlen("careless") == 2


def test_no_answer_is_said_as_unavailable_not_as_empty() -> None:
    with pytest.raises(LogUnavailable, match="does not answer"):
        open_log(f"redis://127.0.0.1:{free_port()}/0")


def test_a_url_of_no_known_form_is_refused_without_its_password() -> None:
    with pytest.raises(LogError, match="no Redis URL") as refused:
        open_log("http://user:sekret@127.0.0.1:1/0")
    assert "sekret" not in str(refused.value)


def test_a_restart_with_the_append_only_file_loses_nothing(tmp_path: Path) -> None:
    server = RedisServer(BINARY, tmp_path, ["--appendfsync", "always"]).start()
    try:
        log = open_log(server.url)
        claim = log.claim(SLOT, "me", alive_within_s=0)
        log.append(claim, [entry(n) for n in range(5)], [CursorMove("feed", "", "5")])
        server.kill()
        with pytest.raises(LogUnavailable):
            log.append(claim, [entry(5)])
        server.start()
        log.append(claim, [entry(5)])
        assert [int(e.data) for e in log.between(NORMAL, count_max=10)] == list(range(6))
        log.close()
    finally:
        server.kill()


def test_scripts_are_loaded_again_after_the_server_forgot_them(redis_log: RedisLog) -> None:
    claim = redis_log.claim(SLOT, "me", alive_within_s=0)
    redis_log.append(claim, [entry(1)])
    redis_log.client.script_flush()
    redis_log.append(claim, [entry(2)])
    assert redis_log.info(NORMAL).length == 2


def test_ids_go_on_after_the_counter_was_lost(redis_log: RedisLog) -> None:
    first = redis_log.claim(SLOT, "me", alive_within_s=0)
    [before] = redis_log.append(first, [entry(1)]).ids
    redis_log.client.execute_command("XADD", str(NORMAL), f"{before.ms + 10_000_000}-5", "a", "b")
    redis_log.client.delete(f"{SLOT}:meta")
    [after] = redis_log.append(redis_log.claim(SLOT, "me", alive_within_s=0), [entry(2)]).ids
    assert (after.ms, after.seq) == (before.ms + 10_000_000, 6)


def test_entries_of_strangers_do_not_stop_the_reading(redis_log: RedisLog) -> None:
    redis_log.client.execute_command("XADD", str(NORMAL), "1-1", "a", "b")
    redis_log.client.execute_command("XADD", str(NORMAL), "1-2", *("type", b"\xff", "key", "k") * 2)
    redis_log.append(redis_log.claim(SLOT, "me", alive_within_s=0), [entry(1)])
    first, second, ours = redis_log.read({NORMAL: BEGIN})[NORMAL]
    assert ours.data == b"1"
    assert first.data == b"a\0b"
    for stranger in (first, second):
        with pytest.raises(UnknownEvent):
            decode(stranger)


def test_a_wrong_password_and_a_user_without_rights_are_named(tmp_path: Path) -> None:
    server = RedisServer(BINARY, tmp_path, ["--requirepass", "secret"]).start()
    try:
        with pytest.raises(LogError, match="Check user, password"):
            open_log(f"redis://:wrong@127.0.0.1:{server.port}/0")
        admin = open_log(f"redis://:secret@127.0.0.1:{server.port}/0")
        admin.client.execute_command(
            "ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@read", "+ping", "-@write"
        )
        admin.append(admin.claim(SLOT, "me", alive_within_s=0), [entry(1)])
        reader = open_log(f"redis://reader:pw@127.0.0.1:{server.port}/0")
        assert [e.data for e in reader.read({NORMAL: BEGIN})[NORMAL]] == [b"1"]
        with pytest.raises(LogError, match="refuses"):
            reader.post(Slot("demo", "operator", 0), entry(1))
        reader.close()
        admin.close()
    finally:
        server.kill()


def test_memory_at_its_limit_refuses_whole_appends(tmp_path: Path) -> None:
    server = RedisServer(BINARY, tmp_path, ["--maxmemory", "8mb"]).start()
    try:
        log = open_log(server.url)
        claim = log.claim(SLOT, "me", alive_within_s=0)
        big = NewEntry(Lane.NORMAL, "test.1", "k", b"x" * 1_000_000)
        with pytest.raises(LogFull, match="raise maxmemory or trim"):
            _append_without_end(log, claim, big)
        assert log.info(NORMAL).length % 2 == 0
        log.close()
    finally:
        server.kill()


def _append_without_end(log: RedisLog, claim: Claim, big: NewEntry) -> None:
    for _ in range(20):
        log.append(claim, [big, big])


def test_tls_is_spoken_and_an_unknown_certificate_refused(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    certificate = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(certificate)
    with fault_proxy(redis_server.port, context) as proxy:
        log = open_log(f"rediss://127.0.0.1:{proxy.port}/0?ssl_ca_certs={certificate}")
        claim = log.claim(SLOT, "me", alive_within_s=0)
        log.append(claim, [entry(1)])
        assert log.info(NORMAL).length == 1
        log.close()
        with pytest.raises(LogUnavailable, match=r"(?i)certificate"):
            open_log(f"rediss://127.0.0.1:{proxy.port}/0")


def test_sentinel_names_the_new_master_after_a_failover(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("master", "replica", "sentinel")]
    for folder in folders:
        folder.mkdir()
    master = RedisServer(BINARY, folders[0]).start()
    replica = RedisServer(
        BINARY, folders[1], ["--replicaof", "127.0.0.1", str(master.port)]
    ).start()
    config = folders[2] / "sentinel.conf"
    sentinel = RedisServer(BINARY, folders[2])
    config.write_text(
        f"port {sentinel.port}\nbind 127.0.0.1\ndir {folders[2]}\n"
        f"sentinel monitor desk 127.0.0.1 {master.port} 1\n"
        "sentinel down-after-milliseconds desk 500\nsentinel failover-timeout desk 3000\n"
    )
    sentinel.start_sentinel(config)
    log = None
    try:
        log = open_log(f"redis+sentinel://127.0.0.1:{sentinel.port}/desk/0")
        claim = log.claim(SLOT, "me", alive_within_s=0)
        log.append(claim, [entry(1)])
        wait_until(lambda: b"1" in _newest_of(replica), what="replicated")
        master.stop(signal.SIGKILL)

        def appended_again() -> bool:
            try:
                log.append(claim, [entry(2)])
            except LogUnavailable:
                return False
            return True

        wait_until(appended_again, timeout_s=40, what="the replica is master")
        assert [e.data for e in log.between(NORMAL, count_max=9)] == [b"1", b"2"]
    finally:
        if log is not None:
            log.close()
        for server in (sentinel, replica, master):
            server.kill()


def _newest_of(server: RedisServer) -> list[bytes]:
    log = open_log(server.url)
    try:
        return [e.data for e in log.newest(NORMAL)]
    finally:
        log.close()
