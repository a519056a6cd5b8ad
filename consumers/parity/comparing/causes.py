"""Why something differs between a live run and its backtest."""

from __future__ import annotations

from enum import StrEnum


class Cause(StrEnum):
    """In the order in which they are told."""

    DATA = "missing or late data"
    ORDER = "order of lanes"
    VERSION = "version or parameters"
    ACCOUNT = "account or fills"
    COSTS = "costs"
    TIMING = "slippage or latency"
    UNEXPLAINED = "unexplained"
