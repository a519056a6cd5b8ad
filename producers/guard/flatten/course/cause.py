"""Why a flatten runs, how it behaves, and what the next process must know of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from producers.guard.flatten.account import Scope

TOOK_OVER_MAX = 64


@dataclass(frozen=True, slots=True)
class FlattenOptions:
    """How a flatten behaves. Times in seconds."""

    order_s: float = 10.0
    """Deadline of one order; passed, the host is killed and the order reconciled."""
    parallel_max: int = 4
    """Orders with the terminal at once. The module sends one at a time; further ones keep its
    queue full. Over a far link use more."""
    others: Literal["close", "alert"] = "close"
    """What happens to positions and orders that somebody else opens after the flatten began."""
    recloses_per_minute_max: int = 10
    deviation_points: int = 1000
    """What a closing order accepts: in an emergency the price comes second."""
    sweeps: int = 3
    sweep_s: float = 1.0
    """Between two sweeps that verify."""
    empty_s: float = 10.0
    """An account that shows nothing and showed nothing before is called flat when it could be
    read for so long: right after a start or a reconnect its lists may not be filled yet."""
    patience_s: float = 20.0
    """Without any progress for so long it ends as FLAT_EXCEPT; `tend` goes on trying."""
    blind_s: float = 60.0
    """Without any good look for so long it ends as UNKNOWN; `tend` goes on looking."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a flatten runs. `since_ms`: what set it off, UTC."""

    flatten_id: str
    scope: Scope
    reason: str
    by: str
    since_ms: int
    command_id: str = ""
    """Who asked for it; empty: the guard itself."""
    latch_id: str = ""
    """The latch it goes with; empty: none."""
    took_over: tuple[str, ...] = ()
    """Flattens that had not ended when this one began; what they sent may still take effect."""
    commands: tuple[str, ...] = ()
    """Who had asked for those."""

    def kept(self, state: str, ours: list[tuple[Any, ...]] | None) -> dict[str, Any]:
        """As JSON values; `ours` are rows of items."""
        return {
            "flatten_id": self.flatten_id, "reason": self.reason, "by": self.by,
            "since_ms": self.since_ms, "command_id": self.command_id, "latch_id": self.latch_id,
            "took_over": self.took_over, "commands": self.commands, "state": state, "ours": ours,
        }  # fmt: skip


def names_of(causes: Iterable[Cause]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """`took_over` and `commands` of a flatten that takes the place of others."""
    flattens: list[str] = []
    commands: list[str] = []
    for one in causes:
        flattens += [*one.took_over, one.flatten_id]
        commands += [*one.commands, *([one.command_id] if one.command_id else [])]
    return tuple(flattens[-TOOK_OVER_MAX:]), tuple(commands[-TOOK_OVER_MAX:])


def cause_of(scope: str, kept: Mapping[str, Any]) -> Cause:
    """From `Cause.kept`, also of an older version. Raises ValueError, KeyError."""
    return Cause(
        str(kept["flatten_id"]), Scope.parse(scope), str(kept["reason"]), str(kept["by"]),
        int(kept["since_ms"]), str(kept.get("command_id", "")), str(kept.get("latch_id", "")),
        tuple(map(str, kept.get("took_over", ()))), tuple(map(str, kept.get("commands", ()))),
    )  # fmt: skip
