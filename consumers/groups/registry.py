"""The groups this program knows by name, and how a name becomes handlers to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from consumers.groups.loading import (
    UnknownHandler,
    called,
    check_file,
    group_name,
    is_strategy,
    load_handler,
    try_out,
    with_parameters,
)
from consumers.runtime.group import Group
from consumers.sinks import Sink, SinkGroup
from consumers.workers.taking import AnyGroup
from events.log import OPERATOR, SOURCE, checked_name

PERSIST, STRATEGY, ALERTS, WATCH = "persist", "strategy", "alerts", "watch"
RISK = "risk"
HANDLERS: Mapping[str, tuple[str, str]] = {
    RISK: ("consumers.risk:RiskHandler", "drawdown and daily loss from account events"),
    "execute": (
        "consumers.execute:ExecuteHandler",
        "order intents from signals, where an operator switched that on",
    ),
    "trades": ("consumers.trades:TradesHandler", "trades from deals and the book"),
    "analytics": (
        "consumers.analytics:AnalyticsHandler",
        "profit, cost, slippage and spread by hour, symbol and strategy, from trades and ticks",
    ),
    WATCH: ("consumers.alerts:WatchHandler", "finds what a human should know of"),
}
"""Group -> (its handler, what it does)."""
ALERT_SINK = "consumers.alerts:AlertDelivery"
OTHERS: Mapping[str, str] = {
    PERSIST: "stores every event in PostgreSQL",
    STRATEGY: "runs every strategy that is enabled or in STRATEGIES, each as a group of its own",
    ALERTS: "delivers alerts to ALERT_WEBHOOK and ALERT_URLS, each as a group of its own",
}


class UnknownGroup(ValueError):
    """There is no such group. The message lists those there are."""


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """A handler or sink to run as a group: enough for a worker's command line."""

    name: str
    handler: str
    """`module:Class`."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    namespaces: tuple[str, ...] = ()
    """Those it runs for, whatever is chosen for others; empty: those that are chosen."""
    checksum: str = ""
    """Of the strategy's file as it was enabled: another file is refused. Empty: any."""

    def group(self, namespaces: Sequence[str] = ()) -> AnyGroup:
        """Raises UnknownHandler."""
        if self.checksum:
            check_file(self.handler, self.checksum)
        code = with_parameters(load_handler(self.handler), self.parameters)
        namespaces = self.namespaces or tuple(namespaces)
        if is_strategy(code):
            code = called(code, self.name.removeprefix(f"{STRATEGY}."))
        if issubclass(code, Sink):
            return SinkGroup(self.name, code, namespaces=tuple(namespaces))
        return Group(self.name, code, namespaces=tuple(namespaces))

    def try_out(self) -> None:
        """Raises UnknownHandler when no task could begin."""
        try_out(self.handler, with_parameters(load_handler(self.handler), self.parameters))


def group_specs(
    name: str | None,
    *,
    handler: str | None = None,
    parameters: Mapping[str, str] | None = None,
    strategies: Sequence[str] = (),
    targets: Sequence[str] = (),
    enabled: Sequence[GroupSpec] = (),
) -> list[GroupSpec]:
    """What to run for `--group NAME`, `--handler module:Class`, or both. `enabled` are the
    strategies that operators switched on, beside those of the settings.

    Raises UnknownGroup, UnknownHandler.
    """
    texts = parameters or {}
    if handler is not None:
        return [GroupSpec(_own_name(name, handler), handler, texts)]
    if name == STRATEGY:
        _no_parameters(texts)
        return [*_strategies(strategies, needed=not enabled), *enabled]
    if name is not None and name.partition(".")[0] == ALERTS:
        _no_parameters(texts)
        return _alerts(name, targets)
    if name is not None and name in HANDLERS:
        return [GroupSpec(name, HANDLERS[name][0], texts)]
    known = [*_strategies(strategies, needed=False), *enabled]
    chosen = [spec for spec in known if spec.name == name]
    if not chosen:
        raise UnknownGroup(f"there is no group {name!r}. There is: {described()}")
    _no_parameters(texts)
    return chosen


def _no_parameters(texts: Mapping[str, str]) -> None:
    if texts:
        raise UnknownGroup("--set: such groups run as they are written; use it with --handler")


def _alerts(name: str, targets: Sequence[str]) -> list[GroupSpec]:
    """A group for each target, or the one of `alerts.TARGET`."""
    if not targets:
        raise UnknownGroup(
            "no target for alerts is configured: set ALERT_WEBHOOK or ALERT_URLS, then try "
            "`bridgectl alerts test`"
        )
    found = [
        GroupSpec(checked_name(f"{ALERTS}.{one}"), ALERT_SINK, {"target": one}) for one in targets
    ]
    chosen = [spec for spec in found if name in (ALERTS, spec.name)]
    if not chosen:
        known = ", ".join(spec.name for spec in found)
        raise UnknownGroup(f"there is no group {name!r}. Of alerts there is: {known}")
    return chosen


def described() -> str:
    """Every group by name, in one line."""
    known = {**OTHERS, **{name: what for name, (_, what) in HANDLERS.items()}}
    listed = "; ".join(f"{name} ({what})" for name, what in sorted(known.items()))
    return f"{listed}; or your own with --handler module:Class"


def _own_name(name: str | None, handler: str) -> str:
    if name is None:
        code = load_handler(handler)
        name = f"{STRATEGY}.{group_name(code)}" if is_strategy(code) else group_name(code)
    if name in (SOURCE, OPERATOR, *OTHERS):
        raise UnknownGroup(f"{name!r} is taken: give your group another name with --group")
    try:
        return checked_name(name)
    except ValueError as error:
        raise UnknownGroup(str(error)) from error


def _strategies(entries: Sequence[str], *, needed: bool = True) -> list[GroupSpec]:
    """`module:Class` or `NAME=module:Class`, each a group `strategy.NAME`."""
    if not entries and needed:
        raise UnknownGroup(
            "no strategy is enabled: `bridgectl strategies enable FILE.py`, or list them in "
            "STRATEGIES"
        )
    found: dict[str, GroupSpec] = {}
    for entry in entries:
        name, given, path = entry.rpartition("=")
        name = f"{STRATEGY}.{name if given else group_name(load_handler(path))}"
        if name in found:
            raise UnknownHandler(f"STRATEGIES has {name} twice: name one NAME=module:Class")
        found[name] = GroupSpec(checked_name(name), path)
    return list(found.values())
