"""The guard beside a terminal when other parts of the bridge are dead, in real programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from events.codec import decode
from events.decisions import LimitBreach, RiskMetrics, RulesSet
from events.guarding import FlattenEnded
from events.log import Slot
from events.redis import open_log
from tests.integration.guarding import SYMBOL, inject, open_positions, positions
from tests.integration.test_guard_process import (
    NAME,
    PATIENCE_S,
    broker,
    guard_is_up,
    program,
    terminals_file,
)
from tests.servers import RedisServer, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills processes as POSIX does")


@pytest.mark.parametrize("dead", ["risk group", pytest.param("database", marks=pytest.mark.slow)])
def test_a_breach_is_flattened_with_a_part_of_the_bridge_dead(
    redis_server: RedisServer, tmp_path: Path, dead: str
) -> None:
    terminals_file(tmp_path)
    limit = 'name = "max loss"\nfigure = "drawdown_absolute"\nlimit = 1.0\naction = "flatten"'
    (tmp_path / "rules.toml").write_text(
        "[account]\ninitial_balance = 100_000\nhigh_water = 100_000\n"
        f'[[limits]]\n{limit}\nlock = "manual"\nhard = true\n'
    )
    (tmp_path / "none.env").write_text(
        f"RISK_RULES={tmp_path / 'rules.toml'}\n"
        "POSTGRES_HOST=127.0.0.1\nPOSTGRES_PORT=1\nPOSTGRES_USER=u\nPOSTGRES_PASSWORD=p\n"
    )
    group = "persist" if dead == "database" else "risk"
    log, url = open_log(redis_server.url), redis_server.url

    def told(writer: str, kind: type) -> list[Any]:
        lanes = Slot(NAME, writer, 0).streams()
        events = [decode(one) for lane in lanes for one in log.between(lane, count_max=10_000)]
        return [event for event in events if isinstance(event, kind)]

    with broker(tmp_path) as other, program(tmp_path, url, "produce", "--terminal", NAME):
        wait_until(lambda: guard_is_up(tmp_path), timeout_s=PATIENCE_S, what="a guard")
        wait_until(lambda: bool(told("source", RulesSet)), timeout_s=PATIENCE_S, what="rules")
        open_positions(other, 3)
        with program(tmp_path, url, "consume", "--group", group, "--plain") as consumer:
            if group == "risk":
                wait_until(
                    lambda: bool(told("risk", RiskMetrics)), timeout_s=PATIENCE_S, what="figures"
                )
                consumer.kill()
            inject(other, kind="price_jump", symbols=(SYMBOL,), percent=-20.0)
            wait_until(
                lambda: bool(told("source", FlattenEnded)), timeout_s=PATIENCE_S, what="the end"
            )
        [ended] = told("source", FlattenEnded)
        assert (ended.state, ended.positions) == ("FLAT", 0)
        assert [one.limit for one in told("source", LimitBreach)] == ["max loss"]
        assert positions(other) == 0
    log.close()
