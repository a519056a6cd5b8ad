"""Every query of docs/DATABASE.md runs, and finds something where there is something to find."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from events.analytics import Analytics, SpreadHour
from events.candles import CandleBatch
from events.codec import AnyEvent, encode
from events.decisions import LimitBreach, RiskMetrics
from events.log import SOURCE, Lane, Log, NewEntry, Slot
from events.market import Instrument
from events.marks import MARK_DTYPE, Marks
from events.memory_log import MemoryLog
from events.operations import GapHealed
from events.postgres import connect, migrate
from events.ticks import RATE_DTYPE, TICK_DTYPE, OffsetSource, TickBatch
from events.trading import (
    Account,
    Book,
    Deal,
    Order,
    OrderDone,
    Position,
    Trade,
    TradeUpdate,
)
from tests.integration.persisting import drain
from tests.markdown_pages import Block, read_page

ROOT = Path(__file__).parents[2]
PAGE = read_page(ROOT / "docs" / "DATABASE.md")
QUERIES = [block for block in PAGE.blocks if block.language == "sql"]
NAMESPACE = "simulated"
BASE_MS = 1_700_000_000_000
OFFSET_S = 7_200
TICKS = 1_000


def ticks() -> TickBatch:
    rows = np.zeros(TICKS, TICK_DTYPE)
    rows["time_msc"] = BASE_MS + np.arange(TICKS) * 1_000 + OFFSET_S * 1_000
    rows["time"] = rows["time_msc"] // 1_000
    rows["bid"] = 1.1 + np.arange(TICKS) * 1e-5
    rows["ask"] = rows["bid"] + 1e-4
    rows["flags"] = 6
    newest_ms = int(rows["time_msc"][-1]) - OFFSET_S * 1_000
    return TickBatch("EURUSD", rows, OFFSET_S, OffsetSource.LIVE, newest_ms, newest_ms + 3)


def some_of_everything() -> list[AnyEvent]:
    """A market, an account that traded, and an incident, at one moment."""
    common: dict[str, Any] = {"event_time_ms": BASE_MS, "recv_time_ms": BASE_MS, "login": 7}
    candles = np.zeros(1, RATE_DTYPE)
    candles["time"] = BASE_MS // 1_000 // 60 * 60
    marks = np.array([(11, 1.2, 5.0, -0.1)], MARK_DTYPE)
    position = Position(
        ticket=11, identifier=11, symbol="EURUSD", side=0, volume_lots=0.1, price_open=1.1,
        time_ms=BASE_MS, time_server_ms=BASE_MS,
    )  # fmt: skip
    order = Order(
        ticket=1, symbol="EURUSD", type=0, state=4, volume_initial_lots=1, volume_current_lots=0,
        price_open=1.1, time_setup_ms=BASE_MS, time_setup_server_ms=BASE_MS, time_done_ms=BASE_MS,
    )  # fmt: skip
    opened = Deal(
        **common, ticket=3, order=1, position_id=9, symbol="EURUSD", type=0, entry=0, reason=0,
        volume_lots=1, price=1.1, profit=0, commission=-1.25, swap=0, fee=0,
        time_server_ms=BASE_MS,
    )  # fmt: skip
    closed = opened.model_copy(update={"ticket": 4, "type": 1, "entry": 1, "profit": 10.0})
    deposit = opened.model_copy(
        update={"ticket": 5, "type": 2, "symbol": "", "position_id": 0, "profit": 500.0}
    )
    trade = Trade(
        position_id=9, symbol="EURUSD", side=0, volume_lots=1, price_entry=1.1, price_exit=1.1001,
        open_time_ms=BASE_MS, close_time_ms=BASE_MS, profit=10.0, commission=-2.5, swap=0, fee=0,
        closed_by="expert", deals=(3, 4), deals_count=2,
    )  # fmt: skip
    half = trade.model_copy(update={"close_time_ms": 0, "profit": 3.0, "closed_by": ""})
    return [
        TradeUpdate(**common, state="open", trade=half),
        TradeUpdate(**common, state="closed", trade=trade),
        TradeUpdate(
            **common, state="open", trade=half.model_copy(update={"position_id": 11})
        ),
        Analytics(
            event_time_ms=BASE_MS, login=7, symbol="EURUSD", strategy="manual",
            hour_ms=BASE_MS // 3_600_000 * 3_600_000, trades=1, won=1, net_profit=7.5,
        ),
        SpreadHour(
            event_time_ms=BASE_MS, symbol="EURUSD", hour_ms=BASE_MS // 3_600_000 * 3_600_000,
            ticks=10, seconds=100.0, mean=1e-4, smallest=1e-4, largest=1e-4, point=1e-5,
        ),
        ticks(),
        CandleBatch("EURUSD", "M1", candles, OFFSET_S, OffsetSource.LIVE, BASE_MS, BASE_MS),
        Marks(7, marks, BASE_MS, BASE_MS, OFFSET_S, OffsetSource.LIVE),
        Account(
            **common, server="Demo", currency="USD", trade_mode=0, margin_mode=2, leverage=100,
            balance=1_000, credit=0, profit=0, equity=1_000, margin=0, margin_free=1_000,
            margin_level_percent=0,
        ),
        Book(**common, positions=(position,)),
        RiskMetrics(
            event_time_ms=BASE_MS, login=7, equity=980, balance=1_000, floating=-20,
            margin_free=870, margin_level_percent=890.9, daily_loss=20, drawdown_percent=2,
            exposure_by_currency={"EUR": 11_000.0, "USD": -11_000.0},
            exposure_gross_by_currency={"EUR": 11_000.0, "USD": 11_000.0},
            figures={"var_99": 120.0}, headroom={"daily": 25.0},
        ),
        LimitBreach(
            event_time_ms=BASE_MS, login=7, limit="daily", level="warn", action="alert",
            figures={"daily_loss": 20.0}, threshold=18.0, value=20.0,
        ),
        OrderDone(**common, order=order),
        opened,
        closed,
        deposit,
        Instrument(
            event_time_ms=BASE_MS, recv_time_ms=BASE_MS, symbol="EURUSD", broker_symbol="EURUSD.x",
            digits=5, point=1e-5, tick_size=1e-5, contract_size=1e5, volume_min_lots=0.01,
            volume_max_lots=100, volume_step_lots=0.01,
        ),
        GapHealed(
            event_time_ms=BASE_MS, symbol="EURUSD", reason="hung", from_ms=BASE_MS - 1_000,
            until_ms=BASE_MS, ticks=3,
        ),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def stored_url(postgres_server: Any) -> Any:
    """A database that holds some of everything, an entry that nobody can read included."""
    name = "test_database_page"
    url = postgres_server.create_database(name)
    migrate(url)
    log: Log = MemoryLog()
    log.open_namespace(NAMESPACE, 1)
    claim = log.claim(Slot(NAMESPACE, SOURCE, 0), "test", alive_within_s=0.1)
    unreadable = NewEntry(Lane.LOW, "of_a_later_version.1", "", b"{}")
    log.append(claim, [*(encode(event) for event in some_of_everything()), unreadable])
    drain(log, url)
    yield url
    postgres_server.drop_database(name)


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: f"line{query.line}")
def test_a_query_of_the_page_finds_something(query: Block, stored_url: str) -> None:
    with connect(stored_url, application="test") as connection:
        assert connection.execute(query.text).fetchall()  # type: ignore[call-overload]  # from the page


def test_the_queries_of_the_page_find_what_is_true(stored_url: str) -> None:
    def rows(about: str) -> list[Any]:
        [query] = [query for query in QUERIES if about in query.text]
        with connect(stored_url, application="test") as connection:
            return connection.execute(query.text).fetchall()  # type: ignore[call-overload]

    [(terminal, symbol, count, *_)] = rows("count(*) AS ticks, min(time) AS first")
    assert (terminal, symbol, count) == (NAMESPACE, "EURUSD", TICKS)
    candles = rows("date_bin")
    bids = ticks().ticks["bid"]
    assert sum(candle[-1] for candle in candles) == TICKS
    assert candles[-1][1] == bids[0], "opened with the first tick"
    assert candles[0][4] == bids[-1], "closed with the last one"
    [(_, symbol, trades, gross, costs, net)] = rows("FROM trades")
    assert (symbol, trades, gross, costs, net) == ("EURUSD", 1, 10.0, -2.5, 7.5)
    [(strategy, count, won, net, *_)] = rows("FROM analytics GROUP BY strategy")
    assert (strategy, count, won, net) == ("manual", 1, 100, 7.5)
    [(_, _, mean_points, largest)] = rows("FROM spreads")
    assert (mean_points, largest) == (pytest.approx(10), 1e-4)
    [deposit] = rows("type >= 2")
    assert deposit[2] == 500.0
    [held] = rows("positions_open p")
    assert held[4:8] == (1.1, 1.2, 5.0, -0.1)


def test_every_view_of_the_page_exists_and_every_view_is_on_the_page(stored_url: str) -> None:
    told = {
        name
        for row in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", PAGE.prose, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    with connect(stored_url, application="test") as connection:
        found = connection.execute(
            "SELECT table_name FROM information_schema.views WHERE table_schema = 'public'"
        ).fetchall()
    assert told == {name for (name,) in found}


def test_the_python_of_the_page_reads_the_ticks(stored_url: str, tmp_path: Path) -> None:
    [block] = [block for block in PAGE.blocks if block.language == "python"]
    environment = {**os.environ, "POSTGRES_URL": stored_url, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", block.text],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.startswith(f"{TICKS} ("), done.stderr
