"""The same worlds on a real server, and each guard of the commit script taken away there."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

import events.redis.tasks
from consumers.runtime.handler import Handler
from events.redis import RedisLog, open_log
from events.redis.scripts import SHEBANG, Script
from tests.conftest import Seeds
from tests.simulation.groups.chains import Chain, ChainByPriority, ChainOfAll
from tests.simulation.groups.faulty_worker import Fault
from tests.simulation.groups.memory_world import Scene, World
from tests.simulation.groups.test_memory_ablations import (
    REPEATS,
    ZOMBIES,
    at_commits,
    refused,
)

RUNS = 4
ALTERATIONS = {
    "token": [(r"if not meta\[1\] or meta\[1\] == '' or meta\[1\] ~= ARGV\[1\] then",
               "if false then")],
    "offsets": [(r"if found ~= ARGV\[at \+ 1\] then", "if false then")],
    "ids": [(r"if newest ~= ARGV\[2\] .. '-' .. ARGV\[3\] then", "if false then"),
            (r"if tonumber\(ms\) > new_ms or [^\n]* then", "if false then")],
    "own refusal": [(r"redis.call\('XADD', lane, id,", "redis.call('XADD', lane, '*',")],
}  # fmt: skip
"""What takes each guard out of commit.lua. The last one lets the server give the ids."""


class Altered(Script):
    """The commit script without some of its guards."""

    def __init__(self, off: Sequence[str]) -> None:
        super().__init__("commit")
        source = self.source
        for guard in off:
            for pattern, instead in ALTERATIONS[guard]:
                source, found = re.subn(pattern, instead.replace("\\", r"\\"), source)
                assert found, f"commit.lua no longer says {pattern!r}: adapt ALTERATIONS"
        self.source, self._plain = source, source.removeprefix(SHEBANG)
        self._digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


Make = Callable[..., Callable[..., RedisLog]]


@pytest.fixture
def emptied(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes worlds' logs on one server, emptied each time, with guards taken away."""
    opened: list[RedisLog] = []

    def without(*off: str) -> Callable[..., RedisLog]:
        monkeypatch.setattr(events.redis.tasks, "COMMIT", Altered(off))

        def make(**clock: Any) -> RedisLog:
            opened.append(open_log(redis_url))
            opened[-1].client.flushall()
            return opened[-1]

        return make

    yield without
    for one in opened:
        one.close()


def seen(
    log: Callable[..., RedisLog], faults: Sequence[Fault], seeds: Seeds, *, runs: int = RUNS
) -> tuple[list[str], Counter[str]]:
    counts: Counter[str] = Counter()
    for seed in seeds.take(runs):
        scene = Scene(Chain, partitions=1, workers=3, entries=30, lease_s=0.5, poison=0.0, log=log)
        world = World(scene, seed)
        world.choose = at_commits(faults, 0.5)(world)
        found = world.run()
        counts += world.counts
        if found:
            return [f"seed {seed}", *found], counts
    return [], counts


@pytest.mark.parametrize("handler", [Chain, ChainByPriority, ChainOfAll])
def test_many_faults_at_random_places_change_nothing_on_a_real_server(
    handler: type[Handler], emptied: Make, seeds: Seeds
) -> None:
    for seed in seeds.take(3):
        scene = Scene(handler, workers=1 + seed % 3, entries=30, log=emptied())
        world = World(scene, seed)
        assert world.run() == [], (handler, seed, world.counts)


@pytest.mark.parametrize(
    ("off", "catches"),
    [
        ((), "Fenced"),
        (("token",), "StaleOffset"),
        (("token", "ids"), "StaleOffset"),
        (("token", "offsets"), "StaleOutput"),
        (("offsets", "ids"), "Fenced"),
    ],
)
def test_each_guard_of_the_script_alone_stops_a_zombie(
    off: tuple[str, ...], catches: str, emptied: Make, seeds: Seeds
) -> None:
    found, counts = seen(emptied(*off), ZOMBIES, seeds)
    assert found == []
    assert catches in refused(counts), counts


@pytest.mark.parametrize(
    ("off", "catches"),
    [((), "StaleOffset"), (("offsets",), "StaleOutput"), (("token", "ids"), "StaleOffset")],
)
def test_a_client_that_repeats_is_refused_by_the_script(
    off: tuple[str, ...], catches: str, emptied: Make, seeds: Seeds
) -> None:
    found, counts = seen(emptied(*off), REPEATS, seeds)
    assert found == []
    assert refused(counts) == {catches}


@pytest.mark.parametrize(
    ("off", "faults"),
    [
        (("token", "offsets", "ids", "own refusal"), ZOMBIES),
        (("token", "offsets", "ids"), ZOMBIES),
        (("offsets", "ids", "own refusal"), REPEATS),
    ],
)
def test_without_enough_guards_the_checker_turns_red(
    off: tuple[str, ...], faults: Sequence[Fault], emptied: Make, seeds: Seeds
) -> None:
    """Without ours, the server's own refusal of an id comes after the first write."""
    found, _ = seen(emptied(*off), faults, seeds, runs=10 * RUNS)
    assert found
