"""Where a backtest's ticks come from: the log, its archive, tick files, bars."""

from consumers.backtest.sources.files import FileSource
from consumers.backtest.sources.source import NoTicks, Source, SourceError, Span

__all__ = ["FileSource", "NoTicks", "Source", "SourceError", "Span"]
