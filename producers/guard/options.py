"""What a guard is told when it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from events.alerts import Alert

FOLDER = "guard"
"""In the state folder; one folder per terminal lies in it."""
MAGIC = 779_000_777
"""What the guard's own requests carry, so that their deals can be told from others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardOptions:
    """One guard. Times in seconds."""

    terminal: str
    folder: Path
    """Of this terminal's guard: journals, lock, address of its socket."""
    login: int | None = None
    """The account it guards; None: the one it finds first, or found before."""
    virtual: bool = False
    """The terminal has a clock of its own (simulated)."""
    magic: int = MAGIC
    poll_s: float = 0.25
    """Between two looks while positions or orders are open."""
    idle_s: float = 1.0
    look_within_s: float = 2.0
    """How long a look may take before it counts as unanswered."""
    state_every_s: float = 5.0
    heartbeat_file: Path | None = None
    """Whose change is the user's sign of life; None: `heartbeat` in the folder."""
    page: Callable[[Alert], None] | None = None
    """Delivers an alert past the log, for when the log is away. Must return at once."""

    @property
    def heartbeat(self) -> Path:
        return self.heartbeat_file or self.folder / "heartbeat"


def guard_folder(state_dir: Path, terminal: str) -> Path:
    """Where the guard of a terminal keeps everything."""
    return state_dir / FOLDER / terminal
