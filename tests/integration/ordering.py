"""A producer with its sender of orders beside a real host of a simulated terminal, for tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from events.codec import decode, encode
from events.executing import ExecutionSet, OrderAnswer, OrderIntent
from events.log import Claim, Lane, Log, Slot
from events.magic import magic_of, owner_of
from events.memory_log import MemoryLog
from events.settings import Settings, TerminalKind, TerminalSettings
from producers.cli import build_producer
from producers.opened import OpenedTerminal
from producers.ordering.assembly import ProducerSurroundings, ordering_options
from producers.ordering.options import OrderingOptions
from producers.ordering.sender import OrderSender
from producers.producer import Producer
from producers.terminals.client import HostClient
from producers.terminals.configured import terminal_spec
from producers.terminals.simulated.faults import AT_THE_BROKER
from tests.servers import wait_until

LOGIN = 5_000_001
NAMESPACE = "sim"
SYMBOL = "BTCUSD"
"""Trades around the clock."""
FINAL = frozenset({"done", "partial", "placed", "refused", "expired"})
_NUMBERS = count(int(time.time()) % 100_000_000)
"""Of intents: no two of a run have the same, whoever writes them."""


def settings_in(folder: Path, **more: Any) -> Settings:
    values = {"bridge_state_dir": folder / "state", "worker_timeout": 5.0, "price_interval_s": 0.05}
    return Settings(_env_file=None, **{**values, "candle_timeframes": ("M1",), **more})


def terminal_of(*, settings: dict[str, Any] | None = None, **options: Any) -> TerminalSettings:
    """One simulated terminal on which nobody else trades."""
    made = {"trader": {"every_s": 86_400.0}, "symbols": [SYMBOL, "ETHUSD", "EURUSD"], **options}
    return TerminalSettings.model_validate(
        {
            "name": NAMESPACE, "kind": TerminalKind.SIMULATED, "symbols": (SYMBOL,),
            "clock": "America/New_York+7h", "options": made, **(settings or {}),
        }
    )  # fmt: skip


class Signals:
    """In the place of operators and of group `execute`: what they write into the log. `told_in`:
    the log that answers come to, where that is another one."""

    def __init__(self, log: Log, *, strategy: str = "cross", told_in: Log | None = None) -> None:
        self.log, self.strategy, self.told_in = log, strategy, told_in or log
        if NAMESPACE not in log.namespaces():
            log.open_namespace(NAMESPACE)
        self._claim: Claim | None = None
        self._sets = count(1)

    def switch(self, mode: str = "paper", **more: Any) -> None:
        number = next(self._sets)
        fields = {"event_time_ms": 0, "login": LOGIN, "mode": mode, "set_by": "test",
                  "set_id": f"{id(self)}-{number}", "orders_per_minute_max": 1000}  # fmt: skip
        event = ExecutionSet.model_validate({**fields, **more})
        self.log.post(Slot(NAMESPACE, "operator", 0), encode(event), once=event.set_id)

    def intent(self, verb: str = "open", **more: Any) -> OrderIntent:
        number = magic_of(owner_of(self.strategy, SYMBOL), next(_NUMBERS))
        fields: dict[str, Any] = {
            "event_time_ms": int(time.time() * 1000), "intent_id": number, "magic": number,
            "login": LOGIN, "strategy": self.strategy, "symbol": SYMBOL, "verb": verb,
            "volume_lots": 0.1, "mode": "paper", "comment": "cross", "deviation_points": 100_000,
        }  # fmt: skip
        return OrderIntent.model_validate({**fields, **more})

    def send(self, *intents: OrderIntent) -> None:
        slot = Slot(NAMESPACE, "execute", 0)
        if self._claim is None:
            self._claim = self.log.claim(slot, "test", alive_within_s=0.05)
        self.log.append(self._claim, [encode(intent) for intent in intents])

    def answers(self, intent: OrderIntent | None = None) -> list[OrderAnswer]:
        stream = Slot(NAMESPACE, "source", 0).stream(Lane.HIGH)
        entries = self.told_in.between(stream, count_max=100_000)
        events = [decode(entry) for entry in entries if entry.type.startswith("order_answer.")]
        found = [event for event in events if isinstance(event, OrderAnswer)]
        return [a for a in found if intent is None or a.intent_id == intent.intent_id]

    def final(self, intent: OrderIntent) -> OrderAnswer | None:
        return next((a for a in self.answers(intent) if a.state in FINAL), None)

    def carried(self, intent: OrderIntent, *, timeout_s: float = 20.0) -> OrderAnswer:
        """Send an intent and wait for its final answer."""
        self.send(intent)
        return self.answered(intent, timeout_s=timeout_s)

    def answered(self, intent: OrderIntent, *, timeout_s: float = 20.0) -> OrderAnswer:
        wait_until(lambda: self.final(intent) is not None, timeout_s=timeout_s, what="an answer")
        answer = self.final(intent)
        assert answer is not None
        return answer


@dataclass
class Desk:
    """Everything that runs."""

    signals: Signals
    producer: Producer
    client: HostClient
    sender: OrderSender
    opened: OpenedTerminal
    faults: set[str] = field(default_factory=set)
    """Kinds that were injected and not cleared."""
    deals_before: frozenset[int] = frozenset()
    requests_before: int = 0

    def begin_anew(self) -> None:
        """For the next of several tests that share the desk: no fault is left, nothing is open or
        under way, and what is counted begins here."""
        for kind in sorted(self.faults):
            self.clear(kind)
        wait_until(lambda: not self.under_way(), what="the end of every intent")
        for order in self.orders():
            self.order(action=8, order=order.ticket)
        for held in self.positions():
            side, quote = 1 - held.type, self.quote(held.symbol)
            self.order(
                action=1, symbol=held.symbol, volume=held.volume, type=side, type_filling=1,
                price=quote.bid if side else quote.ask, deviation=100_000, position=held.ticket,
            )  # fmt: skip
        wait_until(lambda: not self.positions(), what="the end of every position")
        self.signals.switch()
        self.deals_before = frozenset(
            deal.ticket for deal in self._rows("history_deals_get", 0, 2**40)
        )
        self.requests_before = len(self.client.call("requests").value)

    def restart_sender(self) -> None:
        """Another process sends on, with the same journal."""
        usual = self.sender
        usual.stop()
        self.sender = sender_beside(self, usual.options, usual._open_log)
        self.sender.start()
        assert self.sender.ready.wait(30), self.producer.report.incidents

    def under_way(self) -> bool:
        """Whether the sender has an intent without an end."""
        carrying = self.sender._carrying
        return carrying is not None and bool(carrying.matters)

    def order(self, **request: Any) -> None:
        """One of somebody else, who is not the sender."""
        answer = self.client.call("order_send", request).value
        assert answer is not None
        assert answer.retcode in (10008, 10009), answer

    def clear(self, kind: str) -> None:
        """A fault is over."""
        self.client.call("clear", kind)
        self.faults.discard(kind)

    def now_ms(self) -> int:
        """UTC by the terminal's clock."""
        return int(self.client.call("terminal_info").utc_ms)

    def positions(self) -> tuple[Any, ...]:
        return self._rows("positions_get")

    def orders(self) -> tuple[Any, ...]:
        return self._rows("orders_get")

    def deals(self) -> tuple[Any, ...]:
        found = self._rows("history_deals_get", 0, 2**40)
        return tuple(d for d in found if d.symbol and d.ticket not in self.deals_before)

    def requests(self) -> list[dict[str, Any]]:
        """What reached the broker, with its answer."""
        reply = self.client.call("requests")
        return [dict(one) for one in reply.value[self.requests_before :]]

    def quote(self, symbol: str = SYMBOL) -> Any:
        return self.client.call("symbol_info_tick", symbol).value

    def _rows(self, method: str, *args: Any) -> tuple[Any, ...]:
        reply = self.client.call(method, *args)
        assert not reply.unknown, reply.error
        return tuple(reply.value)


