"""Ticks as columns, for tests of what is built from them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from events.ticks import TickArray


@dataclass(frozen=True)
class Columns:
    """What bars are built from."""

    time_ms: Any
    time_server_ms: Any
    bid: Any
    ask: Any
    last: Any
    volume: Any

    def part(self, chosen: Any) -> Columns:
        return Columns(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def rows(self) -> list[tuple[Any, ...]]:
        return list(zip(*(getattr(self, f.name).tolist() for f in fields(self)), strict=True))


def columns_of(ticks: TickArray, *, server_ms: Any, utc_ms: Any) -> Columns:
    """Columns of MT5's records, with both times given apart."""
    prices = {name: np.ascontiguousarray(ticks[name]) for name in ("bid", "ask", "last")}
    return Columns(
        np.asarray(utc_ms, np.int64),
        np.asarray(server_ms, np.int64),
        volume=np.ascontiguousarray(ticks["volume_real"]),
        **prices,
    )
