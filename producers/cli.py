"""The command `produce`: one terminal, followed into the log."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from events.clock_rules import ClockRule, ClockRuleError
from events.durations import duration_option
from events.log import Log, LogError, LogUnavailable
from events.processes import stopped_by_signals
from events.program_log import start_program_log
from events.retention import Retention, limits_of, segment_folder
from events.settings import (
    BadSettings,
    Settings,
    TerminalChoice,
    TerminalKind,
    TerminalSettings,
    chosen_terminals,
    load,
    terminal_options,
)
from events.tick_files import TickFileError, parse_source
from producers.clock.broker_clock import BrokerClock
from producers.guard.ways.relay import GuardRelay
from producers.opened import OpenedTerminal
from producers.ordering.assembly import sender_of
from producers.pollers.connection import Attached
from producers.pollers.context import PAGE_TICKS_DEFAULT, ProducerOptions
from producers.producer import Producer
from producers.terminals.attach import SymbolsRefused
from producers.terminals.client import HostClient
from producers.terminals.configured import terminal_spec
from producers.terminals.interface import TerminalUnusable
from producers.terminals.spec import TRADE_MODES, TerminalSpec

logger = logging.getLogger(__name__)

LOG_BACK_OFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)
BULK_PAGE_TICKS = 50_000
SPEED_MAX = "max"


class LogForgets(LogError):
    """A real terminal on a stand-in for Redis that forgets everything when it stops."""


@click.command()
@terminal_options
@click.option("--for", "for_s", callback=duration_option, help="End after this time, such as 30s.")
@click.option("--volatile-log", is_flag=True, help="Allow a real terminal on a log that forgets.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
def produce(for_s: float | None, volatile_log: bool, as_json: bool, **choice: Any) -> None:
    """Follow one terminal: append its ticks, account, positions, orders, deals and candles.

    \b
    bridgectl produce                                   the terminal of the settings
    bridgectl produce --terminal ftmo
    bridgectl produce --terminal simulated --symbols EURUSD,BTCUSD --for 30s
    bridgectl produce --ticks EURUSD_2014.csv.gz --speed max
    """
    settings = load()
    terminals = chosen_terminals(settings, TerminalChoice(**choice))
    if len(terminals) > 1:
        names = ", ".join(terminal.name for terminal in terminals)
        raise BadSettings([f"several terminals are configured: add --terminal, one of {names}"])
    [terminal] = terminals
    start_program_log(
        f"produce-{terminal.name}",
        folder=settings.state_dir,
        level=settings.log_level,
        file=settings.log_file,
        as_json=settings.log_json,
        secrets=settings.secrets(),
    )
    opening = _opened(settings, terminal)
    with stopped_by_signals() as stop, opening as opened, _log_of(settings, stop) as log:
        if log is None:
            return
        _refuse_forgetful(log, terminal, allowed=volatile_log)
        producer, _ = build_producer(settings, terminal, log, stop=stop, opened=opened)
        with _relayed(opened, producer), _sending(settings, terminal, opened, producer):
            _run(producer, for_s)
    if as_json:
        click.echo(producer.pulse.state().model_dump_json())


def _opened(settings: Settings, terminal: TerminalSettings) -> OpenedTerminal:
    """The terminal with its guard. Raises BadSettings, GuardHeld, LogError."""
    spec = terminal_spec(terminal, state_dir=settings.state_dir)
    symbols = producer_options(settings, terminal, spec).symbols
    return OpenedTerminal(settings, terminal, spec, symbols=symbols)


@contextmanager
def _relayed(opened: OpenedTerminal, producer: Producer) -> Iterator[None]:
    """What the guard tells goes into the log, its last word too; then the producer stops."""
    keeper = opened.keeper
    relay = GuardRelay(keeper, producer.context.spool) if keeper is not None else None
    try:
        if relay is not None:
            relay.start()
        yield
    finally:
        try:
            if keeper is not None and relay is not None:
                keeper.stop()
                relay.stop()
        finally:
            producer.stop()


@contextmanager
def _sending(
    settings: Settings, terminal: TerminalSettings, opened: OpenedTerminal, producer: Producer
) -> Iterator[None]:
    """Order intents are carried out beside the producer; nothing more is sent before it stops."""
    sender = sender_of(settings, terminal, opened.client, producer)
    try:
        sender.start()
        yield
    finally:
        sender.stop()


def build_producer(
    settings: Settings,
    terminal: TerminalSettings,
    log: Log,
    *,
    stop: threading.Event | None = None,
    opened: OpenedTerminal | None = None,
) -> tuple[Producer, HostClient]:
    """A producer and the client of its terminal's host, both still to be closed by the caller.

    `opened`: the terminal, opened before; without it one is opened that has no guard. Raises
    BadSettings (and what Producer raises).
    """
    spec = terminal_spec(terminal, state_dir=settings.state_dir)
    options = producer_options(settings, terminal, spec)
    rule = _clock_rule(terminal, spec)
    made = opened or OpenedTerminal(
        settings, terminal, spec, symbols=options.symbols, guarded=False
    )
    client = made.client
    try:
        producer = Producer(
            options,
            client if opened is None else opened.asked,
            log,
            attach=lambda: _attached(client),
            clock=BrokerClock(rule),
            host_state=made.facts,
            retention=Retention(log, segment_folder(settings), limits_of(settings)),
            stopping=stop,
        )
    except BaseException:
        if opened is None:
            client.close()
        raise
    made.watch.connection = producer.connection
    return producer, client


def producer_options(
    settings: Settings, terminal: TerminalSettings, spec: TerminalSpec
) -> ProducerOptions:
    """What the settings say, in the producer's words. Raises BadSettings."""
    bulk = spec.kind == "recorded" and str(spec.options.get("speed", "")).lower() == SPEED_MAX
    symbols = terminal.symbols or _symbols_of_files(spec)
    if not symbols:
        raise BadSettings(
            [f"terminal {terminal.name} has no symbols: set FOREX_PAIRS, or add --symbols"]
        )
    return ProducerOptions(
        namespace=terminal.namespace,
        terminal=terminal.name,
        kind=spec.kind,
        symbols=symbols,
        state_dir=settings.state_dir,
        holder=f"{socket.gethostname()} pid {os.getpid()}",
        login=terminal.login,
        server=terminal.server,
        trade_mode=TRADE_MODES.index(spec.trade_mode) if spec.trade_mode else None,
        partitions=settings.bridge_partitions,
        workers=settings.max_workers,
        price_interval_s=settings.price_interval_s,
        account_interval_s=settings.account_interval_s,
        account_idle_interval_s=settings.account_idle_interval_s,
        instrument_interval_s=settings.instrument_interval_s,
        history_interval_s=settings.history_interval_s,
        backfill_s=settings.backfill_s,
        timeframes=settings.candle_timeframes,
        bulk=bulk,
        page_ticks=BULK_PAGE_TICKS if bulk else PAGE_TICKS_DEFAULT,
    )


