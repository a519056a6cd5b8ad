"""A terminal that plays tick files, on the account, clock and faults of the simulated one."""

from producers.terminals.recorded.options import Outage, RecordedOptions
from producers.terminals.recorded.terminal import RecordedTerminal

__all__ = ["Outage", "RecordedOptions", "RecordedTerminal"]
