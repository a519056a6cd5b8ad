"""The log copied out of a server and into another one."""

from events.redis.copying.dump import Copied, LogDump, Record, offsets_ahead
from events.redis.copying.load import LogLoad

__all__ = ["Copied", "LogDump", "LogLoad", "Record", "offsets_ahead"]
