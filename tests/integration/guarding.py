"""A guard beside a real host process of a simulated terminal, for tests."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from events.codec import AnyEvent, decode_data
from events.decisions import Command
from events.log import Log
from events.rules import Rules
from producers.guard.guard import Guard
from producers.guard.keeper import GuardKeeper
from producers.guard.options import GuardOptions
from producers.guard.ways.rules_file import RulesSource
from producers.terminals import constants as mt5
from producers.terminals.attach import Attachment
from producers.terminals.client import HostClient, open_client
from producers.terminals.interface import Priority
from producers.terminals.simulated.options import SimulatedOptions
from producers.terminals.spec import TerminalSpec
from tests.servers import wait_until

LOGIN = 5_000_001
SYMBOL = "BTCUSD"
"""Trades around the clock."""
NAMESPACE = "sim"


def spec_of(**options: Any) -> TerminalSpec:
    made = SimulatedOptions(selected=(SYMBOL,), symbols=(SYMBOL, "EURUSD"), **options)
    return TerminalSpec(name=NAMESPACE, kind="simulated", options=made.model_dump(mode="json"))


@contextmanager
def hosted(spec: TerminalSpec) -> Iterator[HostClient]:
    with open_client(spec, attach=Attachment(spec)) as client:
        client.wait_until_up(20)
        yield client


@contextmanager
def guarded(
    client: HostClient,
    folder: Path,
    *,
    rules: dict[str, Any] | None = None,
    open_log: Callable[[], Log] | None = None,
    source: RulesSource | None = None,
    **options: Any,
) -> Iterator[GuardKeeper]:
    keeper = GuardKeeper(
        client,
        GuardOptions(terminal=NAMESPACE, folder=folder, virtual=True, poll_s=0.05, idle_s=0.1,
                     **options),
        open_log=open_log,
        namespace=NAMESPACE,
        rules=source,
    )  # fmt: skip
    try:
        keeper.start()
        assert keeper.known.wait(20)
        if rules is not None:
            guard_of(keeper).set_rules(Rules.model_validate(rules))
        yield keeper
    finally:
        keeper.close()


def guard_of(keeper: GuardKeeper) -> Guard:
    assert keeper.guard is not None
    return keeper.guard


def market(side: int = 0, *, lots: float = 0.1, **more: Any) -> dict[str, Any]:
    """A request that opens."""
    return {
        "action": mt5.TRADE_ACTION_DEAL, "symbol": SYMBOL, "volume": lots, "type": side,
        "price": 0.0, "deviation": 100_000, "type_filling": mt5.ORDER_FILLING_IOC, "magic": 7,
        **more,
    }  # fmt: skip


def open_positions(client: HostClient, count: int, *, side: int = 0) -> None:
    for _ in range(count):
        tick = client.call("symbol_info_tick", SYMBOL).value
        price = tick.ask if side == 0 else tick.bid
        reply = client.call("order_send", market(side, price=price), priority=Priority.TRADE)
        assert reply.value is not None, reply.error
        assert reply.value.retcode in (10008, 10009), reply.value
    wait_until(lambda: positions(client) == count, what=f"{count} positions are open")


def positions(client: HostClient) -> int:
    reply = client.call("positions_get")
    assert not reply.unknown, reply.error
    return len(reply.value)


def inject(client: HostClient, **fault: Any) -> None:
    reply = client.call("inject", fault.pop("kind"), **fault)
    assert reply.error[0] == 1, reply.error


def command(verb: str, **more: Any) -> Command:
    fields: dict[str, Any] = {
        "event_time_ms": time.time_ns() // 1_000_000, "command_id": secrets.token_hex(8),
        "verb": verb, "issued_by": "test",
    }  # fmt: skip
    return Command.model_validate(fields | more)


def resume(login: int | str = LOGIN, **arguments: Any) -> Command:
    return command("resume", arguments={"typed_login": login, **arguments})


def told(keeper: GuardKeeper, kind: type[AnyEvent] | None = None) -> list[Any]:
    """Everything the guard has told, of a kind."""
    rows, found = keeper.hear(0), []
    while rows:
        found += [decode_data(row.type, row.key, row.data) for row in rows]
        rows = keeper.hear(rows[-1].row)
    return [event for event in found if kind is None or isinstance(event, kind)]
