"""What a worker did since it started, for reports."""

from __future__ import annotations

from dataclasses import dataclass, field

from events.log import Slot


@dataclass(slots=True)
class Count:
    """What a worker did for one task."""

    entries: int = 0
    outputs: int = 0
    failed: int = 0
    commits: int = 0


@dataclass(slots=True)
class Progress:
    """What a worker did since it started."""

    tasks: dict[Slot, Count] = field(default_factory=dict)
    fenced: int = 0
    """Commits and heartbeats refused, since another owner had taken the task over."""
    halted: dict[Slot, str] = field(default_factory=dict)
    waiting: str = ""
