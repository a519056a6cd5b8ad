"""`backtest` over what lies in Redis, in the archive, in a database, and over all at once."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import bridgectl
from consumers.backtest.broker.spec.facts import Spec
from consumers.backtest.broker.spec.writing import example_spec
from consumers.backtest.result import BacktestResult
from events.archive.exporting import Exporter
from events.archive.folder import ArchiveFolder
from events.candles import CandleBatch
from events.codec import encode
from events.log import SOURCE, Claim, EntryId, Lane, Slot, partition_of
from events.market import Contracts
from events.redis import RedisLog, open_log
from events.ticks import RATE_DTYPE, OffsetSource, TickArray
from tests.conftest import REDIS_KINDS, RunningServers
from tests.integration.persisting import account, drain
from tests.made_ticks import batch_of, random_walk
from tests.postgres_server import TEMPLATE, PostgresServer

PARTITIONS = 4
SYMBOL, OTHER = "EURUSD", "NZDUSD"
START_MS = 1_772_409_600_000  # Monday, 2 March 2026, 00:00 UTC
OFFSET_S = 7_200
TICKS, PER_ENTRY, STEP_MS = 3_000, 50, 2_000
THIRD_MS = TICKS // 3 * STEP_MS
EMA = ("ema_cross:EmaCross", "--symbol", SYMBOL, "--set", "fast=30", "--set", "slow=90")


@dataclass(frozen=True)
class Recording:
    """Where it lies: the first third in the archive alone, the second in the database alone, the
    last in Redis alone; `whole` is everything, in a Redis namespace of its own."""

    redis_url: str
    postgres_url: str
    archive: Path
    rows: TickArray


def facts() -> Spec:
    return example_spec((SYMBOL, OTHER))


class Recorder:
    """Appends what a producer would."""

    def __init__(self, log: RedisLog, namespace: str) -> None:
        log.open_namespace(namespace, PARTITIONS)
        self._log, self._claims = log, dict[int, Claim]()
        self._namespace = namespace

    def claim(self, partition: int) -> Claim:
        if partition not in self._claims:
            slot = Slot(self._namespace, SOURCE, partition)
            self._claims[partition] = self._log.claim(slot, "test", alive_within_s=0.0)
        return self._claims[partition]

    def facts(self) -> None:
        spec = facts()
        known = Contracts(
            event_time_ms=START_MS, recv_time_ms=START_MS, login=7,
            instruments=tuple(spec.instruments.values()),
        )  # fmt: skip
        self._log.append(self.claim(0), [encode(account(START_MS, 10_000.0)), encode(known)])

    def ticks(self, rows: TickArray, symbol: str = SYMBOL) -> None:
        parts = [
            batch_of(rows[at : at + PER_ENTRY], symbol, offset_s=OFFSET_S)
            for at in range(0, len(rows), PER_ENTRY)
        ]
        claim = self.claim(partition_of(symbol, PARTITIONS))
        self._log.append(claim, [encode(part) for part in parts])

    def bars(self, rows: TickArray, symbol: str = SYMBOL) -> None:
        """M1 bars of ticks."""
        minutes = rows["time_msc"] // 60_000
        edges = np.flatnonzero(np.diff(minutes, prepend=minutes[0] - 1))
        bars = np.zeros(len(edges), RATE_DTYPE)
        bars["time"] = minutes[edges] * 60
        bars["open"] = rows["bid"][edges]
        bars["high"] = np.maximum.reduceat(rows["bid"], edges)
        bars["low"] = np.minimum.reduceat(rows["bid"], edges)
        bars["close"] = rows["bid"][[*(edges[1:] - 1), len(rows) - 1]]
        bars["spread"] = 10
        newest_ms = (int(bars["time"][-1]) - OFFSET_S) * 1000
        made = CandleBatch(symbol, "M1", bars, OFFSET_S, OffsetSource.LIVE, newest_ms, newest_ms)
        self._log.append(self.claim(partition_of(symbol, PARTITIONS)), [encode(made)])

    def trim(self) -> None:
        """Of the ticks so far one entry at most stays: the one that persist stands at."""
        slot = Slot(self._namespace, SOURCE, partition_of(SYMBOL, PARTITIONS))
        stream = slot.stream(Lane.NORMAL)
        last = self._log.info(stream).last_id
        while self._log.retained.trim(stream, EntryId(last.ms, last.seq + 1), ()).more:
            pass
        assert self._log.info(stream).length <= 1


@pytest.fixture(scope="module")
def recording(
    servers: RunningServers, postgres_server: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Recording]:  # fmt: skip
    if not REDIS_KINDS:
        pytest.skip("no Redis binary comes from pip for this system")
    url, name = servers.redis(REDIS_KINDS[0]).url, f"test_{secrets.token_hex(6)}"
    dsn = postgres_server.create_database(name, template=TEMPLATE)
    archive = tmp_path_factory.mktemp("archive")
    rows = random_walk(TICKS, start_ms=START_MS + OFFSET_S * 1000, step_ms=STEP_MS, seed=7)
    log = open_log(url)
    log.client.flushall()
    try:
        whole, spread = Recorder(log, "whole"), Recorder(log, "spread")
        for recorder in (whole, spread):
            recorder.facts()
            recorder.bars(rows)
        whole.ticks(rows)
        first, second, third = np.split(rows, 3)
        spread.ticks(first)
        Exporter(log, ArchiveFolder(archive), "spread").run()
        spread.trim()
        spread.ticks(second)
        drain(log, dsn)
        spread.trim()
        spread.ticks(third)
        yield Recording(url, dsn, archive, rows)
    finally:
        log.client.flushall()
        log.close()
        postgres_server.drop_database(name)


@pytest.fixture
def places(recording: Recording, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Recording:
    """The settings name them."""
    for name, value in {
        "REDIS_URL": recording.redis_url, "POSTGRES_URL": recording.postgres_url,
        "ARCHIVE_DIR": str(recording.archive), "BRIDGE_STATE_DIR": str(tmp_path / "state"),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return recording


def told(*words: str) -> str:
    """What a backtest that cannot be run says: one line."""
    done = CliRunner().invoke(bridgectl.cli, ["backtest", *words])
    assert done.exit_code, done.stdout
    text = str(done.exception) if not isinstance(done.exception, SystemExit) else done.stderr
    assert len(text.strip().splitlines()) == 1, text
    return text


def run(*words: str) -> BacktestResult:
    done = CliRunner().invoke(bridgectl.cli, ["backtest", *words, "--json"])
    assert not done.exit_code, (done.stderr, done.exception)
    return BacktestResult.from_json(done.stdout)


def essence(result: BacktestResult) -> tuple[object, ...]:
    return result.ticks, result.signals, result.deals, result.trades, result.costs


def test_places_are_read_as_one_and_each_alone(places: Recording) -> None:
    whole = run(*EMA, "--terminal", "whole")
    assert whole.ticks == TICKS
    assert len(whole.signals) > 10
    assert whole.trades
    spread = run(*EMA, "--terminal", "spread")
    assert essence(spread) == essence(whole)
    assert not spread.warnings
    third = TICKS // 3
    for source, count in (("redis", third + PER_ENTRY), ("archive", third), ("database", third)):
        alone = run(*EMA, "--terminal", "spread", "--source", source)
        assert alone.ticks == count, source


def test_what_is_left_out_of_the_places_is_told(places: Recording) -> None:
    some = run(*EMA, "--terminal", "spread", "--source", "redis", "--source", "archive")
    assert some.ticks == 2 * TICKS // 3 + PER_ENTRY
    [line] = some.warnings
    assert "19 entries between" in line
    assert "are nowhere" in line


def test_recorded_bars_are_walked_as_four_ticks_each(places: Recording) -> None:
    rows = run(*EMA, "--terminal", "spread", "--bars")
    assert rows.ticks == 4 * TICKS * STEP_MS // 60_000
    assert any("four ticks" in line for line in rows.assumptions)
    assert essence(run(*EMA, "--terminal", "whole", "--bars")) == essence(rows)
    text = told(*EMA, "--terminal", "spread", "--bars", "--from", "2026-03-05")
    assert "no M1 bar of EURUSD from 2026-03-05" in text
    assert "history fetch" in text


def test_a_span_is_cut_to_the_tick_whatever_place_its_ends_lie_in(places: Recording) -> None:
    begin, end = THIRD_MS // 2, 5 * THIRD_MS // 2
    whole = run(
        *EMA, "--terminal", "spread", "--from", "2026-03-02T00:16:40", "--to", "2026-03-02T01:23:20"
    )
    assert whole.ticks == (end - begin) // STEP_MS
    assert (whole.from_ms, whole.to_ms) == (START_MS + begin, START_MS + end - STEP_MS)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--terminal", "spread", "--from", "2026-04-01"), "there is: EURUSD 2026-03-02"),
        (("--terminal", "none"), "nothing is recorded of a terminal 'none'"),
        ((), "which terminal? Name it with --terminal; there is: spread, whole"),
        (("--terminal", "whole", "--symbol", "GBPUSD"), "holds no facts of GBPUSD"),
        (("--terminal", "whole", "--symbol", OTHER), "no tick of NZDUSD"),
        (("--terminal", "whole", "--from", "2026-04-01", "--to", "2026-03-01"), "--from lies"),
        (("--terminal", "whole", "--source", "redis", "--source", "a.csv"), "and files together"),
    ],
    ids=["span", "terminal", "terminals", "facts", "symbol", "reversed", "mixed"],
)
def test_what_cannot_be_run_is_one_line(
    places: Recording, words: Sequence[str], expected: str
) -> None:
    symbol = () if "--symbol" in words else ("--symbol", SYMBOL)
    assert expected in told("ema_cross", *symbol, *words)


def test_symbols_of_two_partitions_are_walked_together(
    places: Recording,
) -> None:
    log = open_log(places.redis_url)
    recorder = Recorder(log, "pair")
    recorder.facts()
    for at in range(0, 600, PER_ENTRY):
        recorder.ticks(places.rows[at : at + PER_ENTRY])
        recorder.ticks(places.rows[at : at + PER_ENTRY : 5], OTHER)
    log.close()
    found = run(
        "pair", "--terminal", "pair", "--symbol", SYMBOL, "--symbol", OTHER,
        "--set", "period=5", "--set", "warm_up=5", "--set", "timeframes=M1",
        "--set", "enter_score=0.5", "--set", "correlation_min=-1",
    )  # fmt: skip
    assert found.ticks == 720
    assert {one.symbol for one in found.signals} == {SYMBOL, OTHER}
