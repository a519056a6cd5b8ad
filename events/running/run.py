"""One `bridgectl up`: from servers and settings to children, and to the result at the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from events.embedded import Servers
from events.log import Log, LogUnavailable
from events.postgres import connect, count_ticks, migrate, wait_until_ready, where
from events.processes import ProcessSpec
from events.redis import open_log
from events.redis.facts import ServerFacts, server_facts
from events.running.bridge import Bridge, Ending
from events.running.counts import LogEnds, appended_since, came_up, everything_stored, log_ends
from events.running.result import RunResult, TerminalResult, Verified, Verify
from events.running.screen import PlainScreen, Screen, WindowScreen
from events.settings import TerminalChoice, TerminalKind, TerminalSettings
from events.views.state import collect

MODULE = "bridgectl"
PERSIST = "persist"
"""The group that stores everything."""
GROUPS = ("risk", "trades", "watch", "analytics", "execute")
"""Groups that run beside it, each with one worker."""
REDIS_WAIT_S = (0.5, 1.0, 2.0, 5.0)
MADE_UP = (TerminalKind.SIMULATED, TerminalKind.RECORDED)

log = logging.getLogger(__name__)


class LogForgets(RuntimeError):
    """A real terminal on a log that forgets everything. The message names the cure."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """`for_s` None: until stopped, or until the files are played. `state_dir` and servers reach
    the children through their environment."""

    terminals: Sequence[TerminalSettings]
    choice: TerminalChoice
    for_s: float | None = None
    window: bool = False
    volatile_allowed: bool = False
    alerts_wanted: bool = False
    """Deliver alerts: a target is configured."""
    result_wanted: bool = False
    """Store, count and compare also when a person ends the run."""
    environment: Mapping[str, str] | None = None

    @property
    def finite(self) -> bool:
        """Whether the run ends by itself."""
        played = all(
            one.kind is TerminalKind.RECORDED and str(one.options.get("speed")) == "max"
            for one in self.terminals
        )
        return self.for_s is not None or played

    @property
    def counted(self) -> bool:
        """Whether the run waits until everything is stored, and is counted and compared."""
        return self.finite or self.result_wanted


def run(options: RunOptions, servers: Servers, *, verify: Verify | None) -> RunResult:
    """Run the bridge until it ends, store what was appended, and compare.

    Raises BridgeFailed, LogForgets, LogError, DatabaseRefused.
    """
    facts = _redis_ready(servers.redis_url)
    _refuse_forgetful(facts, options)
    wait_until_ready(servers.postgres_url, tell=log.warning)
    migrate(servers.postgres_url)
    names = [terminal.namespace for terminal in options.terminals]
    opened = open_log(servers.redis_url)
    try:
        before = log_ends(opened, names)
        stored_before = _stored(servers.postgres_url, names) if options.counted else {}
        begun = time.monotonic()
        bridge, ending, drained = _ran(options, servers, opened, before)
        took_s = time.monotonic() - begun
        terminals = [
            _result(terminal, opened, servers.postgres_url, before, stored_before, verify)
            for terminal in (options.terminals if options.counted else ())
        ]
        return RunResult(
            ending=ending.value,
            took_s=took_s,
            redis=f"{servers.redis_kind} {facts.name} {facts.version} at {_place(servers)}",
            database=f"{servers.postgres_kind} PostgreSQL at {where(servers.postgres_url)}",
            drained=drained,
            entries_by_lane=log_ends(opened, names).added_by_lane(before),
            restarts=sum(max(0, report.starts - 1) for report in bridge.reports),
            terminals=terminals,
        )
    finally:
        opened.close()


def _ran(
    options: RunOptions, servers: Servers, opened: Log, before: LogEnds
) -> tuple[Bridge, Ending, bool]:
    """The children, from start to end."""
    screen = _screen(options, servers)
    root = logging.getLogger()
    if isinstance(screen, logging.Handler):
        root.addHandler(screen)
    try:
        names = [terminal.namespace for terminal in options.terminals]
        dsn = servers.postgres_url
        bridge = _bridge(
            options,
            screen,
            up=lambda: _all_up(opened, names, before),
            caught_up=lambda: everything_stored(opened, dsn, names, PERSIST),
        )
        ending, drained = bridge.run(for_s=options.for_s)
        return bridge, ending, drained
    finally:
        if isinstance(screen, logging.Handler):
            root.removeHandler(screen)
        screen.close()


def _all_up(log: Log, names: Sequence[str], before: LogEnds) -> bool:
    """Whether every terminal was attached. False when the log does not answer."""
    try:
        return all(came_up(log, name, before) for name in names)
    except LogUnavailable:
        return False


def _bridge(
    options: RunOptions,
    screen: Screen,
    *,
    up: Callable[[], bool],
    caught_up: Callable[[], bool],
) -> Bridge:
    environment = dict(options.environment or {})
    producers = [
        ProcessSpec(
            f"produce {terminal.name}",
            MODULE,
            ("produce", *options.choice.arguments(terminal), *_volatile(options)),
            environment,
        )
        for terminal in options.terminals
    ]
    names = tuple(word for one in options.terminals for word in ("--terminal", one.namespace))
    groups = [
        ProcessSpec(
            group, MODULE, ("consume", "--as-worker", "0", "--group", group, *names), environment
        )
        for group in GROUPS
    ]
    words = ("consume", "--group", "strategy", "--plain", *names)
    groups.append(ProcessSpec("strategies", MODULE, words, environment))
    if options.alerts_wanted:  # a process of its own for each target
        words = ("consume", "--group", "alerts", "--plain", *names)
        groups.append(ProcessSpec("alerts", MODULE, words, environment))
    return Bridge(
        producers,
        ProcessSpec(PERSIST, MODULE, ("consume", "--group", PERSIST, *names), environment),
        groups,
        up=up,
        caught_up=caught_up,
        screen=screen,
        finite=options.finite,
        drains=options.counted,
    )


def _volatile(options: RunOptions) -> tuple[str, ...]:
    return ("--volatile-log",) if options.volatile_allowed else ()


def _screen(options: RunOptions, servers: Servers) -> Screen:
    if not options.window:
        return PlainScreen()
    return WindowScreen(
        lambda: open_log(servers.redis_url),
        names=[terminal.namespace for terminal in options.terminals],
        title="MT5 Bridge   (Ctrl-C ends it)",
    )


def _redis_ready(url: str) -> ServerFacts:
    """Wait with back-off until the server answers, and say so once."""
    tries = 0
    while True:
        try:
            facts = server_facts(url)
        except LogUnavailable as error:
            if tries == 0:
                log.warning("%s: waiting for it", error)
            time.sleep(REDIS_WAIT_S[min(tries, len(REDIS_WAIT_S) - 1)])
            tries += 1
        else:
            if tries:
                log.warning("Redis answers again")
            return facts


def _refuse_forgetful(facts: ServerFacts, options: RunOptions) -> None:
    real = [one.name for one in options.terminals if one.kind not in MADE_UP]
    if facts.volatile and real and not options.volatile_allowed:
        raise LogForgets(
            f"the log here is a stand-in that forgets everything, and {', '.join(real)} is a real "
            "terminal: install Redis (WSL2 or Docker) and set REDIS_URL, or add --volatile-log"
        )


def _stored(dsn: str, names: Sequence[str]) -> dict[str, dict[str, int]]:
    with connect(dsn, application="bridge up") as connection:
        return {name: count_ticks(connection, name) for name in names}


def _result(
    terminal: TerminalSettings,
    opened: Log,
    dsn: str,
    before: LogEnds,
    stored_before: Mapping[str, Mapping[str, int]],
    verify: Verify | None,
) -> TerminalResult:
    name = terminal.namespace
    earlier = stored_before.get(name, {})
    stored = {
        symbol: count - earlier.get(symbol, 0)
        for symbol, count in _stored(dsn, [name])[name].items()
    }
    appended = appended_since(opened, name, before)
    states = collect(opened, only=name)
    verified: Verified | None = verify(terminal, appended) if verify is not None else None
    return TerminalResult(
        terminal=name,
        kind=terminal.kind.value,
        ticks_appended={symbol: one.ticks for symbol, one in appended.items()},
        ticks_stored=stored,
        verified=verified,
        came_up=came_up(opened, name, before),
        last_error=next((one.producer.last_error for one in states if one.producer), ""),
    )


def _place(servers: Servers) -> str:
    """Host and port without credentials."""
    return urlsplit(servers.redis_url).netloc.rpartition("@")[2]
