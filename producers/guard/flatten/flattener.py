"""The machine that closes everything: one for each account, driven by its guard.

Whatever it needs is passed in; it knows no log, no database and no settings. It goes on when the
journal cannot be written, when the terminal is away, when single requests are refused; it ends
when nothing is left, or when waiting longer makes no sense, and says which.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Event, Lock
from typing import Any

from events.guarding import FlattenEnded
from producers.guard.flatten.account import AccountCalls, Held, Scope, Working
from producers.guard.flatten.course.cause import Cause, FlattenOptions, cause_of, names_of
from producers.guard.flatten.course.telling import Page, Teller
from producers.guard.flatten.instruments import InstrumentBook
from producers.guard.flatten.intents import FLATTEN_FACT, UnstoppableJournal
from producers.guard.flatten.items import item_of, item_of_row
from producers.guard.flatten.reducing import Reduction, ReductionEnded, reduce_positions
from producers.guard.flatten.requests import RequestDesk
from producers.guard.flatten.rounds import Rounds
from producers.guard.flatten.run import Run
from producers.guard.journal import Intent, IntentJournal
from producers.terminals.interface import TerminalClient

KEEP_EVERY_S = 1.0
"""Between two sweeps of `keep`."""
FLATTEN_ID_BYTES = 8


class StoppedFlatten(Exception):
    """The machine was stopped before its work was done; another process can go on with it."""


class Flattener:
    """Closes positions and cancels orders of one account, and keeps it so.

    One thread at a time works with it (a second caller waits); `stop` comes from any thread.
    `client` must let closing orders pass its gate. `clock` is monotonic seconds, `wall_ms` UTC.
    `sleep` replaces waiting for trials in virtual time. `on_page` hears of each page besides the
    Alert events in the journal.
    """

    def __init__(
        self,
        client: TerminalClient,
        journal: IntentJournal,
        *,
        login: int,
        terminal: str,
        magic: int,
        clock: Callable[[], float] = time.monotonic,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        sleep: Callable[[float], Any] | None = None,
        options: FlattenOptions | None = None,
        on_page: Page | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.options = options or FlattenOptions()
        self._journal = journal
        self._login, self._terminal, self._magic = login, terminal, magic
        self._clock, self._wall_ms, self._jitter = clock, wall_ms, jitter
        self._on_page = on_page
        self._calls = AccountCalls(client, login=login, order_s=self.options.order_s)
        self._book = InstrumentBook()
        self._interrupt, self._stopped = Event(), False
        """Set while what runs is to end at once: stopped, or because all of it is to be closed."""
        self._sleep: Callable[[float], Any] = sleep or self._interrupt.wait
        self._working = Lock()
        self._kept: dict[str, Run] = {}
        self._unended: Run | None = None
        """What was interrupted: what it sent may still take effect."""

    def prime(self, symbols: set[str]) -> None:
        """Read what requests must know of symbols before it is needed. Never raises."""
        with self._working:
            self._book.prime(self._calls, symbols)

    def run(
        self,
        scope: Scope | str,
        reason: str,
        by: str,
        since_ms: int,
        *,
        flatten_id: str = "",
        command_id: str = "",
        latch_id: str = "",
        before: Iterable[Held | Working] = (),
        sound_s: float = 0.0,
    ) -> FlattenEnded:
        """Close what is in the scope, verify it, and return how it stands.

        `since_ms`: what set it off, UTC. `flatten_id` of an earlier process makes it go on where
        that one died. `command_id`, `latch_id`: what it follows from. `before`: what somebody saw
        on the account a moment ago; where lists do not show it, FLAT is not said before history
        accounts for its end; `sound_s`: for how long they could read it without a break. One of
        the whole account takes over what `make_way` interrupted. Afterwards call `tend` or `keep`
        for as long as the latch is set. Raises ValueError for a bad scope, StoppedFlatten.
        """
        scope = Scope.parse(scope) if isinstance(scope, str) else scope
        with self._working:
            others = self._others(scope)
            cause = Cause(
                flatten_id or new_flatten_id(),
                scope,
                reason,
                by,
                since_ms,
                command_id,
                latch_id,
                *names_of(one.cause for one in others),
            )
            run = self._run_of(cause)
            run.before = {
                one.key: item_of(one) for one in before if scope.holds(one.magic, one.symbol)
            }
            run.sound_s = sound_s
            run.take_over(others)
            self._remember(run)
            run.begin(self._intents(cause) if flatten_id else ())
            return self._until_ended(run)

    def resume(self) -> FlattenEnded | None:
        """Go on with what the journal says was under way, or was kept closed, when an earlier
        process died: how the last of it stands, the first that is not FLAT before all others;
        None when there was nothing. Raises StoppedFlatten."""
        kept = self._unstoppable().fact(FLATTEN_FACT) or {}
        with self._working:
            runs = [self._resumed(scope, fact) for scope, fact in kept.items()]
            found = [self._until_ended(run) for run in runs]
        return next((one for one in found if one.state != "FLAT"), found[-1] if found else None)

    def _resumed(self, scope: str, fact: Mapping[str, Any]) -> Run:
        """Begun: it knows what was sent, whatever interrupts it."""
        run = self._run_of(cause_of(scope, fact))
        if (ours := fact.get("ours")) is not None:
            run.ours = {one.key: one for one in map(item_of_row, ours)}
        self._remember(run)
        run.begin(self._intents(run.cause), state=str(fact.get("state", "")))
        return run

    def tend(self) -> FlattenEnded | None:
        """One more sweep of what is kept flat: what is parked, refused or new is closed by its
        rules. Returns how it stands when that changed."""
        changed = None
        with self._working:
            for run in list(self._kept.values()):
                before = run.ended
                run.advance()
                if run.ended is not before:
                    changed = run.ended
        return changed

    def keep(self, until: Callable[[], bool], *, every_s: float = KEEP_EVERY_S) -> None:
        """`tend` until a condition holds or the machine is stopped."""
        while not until() and not self._stopped:
            self.tend()
            self._sleep(every_s)

    def forget(self) -> None:
        """The latch is cleared: nothing is kept flat any more."""
        with self._working:
            self._kept.clear()
            self._unstoppable().set_facts({FLATTEN_FACT: None})

    def reduce(
        self,
        reductions: Sequence[Reduction],
        reason: str,
        by: str,
        since_ms: int,
        *,
        command_id: str = "",
    ) -> ReductionEnded:
        """Make positions smaller, see `producers.guard.flatten.reducing`. Raises StoppedFlatten."""
        cause = Cause(new_flatten_id(), Scope(), reason, by, since_ms, command_id)
        with self._working:
            run = self._run_of(cause)
            ended = reduce_positions(
                run, reductions, sleep=self._sleep, stopping=self._interrupt.is_set
            )
            if ended is None:
                raise self._interrupted(run)
            return ended

    def stop(self) -> None:
        """End what is under way at the next request; the journal knows how far it came."""
        self._stopped = True
        self._interrupt.set()

    def make_way(self) -> None:
        """The whole account is to be closed: end what is under way at the next request, for the
        `run` that follows and takes it over. From any thread."""
        self._interrupt.set()

    def _others(self, scope: Scope) -> list[Run]:
        """What a flatten of the whole account takes over. From here on it is not interrupted."""
        unended, self._unended = self._unended, None
        if not scope.whole:
            return []
        if not self._stopped:
            self._interrupt.clear()
        kept = [one for one in self._kept.values() if one is not unended]
        others = [*kept, *([unended] if unended is not None else [])]
        return [one for one in others if one.ended is None or one.ended.state != "FLAT"]

    def _interrupted(self, run: Run) -> StoppedFlatten:
        self._unended = run
        return StoppedFlatten(f"flatten {run.cause.flatten_id} was stopped")

    def _until_ended(self, run: Run) -> FlattenEnded:
        while not self._interrupt.is_set():
            wait_s = run.advance()
            if run.ended is not None:
                return run.ended
            if wait_s > 0:
                self._sleep(wait_s)
        raise self._interrupted(run)

    def _remember(self, run: Run) -> None:
        if run.cause.scope.whole:
            self._kept.clear()
        self._kept[str(run.cause.scope)] = run

    def _intents(self, cause: Cause) -> tuple[Intent, ...]:
        """Its requests, and those of others it took over that nobody knows the outcome of."""
        journal = self._unstoppable()
        open_ = (
            intent for other in cause.took_over for intent in journal.intents(other)
            if intent.outcome is None
        )  # fmt: skip
        return (*open_, *journal.intents(cause.flatten_id))

    def _unstoppable(self) -> UnstoppableJournal:
        return UnstoppableJournal(self._journal, self._journal_failed)

    def _journal_failed(self, text: str) -> None:
        if self._on_page is not None:
            self._on_page(text, "free space on the disk; the flatten goes on")

    def _run_of(self, cause: Cause) -> Run:
        journal = self._unstoppable()
        tell = Teller(
            journal, login=self._login, terminal=self._terminal, cause=cause,
            clock=self._clock, wall_ms=self._wall_ms, on_page=self._on_page,
        )  # fmt: skip
        desk = RequestDesk(
            self._book, magic=self._magic, comment=f"flatten {cause.flatten_id[:8]}",
            deviation_points=self.options.deviation_points,
        )  # fmt: skip
        rounds = Rounds(
            self._calls, journal, tell, self._book, desk, cause.flatten_id,
            self.options.parallel_max, self._clock, self._jitter,
        )  # fmt: skip
        return Run(
            cause, self._login, self._terminal, self._calls, rounds, journal, tell, self.options,
            self._clock, self._wall_ms,
        )  # fmt: skip


def new_flatten_id() -> str:
    """A name for a flatten that no other one has."""
    return secrets.token_hex(FLATTEN_ID_BYTES)
