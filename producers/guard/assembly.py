"""A guard out of the settings: which terminals have one, where it lies, how it pages."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Thread

from events.alerts import Alert
from events.log import Log, LogUnavailable
from events.notify import deliver, usable_targets
from events.settings import Settings, TerminalSettings
from producers.guard.far_keeper import FarKeeper
from producers.guard.keeper import GuardKeeper
from producers.guard.options import GuardOptions, guard_folder
from producers.guard.ways.rules_file import RulesSource
from producers.terminals.client import HostClient
from producers.terminals.spec import TerminalSpec

logger = logging.getLogger(__name__)

GUARDED = frozenset({"native", "classic", "remote", "simulated"})
"""Kinds of terminals on which somebody could trade."""
PAGE_S = 10.0


def guard_options(
    settings: Settings, terminal: TerminalSettings, spec: TerminalSpec
) -> GuardOptions:
    """What the settings say, in the guard's words."""
    return GuardOptions(
        terminal=terminal.name,
        folder=guard_folder(settings.state_dir, terminal.name),
        login=terminal.login,
        virtual=spec.kind == "simulated",
        poll_s=min(settings.account_interval_s, 0.25),
        idle_s=settings.account_idle_interval_s,
        page=pager(settings),
    )


def keeper_of(
    settings: Settings,
    terminal: TerminalSettings,
    spec: TerminalSpec,
    client: HostClient,
    *,
    follows_log: bool = True,
    locked: bool = True,
) -> GuardKeeper:
    """A guard of our own, still to be started. Raises GuardHeld, BadSettings."""
    return GuardKeeper(
        client,
        guard_options(settings, terminal, spec),
        open_log=log_opener(settings) if follows_log else None,
        namespace=terminal.namespace,
        rules=RulesSource(settings, terminal),
        far=spec.kind == "remote" or bool(spec.link_latency_ms),
        locked=locked,
    )


def any_keeper_of(
    settings: Settings, terminal: TerminalSettings, spec: TerminalSpec, client: HostClient
) -> GuardKeeper | FarKeeper:
    """The guard for a producer: of a served terminal the one that stands there."""
    if spec.kind != "remote":
        return keeper_of(settings, terminal, spec, client)
    return FarKeeper(
        client,
        guard_folder(settings.state_dir, terminal.name),
        make_near=lambda: keeper_of(settings, terminal, spec, client),
        open_log=log_opener(settings),
        namespace=terminal.namespace,
        rules=RulesSource(settings, terminal),
    )


def served_keeper(
    settings: Settings, terminal: TerminalSettings, spec: TerminalSpec, client: HostClient
) -> GuardKeeper:
    """The guard of a terminal that is served to others: no log, and where no rules are set here
    those of the bridge that uses the terminal. Raises GuardHeld, BadSettings."""
    source = RulesSource(settings, terminal)
    return GuardKeeper(
        client,
        guard_options(settings, terminal, spec),
        rules=source if source.names_any else None,
    )


def log_opener(settings: Settings) -> Callable[[], Log]:
    """Opens a connection of its own; the address is looked up anew each time, since an embedded
    server may move. The opener raises LogError."""

    def opened() -> Log:
        url = settings.redis_url()
        if url is None:
            raise LogUnavailable("no Redis is configured and no embedded one runs")
        from events.redis import open_log

        return open_log(url)

    return opened


def pager(settings: Settings) -> Callable[[Alert], None] | None:
    """Delivers an alert to the targets of ALERT_*, in a thread of its own; None: there are none.
    Those that cannot be used are told, and keep no guard from guarding."""
    targets, problems = usable_targets(settings)
    for problem in problems:
        logger.error("alerts past a dead log do not go there: %s", problem)
    if not targets:
        return None

    def page(alert: Alert) -> None:
        def run() -> None:
            for outcome in deliver(alert, targets, PAGE_S):
                if not outcome.delivered:
                    logger.error("the alert did not reach %s: %s", outcome.target, outcome.detail)

        Thread(target=run, name="guard-page", daemon=True).start()

    return page
