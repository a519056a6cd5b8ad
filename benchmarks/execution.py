"""How long it takes from a tick until the broker has the order, and until that is in the log.

    python -m benchmarks.execution [--orders 100] [--broker none|native] [--json]

A producer with its sender stands beside a real host process of a simulated terminal; a strategy
and group `execute` are worker processes of their own; the server is an embedded one, started for
this run, which syncs every append and commit to disk. `signal`, `intent`, `sent` and `answer` are
from when a reader of the log had the entry before (the tick, the signal, the intent) until it had
theirs, where `sent` is when order_send goes to the terminal, with the sender's journal on disk;
`all` is from the tick until order_send. `sender` is the same as `sent` for intents appended
by this program, with nothing else going on. With `--broker native` an order takes the 250 ms that
are published for real ones.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click

from benchmarks.parts.tick_signaller import STRATEGY, SYMBOL
from events.codec import decode, encode
from events.decisions import TradeSignal
from events.embedded import servers
from events.executing import ExecutionSet, OrderAnswer, OrderIntent
from events.log import (
    ACCOUNT_PARTITION,
    BEGIN,
    OPERATOR,
    SOURCE,
    Entry,
    Lane,
    Log,
    Slot,
    partition_of,
)
from events.magic import magic_of, number_after, owner_of
from events.redis import open_log
from events.settings import Settings, TerminalSettings, load
from producers.cli import build_producer
from producers.opened import OpenedTerminal
from producers.ordering.assembly import sender_of
from producers.terminals.client import HostClient
from producers.terminals.configured import terminal_spec
from producers.terminals.interface import Reply

NAME = "bench"
LOGIN = 5_000_001
WAIT_S = 120.0
FIRST = 5
"""Orders that wait for workers that just began, and for what they do once."""
EXECUTE = Slot(NAME, "execute", ACCOUNT_PARTITION)
ROOT = Path(__file__).parents[1]


def terminal_of(broker: str) -> TerminalSettings:
    options = {"trader": {"every_s": 86_400.0}, "latency": broker, "symbols": [SYMBOL],
               "ticks": {"rate": 3.0}, "account": {"balance": 10_000_000.0}}  # fmt: skip
    return TerminalSettings.model_validate(
        {"name": NAME, "kind": "simulated", "symbols": (SYMBOL,), "options": options,
         "clock": "America/New_York+7h"}
    )  # fmt: skip


class Watched:
    """Notes when each order goes to the terminal (wall ms, by magic)."""

    def __init__(self, client: HostClient) -> None:
        self.sent_ms: dict[int, float] = {}
        self._real = client.submit_call
        client.submit_call = self._submit_call  # type: ignore[method-assign]  # a stop watch

    def _submit_call(
        self, method: str, args: tuple[Any, ...], *more: Any, **named: Any
    ) -> Future[Reply]:
        if method == "order_send":
            self.sent_ms.setdefault(args[0].get("magic", 0), time.time() * 1000)
        return self._real(method, args, *more, **named)


@contextmanager
def producing(settings: Settings, log: Log, broker: str) -> Iterator[Watched]:
    """A producer and its sender, in this process."""
    terminal = terminal_of(broker)
    spec = terminal_spec(terminal, state_dir=settings.state_dir)
    with OpenedTerminal(settings, terminal, spec, symbols=terminal.symbols) as opened:
        producer, client = build_producer(settings, terminal, log, opened=opened)
        sender = sender_of(settings, terminal, client, producer)
        try:
            producer.start()
            sender.start()
            if not sender.ready.wait(WAIT_S):
                raise click.ClickException(f"no sender: {producer.report.incidents}")
            yield Watched(client)
        finally:
            sender.stop()
            producer.stop()


def switch_on(log: Log) -> None:
    switched = ExecutionSet(
        event_time_ms=int(time.time() * 1000), login=LOGIN, mode="paper", set_by="benchmark",
        set_id="1", orders_per_minute_max=100_000,
    )  # fmt: skip
    log.post(Slot(NAME, OPERATOR, ACCOUNT_PARTITION), encode(switched), once="1")


class Reader:
    """Notes when each entry of the chain can be read (wall ms), in a thread of its own."""

    def __init__(self, log: Log, partitions: int) -> None:
        self.seen_ms: dict[str, float] = {}
        """Of entries, by place."""
        self.intents: dict[int, tuple[str, str]] = {}
        """Of the strategy: place and the place of its signal."""
        self.signals: dict[str, str] = {}
        """Place of a signal -> of its tick."""
        self.answers: dict[int, float] = {}
        """Of orders that were carried out."""
        self.failed = ""
        self._log = log
        partition = partition_of(SYMBOL, partitions)
        self._after = dict.fromkeys(
            (
                Slot(NAME, SOURCE, partition).stream(Lane.NORMAL),
                Slot(NAME, f"strategy.{STRATEGY}", partition).stream(Lane.NORMAL),
                EXECUTE.stream(Lane.HIGH),
                Slot(NAME, SOURCE, ACCOUNT_PARTITION).stream(Lane.HIGH),
            ),
            BEGIN,
        )
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            found = self._log.read(self._after, block_ms=200)
            now_ms = time.time() * 1000
            for stream, entries in found.items():
                self._after[stream] = entries[-1].id
                for entry in entries:
                    self._take(entry, now_ms)

    def _take(self, entry: Entry, now_ms: float) -> None:
        kind = entry.type.partition(".")[0]
        if kind in (OrderIntent.TYPE, TradeSignal.TYPE, "ticks"):
            self.seen_ms[entry.place] = now_ms
        if kind == TradeSignal.TYPE:
            self.signals[entry.place] = entry.cause
        elif kind == OrderIntent.TYPE:
            event = decode(entry)
            if isinstance(event, OrderIntent) and event.strategy == STRATEGY:
                self.intents[event.intent_id] = (entry.place, entry.cause)
        elif kind == OrderAnswer.TYPE:
            event = decode(entry)
            assert isinstance(event, OrderAnswer)
            if event.state == "done":
                self.answers[event.intent_id] = now_ms
            elif event.state != "sent":
                self.failed = f"an order was not carried out: {event}"


def wait_until(done: Callable[[], bool], what: str) -> None:
    due = time.monotonic() + WAIT_S
    while not done():
        if time.monotonic() > due:
            raise click.ClickException(f"{what}: not within {WAIT_S:g} s")
        time.sleep(0.02)


def alone(log: Log, watched: Watched, orders: int) -> dict[str, float]:
    """Intents by hand, one at a time: from before the append until order_send, in ms."""
    claim = log.claim(EXECUTE, "bench", alive_within_s=0.1)
    owner, first = owner_of("by-hand", SYMBOL), number_after(0, int(time.time() * 1000))
    delays = []
    for number in range(first, first + orders):
        magic = magic_of(owner, number)
        begun_ms = time.time() * 1000
        intent = OrderIntent(
            event_time_ms=int(begun_ms), intent_id=magic, magic=magic, login=LOGIN, symbol=SYMBOL,
            strategy="by-hand", verb="open", side=number % 2, volume_lots=0.01,
        )  # fmt: skip
        log.append(claim, [encode(intent)])
        wait_until(partial(watched.sent_ms.__contains__, magic), "an order")
        delays.append(watched.sent_ms[magic] - begun_ms)
    log.release(claim)
    return percentiles(delays)


@contextmanager
def consuming(folder: Path, url: str) -> Iterator[None]:
    """The strategy and group `execute`, each a program."""
    file = folder / "terminals.toml"
    file.write_text(f'[terminals.{NAME}]\nkind = "simulated"\nsymbols = ["{SYMBOL}"]\n')
    (folder / "none.env").touch()
    environment = {
        **os.environ, "BRIDGE_TERMINALS": str(file), "REDIS_URL": url, "PYTHONPATH": str(ROOT),
        "BRIDGE_STATE_DIR": str(folder / "state"), "BRIDGE_ENV_FILE": str(folder / "none.env"),
    }  # fmt: skip
    words = (
        ("--group", "execute"),
        ("--group", f"strategy.{STRATEGY}", "--from", "newest",
         "--handler", "benchmarks.parts.tick_signaller:TickSignaller"),
    )  # fmt: skip
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "bridgectl", "consume", *more, "--terminal", NAME, "--plain"],
            cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for more in words
    ]  # fmt: skip
    try:
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(60)


def chain(reader: Reader, watched: Watched, orders: int) -> dict[str, dict[str, float]]:
    """What became of each order of the strategy, stage by stage."""

    def enough() -> bool:
        if reader.failed:
            raise click.ClickException(reader.failed)
        return len(reader.intents.keys() & reader.answers.keys()) >= orders + FIRST

    wait_until(enough, "orders of the strategy")
    stages: dict[str, list[float]] = {
        name: [] for name in ("signal", "intent", "sent", "answer", "all")
    }
    for intent_id, (place, cause) in list(reader.intents.items()):
        if intent_id not in reader.answers or cause not in reader.signals:
            continue  # under way, or it follows from something else than a signal
        tick, signal = (reader.seen_ms[at] for at in (reader.signals[cause], cause))
        intent, sent = reader.seen_ms[place], watched.sent_ms[intent_id]
        stages["signal"].append(signal - tick)
        stages["intent"].append(intent - signal)
        stages["sent"].append(sent - intent)
        stages["answer"].append(reader.answers[intent_id] - sent)
        stages["all"].append(sent - tick)
    return {name: percentiles(values[FIRST:]) for name, values in stages.items()}


def percentiles(values: list[float]) -> dict[str, float]:
    if len(values) < 2:
        raise click.ClickException("too few orders to tell anything")
    ranks = statistics.quantiles(values, n=100, method="inclusive")
    return {"orders": len(values), "p50_ms": round(ranks[49], 2), "p99_ms": round(ranks[98], 2)}


@click.command()
@click.option("--orders", default=100, type=click.IntRange(10, 10_000))
@click.option("--broker", default="none", type=click.Choice(["none", "native"]))
@click.option("--json", "as_json", is_flag=True)
def main(orders: int, broker: str, as_json: bool) -> None:
    """See the module."""
    with (
        tempfile.TemporaryDirectory(prefix="bridge-bench-") as name,
        servers(load(bridge_state_dir=Path(name) / "state"), postgres=False) as server,
    ):
        folder, url = Path(name), str(server.redis_url)
        settings = load(bridge_state_dir=folder / "state", redis_link=url)
        log = open_log(url)
        partitions = log.open_namespace(NAME)
        switch_on(log)
        other = open_log(url)
        with producing(settings, log, broker) as watched:
            found = {"sender": alone(log, watched, orders)}
            with Reader(other, partitions) as reader, consuming(folder, url):
                found |= chain(reader, watched, orders)
        other.close()
        log.close()
    if as_json:
        click.echo(json.dumps({"broker": broker, **found}))
        return
    for stage, figures in found.items():
        click.echo(f"{stage:8} {figures['p50_ms']:8.2f} ms p50 {figures['p99_ms']:8.2f} ms p99")


if __name__ == "__main__":
    main()
