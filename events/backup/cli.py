"""The commands `backup` and `restore`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from events.backup import back_up, restore
from events.backup.making import Tell
from events.cli import NoServer
from events.embedded import servers
from events.redis import open_log
from events.retention.opening import segment_folder
from events.settings import Settings, load

SUFFIX = ".zip"


class BackupFailed(RuntimeError):
    """There is no copy. The message names cause and cure."""


@click.command()
@click.argument("target", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def backup(target: Path | None, as_json: bool) -> None:
    """Copy log and database into one file, while everything runs.

    TARGET is a file (ending in .zip) or a folder, in which the file is named by the time; without
    it, `backups` in the state folder. The log of the copy reaches further than its database, so
    that what is restored goes on by itself: producers pull what came later, groups go on.

    \b
    bridgectl backup
    bridgectl backup /mnt/backups
    bridgectl backup monday.zip --json
    """
    settings = load()
    redis = settings.redis_url()
    if redis is None:
        raise NoServer(
            "no Redis is configured and no embedded one runs: "
            "start `bridgectl up`, or set REDIS_URL"
        )
    path = _path(target, settings)
    if path.exists():
        raise BackupFailed(f"{path} exists already: name another file, or remove it first")
    with closing(open_log(redis)) as log, _shown(as_json) as tell:
        try:
            done = back_up(
                path, log, settings.postgres_url(),
                segments=segment_folder(settings).root, tell=tell,
            )  # fmt: skip
        except OSError as error:
            raise BackupFailed(
                f"{path} cannot be written ({error.strerror or error}): "
                "name a folder that can be, with room for the copy"
            ) from error
    if as_json:
        click.echo(json.dumps(done.as_json()))
    else:
        click.echo(
            f"{done.path}: {done.entries:,} entries of {done.streams} streams, {done.rows:,} rows "
            f"of {done.tables} tables, {done.bytes / 1e6:.1f} MB in {done.took_s:.1f} s"
        )


@click.command("restore")
@click.argument("source", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--state-dir", type=click.Path(path_type=Path), help="Folder for data and logs.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def restore_command(source: Path, state_dir: Path | None, as_json: bool) -> None:
    """Write a backup into empty servers.

    The whole file is checked first. Servers that hold data already are refused. Servers that are
    not configured are started in the state folder. Start producers and groups afterwards: they go
    on from where the copy ends.

    \b
    bridgectl restore monday.zip
    bridgectl restore monday.zip --json
    """
    settings = load(bridge_state_dir=state_dir)
    with (
        servers(settings) as found,
        closing(open_log(found.redis_url)) as log,
        _shown(as_json) as tell,
    ):
        done = restore(
            source, log, found.postgres_url,
            segments=segment_folder(settings).root, tell=tell,
        )  # fmt: skip
    if as_json:
        click.echo(json.dumps(done.as_json()))
    else:
        click.echo(
            f"restored the copy of {done.made}: {done.entries:,} entries of {done.streams} "
            f"streams, {done.rows:,} rows of {done.tables} tables in {done.took_s:.1f} s"
        )


def _path(target: Path | None, settings: Settings) -> Path:
    if target is not None and target.suffix == SUFFIX and not target.is_dir():
        return target
    name = f"mt5-bridge-{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}{SUFFIX}"
    return (target or settings.state_dir / "backups") / name


@contextmanager
def _shown(as_json: bool) -> Iterator[Tell]:
    """A bar on stderr where a person looks."""
    if as_json or not sys.stderr.isatty():
        yield lambda _what, _share: None
        return
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("beginning", total=1.0)

        def tell(what: str, share: float) -> None:
            progress.update(task, description=what, completed=share)

        yield tell
