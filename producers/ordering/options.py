"""What a sender of orders is told when it is made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FOLDER = "orders"
"""In the state folder; one folder per terminal lies in it."""
Permission = Literal["off", "paper", "live"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderingOptions:
    """One sender. Times in seconds."""

    namespace: str
    terminal: str
    kind: str
    folder: Path
    """Of this terminal's sender: journals, lock."""
    permission: Permission = "off"
    """What the settings of this machine allow, whatever is switched on in the log."""
    login: int | None = None
    server: str = ""
    trade_mode: int | None = None
    """What the configuration names; orders go to a real terminal only where it names all three."""
    order_s: float = 30.0
    """Deadline of one order at the terminal; passed, its outcome is unknown."""
    read_s: float = 4.0
    """How long a look at the account may take."""
    age_max_s: float = 60.0
    """An intent that says nothing else is not sent when it is older."""
    quiet_s: float = 10.0
    """An order whose answer was lost may still arrive for so long."""
    apart_s: float = 1.0
    """Between the two looks that must agree."""
    patience_s: float = 10.0
    """How long an accepted market order may take until its rest is cancelled."""
    requotes_max: int = 5
    busy_tries_max: int = 3

    @property
    def virtual(self) -> bool:
        """Whether the account is nobody's: made up, or played from files."""
        return self.kind in ("simulated", "recorded")


def permission_of(setting: str, kind: str) -> Permission:
    """What a terminal's setting EXECUTION means; `auto`: a simulated account may be traded on
    paper, a real one not at all."""
    if setting in ("off", "paper", "live"):
        return setting  # type: ignore[return-value]  # it is one of the three
    return "paper" if kind in ("simulated", "recorded") else "off"
