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
from producers.ordering.sender import OrderSender
from producers.producer import Producer
from producers.terminals.client import HostClient
from producers.terminals.configured import terminal_spec
from tests.servers import wait_until

LOGIN = 5_000_001
NAMESPACE = "sim"
SYMBOL = "BTCUSD"
"""Trades around the clock."""
FINAL = frozenset({"done", "partial", "placed", "refused", "expired"})


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
    """In the place of operators and of group `execute`: what they write into the log."""

    def __init__(self, log: Log, *, strategy: str = "cross") -> None:
        self.log, self.strategy = log, strategy
        if NAMESPACE not in log.namespaces():
            log.open_namespace(NAMESPACE)
        self._claim: Claim | None = None
        self._numbers = count(int(time.time()) % 100_000_000)
        self._sets = count(1)

    def switch(self, mode: str = "paper", **more: Any) -> None:
        number = next(self._sets)
        fields = {"event_time_ms": 0, "login": LOGIN, "mode": mode, "set_by": "test",
                  "set_id": f"{id(self)}-{number}", "orders_per_minute_max": 1000}  # fmt: skip
        event = ExecutionSet.model_validate({**fields, **more})
        self.log.post(Slot(NAMESPACE, "operator", 0), encode(event), once=event.set_id)

    def intent(self, verb: str = "open", **more: Any) -> OrderIntent:
        number = magic_of(owner_of(self.strategy, SYMBOL), next(self._numbers))
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
        entries = self.log.between(stream, count_max=100_000)
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
    extra: dict[str, Any] = field(default_factory=dict)

    def positions(self) -> tuple[Any, ...]:
        return self._rows("positions_get")

    def orders(self) -> tuple[Any, ...]:
        return self._rows("orders_get")

    def deals(self) -> tuple[Any, ...]:
        found = self._rows("history_deals_get", 0, 2**40)
        return tuple(deal for deal in found if deal.symbol)

    def requests(self) -> list[dict[str, Any]]:
        """What reached the broker, with its answer."""
        reply = self.client.call("requests")
        return [dict(one) for one in reply.value]

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
    open_log: Callable[[], Log] | None = None,
    **options: Any,
) -> Iterator[Desk]:
    """A producer, its host, and a sender whose waits are short (`options` replace them)."""
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
        try:
            producer.start()
            sender.start()
            assert sender.ready.wait(30), producer.report.incidents
            yield Desk(signals, producer, client, sender, opened)
        finally:
            sender.stop()
            producer.stop()


def inject(desk: Desk, **fault: Any) -> None:
    reply = desk.client.call("inject", fault.pop("kind"), **fault)
    assert reply.error[0] == 1, reply.error
