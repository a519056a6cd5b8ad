"""The command `history fetch`."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from events.archive.errors import ArchiveError
from events.archive.source import EntrySource, Wanted, archive_folder, opened_source
from events.clock_rules import ClockRule
from events.codec import TICKS as TICKS_TYPE
from events.codec import BadEvent, UnknownEvent, decode, decode_data
from events.instants import instant_option
from events.log import SOURCE, Lane, Slot, partition_of
from events.operations import ClockChanged
from events.settings import TerminalSettings, load
from events.settings.fields import TIMEFRAMES
from events.ticks import TickBatch
from producers.history.fetching import TICKS, Feed, Fetched, HistoryFetch
from producers.truth import opened_truth

PAUSE_S = 0.02
"""Between two steps: the terminal serves others too."""


@click.command("fetch")
@click.option("--symbol", "symbols", multiple=True, required=True, metavar="NAME",
              help="Which symbol; repeat.")  # fmt: skip
@click.option("--from", "from_ms", required=True, callback=instant_option, metavar="TIME",
              help="From this UTC time on.")  # fmt: skip
@click.option("--to", "until_ms", callback=instant_option, metavar="TIME",
              help="Before this time.  [default: now; ticks: where live ones begin]")  # fmt: skip
@click.option("--terminal", "name", metavar="NAME", help="Of this terminal.")
@click.option("--timeframe", "timeframes", multiple=True, type=click.Choice(TIMEFRAMES),
              help="Candles of it too; repeat.")  # fmt: skip
@click.option("--no-ticks", is_flag=True, help="Candles alone.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def history_fetch(
    symbols: tuple[str, ...],
    from_ms: int,
    until_ms: int | None,
    name: str | None,
    timeframes: tuple[str, ...],
    no_ticks: bool,
    as_json: bool,
) -> None:
    """Fetch ticks and candles of the past from a terminal into the archive.

    A terminal process of its own is asked, in small steps. What was fetched before is skipped, so
    a fetch that was stopped goes on where it stood. Ticks end where those in the log begin.

    \b
    bridgectl history fetch --symbol EURUSD --from 2024-05-01
    bridgectl history fetch --symbol EURUSD --from 2024-01-01 --to 2024-02-01 --timeframe M1
    """
    settings = load()
    terminal = settings.terminal(name) if name else settings.terminals()[0]
    now_ms = time.time_ns() // 1_000_000
    end_ms = min(until_ms or now_ms, now_ms)
    if from_ms >= end_ms:
        raise click.UsageError("--from lies behind --to, or in the future")
    feeds = [Feed(one) for one in symbols if not no_ticks]
    feeds += [Feed(one, timeframe) for one in symbols for timeframe in timeframes]
    if not feeds:
        raise click.UsageError("--no-ticks without --timeframe leaves nothing to fetch")
    folder, partitions, live_from, told_rule = archive_folder(settings), 0, {}, ""
    try:
        with opened_source(settings, places=("log", "archive")) as source:
            partitions = source.partitions(terminal.namespace)
            live_from = {one: _live_from_ms(source, terminal, one, partitions) for one in symbols}
            told_rule = _rule_in_log(source, terminal)
    except ArchiveError:
        pass  # nothing was recorded yet: all of the span is fetched
    rule = terminal.clock or told_rule
    clock = ClockRule.parse(rule) if rule else None
    done: list[Fetched] = []
    with (
        folder.writing(terminal.namespace),
        opened_truth(terminal, symbols, newest_server_ms=0, state_dir=settings.state_dir) as past,
        Progress(TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(),
                 TimeRemainingColumn(), console=Console(stderr=True),
                 disable=as_json or not sys.stderr.isatty()) as progress,
    ):  # fmt: skip
        fetch = HistoryFetch(
            past, folder, terminal.namespace, partitions=partitions or settings.bridge_partitions,
            clock=clock, now_ms=lambda: time.time_ns() // 1_000_000,
            pause=lambda: time.sleep(PAUSE_S),
        )  # fmt: skip
        for feed in feeds:
            first = live_from.get(feed.symbol) if feed.what == TICKS else None
            stop_ms = end_ms if first is None else min(end_ms, first)
            if from_ms < stop_ms:
                task = progress.add_task(str(feed), total=1)

                def told(part: int, whole: int, task: object = task) -> None:
                    progress.update(task, completed=part, total=whole)  # type: ignore[arg-type] # its own id

                span = (_server_ms(clock, from_ms), _server_ms(clock, stop_ms))
                done.append(fetch.run(feed, *span, told=told))
            else:
                done.append(Fetched(str(feed)))
    _tell(done, terminal, clock, as_json=as_json)


def _tell(
    done: list[Fetched], terminal: TerminalSettings, clock: ClockRule | None, *, as_json: bool
) -> None:
    if as_json:
        rule = None if clock is None else str(clock)
        feeds = [asdict(one) for one in done]
        click.echo(json.dumps({"namespace": terminal.namespace, "clock": rule, "feeds": feeds}))
        return
    for one in done:
        state = f"{one.rows:,} rows in {one.chunks} files" if one.rows else "nothing new"
        empty = f", nothing in {one.empty_steps} of {one.steps} steps" if one.empty_steps else ""
        click.echo(f"{one.feed}: {state}{empty}")
    if clock is None:
        click.secho("the broker's clock is not known: times are kept as they are and marked so; "
                    "set MT5_CLOCK", fg="yellow", err=True)  # fmt: skip


def _server_ms(clock: ClockRule | None, utc_ms: int) -> int:
    return utc_ms + (clock.offset_s(utc_ms) * 1000 if clock is not None else 0)


def _rule_in_log(source: EntrySource, terminal: TerminalSettings) -> str:
    """The newest rule that a producer told."""
    if source.log is None or terminal.namespace not in source.log.namespaces():
        return ""
    rules = []
    for (type_, key), data in source.log.last_states(Slot(terminal.namespace, SOURCE, 0)).items():
        try:
            event = decode_data(type_, key, data)
        except (BadEvent, UnknownEvent):
            continue
        if isinstance(event, ClockChanged) and event.rule:
            rules.append((event.event_time_ms, event.rule))
    return max(rules)[1] if rules else ""


def _live_from_ms(
    source: EntrySource, terminal: TerminalSettings, symbol: str, partitions: int
) -> int | None:
    """UTC of the first live tick that any place still holds."""
    if not partitions:
        return None
    wanted = Wanted(
        terminal.namespace, writers=(SOURCE,), lanes=(Lane.NORMAL,),
        partitions=(partition_of(symbol, partitions),),
    )  # fmt: skip
    for entry in source.entries(wanted):
        if entry.key == symbol and entry.type.rpartition(".")[0] == TICKS_TYPE:
            event = decode(entry)
            if isinstance(event, TickBatch) and len(event):
                return int(event.utc_ms().min())
    return None
