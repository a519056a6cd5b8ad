"""The guard's hands: jobs carried out by the machine of `producers.guard.flatten`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Lock

from events.guarding import FlattenEnded
from events.rules import GuardRules, Reduce
from producers.guard.flatten import Flattener, FlattenOptions, StoppedFlatten, choose
from producers.guard.flatten.account import AccountCalls, Held, Scope, Working
from producers.guard.flatten.course.telling import Page
from producers.guard.flatten.instruments import InstrumentBook
from producers.guard.flatten.intents import FLATTEN_FACT
from producers.guard.jobs import Job, Stopped
from producers.guard.journal import Journal
from producers.terminals.interface import TerminalClient

PARALLEL_NEAR, PARALLEL_FAR = 4, 16


class FlattenCloser:
    """See `producers.guard.jobs.Closer`. Follows the rules of the moment at each job."""

    def __init__(
        self,
        client: TerminalClient,
        journal: Journal,
        *,
        login: int,
        terminal: str,
        magic: int,
        rules: Callable[[], GuardRules],
        on_page: Page,
        lately: Callable[[], Iterable[Held | Working]] = tuple,
        sound_s: Callable[[], float] = lambda: 0.0,
        far: bool = False,
    ) -> None:
        """`lately`: what the guard saw on the account in its newest looks; `sound_s`: for how
        long it could read it. `far`: answers travel, so more orders may be under way at once."""
        self._client, self._journal = client, journal
        self._login, self._terminal, self._magic = login, terminal, magic
        self._rules, self._on_page = rules, on_page
        self._lately, self._sound_s = lately, sound_s
        self._parallel = PARALLEL_FAR if far else PARALLEL_NEAR
        self._lock = Lock()
        self._machine: Flattener | None = None

    def close(self, job: Job) -> FlattenEnded | None:
        """Raises Stopped, ValueError for a scope or reduction that there is not."""
        machine = self._ready()
        try:
            if job.reduce is not None:
                self._reduce(machine, job)
                return None
            return machine.run(
                job.scope, job.reason, job.by, job.since_ms, command_id=job.command_id,
                latch_id=job.latch_id, before=self._lately(), sound_s=self._sound_s(),
            )  # fmt: skip
        except StoppedFlatten as error:
            raise Stopped(str(error)) from error

    def go_on(self) -> FlattenEnded | None:
        """Raises Stopped."""
        try:
            return self._ready().resume()
        except StoppedFlatten as error:
            raise Stopped(str(error)) from error

    def settled(self) -> bool:
        """Whether what the journal tells of came to its end."""
        by_scope = self._journal.fact(FLATTEN_FACT) or {}
        return all(one.get("state") for one in by_scope.values())

    def make_way(self) -> None:
        """From any thread."""
        self._ready().make_way()

    def tend(self) -> FlattenEnded | None:
        """One more sweep."""
        machine = self._machine
        return None if machine is None else machine.tend()

    def forget(self) -> None:
        """Nothing is kept closed."""
        self._ready().forget()
        with self._lock:
            self._machine = None

    def stop(self) -> None:
        """From any thread. What was kept closed is forgotten here, not in the journal."""
        with self._lock:
            machine, self._machine = self._machine, None
        if machine is not None:
            machine.stop()

    def _ready(self) -> Flattener:
        rules = self._rules()
        options = FlattenOptions(
            parallel_max=self._parallel,
            others=rules.others_after_latch,
            recloses_per_minute_max=rules.recloses_per_minute_max,
            deviation_points=rules.deviation_points,
        )
        with self._lock:
            if self._machine is None:
                self._machine = Flattener(
                    self._client,
                    self._journal,
                    login=self._login,
                    terminal=self._terminal,
                    magic=self._magic,
                    options=options,
                    on_page=self._on_page,
                )
            self._machine.options = options
            return self._machine

    def _reduce(self, machine: Flattener, job: Job) -> None:
        """Which positions, and how much of them, is part of the rule."""
        assert job.reduce is not None
        wanted = Reduce.model_validate(job.reduce.arguments.get("reduce") or {})
        calls, book = (
            AccountCalls(self._client, login=self._login, order_s=machine.options.order_s),
            InstrumentBook(),
        )
        look = calls.look()
        book.prime(calls, {position.symbol for position in look.positions})
        chosen = choose(
            look,
            book,
            which=wanted.which,
            percent=wanted.percent,
            positions_max=wanted.positions_max,
            scope=Scope.parse(job.scope),
        )
        ended = machine.reduce(chosen, job.reason, job.by, job.since_ms, command_id=job.command_id)
        if not ended.complete:
            left = ", ".join(f"{ticket} ({why})" for ticket, why in ended.left[:5])
            self._on_page(f"reducing left {left}: {job.reason}", "look at the terminal")
