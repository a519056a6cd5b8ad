"""What is to be done about one offset, and what was done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from events.continuity import Finding
from events.log import EntryId


@dataclass(frozen=True, slots=True)
class Done:
    """What applying a plan changed."""

    outputs_removed: int = 0
    rows_removed: Mapping[str, int] = field(default_factory=dict)
    kept_in: Path | None = None
    """The file that holds the entries whose rows were removed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One reader of one stream, why its offset leads nowhere, and the cure."""

    reader: str
    """`GROUP.TASK` of a task, the group's name for rows in the database."""
    finding: Finding
    cure: str
    last_common: EntryId
    entries_undone: int
    """Entries that were done and are not in the log any more (or never will be done)."""
    apply: Callable[[], Done]

    def as_json(self, done: Done | None) -> dict[str, object]:
        facts: dict[str, object] = {
            "reader": self.reader,
            "stream": str(self.finding.stream),
            "problem": self.finding.continuity.value,
            "cause": self.finding.cause,
            "cure": self.cure,
            "last_common": str(self.last_common),
            "entries_undone": self.entries_undone,
            "applied": done is not None,
        }
        if done is not None:
            facts["outputs_removed"] = done.outputs_removed
            facts["rows_removed"] = dict(done.rows_removed)
            facts["kept_in"] = str(done.kept_in) if done.kept_in else None
        return facts


def below(id_: EntryId) -> EntryId:
    """The largest id below another one."""
    return EntryId(id_.ms, id_.seq - 1) if id_.seq else EntryId(max(0, id_.ms - 1), 2**64 - 1)
