"""The terminals that must behave alike. A new one is one more entry in CASES.

A case makes a terminal that is shaped like the MetaTrader5 module, is not initialised yet, whose
account is LOGIN on SERVER, which offers SYMBOL (in Market Watch, with ticks up to now) and whose
broker runs a New-York-close clock. What a case cannot do it leaves out of `can`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import SecretStr

from events.ticks import TickArray
from producers.terminals.recorded import RecordedOptions, RecordedTerminal
from producers.terminals.simulated import (
    AccountOptions,
    SimulatedOptions,
    SimulatedTerminal,
    TickOptions,
)
from producers.terminals.stand_in import build_module

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


FILE_HOURS = 30
"""How much of the simulated market the recorded terminal plays: more than a day, for H1 bars."""


@lru_cache(maxsize=1)
def _recording() -> TickArray:
    """The simulated terminal's ticks around the start, in UTC."""
    thin = TickOptions(rate=0.2)  # the file is read anew for every test
    terminal = SimulatedTerminal(simulated_options(symbols=(SYMBOL,), ticks=thin))
    begin_ms = START_UTC_MS - FILE_HOURS * 3_600_000
    return terminal.market.ticks(SYMBOL, begin_ms, START_UTC_MS + 3_600_000).copy()


@contextmanager
def recorded() -> Iterator[TerminalUnderTest]:
    """A recorded terminal whose file was written from the simulated market, at its start."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / f"{SYMBOL}.csv"
        ticks = _recording()
        columns = [ticks[name].tolist() for name in ("time_msc", "bid", "ask", "flags")]
        lines = (",".join(map(repr, row)) for row in zip(*columns, strict=True))
        file.write_text("time_msc,bid,ask,flags\n" + "\n".join(lines) + "\n", encoding="utf-8")
        options = RecordedOptions(
            files=(str(file),), file_clock="UTC", clock=CLOCK, speed=0, start_utc_ms=START_UTC_MS,
            account=AccountOptions(login=LOGIN, server=SERVER, password=SecretStr(PASSWORD)),
        )  # fmt: skip
        terminal = RecordedTerminal(options)
    yield TerminalUnderTest(
        terminal, frozenset({STEP, TRADE, FAULTS, LOCAL}), terminal.advance, terminal.inject
    )


@contextmanager
def stand_in() -> Iterator[TerminalUnderTest]:
    """The module object that scripts import, on a simulated terminal."""
    terminal = SimulatedTerminal(simulated_options())
    yield TerminalUnderTest(build_module(terminal), EVERYTHING, terminal.advance, terminal.inject)


CASES: dict[str, Case] = {"simulated": simulated, "recorded": recorded, "stand_in": stand_in}
