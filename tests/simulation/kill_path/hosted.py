"""One fault case on a simulated terminal in a real host process, with the guard's real journal."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from events.guarding import FlattenEnded
from producers.guard.flatten import Flattener, FlattenOptions
from producers.guard.journal import Journal
from producers.terminals import constants as mt5
from producers.terminals.attach import Attachment
from producers.terminals.client import HostClient, HostLimits, open_client
from producers.terminals.client.order_gate import GuardsWay, may_open
from producers.terminals.interface import Priority, Reply, TerminalLost
from producers.terminals.simulated import SimulatedOptions
from producers.terminals.spec import TerminalSpec
from tests.simulation.kill_path.checking import Before, before, violations
from tests.simulation.kill_path.virtual import LOGIN, MAGIC, START_UTC_MS, SYMBOLS

UP_S = 60.0
LIMITS = HostLimits(backoff_s=(0.2, 0.5, 1.0))
QUICK = {"sweep_s": 0.1, "order_s": 3.0}
Happening = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """What goes wrong, and how the account must stand in the end.

    `faults` are there when the flatten begins. `at_request`: what happens right before the n-th
    order leaves. `busy`: a call that is under way when it begins. `clear`: kinds that end after
    the flatten ended, `then`: what happens then; whereupon `tend` must make it FLAT.
    """

    name: str
    faults: tuple[Happening, ...] = ()
    expect: str = "FLAT"
    at_request: tuple[int, str, dict[str, Any]] | None = None
    busy: tuple[str, tuple[Any, ...], Priority] | None = None
    clear: tuple[str, ...] = ()
    then: tuple[Happening, ...] = ()
    account: dict[str, Any] = field(default_factory=dict)
    terminal: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    closed_by_others: bool = False
    opened_by_others: bool = False
    injected: tuple[int, ...] = ()
    pages: str = ""
    """Part of a page that must have come."""
    within_s: float = 60.0
    hold: Callable[[HostedAccount], None] | None = None
    """Does something when the book is open, before the flatten."""
    quick: bool = False


@dataclass
class Outcome:
    """A row of the table."""

    name: str
    ended: FlattenEnded | None
    problems: list[str]
    seconds: float
    kills: int = 0
    restarts: int = 0


class Meddler:
    """The guard's way to the host, which lets something happen before the n-th order leaves."""

    def __init__(self, client: HostClient, case: Case) -> None:
        self._client, self._way, self._case = client, GuardsWay(client), case
        self.orders = 0

    def submit(self, method: str, *args: Any, **named: Any) -> Future[Reply]:
        if method == "order_send":
            self.orders += 1
            if self._case.at_request is not None and self.orders == self._case.at_request[0]:
                _, kind, arguments = self._case.at_request
                self._way.submit("inject", kind, **arguments)
        return self._way.submit(method, *args, **named)

    def call(self, method: str, *args: Any, **named: Any) -> Reply:
        return self.submit(method, *args, **named).result()

    def close(self) -> None:
        """The client is its owner's."""


class HostedAccount:
    """A simulated account in a host process; its broker's memory outlives the host."""

    def __init__(self, folder: Path, case: Case) -> None:
        options = SimulatedOptions.model_validate(
            {
                "symbols": SYMBOLS, "selected": SYMBOLS, "start_utc_ms": START_UTC_MS,
                "account": {"balance": 1_000_000.0, **case.account},
                "memory": str(folder / "broker"), **case.terminal,
            }
        )  # fmt: skip
        self.case = case
        self.spec = TerminalSpec(name="kill-path", kind="simulated", login=LOGIN, options=options)
        self.latched = False
        self.client = open_client(self.spec, limits=LIMITS, attach=Attachment(self.spec))
        self.client.order_gate = self._gate
        self.journal = Journal(folder / f"{LOGIN}.sqlite")
        self.pages: list[str] = []
        self.client.wait_until_up(UP_S)

    def _gate(self, request: Any, by_guard: bool) -> str | None:
        return "halted" if self.latched and not by_guard and may_open(request) else None

    def value(self, method: str, *args: Any, **named: Any) -> Any:
        """The value of a call that must be known, however often it takes."""
        due = time.monotonic() + UP_S
        while True:
            try:
                reply = self.client.call(method, *args, **named)
                if reply.value is not None:
                    return reply.value
            except TerminalLost:
                pass
            assert time.monotonic() < due, f"{method} is not answered"
            time.sleep(0.05)

    def fill(self) -> None:
        """Six positions on both sides and two pending orders."""
        for symbol, side, lots, magic in (
            ("EURUSD", 0, 0.5, 1), ("EURUSD", 1, 0.2, 2), ("XAUUSD", 1, 1.0, 0),
            ("GBPUSD", 0, 0.3, 0), ("USDJPY", 1, 0.4, 3), ("USDJPY", 1, 0.1, 0),
        ):  # fmt: skip
            tick = self.value("symbol_info_tick", symbol)
            request = {
                "action": 1, "symbol": symbol, "volume": lots, "type": side, "magic": magic,
                "price": tick.bid if side else tick.ask, "type_filling": 1, "deviation": 100,
            }  # fmt: skip
            self._sent(request)
        for symbol in ("EURUSD", "GBPUSD"):
            bid = self.value("symbol_info_tick", symbol).bid
            request = {
                "action": 5, "symbol": symbol, "volume": 0.1, "type": 2,
                "price": round(bid * 0.99, 5),
            }  # fmt: skip
            self._sent(request)
        due = time.monotonic() + UP_S
        wanted = 6 if self.case.account.get("margin_mode", 2) == 2 else 4
        while len(self.value("positions_get")) < wanted:
            assert time.monotonic() < due, "the positions are not open"
            time.sleep(0.05)

    def _sent(self, request: dict[str, Any]) -> None:
        """Send an order, as often as the broker's rate limit wants."""
        due = time.monotonic() + UP_S
        while True:
            result = self.value("order_send", request)
            if result.retcode in (mt5.TRADE_RETCODE_DONE, mt5.TRADE_RETCODE_PLACED):
                return
            assert result.retcode == mt5.TRADE_RETCODE_TOO_MANY_REQUESTS, result
            assert time.monotonic() < due, result
            time.sleep(1.1)  # what is refused counts too

    def flattener(self, client: Any) -> Flattener:
        return Flattener(
            client, self.journal, login=LOGIN, terminal="kill-path", magic=MAGIC,
            options=FlattenOptions(**{**QUICK, "patience_s": 4.0, **self.case.options}),
            on_page=lambda text, cure: self.pages.append(text),
        )  # fmt: skip

    def close(self) -> None:
        self.client.close()
        self.journal.close()


