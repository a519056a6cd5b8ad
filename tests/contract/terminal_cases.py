"""The terminals that must behave alike. A new one is one more entry in CASES.

A case makes a terminal that is shaped like the MetaTrader5 module, is not initialised yet, whose
account is LOGIN on SERVER, which offers SYMBOL (in Market Watch, with ticks up to now) and whose
broker runs a New-York-close clock. What a case cannot do it leaves out of `can`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from producers.terminals.simulated import SimulatedOptions, SimulatedTerminal

LOGIN, SERVER, PASSWORD = 5_000_001, "Simulated-Demo", "simulated"
SYMBOL = "EURUSD"
UNSELECTED = "ETHUSD"
START_UTC_MS = 1_763_553_600_000  # Wednesday 19 November 2025, 12:00 UTC
CLOCK = "America/New_York+7h"

STEP = "step"  # the virtual clock stands and `advance` steps it
HISTORY = "history"  # bars and ticks reach back for months
TRADE = "trade"  # requests are carried out
SYMBOLS = "symbols"  # there are others: UNSELECTED, an exchange stock ACME
FAULTS = "faults"  # `inject` reaches the terminal
LOCAL = "local"  # the object itself, whose values cross no wire
EVERYTHING = frozenset({STEP, HISTORY, TRADE, SYMBOLS, FAULTS, LOCAL})


@dataclass
class TerminalUnderTest:
    """`terminal` has the module's functions; `advance` and `inject` reach the simulation."""

    terminal: Any
    can: frozenset[str]
    advance: Callable[[int], Any] = field(default=lambda step_ms: None)
    inject: Callable[..., Any] = field(default=lambda kind, **arguments: None)


Case = Callable[[], Any]
"""Gives a context manager of a TerminalUnderTest."""


def simulated_options(**changes: Any) -> SimulatedOptions:
    """Options that fit what the suite expects."""
    fixed: dict[str, Any] = {"seed": 7, "start_utc_ms": START_UTC_MS, "speed": 0, "clock": CLOCK}
    return SimulatedOptions(**{**fixed, **changes})


@contextmanager
def simulated() -> Iterator[TerminalUnderTest]:
    terminal = SimulatedTerminal(simulated_options())
    yield TerminalUnderTest(terminal, EVERYTHING, terminal.advance, terminal.inject)


CASES: dict[str, Case] = {"simulated": simulated}
