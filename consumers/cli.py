"""Commands of the consumers' room: `consume` and `migrate`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import click
from click.core import ParameterSource

from consumers.groups import (
    ALERTS,
    PERSIST,
    STRATEGY,
    GroupSpec,
    UnknownGroup,
    UnknownHandler,
    group_specs,
)
from consumers.groups.deliverable import deliverable
from consumers.groups.enabled import StrategiesWanted
from consumers.groups.running import RunChoice, follow, supervise, work
from consumers.groups.terminals import check_namespaces, namespaces_of
from consumers.runtime.reading import BATCH_ENTRIES_MAX
from consumers.runtime.rederive.upgrade import Upgrade
from consumers.unordered import SILENT_S
from consumers.workers.beating import HANDLE_S_MAX
from consumers.workers.beginning import Begin
from consumers.workers.ownership import LEASE_S
from consumers.workers.supervise import REFUSED, WORKERS_MAX, CrewState
from consumers.workers.taking import GroupRefused
from events.durations import SecondsRange
from events.log import Log
from events.notify import BadTarget, target_names
from events.processes import stopped_by_signals
from events.program_log import program_log_of
from events.retention import whole_log
from events.settings import Settings, load

PERSIST_LEASE_S = 30.0
ALERT_LEASE_S = 30.0
"""Beside the time one delivery may take: a consumer is silent while it delivers a batch."""
ALERT_ENTRIES_MAX = 20
"""So many alerts may be told twice when a process dies while it delivers."""
THREADS_MAX = 16


class ConsumeFailed(RuntimeError):
    """The group ended before its work was done. The message names cause and cure."""


class WorkerRefused(ConsumeFailed):
    """A worker's group cannot run like this: leaves as wrong settings do."""

    @property
    def problems(self) -> list[str]:
        return [f"{REFUSED}{self}"]


@click.command()
@click.option("--group", help="Which group to run [default: persist]; with --handler its name.")
@click.option("--handler", metavar="MODULE:CLASS", help="A handler or sink of your own to run.")
@click.option("--set", "sets", multiple=True, metavar="NAME=VALUE", help="A parameter of it.")
@click.option("--terminal", "names", multiple=True, metavar="NAME", help="Only these; repeat.")
@click.option("--symbol", "symbols", multiple=True, metavar="NAME",
              help="Of a strategy: only these; repeat.")  # fmt: skip
