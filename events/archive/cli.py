"""The commands `archive export`, `archive import`, `archive list` and `archive verify`."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from events.archive.chunk import Chunk
from events.archive.errors import ArchiveError
from events.archive.exporting import Exported, Exporter
from events.archive.folder import ArchiveFolder
from events.archive.importing import import_archive
from events.archive.source import Wanted, archive_folder, opened_source
from events.archive.stream_reading import Hole
from events.archive.verifying import Verified, verify_stream
from events.cli import opened_log
from events.durations import duration_option
from events.instants import instant_option
from events.log import Lane, Slot, Stream, checked_name
from events.settings import Settings, load
from events.views.moments import utc_text
from events.views.tables import page

EXIT_HOLES = 3
HOLES_SHOWN_MAX = 20
MIB = 1024 * 1024
_folder_option = click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the archive.  [default: ARCHIVE_DIR]",
)  # fmt: skip
_json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")


@click.command("export")
@click.option("--terminal", "names", multiple=True, metavar="NAME", help="Only these; repeat.")
@click.option("--writer", "writers", multiple=True, metavar="NAME",
              help="Only what these wrote: source, operator or a group; repeat.")  # fmt: skip
@click.option("--hold", is_flag=True, help="From now on nothing leaves the log unarchived.")
@click.option("--release", is_flag=True, help="End that.")
@click.option("--every", "every_s", callback=duration_option, metavar="10m",
              help="Stay, and export whole chunks so often.")  # fmt: skip
@_folder_option
@_json_option
def archive_export(
    names: tuple[str, ...],
    writers: tuple[str, ...],
    hold: bool,
    release: bool,
    every_s: float | None,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Write what is new in the log as Parquet files, read back and compared before they count.

    Goes on where it stood, however it was ended. What left the log before it was archived is
    taken from the database where one holds it, and told where nobody does (exit code 3).

    \b
    bridgectl archive export
    bridgectl archive export --terminal demo --hold
    bridgectl archive export --every 10m
    """
    if hold and release:
        raise click.UsageError("--hold and --release are opposites: give one of them")
    settings = load()
    place = _folder(settings, folder)
    with opened_source(settings, places=("log", "database"), told=_warn) as source:
        log = source.log
        if log is None:
            raise ArchiveError("no Redis runs: start `bridgectl up`, or set REDIS_URL")
        with _bars(as_json) as bar:
            exporters = [
                Exporter(
                    log, place, name, stored=source.stored, writers=writers,
                    whole_only=every_s is not None, told=bar,
                )
                for name in names or sorted(log.namespaces())
            ]  # fmt: skip
            for exporter in exporters:
                if hold:
                    exporter.hold()
                if release:
                    exporter.release()
            done = [exporter.run() for exporter in exporters]
        _tell_exported(done, place, as_json=as_json)
        while every_s is not None:
            time.sleep(every_s)
            done = [exporter.run() for exporter in exporters]
            if any(one.chunks or one.holes for one in done):
                _tell_exported(done, place, as_json=as_json)
    if any(one.holes for one in done):
        raise click.exceptions.Exit(EXIT_HOLES)


def _tell_exported(done: list[Exported], folder: ArchiveFolder, *, as_json: bool) -> None:
    if as_json:
        each = [
            {
                "namespace": one.namespace, "streams": one.streams, "chunks": one.chunks,
                "entries": one.entries, "ticks": one.ticks, "bytes": one.size_bytes,
                "holes": [_hole(hole) for hole in one.holes],
            }
            for one in done
        ]  # fmt: skip
        click.echo(json.dumps({"folder": folder.root.as_posix(), "namespaces": each}))
        return
    for one in done:
        click.echo(
            f"{one.namespace}: {one.entries:,} entries, {one.ticks:,} ticks in {one.chunks} "
            f"chunks, {one.size_bytes / MIB:.1f} MiB, at {folder.root}"
        )
        _tell_holes(one.holes)


@click.command("import")
@click.argument("name", metavar="NAMESPACE")
@click.option("--into", metavar="NAME", help="Under this name.  [default: its own]")
@click.option("--writer", "writers", multiple=True, metavar="NAME",
              help="Only what these wrote: source, operator or a group; repeat.")  # fmt: skip
@click.option("--from", "from_ms", callback=instant_option, metavar="TIME",
              help="Only events from this UTC time on.")  # fmt: skip
@click.option("--to", "until_ms", callback=instant_option, metavar="TIME",
              help="Only events before this UTC time.")  # fmt: skip
