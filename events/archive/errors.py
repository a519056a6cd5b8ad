"""What goes wrong with an archive. Each message names cause and cure."""

from __future__ import annotations

from typing import Any

from events.log import LogError


class ArchiveError(LogError):
    """The archive cannot do what was asked."""


class ChunkDamaged(ArchiveError):
    """A file of the archive is torn, altered or missing. The message names it."""


def arrow() -> tuple[Any, Any]:
    """pyarrow and its Parquet module. Raises ArchiveError where they are not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ArchiveError(
            "the archive is written as Parquet and needs pyarrow: "
            "install the extra, pip install 'mt5-stream-bridge[parquet]'"
        ) from error
    return pyarrow, pyarrow.parquet
