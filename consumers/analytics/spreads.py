"""Ask less bid by the hour, each tick weighted by how long it stood."""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from events.analytics import SpreadHour
from events.ticks import TickBatch

STOOD_MS_MAX = 60_000
"""So long a tick counts at most: what stands for hours is a closed market."""
TELL_MS = 300_000
"""An hour that runs is told again so often."""
HOUR_MS = 3_600_000


class Hour(TypedDict):
    """One hour of one symbol while it runs. Sums are of spread times ms."""

    hour_ms: int
    ticks: int
    stood_ms: int
    weighted: float
    added: float
    smallest: float
    largest: float
    last_ms: int
    last: float
    told_ms: int


def take(hour: Hour | None, batch: TickBatch, point: float) -> tuple[Hour | None, list[SpreadHour]]:
    """The hour after a batch, and what is to be told: hours that are over, and from time to time
    the one that runs. Ticks from before the newest one are passed over."""
    times, spreads = _usable(batch, hour["last_ms"] if hour is not None else -1)
    told = []
    for begin in np.unique(times // HOUR_MS).tolist():
        mine = times // HOUR_MS == begin
        if hour is not None and hour["hour_ms"] != begin * HOUR_MS:
            told.append(_event(hour, batch, point))
            hour = None
        hour = _add(hour, begin * HOUR_MS, times[mine], spreads[mine])
    if hour is not None and hour["last_ms"] - hour["told_ms"] >= TELL_MS:
        hour["told_ms"] = hour["last_ms"]
        told.append(_event(hour, batch, point))
    return hour, told


def _usable(batch: TickBatch, after_ms: int) -> tuple[np.ndarray, np.ndarray]:
    """UTC ms and spread of ticks that have one."""
    ticks = batch.ticks
    times = ticks["time_msc"] - batch.offset_s * 1000
    good = (ticks["bid"] > 0) & (ticks["ask"] >= ticks["bid"]) & (times >= after_ms)
    times, spreads = times[good], (ticks["ask"] - ticks["bid"])[good]
    order = np.argsort(times, kind="stable")
    return times[order], spreads[order]


def _add(hour: Hour | None, begin_ms: int, times: np.ndarray, spreads: np.ndarray) -> Hour:
    if hour is None:
        first = float(spreads[0])
        hour = Hour(
            hour_ms=begin_ms, ticks=0, stood_ms=0, weighted=0.0, added=0.0, smallest=first,
            largest=first, last_ms=int(times[0]), last=first, told_ms=int(times[0]),
        )  # fmt: skip
    stood = np.diff(times, prepend=hour["last_ms"]).clip(0, STOOD_MS_MAX)
    before = np.concatenate([[hour["last"]], spreads[:-1]])
    hour["ticks"] += len(times)
    hour["stood_ms"] += int(stood.sum())
    hour["weighted"] += float((stood * before).sum())
    hour["added"] += float(spreads.sum())
    hour["smallest"] = min(hour["smallest"], float(spreads.min()))
    hour["largest"] = max(hour["largest"], float(spreads.max()))
    hour["last_ms"], hour["last"] = int(times[-1]), float(spreads[-1])
    return hour


def _event(hour: Hour, batch: TickBatch, point: float) -> SpreadHour:
    stood = hour["stood_ms"]
    mean = hour["weighted"] / stood if stood else hour["added"] / hour["ticks"]
    return SpreadHour(
        event_time_ms=batch.event_time_ms, symbol=batch.symbol, hour_ms=hour["hour_ms"],
        ticks=hour["ticks"], seconds=stood / 1000, mean=round(mean, 10),
        smallest=round(hour["smallest"], 10), largest=round(hour["largest"], 10), point=point,
    )  # fmt: skip
