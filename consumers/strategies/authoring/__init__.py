"""What a trader writes strategies with: `Strategy`, ticks, signals, sizes and parameters."""

from consumers.strategies.authoring.fill import Fill
from consumers.strategies.authoring.parameters import BadParameter, parameters_of
from consumers.strategies.authoring.signal import BadSignal, Lots, Notional, RiskPercent, Signal
from consumers.strategies.authoring.strategy import NotKnownYet, Signals, Strategy
from consumers.strategies.authoring.tick import Tick

__all__ = [
    "BadParameter",
    "BadSignal",
    "Fill",
    "Lots",
    "NotKnownYet",
    "Notional",
    "RiskPercent",
    "Signal",
    "Signals",
    "Strategy",
    "Tick",
    "parameters_of",
]
