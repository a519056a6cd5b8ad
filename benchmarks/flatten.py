"""How long it takes from a flatten's command until the last close is confirmed.

    python -m benchmarks.flatten [--positions 1 --positions 20 --positions 200] [--runs 20] [--json]

A guard with its journal on disk stands beside a real host process of a simulated terminal, and is
told to flatten: latch, cancel, close, verify. `total` is from the command to the look that shows
nothing any more; `broker` is what the terminal spent inside order_send; `ours` is the difference:
command, latch, disk, queue, reads and looks. With `--broker native` an order takes the 250 ms that
are published for real ones, with `none` next to nothing. `busy` keeps four tick calls with the host
all the time, as pollers at their limit would. The target for 20 positions is 1000 ms of ours.
"""

from __future__ import annotations

import json
import logging
import secrets
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from events.codec import decode_data
from events.decisions import Command
from events.guarding import FlattenEnded, FlattenStep
from producers.guard.keeper import GuardKeeper
from producers.guard.options import GuardOptions
from producers.terminals import constants as mt5
from producers.terminals.attach import Attachment
from producers.terminals.client import HostClient, open_client
from producers.terminals.interface import Priority, TerminalLost
from producers.terminals.simulated import SimulatedOptions
from producers.terminals.spec import TerminalSpec

LOGIN = 5_000_001
SYMBOLS = ("EURUSD", "GBPUSD", "USDJPY", "XAUUSD")
START_UTC_MS = 1_790_150_400_000
BUSY_CALLS = 4
TARGET_POSITIONS, TARGET_MS = 20, 1000.0
WAIT_S = 600.0


@contextmanager
def guarded(folder: Path) -> Iterator[tuple[HostClient, GuardKeeper]]:
    """A host and its guard, on an account of their own."""
    options = SimulatedOptions.model_validate(
        {
            "symbols": SYMBOLS, "selected": SYMBOLS, "start_utc_ms": START_UTC_MS,
            "account": {"balance": 10_000_000.0}, "memory": str(folder / "broker"),
        }
    )  # fmt: skip
    spec = TerminalSpec(name="bench", kind="simulated", login=LOGIN, options=options)
    with open_client(spec, attach=Attachment(spec)) as client:
        client.wait_until_up(60)
        keeper = GuardKeeper(
            client, GuardOptions(terminal="bench", folder=folder / "guard", login=LOGIN)
        )
        try:
            keeper.start()
            assert keeper.known.wait(60)
            yield client, keeper
        finally:
            keeper.close()


@contextmanager
def busy(client: HostClient, *, wanted: bool) -> Iterator[None]:
    """Keep tick calls with the host, as long as it lasts."""
    ended = threading.Event()

    def ask(symbol: str) -> None:
        while not ended.is_set():
            try:
                client.call(
                    "copy_ticks_from", symbol, START_UTC_MS // 1000 - 3600, 5000, -1,
                    priority=Priority.TICKS,
                )  # fmt: skip
            except TerminalLost:
                ended.wait(0.05)

    threads = [threading.Thread(target=ask, args=(s,)) for s in SYMBOLS[:BUSY_CALLS]]
    for thread in threads if wanted else ():
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads if wanted else ():
            thread.join()


def fill(client: HostClient, count: int) -> None:
    """Open positions, all of one side in each symbol, so that each takes one order to close."""
    for number in range(count):
        symbol = SYMBOLS[number % len(SYMBOLS)]
        tick = client.call("symbol_info_tick", symbol).value
        request = {
            "action": mt5.TRADE_ACTION_DEAL, "symbol": symbol, "volume": 0.1,
            "type": mt5.ORDER_TYPE_BUY, "price": tick.ask, "type_filling": mt5.ORDER_FILLING_IOC,
        }  # fmt: skip
        result = client.call("order_send", request).value
        assert result is not None
        assert result.retcode == mt5.TRADE_RETCODE_DONE, result


