"""Retention as the settings say."""

from __future__ import annotations

from events.log import Log
from events.retention.folder import SegmentFolder
from events.retention.keeper import Limits
from events.retention.whole import WholeLog
from events.settings import Settings

MIB = 1024 * 1024


def segment_folder(settings: Settings) -> SegmentFolder:
    """The segments of this machine."""
    return SegmentFolder(
        settings.state_dir / "segments", bytes_max=settings.retention_disk_mb * MIB
    )


def limits_of(settings: Settings) -> Limits:
    memory_mb = settings.retention_memory_mb
    return Limits(
        age_s=settings.retention_hours * 3600,
        memory_bytes_max=None if memory_mb is None else memory_mb * MIB,
    )


def whole_log(log: Log, settings: Settings) -> WholeLog:
    """The log with what was spilled to this machine's disk."""
    return WholeLog(log, segment_folder(settings))
