"""What the strategy objects of a task have in common, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from consumers.strategies.authoring.strategy import Surroundings
from consumers.strategies.running.holdings import Holdings
from consumers.strategies.running.part import Prices
from events.market import Instrument
from events.trading import Account


def remember_around(
    around: Surroundings, holdings: Holdings, prices: Mapping[str, Prices]
) -> dict[str, Any]:
    """By name: what is known of prices, of the account and of what the strategy holds."""
    account = around.account
    return {
        "prices": {symbol: list(two) for symbol, two in sorted(prices.items())},
        "holdings": holdings.state(),
        "positions": [
            [symbol, leg, lots] for (symbol, leg), lots in sorted(around.positions.items())
        ],
        "account": None if account is None else account.model_dump_json(),
        "instruments": {
            symbol: one.model_dump_json() for symbol, one in sorted(around.instruments.items())
        },
    }


def restore_around(
    stored: Mapping[str, Any], around: Surroundings, holdings: Holdings
) -> dict[str, Prices]:
    """Take it back; returns the prices."""
    if "holdings" not in stored:
        return {}
    holdings.restore(stored["holdings"])
    around.positions = {(symbol, leg): lots for symbol, leg, lots in stored["positions"]}
    account = stored["account"]
    around.account = None if account is None else Account.model_validate_json(account)
    around.instruments = {
        symbol: Instrument.model_validate_json(text)
        for symbol, text in stored["instruments"].items()
    }
    return {symbol: (bid, ask) for symbol, (bid, ask) in stored["prices"].items()}