@click.option(
    "--workers",
    type=click.IntRange(1, WORKERS_MAX),
    default=1,
    show_default=True,
    help="Processes (persist: threads) that share the tasks.",
)
@click.option("--until-idle", is_flag=True, help="End when everything in the log is handled.")
@click.option(
    "--lease",
    "lease_s",
    type=SecondsRange(0.5, 600),
    help="Seconds without a sign of life after which a holder is replaced"
    f" [default: {LEASE_S:g}; persist: {PERSIST_LEASE_S:g}; unordered: {SILENT_S:g}].",
)
@click.option(
    "--from",
    "begin",
    type=click.Choice([one.value for one in Begin]),
    help="Where a group begins that never ran [default: oldest; strategies: newest].",
)
@click.option(
    "--batch",
    "entries_max",
    type=click.IntRange(1, 10_000),
    default=BATCH_ENTRIES_MAX,
    show_default=True,
    help="Entries of each lane handled in one commit.",
)
@click.option(
    "--upgrade",
    type=click.Choice([one.value for one in Upgrade]),
    default=Upgrade.DERIVE.value,
    show_default=True,
    help="How to go on with the state that another version of the handler left.",
)
@click.option(
    "--handle-limit",
    "handle_s_max",
    type=SecondsRange(1, 86_400),
    default=HANDLE_S_MAX,
    show_default=True,
    help="Seconds after which an entry that is still being handled ends its worker.",
)
@click.option(
    "--unordered",
    is_flag=True,
    help="Hand entries out to any number of workers, in no order: for sinks, and for handlers "
    "without state.",
)
@click.option("--plain", is_flag=True, help="Log lines in place of the live view.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@click.option("--as-worker", type=int, hidden=True, help="Be one worker; used by consume.")
@click.option("--expect", "checksum", default="", hidden=True, help="Of the strategy's file.")
def consume(
    group: str | None,
    handler: str | None,
    sets: tuple[str, ...],
    names: tuple[str, ...],
    symbols: tuple[str, ...],
    workers: int,
    until_idle: bool,
    lease_s: float | None,
    begin: str | None,
    entries_max: int,
    upgrade: str,
    handle_s_max: float,
    unordered: bool,
    plain: bool,
    as_json: bool,
    as_worker: int | None,
    checksum: str,
) -> None:
    """Run a consumer group until it is stopped.

    Its workers share the tasks with those of every other `consume` of the same group, on this
    machine or another one. A worker that ends hands its tasks over; one that dies is replaced.
    Group `strategy` runs what `bridgectl strategies enable` switched on, and follows changes.

    \b
    bridgectl consume --group persist
    bridgectl consume --group risk --workers 2
    bridgectl consume --handler my_handlers:BigTicks --set points=50
    bridgectl consume --unordered --handler my_sinks:Webhook --workers 4
    bridgectl consume --group strategy
    bridgectl consume --group alerts
    bridgectl consume --group persist --until-idle --json
    """
    if handler is None and group in (None, PERSIST):
        _refuse_what_persist_has_not()
        _persist(names, workers, lease_s, until_idle=until_idle, as_json=as_json)
        return
    settings = load()
    follows = _is_of(STRATEGY, group) and handler is None
    if follows and (sets or symbols):
        raise click.UsageError(
            "--set, --symbol: use it with --handler, or with `bridgectl strategies enable`"
        )
    specs = [] if follows else _specs(group, handler, sets, settings, symbols, checksum)
    newest = follows or all(_is_of(STRATEGY, spec.name) for spec in specs)
    if _is_of(ALERTS, group) and handler is None:
        unordered, entries_max = True, min(entries_max, ALERT_ENTRIES_MAX)
        lease_s = lease_s or ALERT_LEASE_S + settings.alert_timeout_s
    choice = RunChoice(
        workers=workers,
        namespaces=namespaces_of(names, settings),
        lease_s=lease_s or (SILENT_S if unordered else LEASE_S),
        entries_max=entries_max,
        begin=Begin(begin or (Begin.NEWEST if newest else Begin.OLDEST)),
        upgrade=_upgrade(upgrade, of_strategy=newest),
        handle_s_max=handle_s_max,
        until_idle=until_idle,
        unordered=unordered,
    )
    open_log = _redis_log(settings)
    if as_worker is not None:
        _work(as_worker, specs[0], choice, open_log, settings)
        return
    if len(specs) == 1:  # one of several that cannot begin stops no other
        _try_out(specs[0])
    window = sys.stdout.isatty() and not (plain or as_json)
    states = _run(group, specs, choice, settings, open_log, window=window)
    _tell(group, states, as_json=as_json, window=window)


def _run(
    group: str | None,
    specs: Sequence[GroupSpec],
    choice: RunChoice,
    settings: Settings,
    open_log: Callable[[], Log],
    *,
    window: bool,
) -> list[CrewState]:
    """These groups; without any the strategies that are wanted."""

    def opened() -> Log:
        return whole_log(open_log(), settings)

    name = group or specs[0].name
    with program_log_of(name, settings, console=not window):
        check_namespaces(open_log, choice.namespaces, settings, until_idle=choice.until_idle)
        if specs:
            return supervise(specs, choice, opened, window=window)
        return _follow(name, settings, choice, opened, window=window)


def _follow(
    group: str,
    settings: Settings,
    choice: RunChoice,
    open_log: Callable[[], Log],
    *,
    window: bool,
) -> list[CrewState]:
    try:
        wanted = StrategiesWanted(group, settings.strategies, choice.namespaces)
        wanted.check(open_log, until_idle=choice.until_idle)
    except (UnknownGroup, UnknownHandler) as error:
        raise click.UsageError(str(error)) from error
    return follow(wanted, choice, open_log, title=group, window=window)


def _work(
    number: int, spec: GroupSpec, choice: RunChoice, open_log: Callable[[], Log], settings: Settings
) -> None:
    with program_log_of(f"{spec.name}-{number}", settings):
        try:
            work(spec, choice, open_log, settings)
        except GroupRefused as error:  # starting again would change nothing
            raise WorkerRefused(str(error)) from error


def _refuse_what_persist_has_not() -> None:
    """Options of groups of handlers that were given for group persist."""
    given = click.get_current_context().get_parameter_source
    for name, option, why in (
        ("unordered", "--unordered", "name a handler or sink of yours with --handler"),
        ("sets", "--set", "group persist has no parameters"),
        ("begin", "--from", "group persist always begins with the oldest entry"),
        ("entries_max", "--batch", "group persist chooses its batches itself"),
        ("upgrade", "--upgrade", "group persist derives no state"),
        ("handle_s_max", "--handle-limit", "group persist runs no handler"),
    ):
        if given(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option}: {why}")


def _upgrade(chosen: str, *, of_strategy: bool) -> Upgrade:
    """A strategy whose file was changed goes on with what the log keeps, unless told otherwise."""
    given = click.get_current_context().get_parameter_source("upgrade")
    if of_strategy and given is ParameterSource.DEFAULT:
        return Upgrade.OLDEST
    return Upgrade(chosen)


def _is_of(family: str, group: str | None) -> bool:
    return group is not None and group.partition(".")[0] == family


def _specs(
    group: str | None,
    handler: str | None,
    sets: tuple[str, ...],
    settings: Settings,
    symbols: tuple[str, ...] = (),
    checksum: str = "",
) -> list[GroupSpec]:
    texts = {"symbols": ",".join(symbols)} if symbols else {}
    for text in sets:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"--set {text!r}: write it as NAME=VALUE")
        texts[name] = value
    try:
        specs = group_specs(
            group, handler=handler, parameters=texts, strategies=settings.strategies,
            targets=target_names(settings),
        )  # fmt: skip
        specs = [replace(spec, checksum=checksum) for spec in specs] if checksum else specs
        for spec in specs:
            made = spec.group()
            if symbols and not _is_of(STRATEGY, made.name):
                raise click.UsageError("--symbol is for strategies: others name their own inputs")
        if _is_of(ALERTS, group) and handler is None:
            specs = deliverable(specs, settings)
    except (BadTarget, UnknownGroup, UnknownHandler) as error:
        raise click.UsageError(str(error)) from error
    return specs


