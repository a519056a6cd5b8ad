"""`bridgectl groups list|remove`."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict

import click
from rich.table import Table
from rich.text import Text

from events.cli import confirm, opened_log
from events.groups.readers import WATCH_S, Kind, Reader, collect
from events.groups.removal import remove
from events.log import Lane
from events.retention import segment_folder
from events.settings import load
from events.views.moments import UNKNOWN, ago_text
from events.views.tables import page


@click.command("list")
@click.option("--namespace", "names", multiple=True, metavar="NAME", help="Only this one; repeat.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def list_groups(names: tuple[str, ...], as_json: bool) -> None:
    """Show who reads the log: holder, lag, and who holds back trimming.

    Takes about two seconds: signs of life are watched.

    \b
    bridgectl groups list
    bridgectl groups list --json | jq '.readers[] | select(.holds_back)'
    """
    with opened_log(load()) as log:
        readers = collect(log, namespaces=names, watch_s=WATCH_S)
    if as_json:
        rows = [reader.to_json() for reader in readers]
        click.echo(json.dumps({"now_ms": _now_ms(), "readers": rows}))
    elif readers:
        page().print(readers_table(readers, now_ms=_now_ms()))
    else:
        click.echo("nobody reads the log yet: start a group with `bridgectl consume`")


@click.command("remove")
@click.argument("group", metavar="NAME")
@click.option("--namespace", "names", multiple=True, metavar="NAME", help="Only there; repeat.")
@click.option("--outputs", is_flag=True, help="Also delete the events it derived.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def remove_group(
    group: str, names: tuple[str, ...], outputs: bool, yes: bool, as_json: bool
) -> None:
    """Remove a group for good, so that it holds back trimming no more.

    Its places in the log, its state and its journal are deleted; started again, it begins anew.
    What the database holds of group persist stays. A group that runs is refused.

    \b
    bridgectl groups remove my_strategy
    bridgectl groups remove my_strategy --outputs --yes
    """
    what = "with all events it derived " if outputs else ""
    confirm(f"Remove group {group} {what}for good?", yes=yes)
    settings = load()
    with opened_log(settings) as log:
        done = remove(
            log, group, namespaces=names, outputs=outputs, folder=segment_folder(settings),
            watch_s=WATCH_S,
        )  # fmt: skip
    if as_json:
        click.echo(json.dumps(asdict(done)))
    else:
        click.echo(
            f"removed {group} ({', '.join(done.readers) or 'no reader'}) from "
            f"{', '.join(done.namespaces)}: {done.streams} streams wait for it no more"
        )


def readers_table(readers: Sequence[Reader], *, now_ms: int) -> Table:
    """One line per reader."""
    table = Table(box=None, header_style="dim", padding=(0, 1))
    # In a small window the rest is cut before what people look for: who, how far behind, alive?
    names_max = max((len(reader.name) for reader in readers), default=0)
    for name, least in (
        ("namespace", None), ("reader", names_max), ("kind", None), ("holder", None), ("alive", 5),
    ):  # fmt: skip
        table.add_column(name, no_wrap=True, min_width=least)
    for lane in Lane:
        table.add_column(lane.label, justify="right", no_wrap=True, min_width=len(lane.label))
    table.add_column("oldest unread", justify="right", no_wrap=True)
    table.add_column("on disk", justify="right", no_wrap=True)
    table.add_column("")
    for reader in readers:
        lag = reader.lag_by_lane()
        table.add_row(
            reader.namespace,
            reader.name,
            reader.kind.value,
            reader.holder or UNKNOWN,
            _alive(reader),
            *(f"{lag[lane.label]:,}" for lane in Lane),
            ago_text(reader.oldest_unread_ms, now_ms),
            f"{reader.spilled:,}",
            _remark(reader),
        )
    return table


def _alive(reader: Reader) -> Text:
    if reader.alive is None:
        return Text(UNKNOWN)
    return Text("yes", "green") if reader.alive else Text("no", "bold red")


def _remark(reader: Reader) -> Text:
    if reader.halted:
        return Text(f"halted: {reader.halted}", "bold red")
    if reader.kind is Kind.UNREGISTERED and reader.holds_back:
        return Text("holds back trimming; not one of ours?", "yellow")
    if reader.holds_back and not reader.alive:
        return Text("holds back trimming", "yellow")
    return Text("")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
