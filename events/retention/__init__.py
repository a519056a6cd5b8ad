"""Retention: how entries leave the log, and how those that were not read yet are kept on disk."""

from events.retention.copies import Need, copied
from events.retention.folder import SegmentFolder, SegmentMissing
from events.retention.keeper import Kept, Limits, Retention
from events.retention.loop import RetentionLoop
from events.retention.opening import limits_of, segment_folder, whole_log
from events.retention.segment import SegmentDamaged
from events.retention.whole import WholeLog

__all__ = [
    "Kept",
    "Limits",
    "Need",
    "Retention",
    "RetentionLoop",
    "SegmentDamaged",
    "SegmentFolder",
    "SegmentMissing",
    "WholeLog",
    "copied",
    "limits_of",
    "segment_folder",
    "whole_log",
]
