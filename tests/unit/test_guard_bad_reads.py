"""The guard's own hard limits against the labelled set of bad readings, through its real watch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.bad_reads import LOGIN, POLL_MS, START_MS, WARM_UP, Case, Step, cases, ok, rules_of
from events.rules import BalanceOperation, Reading
from producers.guard.journal import Journal
from producers.guard.watch.hard_limits import HardLimits
from producers.guard.watch.watch import Watch
from producers.terminals.interface import Reply, TerminalClient

REREAD_MS = 20
RUN_MS = 60_000
UNTOLD = ("synchronising", "stale", "a breach of 6 s ago", "12 s another account")
"""A terminal's answers are as of now, and say nothing of synchronising."""
CASES = [
    case
    for case in cases()
    if not case.cost_of_closing and not any(word in case.name for word in UNTOLD)
]


class Scripted:
    """A terminal that answers with the readings of a case, one per look."""

    def __init__(self, case: Case) -> None:
        self.now_ms = START_MS
        self.beyond_ms: int | None = None
        self._steps = self._played(case)
        self._known: list[BalanceOperation] = []
        self._reading: Reading = ok().make(START_MS)

    def submit(self, method: str, *args: Any, **kwargs: Any) -> Future[Reply]:
        if method == "terminal_info":
            self._next()
        answered: Future[Reply] = Future()
        value = getattr(self, method)(self._reading)
        error = (1, "Success") if value is not None else (-1, "Terminal: Call failed")
        answered.set_result(Reply(value, error, self.now_ms, 1.0))
        return answered

    def terminal_info(self, seen: Reading) -> Any:
        return SimpleNamespace(connected=seen.connected)

    def account_info(self, seen: Reading) -> Any:
        if seen.equity is None or seen.balance is None:
            return None
        return SimpleNamespace(
            login=seen.login, equity=seen.equity, balance=seen.balance, credit=seen.credit,
            profit=math.nan if seen.floating is None else seen.floating, margin=seen.margin or 0.0,
        )  # fmt: skip

    def positions_get(self, seen: Reading) -> Any:
        if seen.positions is None:
            return None
        return tuple(
            SimpleNamespace(
                ticket=n, identifier=n, symbol="EURUSD", volume=1.0, type=0, magic=0, profit=0.0,
                swap=0.0, price_open=1.1, price_current=1.1, time_msc=1,
                sl=0.0,
            )
            for n in range(seen.positions)
        )  # fmt: skip

    def orders_get(self, seen: Reading) -> Any:
        return ()

    def history_deals_get(self, seen: Reading) -> Any:
        return tuple(
            SimpleNamespace(
                ticket=one.ticket, type=2, profit=one.amount, swap=0.0, commission=0.0, fee=0.0
            )
            for one in self._known
        )

    def _next(self) -> None:
        step = next(self._steps)
        self._reading = step.make(self.now_ms)
        self._known += self._reading.operations
        if step.beyond and self.beyond_ms is None:
            self.beyond_ms = self.now_ms
        self.now_ms += REREAD_MS

    def _played(self, case: Case) -> Iterator[Step]:
        yield from [ok()] * WARM_UP
        yield from case.steps
        while True:
            yield from case.tail


class Told:
    """Whom the watch tells: breaches and blocks."""

    def __init__(self, terminal: Scripted) -> None:
        self.voice = SimpleNamespace(alert=lambda *_, **__: None, resolve=lambda *_, **__: None)
        self.breaches: list[int] = []
        self.blocks: list[str] = []
        self._terminal = terminal

    def breached(self, verdict: Any, *, since_ms: int, delay_ms: int) -> None:
        self.breaches.append(self._terminal.now_ms)

    def block(self, block: Any) -> None:
        self.blocks.append(block.cause)

    def unblock(self, cause: str) -> bool:
        return False

    def dead_man_tripped(self, reason: str, *, flatten: bool) -> None:
        raise AssertionError("no dead-man switch is set")


def watched(case: Case, folder: Path) -> tuple[Scripted, Told]:
    """A minute of the guard's turns, and what came of them."""
    terminal = Scripted(case)
    told = Told(terminal)
    journal = Journal(folder / "journal.sqlite")
    try:
        hard = HardLimits(journal, login=LOGIN)
        hard.set_rules(rules_of(case.figure, hard=True))
        client: TerminalClient = terminal  # type: ignore[assignment]  # only submit is used
        watch = Watch(
            client, hard, login=LOGIN, terminal="demo",
            monotonic=lambda: terminal.now_ms / 1000, wall=lambda: terminal.now_ms / 1000,
        )  # fmt: skip
        watch.bind(told)  # type: ignore[arg-type]  # the voice is all that is asked of it
        while terminal.now_ms < START_MS + RUN_MS:
            watch.turn(closing=False, latched=bool(told.breaches))
            terminal.now_ms += POLL_MS
    finally:
        journal.close()
    return terminal, told


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_guard_trips_on_no_bad_reading_and_misses_no_breach(case: Case, tmp_path: Path) -> None:
    terminal, told = watched(case, tmp_path)
    if case.label == "fine":
        assert told.breaches == []
    elif case.label == "breach":
        assert terminal.beyond_ms is not None
        assert told.breaches
        assert told.breaches[0] > terminal.beyond_ms
    else:
        assert told.breaches == []
        assert "blind" in told.blocks
