"""What is done to workers, server and network: a seeded choice of faults, one after the other."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping

from events.redis.connect import connect
from tests.servers import FaultProxy, wait_until
from tests.simulation.processes.process_world import LEASE_S, ProcessWorld

REPLY_TIMEOUT_S = 5.0
ASKED_S_MAX = 60.0
SLOW_SCRIPT = """#!lua
local begun = os.clock()
while os.clock() - begun < tonumber(ARGV[1]) do end
return 1"""


class Nemesis:
    """Strikes one world. `struck` counts what it did."""

    def __init__(self, world: ProcessWorld, seed: int) -> None:
        self._world, self._chance = world, random.Random(seed)
        self.struck: Counter[str] = Counter()
        self.faults: Mapping[str, Callable[[], None]] = {
            "kill a worker": self.kill_worker,
            "kill all workers": self.kill_all,
            "pause a worker": self.pause_worker,
            "end a worker": self.end_worker,
            "kill the server": self.kill_server,
            "pause the server": self.pause_server,
            "keep the server busy": self.busy_server,
            "rewrite the file and kill": self.rewrite_and_kill,
            "lose replies": lambda: self._way().drop_replies(self._chance.randint(1, 3)),
            "lose requests": lambda: self._way().drop_requests(self._chance.randint(1, 3)),
            "hold requests": self.hold_requests,
            "cut connections": lambda: self._way().cut(),
            "part a host": lambda: self.part(replies_only=False),
            "let one direction pass": lambda: self.part(replies_only=True),
            "leave no memory": self.leave_no_memory,
            "kill clients": lambda: self._ask("CLIENT", "KILL", "TYPE", "normal"),
            "flush scripts": lambda: self._ask("SCRIPT", "FLUSH"),
            "lose the shown groups": self.lose_groups,
        }

    def strike(self, name: str | None = None) -> str:
        """One fault, by name or by chance."""
        name = name or self._chance.choice(sorted(self.faults))
        self.struck[name] += 1
        self.faults[name]()
        self._world.tend()
        return name

    def rest(self, least_s: float, most_s: float) -> None:
        until = time.monotonic() + self._chance.uniform(least_s, most_s)
        while time.monotonic() < until:
            time.sleep(0.02)
            self._world.tend()

    def kill_worker(self) -> None:
        self._world.kill(self._chance.choice(self._world.workers))
        self._world.start_worker()

    def kill_all(self) -> None:
        for worker in list(self._world.workers):
            self._world.kill(worker)
            self._world.start_worker()

    def pause_worker(self) -> None:
        """SIGSTOP for longer than its lease; it wakes as one that was replaced."""
        if awake := self._world.awake():
            self._world.pause(self._chance.choice(awake), self._chance.uniform(1.5, 4) * LEASE_S)

    def end_worker(self) -> None:
        if awake := self._world.awake():
            self._world.end(self._chance.choice(awake))
            self._world.start_worker()

    def kill_server(self) -> None:
        self._world.server.kill()
        self._world.server.start()

    def pause_server(self) -> None:
        process = self._world.server.process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        time.sleep(self._chance.uniform(1.0, 3.0) * LEASE_S)
        process.send_signal(signal.SIGCONT)

    def busy_server(self) -> None:
        self._ask("EVAL", SLOW_SCRIPT, "0", str(self._chance.uniform(0.2, 0.8)))

    def rewrite_and_kill(self) -> None:
        self._ask("BGREWRITEAOF")
        time.sleep(self._chance.uniform(0.0, 0.05))
        self.kill_server()

    def hold_requests(self) -> None:
        """Delivered when their sender gave up and another may own what they are about."""
        self._way().hold_requests(self._chance.randint(1, 3), REPLY_TIMEOUT_S + 0.5)

    def part(self, *, replies_only: bool) -> None:
        """The workers of one host hear nothing for longer than their leases; then all that was
        held arrives at once."""
        way = self._way()
        way.freeze(replies_only=replies_only)
        self.rest(2 * LEASE_S, 5 * LEASE_S)
        way.thaw()

    def leave_no_memory(self) -> None:
        """Every write is refused whole until there is room again."""
        self._ask("CONFIG", "SET", "maxmemory", "1mb")
        self.rest(1 * LEASE_S, 2 * LEASE_S)
        self._ask("CONFIG", "SET", "maxmemory", "0")

    def _way(self) -> FaultProxy:
        return self._chance.choice(self._world.proxies)

    def lose_groups(self) -> None:
        """Somebody destroys what is only shown to operators."""
        for spec in self._world.specs:
            for stream in spec.inputs:
                if self._world.log.info(stream).length:
                    self._ask("XGROUP", "DESTROY", str(stream), spec.reader)

    def _ask(self, *words: str) -> None:
        client = connect(self._world.server.url, reply_timeout_s=ASKED_S_MAX)
        try:
            client.execute_command(*words)
        finally:
            client.close()


def begun(world: ProcessWorld, workers: int) -> None:
    """Start feed and workers, and wait until something is derived."""
    world.feed.start()
    for _ in range(workers):
        world.start_worker()

    def derives() -> bool:
        world.tend()
        return world.commits() > 0

    wait_until(derives, timeout_s=60, what="a first commit")
