"""What a run brought, as one JSON object and as a line for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from events.running.counts import Appended
from events.settings import TerminalSettings


@dataclass(frozen=True, slots=True)
class Verified:
    """Ticks of one terminal compared with log and database, as numbers of ticks."""

    missing: int
    duplicated: int
    altered: int
    """Other values at the same time, or ticks the terminal does not know."""
    checked: int
    """Ticks that the terminal gave."""
    not_checked: Mapping[str, str] = field(default_factory=dict)
    """Symbol -> why nothing can be said of it."""


Verify = Callable[[TerminalSettings, Mapping[str, Appended]], Verified]
"""Compare what a terminal gives with what a run appended, by symbol."""


@dataclass(frozen=True, slots=True)
class TerminalResult:
    """One terminal's part of a run."""

    terminal: str
    kind: str
    ticks_appended: Mapping[str, int]
    """By symbol."""
    ticks_stored: Mapping[str, int]
    verified: Verified | None
    came_up: bool = True
    last_error: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run of the whole bridge. `drained`: everything appended is in the database."""

    ending: str
    took_s: float
    redis: str
    database: str
    drained: bool
    entries_by_lane: Mapping[str, int]
    restarts: int
    terminals: Sequence[TerminalResult] = field(default_factory=tuple)

    @property
    def ticks_appended(self) -> int:
        return sum(sum(one.ticks_appended.values()) for one in self.terminals)

    @property
    def ticks_stored(self) -> int:
        return sum(sum(one.ticks_stored.values()) for one in self.terminals)

    def _sum(self, name: str) -> int | None:
        """None where nobody compared."""
        found = [one.verified for one in self.terminals]
        if any(verified is None for verified in found):
            return None
        return sum(int(getattr(verified, name)) for verified in found)

    @property
    def good(self) -> bool:
        """Every terminal came up, everything is stored, nothing missing, doubled or altered (as
        far as it was compared)."""
        wrong = [self._sum(name) for name in ("missing", "duplicated", "altered")]
        unclear = any(one.verified and one.verified.not_checked for one in self.terminals)
        all_up = all(one.came_up for one in self.terminals)
        return self.drained and all_up and not any(wrong) and not unclear

    def to_json(self) -> dict[str, Any]:
        names = ", ".join(one.terminal for one in self.terminals)
        kinds = ", ".join(dict.fromkeys(one.kind for one in self.terminals))
        return {
            "terminal": kinds,
            "namespace": names,
            "ending": self.ending,
            "took_s": round(self.took_s, 3),
            "ticks_appended": self.ticks_appended,
            "ticks_stored": self.ticks_stored,
            "entries_by_lane": dict(self.entries_by_lane),
            "missing": self._sum("missing"),
            "duplicated": self._sum("duplicated"),
            "altered": self._sum("altered"),
            "checked": self._sum("checked"),
            "drained": self.drained,
            "restarts": self.restarts,
            "redis": self.redis,
            "database": self.database,
            "good": self.good,
            "last_error": next((one.last_error for one in self.terminals if one.last_error), ""),
            "terminals": [one.to_json() for one in self.terminals],
        }

    def ended(self) -> str:
        """A line for a run that a person ended, which nobody counted or compared."""
        return (
            f"ended after {self.took_s:.0f} s: {sum(self.entries_by_lane.values()):,} entries "
            "appended; the next start goes on from here"
        )

    def told(self) -> str:
        """In a line."""
        compared = self._sum("missing")
        check = (
            "not compared with the terminal (bridgectl verify ticks)"
            if compared is None
            else f"{compared} missing, {self._sum('duplicated')} doubled, "
            f"{self._sum('altered')} altered"
        )
        stored = "" if self.drained else "; NOT everything is stored yet"
        for one in self.terminals:
            stored += "" if one.came_up else f"; {one.terminal} did not come up: {one.last_error}"
        return (
            f"{self.ticks_appended:,} ticks appended, {self.ticks_stored:,} stored in "
            f"{self.took_s:.1f} s: {check}{stored}"
        )
