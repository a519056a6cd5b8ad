"""A producer that trims what everybody read, started again and again: nothing lost or doubled."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from events.codec import decode
from events.log import BEGIN, SOURCE, EntryId, Lane, Slot
from events.redis import RedisLog
from events.retention import Limits, SegmentFolder, WholeLog
from events.ticks import TickArray, TickBatch
from producers.terminals.simulated import SimulatedOptions, SimulatedTerminal
from tests.integration.test_producer import OPTIONS, SYMBOLS, running, settings_in, simulated
from tests.servers import wait_until

LIVES = 2
LIFE_S = 3.0


class Recorder(threading.Thread):
    """A registered group that keeps every tick it reads, in order."""

    def __init__(self, log: WholeLog) -> None:
        super().__init__(daemon=True)
        self._log = log
        self._stopping = threading.Event()
        self._streams = [Slot("demo", SOURCE, p).stream(Lane.NORMAL) for p in range(4)]
        self._at: dict[object, EntryId] = dict.fromkeys(self._streams, BEGIN)
        self._counts: dict[object, int] = dict.fromkeys(self._streams, 0)
        self.ticks: dict[str, list[TickArray]] = {symbol: [] for symbol in SYMBOLS}
        log.tasks.join("recorder.0", self._streams)

    def run(self) -> None:
        while not self._stopping.wait(0.02):
            self.read()

    def read(self) -> None:
        found = self._log.read({stream: self._at[stream] for stream in self._streams})
        for stream, entries in found.items():
            self._at[stream] = entries[-1].id
            self._counts[stream] += len(entries)
            self._log.mirror("recorder.0", stream, entries[-1].id, self._counts[stream])
            for entry in entries:
                event = decode(entry)
                if isinstance(event, TickBatch):
                    self.ticks[event.symbol].append(event.ticks)

    def finish(self) -> None:
        self._stopping.set()
        self.join()
        self.read()


def test_a_producer_on_a_log_that_keeps_a_second_loses_and_doubles_nothing(
    redis_log: RedisLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producers.cli.limits_of", lambda _: Limits(age_s=1.0))
    redis_log.open_namespace("demo", 4)
    recorder = Recorder(WholeLog(redis_log, SegmentFolder(tmp_path, bytes_max=1 << 30)))
    recorder.start()
    streams = [Slot("demo", SOURCE, p).stream(Lane.NORMAL) for p in range(4)]

    def trimmed() -> int:
        infos = [redis_log.info(stream) for stream in streams]
        return sum(info.entries_added - info.length for info in infos)

    settings = settings_in(tmp_path)
    for _ in range(LIVES):
        before = trimmed()
        with running(settings, simulated(), redis_log):
            ends = time.monotonic() + LIFE_S
            wait_until(
                lambda before=before, ends=ends: trimmed() > before and time.monotonic() > ends,
                timeout_s=40, what="old entries to leave the log",
            )  # fmt: skip
    recorder.finish()
    kept = {name for p in range(4) for name in redis_log.retained.kept(streams[p].slot)}
    assert kept, "the windows of the cursors left the log as copies"
    assert_are_the_brokers(recorder.ticks)


def assert_are_the_brokers(ticks: dict[str, list[TickArray]]) -> None:
    truth = SimulatedTerminal(SimulatedOptions.model_validate({**OPTIONS, "trader": None}))
    for symbol in SYMBOLS:
        found = np.concatenate(ticks[symbol])
        begin_ms = int(found["time"].min()) * 1000
        end_ms = int(found["time_msc"].max()) // 1000 * 1000
        found = found[found["time_msc"] < end_ms]
        expected = truth.truth(symbol, begin_ms, end_ms)
        assert len(expected) > 20
        order = ["time_msc", "bid", "ask"]
        found, expected = np.sort(found, order=order), np.sort(expected, order=order)
        assert found.tobytes() == expected.tobytes(), f"{symbol}: {len(found)}, {len(expected)}"
