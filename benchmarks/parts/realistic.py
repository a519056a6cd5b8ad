"""Files of ticks at realistic rates: by the hour of the day, the day of the week and the symbol."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet

START_MS = 1_772_323_200_000  # Sunday, 1 March 2026, 00:00 UTC
DAY_MS, HOUR_MS = 86_400_000, 3_600_000
SPREAD_POINTS = 8
TICKS_PER_DAY: Mapping[str, int] = {
    "EURUSD": 75_000, "GBPUSD": 90_000, "USDJPY": 95_000, "AUDUSD": 60_000, "USDCAD": 60_000,
    "USDCHF": 55_000, "NZDUSD": 50_000, "EURJPY": 110_000, "GBPJPY": 130_000, "XAUUSD": 180_000,
}  # fmt: skip
"""Of a weekday; a retail broker's feed of major pairs and gold."""
PRICES = {"USDJPY": 150.0, "EURJPY": 165.0, "GBPJPY": 195.0, "XAUUSD": 2_900.0}
BY_HOUR = np.array(
    [3, 4, 4, 4, 3, 3, 4, 6, 9, 9, 8, 7, 8, 11, 12, 12, 10, 8, 6, 5, 4, 3, 2, 2], np.float64
)
"""How the ticks of a day spread over its hours (UTC): quiet in Asia, most while New York opens."""


def write_days(folder: Path, *, symbols: int, days: int, seed: int) -> tuple[list[str], int]:
    """A Parquet file per symbol, a row group per day, nothing at weekends; `SYMBOL=FILE` of each,
    and the number of ticks."""
    files, total = [], 0
    for place, (symbol, per_day) in enumerate([*TICKS_PER_DAY.items()][:symbols]):
        chance = np.random.default_rng([seed, place])
        path = folder / f"{symbol}.parquet"
        price = PRICES.get(symbol, 1.1)
        digits = 5 if price < 10 else 3 if price < 1_000 else 2
        with parquet.ParquetWriter(path, _schema()) as writer:
            for day in range(days):
                if (day + 6) % 7 > 4:  # the first is a Sunday
                    continue
                rows, price = _day(chance, per_day, START_MS + day * DAY_MS, price, digits)
                writer.write_table(rows)
                total += rows.num_rows
        files.append(f"{symbol}={path}")
    return files, total


def _schema() -> arrow.Schema:
    return arrow.schema(
        [("time_msc", arrow.int64()), ("bid", arrow.float64()), ("ask", arrow.float64())]
    )


def _day(
    chance: np.random.Generator, per_day: int, begin_ms: int, price: float, digits: int
) -> tuple[arrow.Table, float]:
    """A day's ticks, and the price at its end. They come in bursts, as quotes do."""
    count = int(per_day * chance.lognormal(0, 0.15))
    hours = chance.choice(24, count, p=BY_HOUR / BY_HOUR.sum())
    times = begin_ms + hours * HOUR_MS + (chance.beta(0.9, 0.9, count) * HOUR_MS).astype(np.int64)
    times.sort()
    moves = chance.standard_t(4, count) * price * 0.006 / np.sqrt(2 * per_day)
    middle = np.maximum(price + np.cumsum(moves), price / 2)
    half = SPREAD_POINTS / 2 * 10.0**-digits
    rows = {
        "time_msc": times,
        "bid": np.round(middle - half, digits),
        "ask": np.round(middle + half, digits),
    }
    return arrow.table(rows, schema=_schema()), float(middle[-1])