def flatten(client: HostClient, keeper: GuardKeeper) -> dict[str, float]:
    """One run: milliseconds of it all, of the broker, and of ours."""
    row = keeper.newest_row()
    keeper.tell(_command("flatten"))
    broker_ms, due = 0.0, time.monotonic() + WAIT_S
    ended: FlattenEnded | None = None
    while ended is None:
        assert time.monotonic() < due, "the flatten does not end"
        for heard in keeper.hear(row):
            row = heard.row
            event = decode_data(heard.type, heard.key, heard.data)
            if isinstance(event, FlattenStep):
                broker_ms += event.took_ms
            if isinstance(event, FlattenEnded):
                ended = event
        time.sleep(0.02)
    assert ended.state == "FLAT", ended
    assert ended.breach_to_flat_ms is not None
    answer = keeper.tell(_command("resume", typed_login=str(LOGIN)))
    while not answer.accepted and time.monotonic() < due:  # its last sweep may still run
        time.sleep(0.05)
        answer = keeper.tell(_command("resume", typed_login=str(LOGIN)))
    assert answer.accepted, answer
    total = ended.breach_to_flat_ms
    return {"total": total, "broker": broker_ms, "ours": total - broker_ms}


def _command(verb: str, **arguments: Any) -> Command:
    return Command.model_validate(
        {
            "event_time_ms": time.time_ns() // 1_000_000, "command_id": secrets.token_hex(8),
            "verb": verb, "issued_by": "operator:bench", "login": LOGIN,
            "arguments": {"reason": "benchmark", **arguments},
        }
    )  # fmt: skip


def spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    last = len(ordered) - 1
    return {
        "p50": statistics.median(ordered), "p99": ordered[min(last, round(0.99 * last))],
        "max": ordered[last],
    }  # fmt: skip


@click.command()
@click.option("--positions", multiple=True, type=int, default=(1, 20, 200), show_default=True)
@click.option("--runs", default=20, show_default=True)
@click.option("--runs-native", default=5, show_default=True, help="With the broker's 250 ms.")
@click.option(
    "--broker", type=click.Choice(("none", "native", "both")), default="both", show_default=True
)
@click.option("--json", "as_json", is_flag=True)
def main(
    positions: tuple[int, ...], runs: int, runs_native: int, broker: str, as_json: bool
) -> None:
    """Measure every combination, print the spread over the runs."""
    logging.disable(logging.CRITICAL)  # a guard tells of every flatten
    rows = []
    if not as_json:
        print("broker  lanes  positions  runs |   total p50/p99/max ms |    ours p50/p99/max ms")
    for kind in ("none", "native") if broker == "both" else (broker,):
        for lanes in ("idle", "busy"):
            for count in positions:
                row = measure(kind, lanes, count, runs if kind == "none" else runs_native)
                rows.append(row)
                if not as_json:
                    print(told(row), flush=True)
    if as_json:
        print(json.dumps(rows))


def measure(kind: str, lanes: str, count: int, runs: int) -> dict[str, Any]:
    """All runs of one combination, on one account."""
    found = []
    with tempfile.TemporaryDirectory() as folder, guarded(Path(folder)) as (client, keeper):
        for _ in range(runs):
            fill(client, count)
            if kind == "native":
                # Only orders take that long; what fills the account must not.
                client.call("inject", "slow", methods=["order_send"], seconds=0.25)
            with busy(client, wanted=lanes == "busy"):
                found.append(flatten(client, keeper))
            if kind == "native":
                client.call("clear", "slow")
        kills = client.state().emergency_kills
    result: dict[str, Any] = {
        "broker": kind, "lanes": lanes, "positions": count, "runs": runs, "kills": kills,
    }  # fmt: skip
    for name in ("total", "broker", "ours"):
        result[f"{name}_ms"] = spread([one[name] for one in found])
    return result


def told(row: dict[str, Any]) -> str:
    def three(name: str) -> str:
        one = row[f"{name}_ms"]
        return f"{one['p50']:7.0f} {one['p99']:7.0f} {one['max']:7.0f}"

    text = (
        f"{row['broker']:7} {row['lanes']:5} {row['positions']:10} {row['runs']:5}"
        f" | {three('total')} | {three('ours')}"
    )
    if row["kills"]:
        text += f"  ({row['kills']} hosts killed for an emergency)"
    if row["positions"] == TARGET_POSITIONS:
        text += (
            f"  target {TARGET_MS:.0f}: {'met' if row['ours_ms']['max'] <= TARGET_MS else 'MISSED'}"
        )
    return text


if __name__ == "__main__":
    main()