def _try_out(spec: GroupSpec) -> None:
    try:
        spec.try_out()
    except UnknownHandler as error:
        raise click.UsageError(str(error)) from error


def _tell(group: str | None, states: list[CrewState], *, as_json: bool, window: bool) -> None:
    if window:  # the live view is gone from the screen by now
        from consumers.workers.screen import status_line

        for state in states:
            click.echo(f"ended: {status_line(state, None)}")
    if as_json:
        each = [state.as_json() for state in states]
        many = group == STRATEGY or len(each) != 1
        click.echo(json.dumps({"group": group, "groups": each} if many else each[0]))
    halted = [f"{slot} is halted: {why}" for one in states for slot, why in one.halted.items()]
    if halted:
        raise ConsumeFailed("; ".join(halted))


def _persist(
    names: tuple[str, ...], threads: int, lease_s: float | None, *, until_idle: bool, as_json: bool
) -> None:
    from consumers.persist.running import run_persist
    from events.retention import whole_log

    if threads > THREADS_MAX:
        raise click.UsageError(f"--workers {threads}: group persist takes at most {THREADS_MAX}")
    settings = load()
    open_log = _redis_log(settings)
    namespaces = namespaces_of(names, settings)
    with program_log_of(PERSIST, settings), stopped_by_signals() as stop:
        check_namespaces(open_log, namespaces, settings, until_idle=until_idle)
        progress = run_persist(
            _postgres(settings),
            lambda: whole_log(open_log(), settings),
            stop,
            namespaces=namespaces,
            threads=threads,
            lease_s=lease_s or PERSIST_LEASE_S,
            until_idle=until_idle,
        )
    if progress is None:
        return
    if as_json:
        click.echo(json.dumps({"group": PERSIST, **progress.as_json()}))
    if progress.refused or progress.halted:
        raise ConsumeFailed(progress.refused or "; ".join(progress.halted.values()))


@click.command()
@click.option("--check", "only_check", is_flag=True, help="Only say whether there is work to do.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def migrate(only_check: bool, as_json: bool) -> None:
    """Bring the database to this program's schema (forward only).

    \b
    bridgectl migrate
    bridgectl migrate --check --json
    """
    from events import postgres

    dsn = _postgres(load())
    state = postgres.current(dsn) if only_check else postgres.migrate(dsn)
    if as_json:
        facts = {"current": state.current, "newest": state.newest, "timescaledb": state.timescaledb}
        click.echo(json.dumps(facts))
    else:
        done = "is up to date" if state.ready else f"needs {state.newest}: run `bridgectl migrate`"
        click.echo(f"database {postgres.where(dsn)}: schema {state.current or 'none'} {done}")
    if not state.ready:
        raise click.exceptions.Exit(1)


def _redis_log(settings: Settings) -> Callable[[], Log]:
    """Opens the log, when it is called."""
    redis = settings.redis_url()
    if redis is None:
        raise ConsumeFailed(
            "no Redis is configured and no embedded one runs: "
            "start `bridgectl up`, or set REDIS_URL"
        )
    return lambda: _open_log(redis)


def _postgres(settings: Settings) -> str:
    dsn = settings.postgres_url()
    if dsn is None:
        raise ConsumeFailed(
            "no database is configured and no embedded one runs: "
            "start `bridgectl up`, or set POSTGRES_HOST (or POSTGRES_URL)"
        )
    return dsn


def _open_log(url: str) -> Log:
    from events.redis import open_log

    return open_log(url)
