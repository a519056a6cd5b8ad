"""Backup and restore of log and database together, so that the pair that comes back fits."""

from events.backup.archive import Archive, ArchiveDamaged, ArchiveWriter
from events.backup.making import BackupResult, back_up
from events.backup.restoring import RestoreResult, restore

__all__ = [
    "Archive",
    "ArchiveDamaged",
    "ArchiveWriter",
    "BackupResult",
    "RestoreResult",
    "back_up",
    "restore",
]
