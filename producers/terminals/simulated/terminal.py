"""The simulated terminal: an object with the functions of the `MetaTrader5` module."""

from __future__ import annotations

from producers.terminals.simulated.calls.link import LinkCalls
from producers.terminals.simulated.calls.trading import TradeCalls


class SimulatedTerminal(LinkCalls, TradeCalls):
    """Deterministic from its options and the virtual times of its calls.

    Every function of the module is a method with the module's arguments, answers and errors.
    Beside them `utc_now_ms`, `advance`, `inject`, `clear`, `truth` and `finished` are for hosts
    and tests. `market`, `specs` and `clock` may be handed in: a recorded terminal is this one
    with a market that plays files.
    """
