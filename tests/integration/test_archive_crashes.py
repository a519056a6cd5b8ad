"""kill -9 while history is fetched, exported and imported: no half file, nothing lost or twice."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from events.archive.chunk import verify_chunk
from events.archive.exporting import Exporter
from events.archive.folder import ArchiveFolder
from events.archive.source import EntrySource, Wanted
from events.candles import CandleBatch
from events.codec import decode
from events.log import SOURCE, Entry, Lane, Slot, Stream
from events.redis import RedisLog
from events.ticks import RATE_DTYPE, TICK_DTYPE, TickBatch
from tests.integration import archive_child as child
from tests.integration.persisting import Feed
from tests.made_up_past import BEGIN, HOUR_MS, MadeUp

ROOT = Path(__file__).parents[2]
STEP_S_MAX = 0.03
"""Some of a step happens before the kill: it lands anywhere in it."""
KILLS = [(1, 1), pytest.param(2, 8, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
pytestmark = pytest.mark.parametrize(("seed", "kills"), KILLS)


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    for where, name, value in child.SMALL:
        monkeypatch.setattr(where, name, value)


def killed(
    chance: random.Random, steps: int, move: str, *arguments: str, check: Callable[[], None]
) -> None:
    """Run a move in a process of its own, and kill it in the step behind some others."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.archive_child", move, *arguments],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        for _ in range(chance.randrange(1, steps)):
            if process.stdout.read(1) != b".":
                break  # nothing was left to do
            process.stdin.write(b"x")
        time.sleep(chance.random() * STEP_S_MAX)
    except BrokenPipeError:
        pass  # it was done
    finally:
        process.kill()
        _, told = process.communicate()
    assert b"Traceback" not in told, told.decode()
    check()


def whole(folder: ArchiveFolder) -> None:
    """What is listed is whole."""
    for stream in folder.streams("demo"):
        for chunk in folder.chunks(stream):
            verify_chunk(chunk)


def same_as_the_terminal(entries: list[Entry]) -> None:
    """Every feed has each row once, in the terminal's order."""
    past = MadeUp()
    for feed in child.FEEDS:
        events = [decode(entry) for entry in entries]
        if feed.what == "ticks":
            expected = past.ticks(feed.symbol, BEGIN + HOUR_MS, child.UNTIL)
            own = [e.ticks for e in events if isinstance(e, TickBatch) and e.symbol == feed.symbol]
            found = np.concatenate(own or [np.zeros(0, TICK_DTYPE)])
        else:
            expected = past.candles(feed.symbol, feed.what, BEGIN + HOUR_MS, child.UNTIL)
            bars = [e.candles for e in events if isinstance(e, CandleBatch)]
            found = np.concatenate(bars or [np.zeros(0, RATE_DTYPE)])
        assert found.tobytes() == expected.tobytes(), str(feed)


def test_a_fetch_into_the_archive_that_is_killed_goes_on(
    tmp_path: Path, seed: int, kills: int
) -> None:
    chance, folder = random.Random(seed), ArchiveFolder(tmp_path / "archive")
    for _ in range(kills):
        place = str(folder.root)
        killed(chance, 10, "fetch-archive", place, check=lambda: whole(folder))
    child.fetch_archive(lambda *_: None, str(folder.root))
    whole(folder)
    same_as_the_terminal(list(EntrySource(None, folder).entries(Wanted("demo"))))


def test_a_fetch_into_the_log_that_is_killed_goes_on(
    redis_log: RedisLog, redis_url: str, seed: int, kills: int
) -> None:
    chance = random.Random(seed)
    for _ in range(kills):
        killed(chance, 40, "fetch-log", redis_url, check=lambda: None)
    child.fetch_log(lambda *_: None, redis_url)
    slots = [Slot(child.HISTORY, SOURCE, number) for number in range(child.PARTITIONS)]
    found = [
        e for slot in slots for s in slot.streams() for e in redis_log.between(s, count_max=10**5)
    ]
    same_as_the_terminal(found)
    assert redis_log.origin(child.HISTORY) == "import"


def recorded(log: RedisLog, seed: int) -> dict[Stream, list[Entry]]:
    feed = Feed(log, seed)
    feed.append(150)
    for claim in feed.claims.values():
        log.release(claim)
    return feed.entries()


def test_an_export_that_is_killed_lists_no_half_file_and_goes_on(
    redis_log: RedisLog, redis_url: str, tmp_path: Path, seed: int, kills: int
) -> None:
    chance, folder = random.Random(seed), ArchiveFolder(tmp_path / "archive")
    original = recorded(redis_log, seed)
    for _ in range(kills):
        place = str(folder.root)
        killed(chance, 4, "export", redis_url, place, check=lambda: whole(folder))
    child.export(lambda *_: None, redis_url, str(folder.root))
    whole(folder)
    found = list(EntrySource(None, folder).entries(Wanted("demo")))
    assert sorted(found) == sorted(entry for own in original.values() for entry in own)


def test_an_import_that_is_killed_goes_on(
    redis_log: RedisLog, redis_url: str, tmp_path: Path, seed: int, kills: int
) -> None:
    chance, folder = random.Random(seed), ArchiveFolder(tmp_path / "archive")
    original = recorded(redis_log, seed)
    Exporter(redis_log, folder, "demo").run()
    for _ in range(kills):
        killed(chance, 6, "import", str(folder.root), redis_url, check=lambda: None)
    child.import_(lambda *_: None, str(folder.root), redis_url)
    for stream, entries in original.items():
        copied = Slot("copy", *stream.slot[1:]).stream(Lane(stream.lane))
        found = redis_log.between(copied, count_max=10**5)
        assert [(e.id, *e[2:]) for e in found] == [(e.id, *e[2:]) for e in entries]
