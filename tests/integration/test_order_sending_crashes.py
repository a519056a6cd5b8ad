"""kill -9 of a producer anywhere between an intent and its answer: never a second order."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from events.executing import OrderIntent
from events.redis import open_log
from producers.terminals.attach import Attachment
from producers.terminals.client import open_client
from producers.terminals.configured import terminal_spec
from tests.conftest import Seeds
from tests.integration.ordering import FINAL, Signals, settings_in, terminal_of
from tests.integration.ordering_child import STEPS
from tests.servers import RedisServer, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills processes as POSIX does")

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0


@contextmanager
def child(folder: Path, url: str, step: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.ordering_child", str(folder), url, step],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


def deals_by_magic(folder: Path) -> dict[int, int]:
    """How many fills the broker has of each intent."""
    spec = terminal_spec(terminal_of(), state_dir=settings_in(folder).state_dir)
    found: dict[int, int] = {}
    with open_client(spec, attach=Attachment(spec)) as client:
        client.wait_until_up(30)
        for deal in client.call("history_deals_get", 0, 2**40).value:
            if deal.magic:
                found[deal.magic] = found.get(deal.magic, 0) + 1
    return found


def check(signals: Signals, intents: list[OrderIntent], fills: dict[int, int]) -> None:
    """Each intent once at the broker at most, and its answer says what is true."""
    for intent in intents:
        finals = {a.state for a in signals.answers(intent) if a.state in FINAL}
        assert len(finals) == 1, (intent.intent_id, finals)
        filled = fills.get(intent.magic, 0)
        assert filled <= 1, f"intent {intent.intent_id} was sent {filled} times"
        assert (finals == {"done"}) == (filled == 1), (intent.intent_id, finals, filled)


def run(folder: Path, url: str, steps: list[str]) -> None:
    """One process after the other, each of which dies at its step; the last one does not."""
    log = open_log(url)
    try:
        signals = Signals(log)
        intents: list[OrderIntent] = []
        for step in steps:
            with child(folder, url, step) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n" or process.poll() is not None
                if process.poll() is None:
                    intents.append(signals.intent())
                    signals.send(intents[-1])
                process.wait(PATIENCE_S)
        with child(folder, url, "none"):
            wait_until(lambda: all(signals.final(intent) for intent in intents),
                       timeout_s=PATIENCE_S, what="every answer")  # fmt: skip
        check(signals, intents, deals_by_magic(folder))
    finally:
        log.close()


def test_killed_at_the_steps_that_matter_no_order_is_sent_twice(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    run(tmp_path, redis_server.url, ["written", "submitted", "answered"])


@pytest.mark.slow
def test_killed_at_every_step_no_order_is_sent_twice(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    run(tmp_path, redis_server.url, list(STEPS))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_any_moment_no_order_is_sent_twice(
    redis_server: RedisServer, tmp_path: Path, seeds: Seeds
) -> None:
    log = open_log(redis_server.url)
    signals = Signals(log)
    intents: list[OrderIntent] = []
    for seed in seeds.take(20):
        sys.stdout.write(f"--seed {seed} --runs 1\n")
        chance = random.Random(seed)
        with child(tmp_path, redis_server.url, "none") as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            for _ in range(chance.randint(1, 4)):
                intents.append(signals.intent())
                signals.send(intents[-1])
            time.sleep(chance.choice((0.0, 0.002, 0.005, 0.01, 0.03, 0.1)) * chance.random())
    with child(tmp_path, redis_server.url, "none"):
        wait_until(lambda: all(signals.final(intent) for intent in intents),
                   timeout_s=PATIENCE_S, what="every answer")  # fmt: skip
    check(signals, intents, deals_by_magic(tmp_path))
    log.close()
