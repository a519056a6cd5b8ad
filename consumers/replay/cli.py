"""The commands `replay` and `why`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from consumers.groups import PERSIST, UnknownGroup, UnknownHandler, group_specs
from consumers.groups.enabled import enabled_specs
from consumers.replay.into_cli import replay_into, speed_option
from consumers.replay.page import told
from consumers.replay.trial import Trial, try_task
from consumers.replay.verification import TaskVerification, verify_task
from consumers.runtime.group import Group, TaskSpec
from events.cli import opened_log
from events.instants import instant_option
from events.log import Entry, Log
from events.retention.opening import whole_log
from events.settings import Settings, load
from events.views import lines
from events.views.tables import page

EXIT_FAILED, EXIT_DIFFERS = 1, 3
Told = Callable[[int, int], None]


class ReplayFailed(RuntimeError):
    """There is nothing to derive again. The message names cause and cure."""


@click.command()
@click.option("--verify", is_flag=True, help="Compare with what the group derived at the time.")
@click.option("--group", help="Which group; with --handler its name.")
@click.option("--handler", metavar="MODULE:CLASS", help="A handler of your own.")
@click.option("--set", "sets", multiple=True, metavar="NAME=VALUE", help="A parameter of it.")
@click.option("--terminal", "names", multiple=True, metavar="NAME", help="Only these; repeat.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Without --verify: write what would be derived here, a JSON object per line.",
)
@click.option(
    "--speed",
    callback=speed_option,
    metavar="10x|max",
    help="Without --verify: so many times as fast as it came.  [default: max]",
)
@click.option("--into", metavar="NAMESPACE", help="Append recorded events to this namespace.")
@click.option("--from", "from_ms", callback=instant_option, metavar="TIME",
              help="With --into: events from this UTC time on.")  # fmt: skip
@click.option("--to", "until_ms", callback=instant_option, metavar="TIME",
              help="With --into: events before this UTC time.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def replay(
    verify: bool,
    group: str | None,
    handler: str | None,
    sets: tuple[str, ...],
    names: tuple[str, ...],
    output: Path | None,
    speed: float | None,
    into: str | None,
    from_ms: int | None,
    until_ms: int | None,
    as_json: bool,
) -> None:
    """Derive again what a group derived, from the log and from segments on this machine.

    With --verify every event is compared to the byte with the one derived at the time, in the
    order that was used then; the first difference is shown with its causes. Leaves with 3 when
    something differs, with 1 when not everything could be compared. The group may run meanwhile.

    Without it a handler is tried on everything the log keeps; nothing is written to the log.

    With --into what was recorded of a terminal (log, archive, database) is appended to a namespace
    of its own, original times and order kept, for any group to run on: guards, alerts and
    execution leave it alone. A replay that was stopped goes on where it stood.

    \b
    bridgectl replay --terminal demo --from 2024-05-06 --to 2024-05-07 --into may-6
    bridgectl replay --terminal demo --into again --speed 10x
    bridgectl replay --verify --group risk
    bridgectl replay --verify --handler my_handlers:BigTicks --json
    bridgectl replay --handler my_handlers:BigTicks --set points=50 --output would-be.jsonl
    """
    if verify and (output is not None or speed is not None):
        raise click.UsageError("--output and --speed are for a replay without --verify")
    if into is not None:
        if verify or group or handler or sets or output is not None:
            raise click.UsageError("--into goes with --terminal, --from, --to and --speed alone")
        replay_into(names, into, from_ms=from_ms, until_ms=until_ms, speed=speed, as_json=as_json)
        return
    if from_ms is not None or until_ms is not None:
        raise click.UsageError("--from and --to are for a replay --into a namespace")
    settings = load()
    with opened_log(settings) as bare:
        log = whole_log(bare, settings)
        groups = _groups(log, group, handler, sets, names, settings)
        if verify:
            _verify(log, groups, as_json=as_json)
        else:
            _try(log, groups, output=output, speed=speed, as_json=as_json)


def _verify(log: Log, groups: Sequence[Group], *, as_json: bool) -> None:
    found: list[TaskVerification] = []
    with _shown(as_json) as bar:
        for group, spec in _tasks(log, groups):
            found.append(verify_task(log, group, spec, told=bar(spec.reader)))
    if not any(task.entries or task.problem for task in found):
        names = ", ".join(group.name for group in groups)
        raise ReplayFailed(f"{names}: no task of it committed anything yet; run `consume` first")
    good = all(task.good for task in found)
    if as_json:
        each = [task.as_json() for task in found]
        click.echo(json.dumps({"good": good, "tasks": each}, allow_nan=False))
    else:
        page().print(told(log, found))
    if not all(task.same for task in found):
        raise click.exceptions.Exit(EXIT_DIFFERS)
    if not good:
        raise click.exceptions.Exit(EXIT_FAILED)


def _try(
    log: Log, groups: Sequence[Group], *, output: Path | None, speed: float | None, as_json: bool
) -> None:
    found: list[Trial] = []
    with ExitStack() as stack:
        bar = stack.enter_context(_shown(as_json))
        emit: Callable[[Entry], None] = lambda _: None  # noqa: E731 - a default of its own
        if output is not None:
            file = stack.enter_context(output.open("w", encoding="utf-8", newline="\n"))

            def emit(entry: Entry) -> None:
                file.write(json.dumps(lines.as_json(entry)) + "\n")

        for group, spec in _tasks(log, groups):
            told_task = bar(spec.reader)
            found.append(try_task(log, group, spec, emit=emit, told=told_task, speed=speed))
    for task in found:
        if not as_json:
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(task.outputs.items()))
            click.echo(f"{task.task}: {task.entries} entries, derived {kinds or 'nothing'}")
    if as_json:
        each = [
            {"task": task.task, "entries": task.entries, "outputs": task.outputs,
             "failed": task.failed}
            for task in found
        ]  # fmt: skip
        click.echo(json.dumps({"tasks": each}))


def _tasks(log: Log, groups: Sequence[Group]) -> Iterator[tuple[Group, TaskSpec]]:
    tasks = [(group, spec) for group in groups for spec in group.specs(log)]
    if not tasks:
        raise ReplayFailed("the log holds no such terminal: look at `bridgectl status`")
    return iter(tasks)


def _groups(
    log: Log,
    name: str | None,
    handler: str | None,
    sets: Sequence[str],
    namespaces: tuple[str, ...],
    settings: Settings,
) -> list[Group]:
    if name is None and handler is None:
        raise click.UsageError("which group? Name it with --group, or its code with --handler")
    if name == PERSIST:
        raise click.UsageError("persist derives no events: `bridgectl verify ticks` compares it")
    texts = dict(text.partition("=")[::2] for text in sets)
    try:
        specs = group_specs(
            name, handler=handler, parameters=texts, strategies=settings.strategies,
            enabled=enabled_specs(log, namespaces) if handler is None else (),
        )  # fmt: skip
        groups = [spec.group(namespaces) for spec in specs]
    except (UnknownGroup, UnknownHandler) as error:
        raise click.UsageError(str(error)) from error
    handlers = [group for group in groups if isinstance(group, Group)]
    if len(handlers) < len(groups):
        raise click.UsageError("a sink derives no events: there is nothing to derive again")
    return handlers


@contextmanager
def _shown(as_json: bool) -> Iterator[Callable[[str], Told]]:
    """A progress bar per task on stderr, where somebody looks."""
    console = Console(stderr=True)
    with Progress(console=console, disable=as_json or not sys.stderr.isatty()) as progress:

        def bar(name: str) -> Told:
            task = progress.add_task(name, total=None)
            return lambda done, total: progress.update(task, completed=done, total=total)

        yield bar
