"""Servers and logs that tests share. Each server runs once per test run, on a free port."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from events.log import Log
from events.memory_log import MemoryLog
from events.redis import RedisLog, open_log
from tests.postgres_server import (  # noqa: F401 - fixtures
    empty_postgres_url,
    postgres_server,
    postgres_url,
)
from tests.servers import RedisServer, free_port, redis_binaries

os.environ.pop("COLUMNS", None)  # set where tests run side by side; commands print as in a pipe
# How long an example takes tells of the machine, not of the code.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")
REDIS_KINDS = tuple(redis_binaries())
# Folders whose tests run real servers and processes against real clocks.
ON_REAL_CLOCKS = ("contract", "integration")
RERUNS_MAX = 2


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, help="first seed of the simulations (default: 1)")
    parser.addoption("--runs", type=int, help="how many seeds each simulation takes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test on real clocks that fails is run again, and the closing line counts it as `rerun`.

    Such a test can lose a race against a machine that another program stalls for a second. Unit
    tests and seeded simulations are deterministic: they get no second chance.
    """
    for item in items:
        if item.path.parent.name in ON_REAL_CLOCKS:
            item.add_marker(pytest.mark.flaky(reruns=RERUNS_MAX))


@dataclass(frozen=True)
class Seeds:
    """Which seeds a simulation takes: its own number of them, or what the options say."""

    first: int
    runs: int | None

    def count(self, default: int) -> int:
        return default if self.runs is None else self.runs

    def take(self, default: int) -> range:
        return range(self.first, self.first + self.count(default))


@pytest.fixture
def seeds(request: pytest.FixtureRequest) -> Seeds:
    """`--seed N --runs 1` repeats the run that a failure names."""
    first = request.config.getoption("--seed")
    return Seeds(1 if first is None else first, request.config.getoption("--runs"))


class RunningServers:
    """Starts each kind of server when a test first asks for it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers: dict[str, RedisServer] = {}

    def redis(self, kind: str) -> RedisServer:
        if kind not in self._servers:
            folder = self._folder / kind
            folder.mkdir(parents=True)
            server = RedisServer(redis_binaries()[kind], folder)
            self._servers[kind] = server.start()
        return self._servers[kind]

    def stop(self) -> None:
        for server in self._servers.values():
            server.kill()


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServers]:
    running = RunningServers(tmp_path_factory.mktemp("servers"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def stand_in_url() -> Iterator[str]:
    """fakeredis' TCP server: what stands in where no server binary exists."""
    from fakeredis import TcpFakeServer

    server = TcpFakeServer(("127.0.0.1", free_port()), server_type="redis")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"redis://127.0.0.1:{server.server_address[1]}/0"
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def redis_server(servers: RunningServers) -> RedisServer:
    """One real server; emptied before the test."""
    if not REDIS_KINDS:
        pytest.skip("no Redis binary comes from pip for this system")
    server = servers.redis(REDIS_KINDS[0])
    log = open_log(server.url)
    log.client.flushall()
    log.close()
    return server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    return redis_server.url


@pytest.fixture
def redis_log(redis_url: str) -> Iterator[RedisLog]:
    log = open_log(redis_url)
    yield log
    log.close()


@pytest.fixture(params=["memory", *REDIS_KINDS, "stand_in"])
def log(request: pytest.FixtureRequest) -> Iterator[Log]:
    """Every implementation of the port, empty."""
    if request.param == "memory":
        yield MemoryLog()
        return
    if request.param == "stand_in":
        url = request.getfixturevalue("stand_in_url")
    else:
        url = request.getfixturevalue("servers").redis(request.param).url
    opened = open_log(url)
    opened.client.flushall()
    yield opened
    opened.close()
