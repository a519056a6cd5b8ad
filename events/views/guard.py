"""Whether an account may trade, in a few lines: latch, blocks, dead-man switch, last flatten."""

from __future__ import annotations

from collections.abc import Iterator

from events.guarding import GuardState
from events.views.state import NamespaceState

GOOD, BAD, DIM = "green", "bold red", "dim"
DEAD_MAN_SHOWN_S = 3600.0
"""A dead-man switch that has more than that left is no news."""


def guard_lines(namespace: NamespaceState) -> Iterator[tuple[str, str, str]]:
    """(title, text, style) of each line; none for a terminal that never had a guard."""
    guard, latch = namespace.guard, namespace.latch
    latched = latch is not None and latch.latched
    if latched and latch is not None:
        until = "until the reset" if latch.lock == "until_reset" else "until bridgectl resume"
        yield "HALTED", f"{latch.reason} (by {latch.by}), {until}", BAD
    if guard is None:
        return
    watched = any(namespace.holders) and guard.state != "stopped"
    if not watched:
        yield "guard", "nobody guards this account now", BAD
        return
    if not (latched and guard.state == "halted"):
        style = GOOD if guard.state == "watching" else BAD
        reason = f": {guard.reason}" if guard.reason and guard.state != "watching" else ""
        yield "guard", f"{guard.state}{reason}{_floor(guard)}{_silence(guard)}", style
    elif extra := _floor(guard) + _silence(guard):
        yield "guard", extra.lstrip(", "), DIM
    if namespace.flatten is not None and latched:
        ended = namespace.flatten
        left = f", {ended.positions} positions and {ended.orders} orders left"
        text = f"{ended.state}{'' if ended.state == 'FLAT' else left} ({ended.reason})"
        yield "flatten", text, GOOD if ended.state == "FLAT" else BAD


def _floor(guard: GuardState) -> str:
    if guard.hard_floor is None:
        return ""
    return f", flattens by itself at equity {guard.hard_floor:,.2f}"


def _silence(guard: GuardState) -> str:
    silent = f", log silent for {guard.log_silent_s:.0f} s" if guard.log_silent_s else ""
    left_s = guard.dead_man_s
    if left_s is None or left_s > DEAD_MAN_SHOWN_S:
        return silent
    return f"{silent}, dead-man switch in {left_s:.0f} s"
