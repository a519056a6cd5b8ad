"""Groups of handlers as processes on a real server: they come, go, die, stand still and wake up."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from events.codec import decode, encode
from events.decisions import TradeSignal
from events.log import Lane, Slot, Stream, partition_of
from events.operations import ClockTick
from events.redis import RedisLog, open_log
from tests.integration.persisting import BASE_MS, ticks_of
from tests.integration.test_consume import Consumer, end
from tests.markdown_pages import read_page
from tests.servers import wait_until

wait = partial(wait_until, timeout_s=40)
PARTITIONS = 4
APPENDS_PER_S = 200
LEASE_S = 1.0
POLL_S = 0.002
MODULE = """
import os
import time
from collections.abc import Iterator
from typing import Any

from consumers.runtime.handler import Handler
from events.decisions import TradeSignal


class Chain(Handler):
    factor = 1_000_003

    def handle(self, event: Any) -> Iterator[TradeSignal]:
        count, chain = self.state.get("chain", [0, 0])
        chain = (chain * self.factor + event.event_time_ms) % 2**61
        self.state["chain"] = [count + 1, chain]
        yield TradeSignal(
            event_time_ms=event.event_time_ms, strategy="chain", symbol="X", target="flat",
            reason=f"{count + 1}:{chain}",
        )


class Bad(Handler):
    def handle(self, event: Any) -> Iterator[TradeSignal]:
        raise ValueError("never")


class Hangs(Chain):
    def handle(self, event: Any) -> Iterator[TradeSignal]:
        while event.event_time_ms == 3 and not os.path.exists("cured"):
            time.sleep(0.05)
        yield from super().handle(event)
