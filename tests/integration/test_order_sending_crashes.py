"""kill -9 of a producer anywhere between an intent and its answer: never a second order."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from events.executing import OrderIntent
from events.log import Log, WriterHeld
from events.redis import open_log
from producers.spool.file import SpoolUnusable
from tests.conftest import Seeds
from tests.integration.ordering import FINAL, Desk, Signals, sending
from tests.integration.ordering_child import STEPS
from tests.servers import RedisServer, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills processes as POSIX does")

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0


@contextmanager
def child(folder: Path, url: str, *how: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.ordering_child", str(folder), url, *how],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


def is_ready(process: subprocess.Popen[str]) -> bool:
    """Wait until it sends orders; False: it ended before."""
    assert process.stdout is not None
    return process.stdout.readline() == "ready\n"


def settled(folder: Path, url: str, log: Log, signals: Signals, intents: list[OrderIntent]) -> None:
    """A sender that does not die answers what is left; then each intent is checked."""
    with sending(folder, log, open_log=lambda: open_log(url)) as desk:
        for intent in intents:
            signals.answered(intent, timeout_s=PATIENCE_S)
        fills = Counter(deal.magic for deal in desk.deals())
    check(signals, intents, fills)


def check(signals: Signals, intents: list[OrderIntent], fills: Counter[int]) -> None:
    """Each intent once at the broker at most, and its answer says what is true."""
    for intent in intents:
        finals = {a.state for a in signals.answers(intent) if a.state in FINAL}
        assert len(finals) == 1, (intent.intent_id, finals)
        filled = fills[intent.magic]
        assert filled <= 1, f"intent {intent.intent_id} was sent {filled} times"
        assert (finals == {"done"}) == (filled == 1), (intent.intent_id, finals, filled)


def run(folder: Path, url: str, steps: list[str], *how: str) -> None:
    """One process after the other, each of which dies at its step; the last one does not."""
    log = open_log(url)
    try:
        signals = Signals(log)
        intents: list[OrderIntent] = []
        for step in steps:
            with child(folder, url, step, *how) as process:
                if is_ready(process):  # else it died with what was left by those before
                    intents.append(signals.intent())
                    signals.send(intents[-1])
                process.wait(PATIENCE_S)
        settled(folder, url, log, signals, intents)
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
            assert is_ready(process)
            for _ in range(chance.randint(1, 4)):
                intents.append(signals.intent())
                signals.send(intents[-1])
            time.sleep(chance.choice((0.0, 0.002, 0.005, 0.01, 0.03, 0.1)) * chance.random())
    settled(tmp_path, redis_server.url, log, signals, intents)
    log.close()


@pytest.mark.slow
def test_the_checker_goes_red_where_nothing_is_written_down_before_it_is_sent(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match="was sent 2 times"):
        run(tmp_path, redis_server.url, ["answered"], "forgetful")


@pytest.mark.slow
def test_of_two_processes_at_one_account_one_sends_and_the_other_when_that_is_gone(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    url, log = redis_server.url, open_log(redis_server.url)
    signals = Signals(log)
    with child(tmp_path, url, "none") as first, ExitStack() as held:
        assert is_ready(first)
        intents = [signals.intent()]
        assert signals.carried(intents[0]).state == "done"
        with pytest.raises(WriterHeld), sending(tmp_path, log, ready=False):
            pass
        first.send_signal(signal.SIGSTOP)
        desk = taken_over(held, first, tmp_path, url, log)
        wait_until(lambda: "orders" in desk.producer.report.incidents, what="an incident")
        intents.append(signals.intent())
        signals.send(intents[1])
        first.send_signal(signal.SIGCONT)
        assert not desk.sender.ready.is_set(), "two send"
        first.kill()
        assert desk.sender.ready.wait(PATIENCE_S)
        intents.append(signals.intent())
        assert signals.carried(intents[2], timeout_s=PATIENCE_S).state == "done"
        signals.answered(intents[1], timeout_s=PATIENCE_S)
        fills = Counter(deal.magic for deal in desk.deals())
    check(signals, intents, fills)
    log.close()


def taken_over(
    held: ExitStack, first: subprocess.Popen[str], folder: Path, url: str, log: Log
) -> Desk:
    """A second producer, as soon as the silence of the first one, which stands, lets it in."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return held.enter_context(
                sending(folder, log, open_log=lambda: open_log(url), ready=False)
            )
        except WriterHeld:
            time.sleep(1.0)
        except SpoolUnusable:  # it stands in the middle of a write: let it end that
            first.send_signal(signal.SIGCONT)
            time.sleep(0.1)
            first.send_signal(signal.SIGSTOP)
        assert time.monotonic() < deadline
