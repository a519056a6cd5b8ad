"""A broker and its terminal in memory: faithful, deterministic, with faults on demand."""

from producers.terminals.simulated.faults import Fault
from producers.terminals.simulated.options import (
    AccountOptions,
    SimulatedOptions,
    TickOptions,
    TraderOptions,
)
from producers.terminals.simulated.symbols import SymbolSpec
from producers.terminals.simulated.terminal import SimulatedTerminal

__all__ = [
    "AccountOptions",
    "Fault",
    "SimulatedOptions",
    "SimulatedTerminal",
    "SymbolSpec",
    "TickOptions",
    "TraderOptions",
]
