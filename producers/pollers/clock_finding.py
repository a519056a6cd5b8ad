"""Reading a terminal's hourly bars to find out its broker's clock."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from events.ticks import RateArray
from producers.clock.broker_clock import BrokerClock
from producers.clock.detection import CannotDetect, detect
from producers.terminals.constants import TIMEFRAME_H1
from producers.terminals.interface import Priority, TerminalClient

BARS = 8_000
"""More than a year of hours in which a currency pair is open: both switches are in it."""
PAGE_BARS = 500
"""Asked for at once: a year in one call keeps a slow terminal from answering anything else."""
PAGES_MAX = 2 * BARS // PAGE_BARS
TRIES_MAX = 3
MAJORS = ("EURUSD", "GBPUSD", "USDJPY", "USDCHF", "AUDUSD", "USDCAD", "NZDUSD", "EURJPY")


def find_clock(client: TerminalClient, clock: BrokerClock, broker_symbols: Iterable[str]) -> str:
    """Let the history of the likeliest symbols speak. Returns what was found, in a sentence.

    Raises TerminalLost.
    """
    said = "no symbol has hourly bars"
    for symbol in sorted(broker_symbols, key=_unlikely)[:TRIES_MAX]:
        bars = hourly_bars(client, symbol)
        if bars is None:
            continue
        try:
            found = detect(bars)
        except CannotDetect as error:
            said = f"{symbol}: {error}"
            continue
        said = f"{symbol}: {found.evidence}"
        if found.rule is not None:
            clock.use_history(found.rule, said)
            return said
    return said


def hourly_bars(client: TerminalClient, symbol: str) -> RateArray | None:
    """The newest `BARS` of a symbol or fewer, oldest first, page by page; None without any.

    Raises TerminalLost.
    """
    pages: list[RateArray] = []
    method, begin = "copy_rates_from_pos", 0
    for _ in range(PAGES_MAX):
        reply = client.call(
            method, symbol, TIMEFRAME_H1, begin, PAGE_BARS, priority=Priority.HISTORY
        )
        if reply.unknown:
            break
        # A terminal that loads its history answers with what it has, which may be newer.
        page: RateArray = reply.value
        if pages:
            page = page[page["time"] < pages[-1]["time"][0]]
        if not len(page):
            break
        pages.append(page)
        if sum(map(len, pages)) >= BARS:
            break
        method, begin = "copy_rates_from", int(page["time"][0]) - 1
    return np.concatenate(pages[::-1])[-BARS:] if pages else None


def _unlikely(symbol: str) -> tuple[int, str]:
    """Majors first: they are quoted from the first minute of a week to its last."""
    places = [place for place, major in enumerate(MAJORS) if symbol.upper().startswith(major)]
    return (places[0] if places else len(MAJORS), symbol)
