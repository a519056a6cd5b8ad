"""The whole bridge running on one machine: children kept alive, watched, ended in order."""

from events.running.bridge import Bridge, BridgeFailed, Ending
from events.running.counts import Appended
from events.running.result import RunResult, TerminalResult, Verified, Verify
from events.running.run import LogForgets, RunOptions, run

__all__ = [
    "Appended",
    "Bridge",
    "BridgeFailed",
    "Ending",
    "LogForgets",
    "RunOptions",
    "RunResult",
    "TerminalResult",
    "Verified",
    "Verify",
    "run",
]
