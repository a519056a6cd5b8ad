"""Redis as people run it where one server is not enough: Sentinel with a replica, and Cluster."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from tests.servers import (
    FaultProxy,
    RedisServer,
    fault_proxy,
    free_port,
    redis_binaries,
    wait_until,
)

BINARY = next(iter(redis_binaries().values()))
CLUSTER_SLOTS = 16_384
BUS_PORT_OFFSET = 10_000


@dataclass
class SentinelDesk:
    """A master, a replica behind a link that can freeze, and a Sentinel that watches both."""

    master: RedisServer
    replica: RedisServer
    sentinel: RedisServer
    link: FaultProxy

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/desk/0"

    def lose_tail(self) -> None:
        """From now on the replica hears nothing, and does not know."""
        self.link.freeze()

    def fail_over(self) -> None:
        """The master dies; wait until the replica has taken its place."""
        self.master.stop(signal.SIGKILL)
        self.link.close()
        with redis.Redis(port=self.replica.port) as client:
            wait_until(
                lambda: client.info("replication")["role"] == "master",  # type: ignore[index] # sync client
                timeout_s=30,
                what="the replica is master",
            )


@contextmanager
def sentinel_desk(folder: Path) -> Iterator[SentinelDesk]:
    """Every acknowledged write is on the master's disk, which nobody will read again."""
    folders = [folder / name for name in ("master", "replica", "sentinel")]
    for each in folders:
        each.mkdir(parents=True)
    master = RedisServer(BINARY, folders[0], ["--appendfsync", "always"]).start()
    with fault_proxy(master.port) as link:
        options = ["--replicaof", "127.0.0.1", str(link.port), "--repl-diskless-sync-delay", "0"]
        replica = RedisServer(BINARY, folders[1], options).start()
        sentinel = RedisServer(BINARY, folders[2])
        config = folders[2] / "sentinel.conf"
        # A Sentinel points a replica with another address of its master back at that one, after
        # its failover time-out: long enough for a test.
        config.write_text(
            f"port {sentinel.port}\nbind 127.0.0.1\ndir {folders[2]}\n"
            f"sentinel monitor desk 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds desk 500\nsentinel failover-timeout desk 60000\n"
        )
        with redis.Redis(port=replica.port) as client:
            wait_until(
                lambda: client.info("replication")["master_link_status"] == "up",  # type: ignore[index] # sync client
                what="the replica follows",
            )
        sentinel.start_sentinel(config)
        with redis.Redis(port=sentinel.port) as client:
            wait_until(
                lambda: len(client.execute_command("SENTINEL", "REPLICAS", "desk")) == 1,
                what="the Sentinel knows the replica",
            )
        try:
            yield SentinelDesk(master, replica, sentinel, link)
        finally:
            for server in (sentinel, replica, master):
                server.kill()


@contextmanager
def redis_cluster(folder: Path, *, nodes: int = 3) -> Iterator[list[RedisServer]]:
    """Masters that share all slots evenly."""
    servers = []
    try:
        for number in range(nodes):
            (folder / str(number)).mkdir(parents=True)
            servers.append(RedisServer(BINARY, folder / str(number), _options(), port=_port()))
            servers[-1].start()
        _join(servers)
        yield servers
    finally:
        for server in servers:
            server.kill()


def _options() -> list[str]:
    return [
        "--cluster-enabled", "yes", "--cluster-node-timeout", "2000",
        "--cluster-require-full-coverage", "yes",
    ]  # fmt: skip


def _port() -> int:
    """The cluster's bus listens BUS_PORT_OFFSET above, which must be a port as well."""
    while (port := free_port()) > 65_535 - BUS_PORT_OFFSET:
        pass
    return port


def _join(servers: list[RedisServer]) -> None:
    clients = [redis.Redis(port=server.port, protocol=2) for server in servers]
    bounds = [CLUSTER_SLOTS * number // len(servers) for number in range(len(servers) + 1)]
    for number, client in enumerate(clients):
        span = bounds[number], bounds[number + 1] - 1
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", *span)
        # Nodes that begin in the same epoch settle who has which slots by arguing; these do not.
        client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
    for client in clients[1:]:
        client.execute_command("CLUSTER", "MEET", "127.0.0.1", servers[0].port)
    wait_until(lambda: all(map(_is_whole, clients)), what="the cluster is whole")
    for client in clients:
        client.close()


def _is_whole(client: redis.Redis) -> bool:
    state = client.execute_command("CLUSTER INFO")
    return state["cluster_state"] == "ok" and state["cluster_slots_ok"] == str(CLUSTER_SLOTS)