@_folder_option
@_json_option
def archive_import(
    name: str,
    into: str | None,
    writers: tuple[str, ...],
    from_ms: int | None,
    until_ms: int | None,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Give a log the archived entries of a namespace back: same ids, same bytes.

    The namespace holds the past then: guards, alerts and execution leave it alone. To run groups
    on it that derived something already, take only what the terminal showed: --writer source
    --writer operator. A run that was stopped goes on where it stood.

    \b
    bridgectl archive import demo --into demo-may
    bridgectl archive import demo --into one-day --from 2024-05-06 --to 2024-05-07 --writer source
    """
    settings = load()
    place = _folder(settings, folder)
    wanted = Wanted(
        _name(name), writers=writers or _writers(place, name), from_ms=from_ms, until_ms=until_ms
    )
    total = sum(chunk.entries for chunk in _chunks(place, name, wanted))
    done = 0
    with opened_log(settings) as log, _bars(as_json) as bar:

        def told(slot: Slot, count: int) -> None:
            nonlocal done
            done += count
            bar(slot.stream(Lane.NORMAL), done, total)

        found = import_archive(
            place, log, wanted, into=_name(into or name), told=told,
            holder=f"archive import on {socket.gethostname()}",
        )  # fmt: skip
    if as_json:
        holes = [_hole(hole) for hole in found.holes]
        click.echo(json.dumps({"namespace": found.namespace, "into": found.into,
                               "entries": found.entries, "holes": holes}))  # fmt: skip
    else:
        state = f"{found.entries:,} entries" if found.entries else "nothing new"
        click.echo(f"{found.into}: {state} from {place.root}")
        _tell_holes(found.holes)


@click.command("list")
@click.option("--terminal", "names", multiple=True, metavar="NAME", help="Only these; repeat.")
@_folder_option
@_json_option
def archive_list(names: tuple[str, ...], folder: Path | None, as_json: bool) -> None:
    """Show what the archive holds: namespaces, writers, spans, ticks, bytes.

    \b
    bridgectl archive list
    bridgectl archive list --terminal demo --json | jq .streams[0]
    """
    place = _folder(load(), folder)
    rows = [
        (stream, place.chunks(stream))
        for name in names or place.namespaces()
        for stream in place.streams(_name(name))
    ]
    if as_json:
        click.echo(json.dumps({"streams": [_as_json(*row) for row in rows]}))
    elif not rows:
        click.echo(f"{place.root} holds nothing yet: bridgectl archive export")
    else:
        page().print(_table(rows))


@click.command("verify")
@click.option("--terminal", "names", multiple=True, metavar="NAME", help="Only these; repeat.")
@_folder_option
@_json_option
def archive_verify(names: tuple[str, ...], folder: Path | None, as_json: bool) -> None:
    """Read every file of the archive and compare it with its checksum; tell what is missing.

    Leaves with 3 when something is damaged or missing.

    \b
    bridgectl archive verify
    bridgectl archive verify --terminal demo --json
    """
    place = _folder(load(), folder)
    found = Verified()
    with _bars(as_json) as bar:
        for name in names or place.namespaces():
            for stream in place.streams(_name(name)):
                verify_stream(place, stream, found, told=bar)
    if as_json:
        click.echo(json.dumps({"good": found.good, **asdict(found)}))
    else:
        for line in (*found.damaged, *found.holes):
            click.secho(line, fg="red")
        click.echo(
            f"{found.chunks} chunks, {found.entries:,} entries: {len(found.damaged)} damaged, "
            f"{len(found.holes)} holes"
        )
    if not found.good:
        raise click.exceptions.Exit(EXIT_HOLES)


def _folder(settings: Settings, folder: Path | None) -> ArchiveFolder:
    return archive_folder(settings) if folder is None else ArchiveFolder(folder.absolute())


def _name(text: str) -> str:
    try:
        return checked_name(text)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _writers(folder: ArchiveFolder, name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(stream.slot.writer for stream in folder.streams(_name(name))))


def _chunks(folder: ArchiveFolder, name: str, wanted: Wanted) -> Iterator[Chunk]:
    for stream in folder.streams(name):
        if wanted.takes(stream):
            yield from (chunk for chunk in folder.chunks(stream) if not wanted.skips(chunk))


def _hole(hole: Hole) -> dict[str, Any]:
    return {
        "stream": str(hole.stream), "after": str(hole.after), "before": str(hole.before),
        "entries": hole.entries, "after_ms": hole.after_ms, "before_ms": hole.before_ms,
    }  # fmt: skip


def _tell_holes(holes: list[Hole] | tuple[Hole, ...]) -> None:
    for hole in holes[:HOLES_SHOWN_MAX]:
        click.secho(f"  {hole}", fg="yellow", err=True)
    if len(holes) > HOLES_SHOWN_MAX:
        click.secho(f"  and {len(holes) - HOLES_SHOWN_MAX} more", fg="yellow", err=True)


def _warn(text: str) -> None:
    click.secho(text, fg="yellow", err=True)


def _as_json(stream: Stream, chunks: list[Chunk]) -> dict[str, Any]:
    return {
        "stream": str(stream), "entries": sum(chunk.entries for chunk in chunks),
        "ticks": sum(chunk.ticks for chunk in chunks),
        "bytes": sum(chunk.size_bytes for chunk in chunks),
        "chunks": [chunk.to_json() for chunk in chunks],
    }  # fmt: skip


def _table(rows: list[tuple[Stream, list[Chunk]]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("terminal", "writer", "partition", "lane", "from (UTC)", "to (UTC)"):
        table.add_column(name)
    for name in ("entries", "ticks", "MiB", "files"):
        table.add_column(name, justify="right")
    for stream, chunks in rows:
        slot = stream.slot
        begins = min((c.from_ms for c in chunks if c.from_ms is not None), default=None)
        ends = max((c.to_ms for c in chunks if c.to_ms is not None), default=None)
        size = sum(chunk.size_bytes for chunk in chunks) / MIB
        table.add_row(
            slot.namespace, slot.writer, str(slot.partition), stream.lane.label,
            utc_text(begins)[:19] if begins is not None else "",
            utc_text(ends)[:19] if ends is not None else "",
            f"{sum(c.entries for c in chunks):,}", f"{sum(c.ticks for c in chunks):,}",
            f"{size:,.2f}", str(len(chunks)),
        )  # fmt: skip
    return table


Told = Callable[[Stream, int, int], None]


@contextmanager
def _bars(as_json: bool) -> Iterator[Told]:
    """A progress bar per stream on stderr, where somebody looks."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())  # fmt: skip
    hidden = as_json or not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), disable=hidden) as progress:
        tasks: dict[Stream, Any] = {}

        def told(stream: Stream, done: int, total: int) -> None:
            if stream not in tasks:
                tasks[stream] = progress.add_task(str(stream), total=total)
            progress.update(tasks[stream], completed=done, total=total)

        yield told
