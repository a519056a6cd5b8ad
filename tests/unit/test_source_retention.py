"""A producer whose streams are trimmed to nothing begins again without loss or doubles."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import pytest

from events.codec import decode
from events.log import BEGIN, SOURCE, EntryId, Lane, Slot, partition_of
from events.retention import Limits, Retention, SegmentFolder, copied
from events.ticks import TickArray, TickBatch
from events.trading import Deal
from producers.pollers.context import DEALS_BACKFILL_S
from producers.retention import SourceNeeds
from producers.ticks.log_windows import read_windows
from tests.fake_terminal import deal, position
from tests.unit.test_pollers import (
    NAMESPACE,
    SERVER_NOW_S,
    House,
    Houses,
    burst,
    houses,  # noqa: F401 - a fixture
    same,
    tick_rows,
)

SLOTS = tuple(Slot(NAMESPACE, SOURCE, partition) for partition in range(2))
TRIM_TRIES = 50


class Trimmer:
    """Takes every entry of the log away, after having looked at it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._at: dict[EntryId | str, EntryId] = {}
        self.ticks: dict[str, list[TickArray]] = {}
        self.deals: list[int] = []

    def take(self, house: House) -> None:
        for slot in SLOTS:
            for stream in slot.streams():
                at = self._at.get(str(stream), BEGIN)
                for entry in house.log.read({stream: at}).get(stream, []):
                    self._at[str(stream)] = entry.id
                    event = decode(entry)
                    if isinstance(event, TickBatch):
                        self.ticks.setdefault(event.symbol, []).append(event.ticks)
                    elif isinstance(event, Deal):
                        self.deals.append(event.ticket)

    def trim(self, house: House) -> None:
        self.take(house)
        time.sleep(0.002)  # what is kept is younger than now, in whole ms
        folder = SegmentFolder(self._folder, bytes_max=1 << 30)
        retention = Retention(house.log, folder, Limits(age_s=0.0))
        needs = SourceNeeds(
            house.log,
            deals_backfill_s=DEALS_BACKFILL_S,
            now_ms=lambda: time.time_ns() // 1_000_000,
        )
        for slot in SLOTS:
            for _ in range(TRIM_TRIES):  # the spool may still be sending what this house saw
                retention.keep(slot, needs)
                if not any(house.log.info(stream).length for stream in slot.streams()):
                    break
                time.sleep(0.01)
                self.take(house)
            else:
                pytest.fail(f"{slot} is not emptied")

    def taken(self, symbol: str) -> TickArray:
        return np.concatenate(self.ticks.get(symbol, [tick_rows()]))


@pytest.mark.parametrize("seed", range(6))
def test_restarts_on_a_trimmed_log_lose_and_double_no_tick(
    houses: Houses,  # noqa: F811 - the fixture
    tmp_path: Path,
    seed: int,
) -> None:
    chance = random.Random(seed)
    trimmer = Trimmer(tmp_path / "segments")
    house = houses.build("EURUSD", "GBPUSD")
    for life in range(10):
        for _ in range(chance.randint(1, 4)):
            for symbol in house.terminal.ticks:
                if symbol == "GBPUSD" and 2 < life < 8:
                    continue  # silent while everything it appended leaves the log
                at_ms = int(house.terminal.server_now_s * 1000) - 300
                rows = burst(at_ms, chance.randint(0, 6), step_ms=chance.choice([0, 0, 30]))
                house.terminal.add_ticks(symbol, rows)
            house.log.fail = [chance.choice(["", "", "reply"])]
            house.sweep()
        house.log.fail = []
        if chance.random() < 0.7:
            trimmer.trim(house)
        houses.close(house)
        house = houses.build("EURUSD", "GBPUSD", terminal=house.terminal, log=house.log)
    house.sweep(6)
    trimmer.take(house)
    for symbol, truth in house.terminal.ticks.items():
        assert same(trimmer.taken(symbol), truth), f"seed {seed}, {symbol}"


def test_without_the_copies_a_restart_would_not_know_its_window(
    houses: Houses,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    house = houses.build("EURUSD")
    house.terminal.ticks["EURUSD"] = burst(SERVER_NOW_S * 1000 - 5_000, 20)
    house.sweep(4)
    slot = Slot(NAMESPACE, SOURCE, partition_of("EURUSD", 2))
    texts = {"EURUSD": house.log.cursors(slot)["ticks:EURUSD"]}
    before = read_windows(house.log, slot, texts)["EURUSD"]
    Trimmer(tmp_path).trim(house)
    after = read_windows(house.log, slot, texts)["EURUSD"]
    assert [id_ for id_, _ in after.entries] == [id_ for id_, _ in before.entries]
    assert after.newest_utc_ms == before.newest_utc_ms
    house.log.retained.keep(slot, {}, list(house.log.retained.kept(slot)))
    assert read_windows(house.log, slot, texts)["EURUSD"].entries == []


def test_copies_go_when_the_cursor_has_moved_on(
    houses: Houses,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    house = houses.build("EURUSD")
    house.terminal.ticks["EURUSD"] = burst(SERVER_NOW_S * 1000 - 5_000, 20)
    house.sweep(4)
    trimmer = Trimmer(tmp_path)
    trimmer.trim(house)
    slot = Slot(NAMESPACE, SOURCE, partition_of("EURUSD", 2))
    assert "ticks:EURUSD" in copied(house.log, slot)
    sizes = []
    for _ in range(40):
        house.pass_time(600)
        at_ms = int(house.terminal.server_now_s * 1000) - 300
        house.terminal.add_ticks("EURUSD", burst(at_ms, 3))
        house.sweep()
        trimmer.trim(house)
        sizes.append(len(copied(house.log, slot)["ticks:EURUSD"]))
    assert max(sizes[-10:]) <= max(sizes[:20]), "what is kept does not grow"


def test_deals_are_told_once_though_the_log_is_trimmed_and_the_spool_is_lost(
    houses: Houses,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    trimmer = Trimmer(tmp_path / "segments")
    house = houses.build("EURUSD")
    house.terminal.positions = (position(1),)
    house.terminal.deals = tuple(deal(n, at_s=SERVER_NOW_S - n) for n in range(1, 6))
    house.look_at_account()
    trimmer.trim(house)
    assert not house.log.between(SLOTS[0].stream(Lane.HIGH), count_max=9)
    assert len(copied(house.log, SLOTS[0])["deals"]) == 5
    houses.close(house)
    for path in (tmp_path / "spool").iterdir():
        path.unlink()
    house = houses.build("EURUSD", terminal=house.terminal, log=house.log)
    house.terminal.deals += (deal(100),)
    house.look_at_account()
    trimmer.take(house)
    assert sorted(trimmer.deals) == [1, 2, 3, 4, 5, 100]
