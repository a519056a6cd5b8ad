"""The Redis user of the page has every right the bridge needs, and none to harm others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import NoPermissionError

from events.log import Log
from events.redis import RedisLog, open_log
from tests.contract.test_latch import *  # noqa: F403 - the promises of latches, on the log below
from tests.contract.test_log import *  # noqa: F403 - the promises of the log, on the log below
from tests.contract.test_retained import *  # noqa: F403 - of what it keeps and lets go
from tests.contract.test_tasks import *  # noqa: F403 - and those of its tasks
from tests.contract.test_unordered import *  # noqa: F403 - and of handing entries out
from tests.servers import RedisServer, redis_binaries

PAGE = Path(__file__).parents[2] / "docs" / "OPERATIONS.md"


def rights() -> list[str]:
    [line] = re.findall(r"^(ACL SETUSER bridge .*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    return str(line).split()


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisLog]:
    binary = next(iter(redis_binaries().values()))
    server = RedisServer(binary, tmp_path_factory.mktemp("rights")).start()
    opened = open_log(server.url)
    opened.client.execute_command(*rights())
    yield opened
    opened.close()
    server.kill()


@pytest.fixture
def log(admin: RedisLog) -> Iterator[Log]:
    """In the place of the fixture that the contract tests use elsewhere."""
    admin.client.flushall()
    port = admin.client.connection_pool.connection_kwargs["port"]
    opened = open_log(f"redis://bridge:change-me@127.0.0.1:{port}/0")
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",), ("CONFIG", "SET", "maxmemory", "1"), ("SHUTDOWN",), ("KEYS", "*"),
        ("SET", "another-program", "1"), ("GET", "another-program"), ("SCRIPT", "FLUSH"),
        ("ACL", "LIST"), ("REPLICAOF", "NO", "ONE"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_the_user_can_harm_nobody_else(log: RedisLog, command: tuple[str, ...]) -> None:
    with pytest.raises(NoPermissionError):
        log.client.execute_command(*command)