def _symbols_of_files(spec: TerminalSpec) -> tuple[str, ...]:
    try:
        files = spec.options.get("files", ())
        return tuple(dict.fromkeys(parse_source(str(file)).symbol for file in files))
    except TickFileError as error:
        raise BadSettings([str(error)]) from error


def _clock_rule(terminal: TerminalSettings, spec: TerminalSpec) -> ClockRule | None:
    text = terminal.clock
    if not text and terminal.kind is TerminalKind.RECORDED:
        text = str(spec.options.get("clock", ""))
    try:
        return ClockRule.parse(text) if text else None
    except ClockRuleError as error:
        raise BadSettings([f"clock of terminal {terminal.name}: {error}"]) from error


def _attached(client: HostClient) -> Attached:
    """A host serves calls only once it is attached, so any answer says that it is."""
    client.call("terminal_info")
    attached = client.attached
    return Attached(dict(attached.symbols) if attached is not None else {})


def _run(producer: Producer, for_s: float | None) -> None:
    try:
        producer.start()
        producer.wait(for_s)
    except LogUnavailable:
        if not producer.context.stopping.is_set():
            raise
    except TerminalUnusable as error:
        raise BadSettings([str(error)]) from error
    except SymbolsRefused as error:
        # Starting again would change nothing: it is the settings that are wrong.
        raise BadSettings(str(error).split("; ")) from error


@contextmanager
def _log_of(settings: Settings, stop: threading.Event) -> Iterator[Log | None]:
    """The log of the settings; waits for a server that does not answer yet. None when told to
    stop before that. Raises BadSettings, LogError."""
    url = settings.redis_url()
    if url is None:
        raise BadSettings(
            ["no Redis is configured and no embedded one runs: start `bridgectl up`, or set "
             "REDIS_URL"]
        )  # fmt: skip
    from events.redis import open_log

    failures = 0
    while True:
        try:
            log = open_log(url)
            break
        except LogUnavailable as error:
            if failures == 0:
                logger.warning("%s; waiting for it", error)
            if stop.wait(LOG_BACK_OFF_S[min(failures, len(LOG_BACK_OFF_S) - 1)]):
                yield None
                return
            failures += 1
    try:
        yield log
    finally:
        log.close()


def _refuse_forgetful(log: Log, terminal: TerminalSettings, *, allowed: bool) -> None:
    real = terminal.kind not in (TerminalKind.SIMULATED, TerminalKind.RECORDED)
    if real and not allowed and getattr(log, "volatile", False):
        raise LogForgets(
            f"the log here is a stand-in that forgets everything, and {terminal.name} is a real "
            "terminal: install Redis (WSL2 or Docker) and set REDIS_URL, or add --volatile-log"
        )
