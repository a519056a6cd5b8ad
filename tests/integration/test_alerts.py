"""Groups `watch` and `alerts` as processes: killed, hanging targets, a target that is down."""

from __future__ import annotations

import json
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from events.alerts import Alert
from events.codec import encode
from events.log import SOURCE, Slot
from events.memory_log import MemoryLog
from events.operations import TerminalDown, TerminalUp
from events.postgres import connect
from events.redis import RedisLog, open_log
from tests.endpoint import Endpoint
from tests.integration.persisting import drain
from tests.integration.test_consume import Consumer
from tests.servers import RedisServer, redis_binaries, wait_until

wait = partial(wait_until, timeout_s=60)
ALERTS = ("consume", "--group", "alerts", "--plain", "--lease", "1")

DELIVERING = (
    "consume", "--as-worker", "0", "--group", "alerts.webhook", "--unordered", "--lease", "1",
    "--handler", "consumers.alerts:AlertDelivery", "--set", "target=webhook", "--batch", "20",
)  # fmt: skip
"""What the command above starts: a worker that is killed directly."""


@pytest.fixture
def consumer(tmp_path: Path, redis_url: str) -> Iterator[Consumer]:
    with closing(Consumer(tmp_path, redis_url, "postgresql://x@127.0.0.1:1/x")) as made:
        yield made


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with closing(Endpoint()) as made:
        yield made


class Trouble:
    """Terminals that log in to the wrong account, one after the other: an alert each."""

    def __init__(self, log: RedisLog) -> None:
        self.log, self.count = log, 0
        log.open_namespace("demo", 1)
        self._claim = log.claim(Slot("demo", SOURCE, 0), "test", alive_within_s=0)

    def happen(self, count: int = 1) -> None:
        for _ in range(count):
            self.count += 1
            event = TerminalDown(
                event_time_ms=1_700_000_000_000 + self.count, terminal=f"t{self.count}",
                reason="wrong_account", detail=f"case {self.count};",
            )  # fmt: skip
            self.log.append(self._claim, [encode(event)])

    def end(self, number: int) -> None:
        at = 1_700_000_100_000
        event = TerminalUp(
            event_time_ms=at, recv_time_ms=at, terminal=f"t{number}", kind="native", login=7,
            server="s",
        )  # fmt: skip
        self.log.append(self._claim, [encode(event)])

    def told(self, endpoint: Endpoint) -> set[int]:
        texts = endpoint.texts
        return {n for n in range(1, self.count + 1) if any(f"case {n};" in one for one in texts)}

    @property
    def all(self) -> set[int]:
        return set(range(1, self.count + 1))


def with_target(consumer: Consumer, endpoint: Endpoint, **more: str) -> None:
    consumer.environment |= {"ALERT_WEBHOOK": endpoint.url, "ALERT_TIMEOUT_S": "2", **more}


def kill(child: subprocess.Popen[str]) -> None:
    """The command; its workers see their lifeline end."""
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=30)


def test_what_happens_reaches_a_webhook_and_so_does_silence_and_the_end_of_it(
    consumer: Consumer, redis_log: RedisLog, endpoint: Endpoint
) -> None:
    with_target(consumer, endpoint, ALERT_SILENCE_S="5")
    trouble = Trouble(redis_log)
    risk_task = Slot("demo", "risk", 0)
    risk = consumer.start("consume", "--as-worker", "0", "--group", "risk")
    consumer.start("consume", "--as-worker", "0", "--group", "watch")
    consumer.start(*ALERTS)
    trouble.happen(2)
    wait(lambda: bool(redis_log.holder(risk_task)), what="group risk to begin")
    kill(risk)
    wait(lambda: trouble.told(endpoint) == {1, 2}, what="both cases told")
    trouble.end(2)
    wait(lambda: "terminal t2 is up, account 7" in endpoint.texts, what="the end of it told")
    wait(lambda: told_of("no worker of group risk", endpoint), what="silence told")
    consumer.start("consume", "--as-worker", "0", "--group", "risk")
    wait(lambda: told_of("group risk is back", endpoint), what="the end of the silence told")
    code, out, _ = consumer.run("alerts", "list", "--open", "--json")
    assert code == 0
    assert {one["subject"] for one in json.loads(out)["alerts"]} >= {"t1"}
    assert "t2" not in out
    code, out, _ = consumer.run("replay", "--verify", "--group", "watch", "--json")
    assert code == 0, "the same alerts follow from the log again, to the byte"


