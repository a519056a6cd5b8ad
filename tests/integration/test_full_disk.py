"""Group persist while the disk under the database is really full: nothing lost, nothing doubled."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from consumers.persist import PersistGroup
from events.memory_log import MemoryLog
from events.postgres import DatabaseUnavailable, connect, migrate
from tests.integration.persisting import (
    Feed,
    finish,
    flowing,
    options,
    stored_equals_log,
)
from tests.postgres_server import PostgresServer
from tests.servers import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not sys.platform.startswith("linux") or os.geteuid() != 0,
        reason="a small disk is mounted, which needs root on Linux",
    ),
]

DISK_MIB = 140


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of its own, in memory. Skips where mounting is not permitted."""
    with tempfile.TemporaryDirectory(prefix="mt5-bridge-disk-") as folder:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", folder],
            capture_output=True,
            text=True,
        )
        if mounted.returncode:
            pytest.skip(f"mounting is not permitted: {mounted.stderr.strip()}")
        try:
            Path(folder).chmod(0o755)
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def postgres_on_small_disk(small_disk: Path) -> Iterator[PostgresServer]:
    server = PostgresServer(small_disk / "pgdata").start()
    try:
        yield server
    finally:
        server.kill()


def fill(ballast: Path, *, left_mib: int) -> None:
    """Take the disk's space but `left_mib`, whatever else is written meanwhile."""
    chunk = bytes(2**20)
    with ballast.open("wb", buffering=0) as out, suppress(OSError):
        while True:
            free = os.statvfs(ballast.parent)
            if free.f_bavail * free.f_frsize <= left_mib * 2**20:
                return
            out.write(chunk)


@pytest.mark.parametrize("left_mib", [4, 0], ids=["tables", "all"])
def test_a_full_disk_of_the_database_is_waited_for(
    postgres_on_small_disk: PostgresServer,
    small_disk: Path,
    caplog: pytest.LogCaptureFixture,
    left_mib: int,
) -> None:
    server = postgres_on_small_disk
    dsn = server.create_database("full")
    migrate(dsn)
    feed = Feed(MemoryLog(), seed=7 + left_mib)
    group = PersistGroup(options(feed.log, dsn))
    group.start()
    ballast = small_disk / "ballast"
    with flowing(feed):
        wait_until(lambda: group.progress().commits > 3, what="storing")
        fill(ballast, left_mib=left_mib)
        wait_until(lambda: bool(group.progress().waiting), timeout_s=60, what="the full disk")
        entries = group.progress().entries
        threading.Event().wait(3)  # several tries, none of which gets through
        assert group.progress().entries == entries
        assert group.running
    ballast.unlink()
    if not answers(dsn):  # without space for its journal PostgreSQL ends itself
        server.kill()
        server.start()
    finish(group, feed, dsn)
    stored_equals_log(feed, dsn)
    told = [record.message for record in caplog.records if "nothing is lost" in record.message]
    assert len(told) <= 3
    assert any("disk is full" in each for each in told)


def answers(dsn: str) -> bool:
    try:
        connect(dsn, application="test").close()
    except DatabaseUnavailable:
        return False
    return True
