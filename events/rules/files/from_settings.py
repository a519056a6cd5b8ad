"""RISK_* settings as rules: the few limits that need no file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from events.rules.files.loading import BadRules
from events.rules.model import Account, Action, Basis, DayReference, Limit, Lock, Rules
from events.rules.resets import reset_of_clock
from events.settings.model import Settings
from events.settings.terminals import TerminalSettings

NAMES = {
    "max_daily_loss_percent": "risk_max_daily_loss_percent",
    "max_drawdown_percent": "risk_max_drawdown_percent",
    "max_position_lots": "risk_max_position_lots",
    "max_leverage": "risk_max_leverage",
    "min_margin_level_percent": "risk_min_margin_level_percent",
}
"""Key of a terminal's `rules` table -> general setting that it replaces."""
_OWN = ("initial_balance", "high_water")
"""What a terminal's table may state besides."""
CLOCK_UNKNOWN = "America/New_York+7h"
"""Where the broker's clock is not configured: the one most brokers run on."""


def rules_of_settings(settings: Settings, terminal: TerminalSettings) -> Rules | None:
    """Rules of the RISK_* settings and a terminal's `rules` table; None: no limit is set.

    The loss of a day is measured from the balance at the server's midnight, the drawdown from the
    highest equity; both flatten. Raises BadRules for a name that is no setting.
    """
    values = _values(settings, terminal)
    limits = tuple(_limits(values))
    if not limits:
        return None
    try:
        reset_time, reset_zone = reset_of_clock(terminal.clock or CLOCK_UNKNOWN)
    except ValueError as error:
        raise BadRules([f"clock of terminal {terminal.name}: {error}"]) from error
    return Rules(
        name=f"settings of {terminal.name}",
        account=Account(
            initial_balance=values.get("initial_balance"),
            high_water=values.get("high_water"),
            reset_time=reset_time,
            reset_zone=reset_zone,
            day_reference=DayReference.BALANCE,
        ),
        limits=limits,
    )


def _values(settings: Settings, terminal: TerminalSettings) -> dict[str, float]:
    values = {}
    for key, name in NAMES.items():
        if (value := getattr(settings, name)) is not None:
            values[key] = float(value)
    own: Mapping[str, float] = terminal.rules
    problems = []
    for key, value in own.items():
        name = key.removeprefix("risk_")
        if name not in NAMES and name not in _OWN:
            allowed = ", ".join((*NAMES, *_OWN))
            problems.append(f"rules of terminal {terminal.name}: {key} is none of {allowed}")
        elif not value > 0:
            problems.append(f"rules of terminal {terminal.name}: {key} is {value:g}: above 0")
        values[name] = value
    if problems:
        raise BadRules(problems)
    return values


def _limits(values: Mapping[str, float]) -> Iterator[Limit]:
    if share := values.get("max_daily_loss_percent"):
        yield Limit(
            name="daily loss", figure="daily_loss", limit=share, of=Basis.REFERENCE,
            action=Action.FLATTEN, lock=Lock.UNTIL_RESET, hard=True,
        )  # fmt: skip
    if share := values.get("max_drawdown_percent"):
        yield Limit(
            name="drawdown", figure="drawdown_peak", limit=share, of=Basis.REFERENCE,
            action=Action.FLATTEN, lock=Lock.MANUAL, hard=True,
        )  # fmt: skip
    if lots := values.get("max_position_lots"):
        yield Limit(name="position lots", figure="position_lots_max", act=lots, action=Action.BLOCK)
    if times := values.get("max_leverage"):
        yield Limit(name="leverage", figure="leverage_used", act=times, action=Action.BLOCK)
    if level := values.get("min_margin_level_percent"):
        yield Limit(
            name="margin level", figure="margin_level_percent", act=level, action=Action.BLOCK
        )
