"""Embedded servers: private, found again, adopted, never two on the same data."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from events.embedded import (
    EmbeddedError,
    EmbeddedPostgres,
    EmbeddedValkey,
    VolatileRedis,
    servers,
)
from events.embedded.file_lock import FileLock
from events.settings import load
from tests.servers import wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey(tmp_path)
    server.start()
    yield server
    server.stop()


def asked(url: str, *command: str) -> object:
    client = redis.Redis.from_url(url)
    try:
        return client.execute_command(*command)
    finally:
        client.close()


def test_valkey_is_durable_private_and_on_loopback(valkey: EmbeddedValkey) -> None:
    settings = {}
    for name in ("appendonly", "appendfsync", "maxmemory-policy", "bind"):
        answer = asked(valkey.url, "CONFIG", "GET", name)
        assert isinstance(answer, dict)
        settings |= answer
    text = {
        key.decode() if isinstance(key, bytes) else key: (
            value.decode() if isinstance(value, bytes) else value
        )
        for key, value in settings.items()
    }
    assert text == {
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "bind": "127.0.0.1",
    }
    with pytest.raises(redis.AuthenticationError):
        asked(valkey.url.replace(valkey.password(), "wrong"), "PING")


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_password_and_settings_can_be_read_by_their_owner_alone(valkey: EmbeddedValkey) -> None:
    for name in ("password", "server.conf", "address"):
        assert (valkey.folder / name).stat().st_mode & 0o077 == 0, name


def test_what_was_written_is_there_after_a_restart_at_the_same_address(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    first = server.start()
    asked(first, "SET", "a", "1")
    server.stop()
    assert load(bridge_state_dir=tmp_path).redis_url() is None
    second = server.start()
    assert second == first
    assert asked(second, "GET", "a") == b"1"
    server.stop()


def test_a_second_user_shares_the_server_and_leaves_it_running(
    valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    second = EmbeddedValkey(tmp_path)
    assert second.start() == valkey.url
    assert not second.owned
    second.stop()
    assert asked(valkey.url, "PING")


def test_a_server_whose_owner_was_killed_is_adopted_and_stopped(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [
            sys.executable, "-c",
            "import sys, time\nfrom pathlib import Path\n"
            "from events.embedded import EmbeddedValkey\n"
            f"server = EmbeddedValkey(Path({str(tmp_path)!r}))\n"
            "print(server.start(), flush=True)\n"
            "time.sleep(60)",
        ],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert owner.stdout is not None
    url = owner.stdout.readline().strip()
    asked(url, "SET", "a", "1")
    owner.kill()
    owner.wait()
    owner.stdout.close()
    server = EmbeddedValkey(tmp_path)
    assert server.start() == url
    assert server.owned
    assert asked(url, "GET", "a") == b"1"
    server.stop()
    with pytest.raises(redis.ConnectionError):
        asked(url, "PING")


@pytest.mark.skipif(os.name != "posix", reason="stopped processes are POSIX's")
def test_a_server_that_hangs_is_not_given_a_rival_on_the_same_data(tmp_path: Path) -> None:
    first = EmbeddedValkey(tmp_path)
    first.start()
    process = first._process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    first._lock.release()  # as if its owner had died
    try:
        with pytest.raises(EmbeddedError, match="does not answer"):
            EmbeddedValkey(tmp_path, start_wait_s=0.5).start()
    finally:
        process.send_signal(signal.SIGCONT)
        wait_until(lambda: bool(asked(first.url, "PING")))
        first.stop()


def test_a_dead_servers_address_does_not_keep_a_new_one_from_starting(tmp_path: Path) -> None:
    first = EmbeddedValkey(tmp_path)
    url = first.start()
    asked(url, "SET", "a", "1")
    assert first._process is not None
    first._process.kill()
    first._process.wait()
    first._lock.release()
    second = EmbeddedValkey(tmp_path)
    assert asked(second.start(), "GET", "a") == b"1"
    second.stop()


def test_an_unwritable_state_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(EmbeddedError, match="set BRIDGE_STATE_DIR"):
        EmbeddedValkey(tmp_path / "file").start()


def test_postgres_starts_answers_and_keeps_its_data(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path)
    url = server.start()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE t (a int)")
        connection.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(url.replace(server.password(), "wrong"))
    second = EmbeddedPostgres(tmp_path)
    assert second.start() == url
    second.stop()
    server.stop()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=2)
    assert server.start() == url
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT a FROM t").fetchone() == (1,)
    server.stop()


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_postgres_is_stopped_though_its_folder_was_closed_meanwhile(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "state")
    url = server.start()
    tmp_path.chmod(0o700)
    second = EmbeddedPostgres(tmp_path / "state")
    assert second.start() == url, "still found"
    tmp_path.chmod(0o700)
    server.stop()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=2)


def test_a_half_made_cluster_is_made_anew(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path)
    (server.cluster / "base").mkdir(parents=True)
    (server.cluster / "PG_VERSION").write_text("18\n")
    with psycopg.connect(server.start()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    server.stop()


def test_the_stand_in_for_redis_forgets_and_says_so(tmp_path: Path) -> None:
    server = VolatileRedis(tmp_path)
    url = server.start()
    assert server.volatile
    assert asked(url, "XADD", "a", "*", "b", "1")
    server.stop()
    with pytest.raises(redis.ConnectionError):
        asked(url, "PING")


def test_configured_servers_are_used_and_nothing_is_started(tmp_path: Path) -> None:
    settings = load(
        bridge_state_dir=tmp_path, redis_link="redis://r:1/0", postgres_link="postgresql://p:2/x"
    )
    with servers(settings) as found:
        assert (found.redis_url, found.redis_kind) == ("redis://r:1/0", "configured")
        assert (found.postgres_url, found.postgres_kind) == ("postgresql://p:2/x", "configured")
    assert not (tmp_path / "redis").exists()
    assert not (tmp_path / "postgres").exists()


def test_servers_not_configured_are_started_and_stopped(tmp_path: Path) -> None:
    settings = load(bridge_state_dir=tmp_path)
    with servers(settings, postgres=False) as found:
        assert found.redis_kind == "embedded"
        assert asked(found.redis_url, "PING")
        assert settings.redis_url() == found.redis_url
    assert settings.redis_url() is None


@pytest.mark.skipif(sys.platform == "win32", reason="there is no Valkey for Windows")
def test_a_server_that_dies_while_it_is_used_comes_up_again_where_it_was(tmp_path: Path) -> None:
    settings = load(bridge_state_dir=tmp_path)
    with servers(settings, postgres=False) as found:
        asked(found.redis_url, "SET", "kept", "1")
        client = redis.Redis.from_url(found.redis_url)
        info = client.info("server")
        client.close()
        assert isinstance(info, dict)
        os.kill(int(info["process_id"]), signal.SIGKILL)

        def back() -> bool:
            try:
                return asked(found.redis_url, "GET", "kept") == b"1"
            except redis.ConnectionError:
                return False

        wait_until(back, what="it is up again, with what was written")
    with pytest.raises(redis.ConnectionError):
        asked(found.redis_url, "PING")


def test_a_lock_is_free_again_when_its_holder_dies(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    holder = subprocess.Popen(
        [
            sys.executable, "-c",
            "import time\nfrom pathlib import Path\n"
            "from events.embedded.file_lock import FileLock\n"
            f"lock = FileLock(Path({str(path)!r}))\n"
            "print(lock.acquire(), flush=True); time.sleep(60)",
        ],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline().strip() == "True"
    mine = FileLock(path)
    assert not mine.acquire()
    holder.kill()
    holder.wait()
    holder.stdout.close()
    wait_until(mine.acquire, what="lock free again")
    mine.release()
