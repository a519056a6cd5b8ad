"""`bridgectl import`: tick files into the log."""

from __future__ import annotations

import json
import logging
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict

import click

from events.clock_rules import ClockRule
from events.embedded import servers
from events.log import Log, checked_name
from events.origin import LIVE, Origin
from events.redis import open_log
from events.retention import Retention, RetentionLoop, limits_of, segment_folder
from events.settings import Settings, load
from events.tick_files import TickSource, parse_source
from producers.append import Writer
from producers.pollers.context import DEALS_BACKFILL_S
from producers.report import Report
from producers.retention import retention_loop
from producers.tick_import import FileImport, ImportOptions, Progress, import_ticks

logger = logging.getLogger(__name__)

FILES_MAX = 1_000
PROGRESS_S = 1.0
IMPORTED = "imported"
"""Namespace of ticks that no terminal of ours showed: asking a terminal again for what it never
showed would find everything missing."""


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="[SYMBOL=]FILE...")
@click.option("--terminal", "name", metavar="NAME", help="Into the namespace of this terminal.")
@click.option(
    "--namespace",
    metavar="NAME",
    help=f"Into a namespace beside those of terminals.  [default: {IMPORTED}]",
)
@click.option(
    "--file-clock",
    metavar="RULE",
    default="server",
    show_default=True,
    help="Clock of the times in the files: server, UTC, or a rule.",
)
@click.option(
    "--clock",
    metavar="RULE",
    help="The broker's clock (default: the terminal's setting).",
)
@click.option(
    "--lane",
    type=click.Choice(["auto", "live", "history"]),
    default="auto",
    show_default=True,
    help="live: as if they came now; history: in the low lane; auto: history where a feed runs.",
)
@click.option(
    "--on-error",
    type=click.Choice(["stop", "keep"]),
    default="stop",
    show_default=True,
    help="A damaged file: take nothing of it, or the rows before the fault.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def import_command(
    files: tuple[str, ...],
    name: str | None,
    namespace: str | None,
    file_clock: str,
    clock: str | None,
    lane: str,
    on_error: str,
    as_json: bool,
) -> None:
    """Append tick files to the log: MT5 tick exports, CSV, Parquet; gzip too.

    Each file is appended once, however often this is run; a run that was stopped goes on where
    it stood. The symbol is read from the file's name, or given before it. Ticks go into a namespace
    of their own. With --terminal they become that terminal's history; while its producer runs,
    its namespace is taken: stop it first.

    \b
    bridgectl import EURUSD_202401.csv.gz GOLD=xau.parquet
    bridgectl import --file-clock UTC --clock ny-close EURUSD_20140504-20140507.csv.gz
    """
    if len(files) > FILES_MAX:
        raise click.UsageError(f"{len(files)} files at once: at most {FILES_MAX}")
    settings = load()
    terminal = settings.terminal(name) if name else settings.terminals()[0]
    sources = [parse_source(file) for file in files]
    options = ImportOptions(
        clock=_rule(clock or terminal.clock),
        file_clock=None if file_clock.lower() == "server" else _rule(file_clock),
        lane=lane,  # type: ignore[arg-type] # click gives one of the choices
        on_error=on_error,  # type: ignore[arg-type]
    )
    into = _namespace(namespace) or (terminal.namespace if name else IMPORTED)
    begun = time.monotonic()
    origin: Origin = LIVE if into == terminal.namespace else "import"
    with opened_writer(settings, into, origin) as writer:
        done = import_ticks(writer, sources, options=options, progress=_shown_progress())
    took_s = time.monotonic() - begun
    if as_json:
        click.echo(json.dumps(_as_json(done, into, took_s)))
    else:
        _tell(done, into, took_s)
    if any(file.fault for file in done):
        sys.exit(1)


def _rule(text: str | None) -> ClockRule | None:
    return ClockRule.parse(text) if text else None


def _namespace(name: str | None) -> str | None:
    try:
        return checked_name(name) if name else None
    except ValueError as error:
        raise click.UsageError(f"--namespace: {error}") from error


@contextmanager
def opened_writer(
    settings: Settings,
    namespace: str,
    origin: Origin,
    *,
    who: str = "import",
    check: Callable[[Log], None] = lambda _: None,
) -> Iterator[Writer]:
    """The right to append to a namespace, in the log of the settings (an embedded one is started
    for the time of the import). `check` may refuse it first. Raises WriterHeld while the
    namespace's producer runs."""
    with servers(settings, postgres=False) as found, closing(open_log(found.redis_url)) as log:
        check(log)
        yield from _claimed(log, settings, namespace, origin, who)


def _claimed(
    log: Log, settings: Settings, namespace: str, origin: Origin, who: str
) -> Iterator[Writer]:
    holder = f"{who} on {socket.gethostname()}"
    partitions = log.namespaces().get(namespace, settings.bridge_partitions)
    writer = Writer(log, namespace, partitions, holder=holder, report=Report(), origin=origin)
    writer.open()
    try:
        writer.start_beating(lambda: None)  # the next append raises Fenced
        with _kept(log, settings, writer):
            yield writer
    finally:
        writer.close()


def _kept(log: Log, settings: Settings, writer: Writer) -> RetentionLoop:
    """An import may bring more than memory holds."""
    return retention_loop(
        Retention(log, segment_folder(settings), limits_of(settings)),
        writer,
        deals_backfill_s=DEALS_BACKFILL_S,
        now_ms=lambda: time.time_ns() // 1_000_000,
    )


def _shown_progress() -> Callable[[Progress], None]:
    """One line a second on stderr where a person looks, nothing in a pipe."""
    if not sys.stderr.isatty():
        return lambda _: None
    last: dict[str, float] = {}
    seen: set[TickSource] = set()

    def show(progress: Progress) -> None:
        now = time.monotonic()
        if now - last.get("shown", 0.0) >= PROGRESS_S or progress.source not in seen:
            seen.add(progress.source)
            last["shown"] = now
            click.echo(f"{progress.source.path.name}: {progress.ticks:,} ticks", err=True)

    return show


def _as_json(done: list[FileImport], namespace: str, took_s: float) -> dict[str, object]:
    files = [asdict(file) | {"path": str(file.path)} for file in done]
    appended = sum(file.appended for file in done)
    return {
        "namespace": namespace, "ticks_appended": appended, "took_s": round(took_s, 3),
        "files": files,
    }  # fmt: skip


def _tell(done: list[FileImport], namespace: str, took_s: float) -> None:
    for file in done:
        lane = "low" if file.history else "normal"
        state = "already there" if file.already_there else f"{file.appended:,} appended"
        click.echo(f"{file.symbol}  {file.path.name}  {file.ticks:,} ticks, {state}  (lane {lane})")
        if not file.ticks and not file.fault:
            click.echo("  there are no ticks in it", err=True)
        if file.fault:
            click.echo(f"  stopped: {file.fault}", err=True)
    appended = sum(file.appended for file in done)
    click.echo(f"{appended:,} ticks in {took_s:.1f} s, namespace {namespace}", err=True)
