"""The disk under the log is really full: what was acknowledged stays, and the group goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from events.log import LogError
from tests.conftest import Seeds
from tests.servers import RedisServer, fault_proxy, redis_binaries, wait_until
from tests.simulation.groups.chains import Chain
from tests.simulation.processes.nemesis import Nemesis, begun
from tests.simulation.processes.process_world import ProcessWorld

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not sys.platform.startswith("linux") or os.geteuid() != 0,
        reason="a small disk is mounted, which needs root on Linux",
    ),
]
DISK_MIB = 40


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of its own, in memory. Skips where mounting is not permitted."""
    with tempfile.TemporaryDirectory(prefix="mt5-bridge-log-") as folder:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", folder],
            capture_output=True,
            text=True,
        )
        if mounted.returncode:
            pytest.skip(f"mounting is not permitted: {mounted.stderr.strip()}")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as out, suppress(OSError):
        for size in (2**20, 2**12, 1):
            with suppress(OSError):
                while out.write(bytes(size)) == size:
                    pass


def takes_no_more(world: ProcessWorld) -> bool:
    """The server ended rather than acknowledge what it could not keep, or refuses to write."""
    assert world.server.process is not None
    if world.server.process.poll() is not None:
        return True
    try:
        world.log.tasks.beat_worker("probe", "probe")
    except LogError:
        return True
    return False


@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_a_full_disk_of_the_log_loses_nothing_that_was_acknowledged(
    fsync: str, small_disk: Path, tmp_path: Path, seeds: Seeds
) -> None:
    binary = next(iter(redis_binaries().values()))
    server = RedisServer(binary, small_disk, ["--appendfsync", fsync]).start()
    with fault_proxy(server.port) as way:
        world = ProcessWorld(tmp_path, server, [way], Chain, seeds.first)
        try:
            begun(world, workers=2)
            ballast = small_disk / "ballast"
            fill(ballast)
            wait_until(lambda: takes_no_more(world), timeout_s=60, what="a full disk")
            ballast.unlink()
            assert server.process is not None
            if server.process.poll() is not None:
                server.start()
            before = world.commits()
            wait_until(lambda: world.commits() > before, timeout_s=30, what="going on")
            Nemesis(world, seeds.first).strike("kill the server")
            world.drain()
            assert world.differences() == [], (seeds.first, fsync)
        finally:
            world.close()
            server.kill()