def run_case(case: Case, folder: Path) -> Outcome:
    """Open the account, let it go wrong, flatten, and judge the broker's records."""
    account = HostedAccount(folder, case)
    try:
        account.fill()
        was = before(account.value, magic=MAGIC)
        if case.hold is not None:
            case.hold(account)
        return _flattened(account, case, was)
    finally:
        account.close()


def _flattened(account: HostedAccount, case: Case, was: Before) -> Outcome:
    meddler = Meddler(account.client, case)
    flattener = account.flattener(meddler)
    for kind, arguments in case.faults:
        account.value("inject", kind, **arguments)
    if case.busy is not None:
        _occupy(account.client, *case.busy)
    account.latched = True
    begun = time.monotonic()
    ended = flattener.run("account", "a fault case", "tester", time.time_ns() // 1_000_000)
    seconds = time.monotonic() - begun
    problems = [] if ended.state == case.expect else [f"{ended.state} instead of {case.expect}"]
    problems += _attempts(account.client)
    for kind in case.clear:
        account.value("clear", kind)
    for kind, arguments in case.then:
        account.value("inject", kind, **arguments)
    if case.expect != "FLAT":
        ended = _tended(flattener, ended)
    state = account.client.state()
    problems += _judged(account, was, ended)
    if seconds > case.within_s:
        problems.append(f"took {seconds:.1f} s")
    return Outcome(case.name, ended, problems, seconds, state.emergency_kills, state.restarts)


def _tended(flattener: Flattener, ended: FlattenEnded) -> FlattenEnded:
    """What was left must go when its reason is gone."""
    due = time.monotonic() + UP_S
    while ended.state != "FLAT" and time.monotonic() < due:
        ended = flattener.tend() or ended
        time.sleep(0.05)
    return ended


def _occupy(client: HostClient, method: str, args: tuple[Any, ...], priority: Priority) -> None:
    """Let the host be in the middle of a call."""
    client.submit(method, *args, priority=priority)
    due = time.monotonic() + UP_S
    while client.state().running != method:
        assert time.monotonic() < due, f"{method} was not begun"
        time.sleep(0.005)


def _attempts(client: HostClient) -> list[str]:
    """Orders of a program after the latch: none may reach the broker."""
    request = {"action": 1, "symbol": "EURUSD", "volume": 0.1, "type": 0, "price": 1.0}
    try:
        client.call("order_send", request, priority=Priority.TRADE)
    except TerminalLost as error:
        return [] if "halted" in str(error) else [f"refused for another reason: {error}"]
    return ["an order passed the latch"]


def _judged(account: HostedAccount, was: Before, ended: FlattenEnded) -> list[str]:
    case = account.case
    for kind in ("stale_book", "late_history", "empty_account", "partial", "empty"):
        account.value("clear", kind)
    found = violations(
        account.value, was, closed_by_others=case.closed_by_others, injected=case.injected
    )
    if ended.state != "FLAT":
        found.append(f"in the end {ended.state}")
    if account.value("positions_get") or account.value("orders_get"):
        found.append("positions or orders are left")
    if case.pages and not any(case.pages in page for page in account.pages):
        found.append(f"no page says {case.pages!r}: {account.pages}")
    open_intents = [i for i in account.journal.intents(ended.flatten_id) if i.outcome is None]
    if open_intents:
        found.append(f"intents without an outcome: {open_intents}")
    return found
