"""The command `history fetch`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Literal

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from events.archive.source import archive_folder
from events.clock_rules import ClockRule
from events.instants import instant_option
from events.log import Log, LogError, checked_name
from events.origin import LIVE
from events.settings import Settings, TerminalSettings, load
from events.settings.fields import TIMEFRAMES
from producers.history.batches import Feed
from producers.history.fetching import Fetched, HistoryFetch, Target
from producers.history.into_archive import IntoArchive
from producers.history.into_log import IntoLog
from producers.history.planning import Recorded, check_second_process, recorded_of, spans
from producers.import_cli import opened_writer
from producers.truth import opened_truth

PAUSE_S = 0.02
"""Between two steps: the terminal serves others too."""
NAME_LENGTH_MAX, SUFFIX = 48, "-history"
Into = Literal["archive", "log"]


@click.command("fetch")
@click.option("--symbol", "symbols", multiple=True, required=True, metavar="NAME",
              help="Which symbol; repeat.")  # fmt: skip
@click.option("--from", "from_ms", required=True, callback=instant_option, metavar="TIME",
              help="From this UTC time on.")  # fmt: skip
@click.option("--to", "until_ms", callback=instant_option, metavar="TIME",
              help="Before this time.  [default: a minute ago]")  # fmt: skip
@click.option("--terminal", "name", metavar="NAME", help="Of this terminal.")
@click.option("--timeframe", "timeframes", multiple=True, type=click.Choice(TIMEFRAMES),
              help="Candles of it too; repeat.")  # fmt: skip
@click.option("--no-ticks", is_flag=True, help="Candles alone.")
@click.option("--into", type=click.Choice(["archive", "log"]), default="archive",
              show_default=True,
              help="Files beside what is recorded, or a namespace of the log.")  # fmt: skip
@click.option("--namespace", metavar="NAME",
              help="With --into log.  [default: TERMINAL-history]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def history_fetch(
    symbols: tuple[str, ...],
    from_ms: int,
    until_ms: int | None,
    name: str | None,
    timeframes: tuple[str, ...],
    no_ticks: bool,
    into: Into,
    namespace: str | None,
    as_json: bool,
) -> None:
    """Fetch ticks and candles of the past from a terminal, into the archive or the log.

    A terminal process of its own is asked, in small steps. What was fetched before is skipped, so
    a fetch that was stopped goes on where it stood. In the archive ticks end where those in the
    log begin: both are one history. In the log they are a namespace of their own, for groups to
    run on: guards, alerts and execution leave it alone.

    \b
    bridgectl history fetch --symbol EURUSD --from 2024-05-01
    bridgectl history fetch --symbol EURUSD --from 2024-01-01 --to 2024-02-01 --timeframe M1
    bridgectl history fetch --symbol EURUSD --from 2024-05-01 --into log --namespace may
    """
    settings = load()
    terminal = settings.terminal(name) if name else settings.terminals()[0]
    now_ms = time.time_ns() // 1_000_000
    end_ms = min(now_ms if until_ms is None else until_ms, now_ms)
    if from_ms >= end_ms:
        raise click.UsageError("--from lies behind --to, or in the future: swap them")
    feeds = [Feed(one) for one in dict.fromkeys(symbols) if not no_ticks]
    feeds += [Feed(one, each) for one in dict.fromkeys(symbols) for each in timeframes]
    if not feeds:
        raise click.UsageError("--no-ticks without --timeframe leaves nothing to fetch")
    target_name = _namespace(settings, terminal, into, namespace)
    recorded = recorded_of(settings, terminal.namespace, symbols if into == "archive" else ())
    check_second_process(settings, terminal, recorded.holder)
    rule = terminal.clock or recorded.rule
    clock = ClockRule.parse(rule) if rule else None
    wanted = spans(
        feeds, from_ms, end_ms, clock=clock, now_ms=now_ms, live_from_ms=recorded.live_from_ms
    )
    begun = time.monotonic()
    with (
        _target(settings, into, target_name, recorded) as target,
        opened_truth(terminal, symbols, newest_server_ms=0, state_dir=settings.state_dir) as past,
        _shown(as_json) as told,
    ):
        fetch = HistoryFetch(
            past, target, clock=clock, now_ms=lambda: time.time_ns() // 1_000_000,
            pause=lambda: time.sleep(PAUSE_S), told=told,
        )  # fmt: skip
        done = fetch.run(wanted)
    _tell(done, target_name, into, clock, took_s=time.monotonic() - begun, as_json=as_json)


def _namespace(settings: Settings, terminal: TerminalSettings, into: Into, name: str | None) -> str:
    """Where it goes: in the archive beside the terminal's own entries, in the log never."""
    if into == "archive":
        if name is not None:
            raise click.UsageError("--namespace goes with --into log")
        return terminal.namespace
    chosen = name or f"{terminal.namespace[: NAME_LENGTH_MAX - len(SUFFIX)]}{SUFFIX}"
    try:
        checked_name(chosen)
    except ValueError as error:
        raise click.UsageError(f"--namespace: {error}") from error
    if chosen in {terminal.namespace, *(one.namespace for one in settings.terminals())}:
        raise _is_live(chosen)
    return chosen


def _is_live(name: str) -> LogError:
    return LogError(
        f"namespace {name!r} is a terminal's own: its past goes into the archive "
        "(--into archive), or into a namespace of its own (--namespace NAME)"
    )


@contextmanager
def _target(settings: Settings, into: Into, name: str, recorded: Recorded) -> Iterator[Target]:
    """The right to write there. Raises ArchiveError, WriterHeld, LogError."""
    if into == "archive":
        folder = archive_folder(settings)
        with folder.writing(name):
            yield IntoArchive(folder, name, recorded.partitions or settings.bridge_partitions)
        return

    def refuse_live(log: Log) -> None:
        if name in log.namespaces() and log.origin(name) == LIVE:
            raise _is_live(name)

    with opened_writer(settings, name, "import", who="history fetch", check=refuse_live) as writer:
        yield IntoLog(writer)


@contextmanager
def _shown(as_json: bool) -> Iterator[Callable[[Feed, int, int], None]]:
    """A progress bar on stderr, where somebody looks."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(),
               TimeRemainingColumn())  # fmt: skip
    hidden = as_json or not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), disable=hidden) as progress:
        task = progress.add_task("", total=None)

        def told(feed: Feed, done: int, total: int) -> None:
            progress.update(task, description=str(feed), completed=done, total=total)

        yield told


def _tell(
    done: Sequence[Fetched], namespace: str, into: Into, clock: ClockRule | None, *,
    took_s: float, as_json: bool,
) -> None:  # fmt: skip
    if as_json:
        rule = None if clock is None else str(clock)
        feeds = [asdict(one) for one in done]
        click.echo(json.dumps({"namespace": namespace, "into": into, "clock": rule,
                               "took_s": round(took_s, 3), "feeds": feeds}))  # fmt: skip
        return
    for one in done:
        pieces = "files" if into == "archive" else "steps"
        state = f"{one.rows:,} rows in {one.chunks} {pieces}" if one.rows else "nothing new"
        empty = f", nothing in {one.empty_steps} of {one.steps} steps" if one.empty_steps else ""
        click.echo(f"{one.feed}: {state}{empty}")
    if into == "log":
        click.echo(f"namespace {namespace}: bridgectl consume --terminal {namespace}", err=True)
    if clock is None:
        click.secho("the broker's clock is not known: times are kept as they are and marked so; "
                    "set MT5_CLOCK", fg="yellow", err=True)  # fmt: skip