"""
SLOTS = [Slot("demo", "chain", number) for number in range(PARTITIONS)]


def expected(count: int, factor: int = 1_000_003) -> list[str]:
    chain, reasons = 0, []
    for number in range(count):
        chain = (chain * factor + number) % 2**61
        reasons.append(f"{number + 1}:{chain}")
    return reasons


class Feed:
    """Appends numbered events to every partition, and reads what was derived from them."""

    def __init__(self, log: RedisLog, partitions: int = PARTITIONS) -> None:
        self.log = log
        log.open_namespace("demo", partitions)
        slots = [Slot("demo", "source", number) for number in range(partitions)]
        self.claims = [log.claim(slot, "feed", alive_within_s=0.1) for slot in slots]
        self.appended = 0

    def append(self, count: int = 1) -> None:
        numbers = range(self.appended, self.appended + count)
        for claim in self.claims:
            self.log.append(claim, [encode(ClockTick(event_time_ms=n)) for n in numbers])
        self.appended += count

    def derived(self, slot: Slot) -> list[str]:
        entries = self.log.between(slot.stream(Lane.NORMAL), count_max=1_000_000)
        return [event.reason for e in entries if isinstance(event := decode(e), TradeSignal)]

    def settled(self) -> bool:
        lengths = [self.log.info(slot.stream(Lane.NORMAL)).entries_added for slot in SLOTS]
        return lengths == [self.appended] * PARTITIONS

    def check(self, told: str) -> None:
        wait(self.settled, what=told)
        for slot in SLOTS:
            assert self.derived(slot) == expected(self.appended), told

    @contextmanager
    def flowing(self, per_s: int = APPENDS_PER_S) -> Iterator[None]:
        stop = threading.Event()

        def run() -> None:
            while not stop.wait(1 / per_s):
                self.append()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


class Pauses:
    """Sees when something is derived in each task, on a connection of its own."""

    def __init__(self, url: str) -> None:
        self._log = open_log(url)
        self._streams = [slot.stream(Lane.NORMAL) for slot in SLOTS]
        self.moved: dict[Stream, list[float]] = {stream: [] for stream in self._streams}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Pauses:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._log.close()

    def _run(self) -> None:
        seen: dict[Stream, int] = {}
        while not self._stop.wait(POLL_S):
            for stream in self._streams:
                entries = self._log.client.xlen(str(stream))
                if seen.get(stream) != entries:
                    seen[stream] = entries
                    self.moved[stream].append(time.monotonic())

    def longest_s(self, since: float) -> float:
        """The longest time since then, and until every task goes on, in which one stood still."""
        now = time.monotonic()
        wait(lambda: all(moments[-1] > now for moments in self.moved.values()), what="all go on")
        return max(
            later - earlier
            for moments in self.moved.values()
            for earlier, later in pairwise(moments)
            if later > since
        )


@pytest.fixture
def consumer(tmp_path: Path, redis_url: str) -> Iterator[Consumer]:
    (tmp_path / "my_handlers.py").write_text(MODULE)
    with closing(Consumer(tmp_path, redis_url, "")) as made:
        yield made


CHAIN = ("consume", "--handler", "my_handlers:Chain", "--lease", str(LEASE_S))


def holders(log: RedisLog) -> list[str]:
    return [holding.holder for holding in log.tasks.look(SLOTS)]


def told_pause(text: str) -> None:
    sys.stdout.write(f"\npause of a {text}\n")


def pid_of(holder: str) -> int:
    return int(holder.partition("/")[0].rpartition(":")[2])


def held_by(log: RedisLog, workers: int) -> bool:
    """Whether so many workers share all tasks, each with as many as another."""
    found = holders(log)
    return all(found) and len(set(found)) == workers


def test_workers_come_and_go_while_events_flow(
    consumer: Consumer, redis_log: RedisLog, redis_url: str
) -> None:
    feed = Feed(redis_log)
    with feed.flowing():
        first = consumer.start(*CHAIN, "--workers", "1")
        wait(lambda: held_by(redis_log, 1), what=consumer.told())
        second = consumer.start(*CHAIN, "--workers", "3")  # such as on another host
        wait(lambda: held_by(redis_log, 4), what=consumer.told())
        time.sleep(0.3)
        with Pauses(redis_url) as pauses:
            time.sleep(0.3)
            begun = time.monotonic()
            second.send_signal(signal.SIGTERM)
            wait(lambda: held_by(redis_log, 1), what=consumer.told())
            pause_s = pauses.longest_s(begun)
        second.communicate(timeout=30)
        assert second.returncode == 0, consumer.told()
    feed.check(consumer.told())
    end(first, signal.SIGTERM)
    assert first.returncode == 0, consumer.told()
    assert "fenced" not in consumer.told()
    assert holders(redis_log) == [""] * PARTITIONS
    assert redis_log.tasks.workers("chain") == {}
    told_pause(f"hand-over on SIGTERM, 3 tasks of 3 workers to 1: {pause_s * 1000:.0f} ms")
    assert pause_s < LEASE_S, "nobody waited for a lease"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither SIGKILL nor SIGSTOP")
def test_a_killed_worker_is_replaced_and_a_stopped_one_wakes_up_fenced(
    consumer: Consumer, redis_log: RedisLog, redis_url: str
) -> None:
    feed = Feed(redis_log)
    with feed.flowing():
        child = consumer.start(*CHAIN, "--workers", "2")
        wait(lambda: held_by(redis_log, 2), what=consumer.told())
        time.sleep(0.3)
        with Pauses(redis_url) as pauses:
            time.sleep(0.3)
            victim = holders(redis_log)[0]
            begun = time.monotonic()
            os.kill(pid_of(victim), signal.SIGKILL)
            wait(lambda: victim not in holders(redis_log), what=consumer.told())
            pause_s = pauses.longest_s(begun)
        wait(lambda: held_by(redis_log, 2), what="the one that is started again has its share")
        sleeper = holders(redis_log)[0]
        os.kill(pid_of(sleeper), signal.SIGSTOP)
        wait(lambda: sleeper not in holders(redis_log), what=consumer.told())
        time.sleep(0.3)
        os.kill(pid_of(sleeper), signal.SIGCONT)
        wait(lambda: "fenced" in consumer.told(), what="the fence")
        wait(lambda: held_by(redis_log, 2), what=consumer.told())
    feed.check(consumer.told())
    end(child, signal.SIGTERM)
    assert child.returncode == 0, consumer.told()
    told_pause(f"take-over after kill -9, lease {LEASE_S:g} s: {pause_s * 1000:.0f} ms")
    assert pause_s >= LEASE_S * 0.75, "the lease was not waited for"
    assert pause_s <= 1.25 * LEASE_S + 2.0, "far over the target: 1.25 x lease + 0.2 s"


def test_a_group_runs_until_nothing_is_left_and_tells_what_it_did(
    consumer: Consumer, redis_log: RedisLog
) -> None:
    feed = Feed(redis_log)
    feed.append(250)
    code, out, told = consumer.run(
        *CHAIN, "--workers", "5", "--set", "factor=7", "--batch", "100", "--until-idle", "--json"
    )
    assert code == 0, told
    result = json.loads(out)
    assert result | {"fenced": 0, "restarts": 0} == result
    assert (result["group"], result["workers"], result["tasks"]) == ("chain", 5, PARTITIONS)
    assert (result["entries"], result["outputs"]) == (1000, 1000)
    assert result["commits"] == PARTITIONS * 3
    assert "5 workers for 4 tasks" in told
    for slot in SLOTS:
        assert feed.derived(slot) == expected(250, factor=7)
    lag = redis_log.groups(Stream(Slot("demo", "source", 0), Lane.NORMAL))["chain.0"]
    assert (lag.entries_read, lag.lag) == (250, 0)


def test_a_handler_that_hangs_ends_its_worker_and_another_goes_on(
    consumer: Consumer, redis_log: RedisLog
) -> None:
    feed = Feed(redis_log)
    feed.append(5)
    child = consumer.start(
        "consume", "--handler", "my_handlers:Hangs", "--group", "chain", "--handle-limit", "1"
    )
    wait(lambda: "did not end within 1 s" in consumer.told(), what=consumer.told())
    (consumer.folder / "cured").touch()
    feed.check(consumer.told())
    end(child, signal.SIGTERM)


def test_the_example_of_the_page_runs_as_the_page_says(
    consumer: Consumer, redis_log: RedisLog
) -> None:
    page = read_page(Path(__file__).parents[2] / "docs" / "GROUPS.md")
    [example] = [block.text for block in page.blocks if "class BigMoves(Handler)" in block.text]
    (consumer.folder / "my_handlers.py").write_text(example)
    redis_log.open_namespace("demo", PARTITIONS)
    partition = partition_of("EURUSD", PARTITIONS)
    claim = redis_log.claim(Slot("demo", "source", partition), "feed", alive_within_s=0.1)
    for number, bid in enumerate((1.1, 1.1001, 1.1006, 1.1, 1.1)):
        batch = ticks_of("EURUSD", BASE_MS + number * 1000, 3, chance=random.Random(1))
        batch.ticks["bid"] = bid
        redis_log.append(claim, [encode(batch)])
    code, out, told = consumer.run(
        "consume", "--handler", "my_handlers:BigMoves", "--set", "percent=0.04", "--until-idle",
        "--json",
    )  # fmt: skip
    assert code == 0, told
    assert json.loads(out)["group"] == "big-moves"
    signals = redis_log.between(
        Slot("demo", "big-moves", partition).stream(Lane.NORMAL), count_max=10
    )
    found = [event for entry in signals if isinstance(event := decode(entry), TradeSignal)]
    assert [(one.target, one.reason) for one in found] == [
        ("long", "1.1 to 1.1006"),
        ("short", "1.1006 to 1.1"),
    ]


def test_strategies_are_groups_that_do_not_touch_each_other(
    consumer: Consumer, redis_log: RedisLog
) -> None:
    feed = Feed(redis_log)
    feed.append(20)
    consumer.environment["STRATEGIES"] = "my_handlers:Chain,bad=my_handlers:Bad"
    code, out, told = consumer.run(
        "consume", "--group", "strategy", "--from", "oldest", "--until-idle", "--json"
    )
    assert code == 0, told
    found = {one["group"]: one for one in json.loads(out)["groups"]}
    assert found["strategy.chain"]["outputs"] == found["strategy.chain"]["entries"] == 80
    assert found["strategy.bad"]["failed"] == 80
    assert feed.derived(Slot("demo", "strategy.chain", 0)) == expected(20)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_workers_end_with_their_supervisor_even_when_that_is_killed(
    consumer: Consumer, redis_log: RedisLog
) -> None:
    feed = Feed(redis_log)
    child = consumer.start(*CHAIN, "--workers", "2")
    wait(lambda: held_by(redis_log, 2), what=consumer.told())
    feed.append(10)
    child.kill()
    wait(lambda: holders(redis_log) == [""] * PARTITIONS, what="the workers to hand over")
    assert redis_log.tasks.workers("chain") == {}
    code, _, told = consumer.run(*CHAIN, "--until-idle")
    assert code == 0, told
    feed.check(told)
