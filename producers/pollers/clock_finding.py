"""Reading a terminal's hourly bars to find out its broker's clock."""

from __future__ import annotations

from collections.abc import Iterable

from producers.clock.broker_clock import BrokerClock
from producers.clock.detection import CannotDetect, detect
from producers.terminals.constants import TIMEFRAME_H1
from producers.terminals.interface import Priority, TerminalClient

BARS = 8_000
"""More than a year of hours in which a currency pair is open: both switches are in it."""
TRIES_MAX = 3
MAJORS = ("EURUSD", "GBPUSD", "USDJPY", "USDCHF", "AUDUSD", "USDCAD", "NZDUSD", "EURJPY")


def find_clock(client: TerminalClient, clock: BrokerClock, broker_symbols: Iterable[str]) -> str:
    """Let the history of the likeliest symbols speak. Returns what was found, in a sentence.

    Raises TerminalLost.
    """
    said = "no symbol has hourly bars"
    for symbol in sorted(broker_symbols, key=_unlikely)[:TRIES_MAX]:
        reply = client.call(
            "copy_rates_from_pos", symbol, TIMEFRAME_H1, 0, BARS, priority=Priority.HISTORY
        )
        if reply.unknown or not len(reply.value):
            continue
        try:
            found = detect(reply.value)
        except CannotDetect as error:
            said = f"{symbol}: {error}"
            continue
        said = f"{symbol}: {found.evidence}"
        if found.rule is not None:
            clock.use_history(found.rule, said)
            return said
    return said


def _unlikely(symbol: str) -> tuple[int, str]:
    """Majors first: they are quoted from the first minute of a week to its last."""
    places = [place for place, major in enumerate(MAJORS) if symbol.upper().startswith(major)]
    return (places[0] if places else len(MAJORS), symbol)
