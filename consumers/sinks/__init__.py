"""Sinks: effects on batches of events, such as rows in a database of your own."""

from consumers.sinks.group import SinkGroup
from consumers.sinks.run import SinkRun
from consumers.sinks.sink import Batch, Refused, Sink, WrittenElsewhere
from consumers.sinks.sqlite import SqliteSink

__all__ = [
    "Batch",
    "Refused",
    "Sink",
    "SinkGroup",
    "SinkRun",
    "SqliteSink",
    "WrittenElsewhere",
]
