"""The whole bridge running on one machine: children kept alive, watched, ended in order."""

from events.running.bridge import Bridge, BridgeFailed, Ending
from events.running.counts import LogEnds, count_appended, log_ends
from events.running.screen import PlainScreen, Screen, WindowScreen

__all__ = [
    "Bridge",
    "BridgeFailed",
    "Ending",
    "LogEnds",
    "PlainScreen",
    "Screen",
    "WindowScreen",
    "count_appended",
    "log_ends",
]