def told_of(text: str, endpoint: Endpoint) -> bool:
    return any(text in one for one in endpoint.texts)


def test_killed_while_delivering_everything_is_told_and_hardly_anything_twice(
    consumer: Consumer, redis_log: RedisLog, endpoint: Endpoint
) -> None:
    """Seeded moments; the endpoint is slow, so that a kill falls into a delivery."""
    chance = random.Random(7)
    with_target(consumer, endpoint)
    trouble = Trouble(redis_log)
    consumer.start("consume", "--as-worker", "0", "--group", "watch")
    endpoint.wait_s = 0.2
    kills = 2
    for _ in range(kills):
        alerts = consumer.start(*DELIVERING)
        before = len(endpoint.seen)
        trouble.happen(5)
        wait(lambda seen=before: len(endpoint.seen) > seen, what="alerts at the webhook")  # type: ignore[misc] # mypy cannot infer
        endpoint.closing.wait(chance.random() * 0.5)
        kill(alerts)
    consumer.start(*DELIVERING)
    wait(lambda: trouble.told(endpoint) == trouble.all, what="alerts at the webhook")
    assert len(endpoint.seen) <= trouble.count + kills * 20, "at most a batch twice for each kill"


def test_a_target_that_is_down_gets_all_of_it_later_and_one_that_hangs_holds_up_no_other(
    consumer: Consumer, redis_log: RedisLog, endpoint: Endpoint
) -> None:
    hanging = Endpoint()
    hanging.wait_s = 60
    try:
        url = hanging.url.replace("http://", "json://")
        with_target(consumer, endpoint, ALERT_URLS=url)
        endpoint.status = 503
        trouble = Trouble(redis_log)
        consumer.start("consume", "--as-worker", "0", "--group", "watch")
        consumer.start(*ALERTS)
        trouble.happen(6)
        wait(lambda: len(endpoint.seen) >= 2 and bool(hanging.seen), what="alerts at the webhook")
        assert trouble.told(endpoint) == {1}, "in order, and again"
        endpoint.status = 200
        wait(lambda: trouble.told(endpoint) == trouble.all, what="alerts at the webhook")
        assert trouble.all - {1} == {
            n for n in trouble.all if sum(f"case {n};" in text for text in endpoint.texts) == 1
        }
        assert "password" not in consumer.told()
    finally:
        hanging.close()


@pytest.mark.slow
def test_a_log_that_is_killed_is_told_past_it_and_so_is_its_return(
    consumer: Consumer, endpoint: Endpoint, tmp_path: Path
) -> None:
    binary = next(iter(redis_binaries().values()))
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(binary, folder).start()
    try:
        with_target(consumer, endpoint, ALERT_SILENCE_S="5", REDIS_URL=server.url)
        with closing(open_log(server.url)) as log:
            Trouble(log)
            consumer.start("consume", "--as-worker", "0", "--group", "watch")
            wait(lambda: bool(log.holder(Slot("demo", "watch", 0))), what="group watch to begin")
        server.kill()
        wait(lambda: told_of("the log does not answer", endpoint), what="the page")
        server.start()
        wait(lambda: told_of("the log answers again", endpoint), what="the end of it")
    finally:
        server.kill()


def test_the_database_shows_each_alert_once_whoever_made_it(postgres_url: str) -> None:
    log = MemoryLog()
    log.open_namespace("demo", 1)
    log.tasks.open_group("demo", "watch", 1)
    alert = Alert(
        event_time_ms=1_700_000_000_000, severity="critical", topic="rules", subject="demo",
        text="not read", cure="correct it", count=3, since_ms=1_699_999_000_000,
    )  # fmt: skip
    for writer in (SOURCE, "watch"):
        claim = log.claim(Slot("demo", writer, 0), "test", alive_within_s=0)
        log.append(claim, [encode(alert)])
    drain(log, postgres_url)
    with connect(postgres_url, application="test") as connection:
        rows = connection.execute(
            "SELECT terminal, severity, text, resolved, count, since < time FROM alerts"
        ).fetchall()
    assert rows == [("demo", "critical", "not read", False, 3, True)]