@contextmanager
def sending(
    folder: Path,
    log: Log | None = None,
    *,
    terminal: TerminalSettings | None = None,
    settings: Settings | None = None,
    guarded: bool = False,
    mode: str = "paper",
    ready: bool = True,
    open_log: Callable[[], Log] | None = None,
    **options: Any,
) -> Iterator[Desk]:
    """A producer, its host, and a sender whose waits are short (`options` replace them). `ready`:
    wait until it sends."""
    log = log or MemoryLog()
    terminal = terminal or terminal_of()
    settings = settings or settings_in(folder)
    signals = Signals(log)
    signals.switch(mode)
    spec = terminal_spec(terminal, state_dir=settings.state_dir)
    with OpenedTerminal(
        settings, terminal, spec, symbols=terminal.symbols, guarded=guarded
    ) as opened:
        producer, client = build_producer(settings, terminal, log, opened=opened)
        short: dict[str, Any] = {"quiet_s": 1.2, "apart_s": 0.5, "patience_s": 1.5, "order_s": 5.0}
        made = replace(ordering_options(settings, terminal), **{**short, **options})
        sender = OrderSender(
            made, client, producer.context.spool, open_log or (lambda: log),
            ProducerSurroundings(producer),
        )  # fmt: skip
        desk = Desk(signals, producer, client, sender, opened)
        try:
            producer.start()
            sender.start()
            assert not ready or sender.ready.wait(30), producer.report.incidents
            yield desk
        finally:
            desk.sender.stop()
            producer.stop()


def inject(desk: Desk, **fault: Any) -> None:
    kind = fault.pop("kind")
    if kind not in AT_THE_BROKER:  # what happened there stays
        desk.faults.add(kind)
    reply = desk.client.call("inject", kind, **fault)
    assert reply.error[0] == 1, reply.error


def sender_beside(desk: Desk, options: OrderingOptions, open_log: Callable[[], Log]) -> OrderSender:
    """One more sender at the desk's producer, still to be started."""
    around = ProducerSurroundings(desk.producer)
    return OrderSender(options, desk.client, desk.producer.context.spool, open_log, around)


@contextmanager
def another_sender(
    desk: Desk, folder: Path, log: Log | None = None, *, mode: str = "paper", **options: Any
) -> Iterator[Signals]:
    """A sender with a journal, a log and options of its own, in the place of the desk's."""
    usual = desk.sender
    usual.stop()
    log = log or MemoryLog()
    signals = Signals(log, told_in=desk.signals.told_in)
    signals.switch(mode)
    made = replace(usual.options, **{"folder": folder / "orders", **options})
    desk.sender = sender_beside(desk, made, lambda: log)
    try:
        desk.sender.start()
        assert desk.sender.ready.wait(30), desk.producer.report.incidents
        yield signals
    finally:
        desk.sender.stop()
        desk.sender = sender_beside(desk, usual.options, usual._open_log)
        desk.sender.start()
        assert desk.sender.ready.wait(30), desk.producer.report.incidents
