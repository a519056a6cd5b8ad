"""Execution at terminals of their own: over a weekend (their clock is stepped), and after a loss of
everything the bridge had written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.integration.trading_desk import HEDGING, NETTING, trading


def test_an_expired_target_is_not_opened_when_the_market_opens_after_a_weekend(
    tmp_path: Path,
) -> None:
    friday = datetime(2026, 11, 20, 22, 30, tzinfo=UTC)  # the market closed half an hour ago
    saturday, sunday = friday + timedelta(hours=12), friday + timedelta(days=2)
    begin_ms = int(friday.timestamp() * 1000)
    with trading(tmp_path, symbol="EURUSD", start_utc_ms=begin_ms, speed=0) as trader:
        desk = trader.desk
        trader.begin_anew()
        trader.signal("long", "a", volume_lots=0.2, valid_until_ms=_ms(saturday))
        trader.signal("long", "b", volume_lots=0.1, valid_until_ms=_ms(sunday) + 3_600_000)
        for name in ("a", "b"):
            told = trader.becomes(
                "wanted", name, reason="tried again in 300 s: market closed (10018)"
            )
            assert told.held_lots == 0
        desk.client.call("advance", _ms(sunday) - desk.now_ms())
        trader.becomes("expired", "a")
        trader.becomes("reached", "b", held_lots=0.1)
        assert [one.volume for one in desk.positions()] == [0.1]
        trader.signal("long", "a", volume_lots=0.2)
        trader.becomes("reached", "a", held_lots=0.2)


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


@pytest.mark.slow
@pytest.mark.parametrize("margin_mode", [HEDGING, NETTING], ids=["hedging", "netting"])
def test_after_a_loss_of_log_and_memory_positions_are_known_again(
    tmp_path: Path, margin_mode: int
) -> None:
    kept = str(tmp_path / "account.sqlite")
    with trading(tmp_path / "before", margin_mode=margin_mode, memory=kept) as trader:
        trader.begin_anew()
        trader.signal("long", volume_lots=0.3)
        trader.becomes("reached", held_lots=0.3)
        [held] = trader.desk.positions()
    with trading(tmp_path / "after", margin_mode=margin_mode, memory=kept) as trader:
        trader.name_strategies()
        trader.until("its deals", lambda: trader.told_of_deal(held.identifier))
        trader.signal("long", volume_lots=0.3, stop_loss=held.sl)
        trader.becomes("reached", held_lots=0.3)
        assert [one.ticket for one in trader.desk.positions()] == [held.ticket]
        assert not [one for one in trader.intents() if one.verb == "open"]
        trader.signal("flat")
        trader.becomes("reached", target="flat", held_lots=0.0)
        assert trader.desk.positions() == ()
