"""A real Redis Cluster of three nodes: what the log and its tasks promise, and a whole run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from events.log import BEGIN, Lane, Log, NewEntry, Slot
from events.redis import open_log
from tests.contract.test_log import *  # noqa: F403 - the promises of the log, on the log below
from tests.contract.test_retained import *  # noqa: F403 - of what it keeps and lets go
from tests.contract.test_tasks import *  # noqa: F403 - and those of its tasks
from tests.contract.test_unordered import *  # noqa: F403 - and of handing entries out
from tests.redis_topologies import redis_cluster
from tests.servers import RedisServer


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers


@pytest.fixture
def cluster_url(nodes: list[RedisServer]) -> str:
    return f"redis+cluster://127.0.0.1:{nodes[0].port}"


@pytest.fixture
def log(cluster_url: str) -> Iterator[Log]:
    """In the place of the fixture that the contract tests use elsewhere."""
    opened = open_log(cluster_url)
    opened.client.flushall()
    yield opened
    opened.close()


def test_reads_and_lag_reach_over_the_nodes(log: Log) -> None:
    log.open_namespace("demo", 4)
    after = {}
    for partition in range(4):
        slot = Slot("demo", "source", partition)
        claim = log.claim(slot, "me", alive_within_s=0)
        log.append(claim, [NewEntry(Lane.NORMAL, "test.1", "k", b"%d" % partition)])
        log.mirror("persist.0", slot.stream(Lane.NORMAL), BEGIN, 0)
        assert log.groups(slot.stream(Lane.NORMAL))["persist.0"].lag == 1
        after[slot.stream(Lane.NORMAL)] = BEGIN
    found = log.read(after, block_ms=1000)
    assert {s.slot.partition: [e.data for e in es] for s, es in found.items()} == {
        n: [b"%d" % n] for n in range(4)
    }
    assert log.read({s: es[-1].id for s, es in found.items()}, block_ms=50) == {}


def test_the_slots_of_a_group_lie_on_different_nodes(log: Log, nodes: list[RedisServer]) -> None:
    log.open_namespace("demo", 8)
    for partition in range(8):
        log.claim(Slot("demo", "source", partition), "me", alive_within_s=0)
    client = log.client  # type: ignore[attr-defined] # the log of the fixture above
    used = {
        client.get_node_from_key(f"{Slot('demo', 'source', partition)}:meta").port
        for partition in range(8)
    }
    assert used == {node.port for node in nodes}
