"""Windows of a calendar: what is asked of the guard when one begins, ahead of it, at its end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from consumers.risk import deciding
from consumers.risk.deciding import Moment
from consumers.risk.figures.whole import View
from events.decisions import Command
from events.rules import Rules, WindowNow, windows_at

WINDOWS_TOLD_MAX = 256


def ahead_of_windows(
    told: dict[str, Any], rules: Rules, view: View, at: Moment
) -> Iterator[Command]:
    """Each window once: a block while it lasts, and a flatten ahead of it.

    A window about some symbols blocks and closes those alone.
    """
    if not rules.windows:
        return
    done: dict[str, int] = told.setdefault("windows", {})
    for name in [name for name, until_ms in done.items() if until_ms <= at.now_ms]:
        del done[name]
    for window in windows_at(rules, at.now_ms):
        cause = ":".join(("window", window.window, *sorted(window.concerns)))
        reason = f"{window.window} {window.name}".strip()
        if window.block and _first(done, f"{cause}:block:{window.begin_ms}", window.until_ms):
            yield deciding.block(
                cause, reason, at, until_ms=window.until_ms,
                symbols=list(window.symbols) or None, concerns=list(window.concerns) or None,
            )  # fmt: skip
        if not window.flatten or window.phase != "before":
            continue
        for symbol in _symbols(window, view):
            if _first(done, f"{cause}:flatten:{window.begin_ms}:{symbol}", window.until_ms):
                yield deciding.flatten_ahead(
                    cause, reason, at, until_ms=window.until_ms, symbol=symbol
                )


def _first(done: dict[str, int], name: str, until_ms: int) -> bool:
    if name in done or len(done) >= WINDOWS_TOLD_MAX:
        return False
    done[name] = until_ms
    return True


def _symbols(window: WindowNow, view: View) -> Iterator[str]:
    """What to close: "" is everything; else those held that the window is about."""
    held = sorted({one.symbol for one in view.holdings})
    if not held:
        return
    if not window.symbols and not window.concerns:
        yield ""
        return
    for symbol in held:
        contract = view.market.contracts.get(symbol)
        currencies = (contract.currency_base, contract.currency_profit) if contract else ()
        if window.about(symbol, *currencies):
            yield symbol
