"""The archive: the log as Parquet files, and every place of a namespace's entries as one source."""

from events.archive.errors import ArchiveError, ChunkDamaged
from events.archive.folder import ArchiveFolder
from events.archive.source import EntrySource, Wanted, archive_folder, opened_source
from events.archive.stream_reading import FETCHED, Hole
from events.archive.times import Times, times_of

__all__ = [
    "FETCHED",
    "ArchiveError",
    "ArchiveFolder",
    "ChunkDamaged",
    "EntrySource",
    "Hole",
    "Times",
    "Wanted",
    "archive_folder",
    "opened_source",
    "times_of",
]
