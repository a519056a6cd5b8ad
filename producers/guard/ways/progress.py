"""Lines for people while something is closed, out of what a guard tells."""

from __future__ import annotations

from events.codec import AnyEvent
from events.guarding import FlattenEnded, FlattenStep, LatchChanged


def line_of(event: AnyEvent) -> str:
    """One line; empty for what nobody wants to read."""
    if isinstance(event, LatchChanged):
        return f"{'latched' if event.latched else 'latch cleared'}: {event.reason} (by {event.by})"
    if isinstance(event, FlattenStep):
        about = " ".join(
            part
            for part in (
                event.step,
                event.symbol,
                str(event.ticket) if event.ticket else "",
                f"{event.volume_lots:g} lots" if event.volume_lots else "",
            )
            if part
        )
        code = f" [{event.retcode}]" if event.retcode is not None else ""
        detail = f": {event.detail}" if event.detail else ""
        return f"{about} {event.outcome}{code}{detail}"
    if isinstance(event, FlattenEnded):
        took = "" if event.breach_to_flat_ms is None else f" after {event.breach_to_flat_ms:.0f} ms"
        left = f", {event.positions} positions and {event.orders} orders open"
        return f"{event.state}{took}{'' if event.state == 'FLAT' else left}"
    return ""
