"""The guard of one account: looks at it, latches it, has it closed, and says so.

It needs its terminal host and its journal, nothing else. Everything it says goes into the journal
and is heard from there (`hear`); whoever tells it something uses `tell`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Event as Signal
from threading import RLock, Thread
from typing import Any, Literal

from events.codec import AnyEvent
from events.decisions import Command, ReferenceSet
from events.guarding import FlattenEnded, GuardState
from events.latch import Latch, LatchStore, new_latch_id
from events.log import LogError
from events.rules import Rules, Verdict
from producers.guard.commands import Answer, Via, breach_of, reduction_of
from producers.guard.jobs import Closer, Job, Jobs
from producers.guard.journal import HeardRow, Journal
from producers.guard.latching import Latching, StillLatched
from producers.guard.obeying import Answers, obey, resume
from producers.guard.options import GuardOptions
from producers.guard.voice import Voice
from producers.guard.watch.blocks import OF_AHEAD, OF_LIMIT, Block, Blocks, lasts
from producers.guard.watch.watch import Watch
from producers.terminals.client.order_gate import may_open

logger = logging.getLogger(__name__)

BLOCKS_FACT = "blocks"
CALL_THE_DESK = "phone the broker's desk"


class Guard:
    """See the module. Thread-safe; `start` and `stop` once.

    `latches` is where the second copy of the latch lies; set by whoever follows the log.
    """

    def __init__(
        self,
        watch: Watch,
        closer: Closer,
        journal: Journal,
        options: GuardOptions,
        *,
        login: int,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.login, self.options, self.journal = login, options, journal
        self.latches: LatchStore | None = None
        self.follows_log = False
        """Whether there is a log that holds a copy, reached or not."""
        self._monotonic, self._wall = monotonic, wall
        self.watch = watch
        self.voice = Voice(
            journal, terminal=options.terminal, now_ms=self.now_ms,
            log_silent_s=watch.log_silent_s, page=options.page,
        )  # fmt: skip
        self.blocks = Blocks()
        self.blocks.restore(journal.fact(BLOCKS_FACT) or [])
        self.latching = Latching(
            journal, login=login, terminal=options.terminal, now_ms=self.now_ms
        )
        self.jobs = Jobs(
            closer,
            latched=self._keeps_closed,
            on_ended=self._ended,
            on_failure=self._failed,
        )
        self.answers = Answers(journal, self.voice)
        self._telling = RLock()
        self.latched_so_often = 0
        """Counts what latched, also while a latch held already."""
        self._told: tuple[Any, ...] = ()
        self._told_at = 0.0
        self._stopping, self._wake = Signal(), Signal()
        self._thread = Thread(target=self._run, name="guard", daemon=True)
        watch.bind(self)

    # --- what others ask

    def gate(self, request: Mapping[str, Any], by_guard: bool) -> str | None:
        """An OrderGate: closed for whatever may open while latched or blocked."""
        if by_guard:
            return None
        latch = self.latching.current
        if latch is None:
            symbol = request.get("symbol")
            blocks = [one for one in self.blocks.all() if one.about(symbol, self.currencies)]
            if not blocks:
                return None
            why = f"blocked: {blocks[0].reason}"
        else:
            why = f"halted: {latch.reason} (bridgectl resume)"
        if not may_open(request) and self.watch.ends_a_position(request):
            # Two that close one netting position at once would turn it around.
            closing = self.jobs.running
            return None if closing is None else f"the guard is closing: {closing.reason}"
        return f"{self.options.terminal} takes no new trades, {why}"

    def tell(self, command: Command, via: Via = "socket") -> Answer:
        """Obey a command once; the same id again gets the first answer."""
        with self._telling:
            known = self.answers.of(command.command_id)
            if known is not None:
                return known
            answer = None if command.verb == "resume" else obey(self, command, via)
            if answer is not None:
                self.answers.keep(command, answer)
        if answer is None:  # it waits, and nobody else may wait for it
            answer = resume(self, command, via)
            self.answers.keep(command, answer)
        logger.warning("%s by %s: %s", command.verb, command.issued_by, answer.text)
        if not answer.accepted and via in ("operator", "risk"):  # who gave it sees the log alone
            text = f"{command.verb} {command.command_id} refused: {answer.text}"
            self.voice.alert("warning", "command", text, about=command.command_id)
        self.say_state()
        self._wake.set()
        return answer

    def hear(self, after_row: int, count_max: int = 500) -> list[HeardRow]:
        """Rows of the journal behind `after_row`."""
        return self.journal.hear(after_row, count_max)

    def newest_row(self) -> int:
        """The row of the newest event."""
        return self.journal.newest_row

    def state(self) -> GuardState:
        """How it is now."""
        return self.watch.describe(
            self.latching.current,
            self.blocks.all(),
            closing=self.jobs.running is not None,
            event_time_ms=self.now_ms(),
        )

    def set_rules(self, rules: Rules, *, told: AnyEvent | None = None) -> None:
        """Follow other rules; `told` is what the log is to know of them. Raises LogError."""
        self.watch.hard.set_rules(rules)
        if told is not None:
            self.journal.emit(told)
        self._wake.set()

    def state_reference(self, stated: ReferenceSet) -> bool:
        """Take over what a human stated of this account; False when it is not for us (yet)."""
        return self.watch.state_reference(stated)

    def found_latch(self, latch: Latch) -> None:
        """The log's copy said it first."""
        self.voice.alert("critical", "latch", f"latched in the log by {latch.by}: {latch.reason}")
        self.say_state()

    def wall_ms(self) -> int:
        """UTC by the computer's clock."""
        return int(self._wall() * 1000)

    def now_ms(self) -> int:
        """UTC; of a simulated terminal its own, as of the last look."""
        if self.options.virtual and self.watch.newest_ms:
            return self.watch.newest_ms
        return self.wall_ms()

    def say_state(self) -> None:
        """Tell how it is, now."""
        state = self.state()
        self._told, self._told_at = _shape(state), self._monotonic()
        self.voice.tell(state)

    # --- life

    def start(self) -> None:
        """Look from now on. Goes on with a flatten that was cut off."""
        latch = self.latching.current
        if latch is not None:
            self.voice.alert(
                "critical", "latch", f"still latched since an earlier run: {latch.reason}",
                cure="bridgectl resume, when you know why",
            )  # fmt: skip
        self.jobs.start()
        self._thread.start()

    def stop(self) -> None:
        """End; a latch and an unfinished flatten wait for the next start. The gate stays as it
        is. The journal belongs to whoever opened it."""
        self._stopping.set()
        self._wake.set()
        self.jobs.stop()
        if self._thread.is_alive():
            self._thread.join()
        try:
            self.watch.hard.keep()
        except LogError as error:
            logger.error("the guard's references are not written down: %s", error)
        self.voice.tell(self.state().model_copy(update={"state": "stopped"}))

    def _run(self) -> None:
        while not self._stopping.is_set():
            begun = self._monotonic()
            try:
                latched = self.latching.current is not None
                self.watch.turn(closing=self.jobs.running is not None, latched=latched)
                self._end_what_is_due()
                if _shape(self.state()) != self._told or (
                    self._monotonic() - self._told_at >= self.options.state_every_s
                ):
                    self.say_state()
            except Exception as error:  # a guard that dies guards nothing
                logger.exception("the guard's turn failed")
                self.voice.alert("critical", "guard", f"a turn failed: {error!r}")
            pause_s = self.watch.pause_s - (self._monotonic() - begun)
            self._wake.wait(max(0.0, pause_s))
            self._wake.clear()

    # --- what it does

    def latch(
        self,
        reason: str,
        by: str,
        *,
        lock: str = "manual",
        until_ms: int | None = None,
        command_id: str = "",
        breach_id: str = "",
    ) -> Latch:
        """No new trades from now on; returns the latch that holds."""
        ends: Literal["until_reset", "manual"] = (
            "until_reset" if lock == "until_reset" and until_ms else "manual"
        )
        fresh = Latch(
            login=self.login,
            latch_id=new_latch_id(),
            reason=reason,
            by=by,
            since_ms=self.now_ms(),
            command_id=command_id,
            breach_id=breach_id,
            lock=ends,
            until_ms=until_ms if ends == "until_reset" else None,
        )
        with self._telling:
            self.latched_so_often += 1
            try:
                return self.latching.set(fresh)
            except LogError as error:  # it holds in memory; closing must not wait for a disk
                self.voice.alert("critical", "guard", f"the latch is not on disk: {error}")
                return fresh

    def block(self, block: Block) -> None:
        """No new trades while a cause lasts."""
        if self.blocks.set(block) and lasts(block.cause):
            self._keep_blocks()

    @contextmanager
    def freeing(self, since: int) -> Iterator[None]:
        """Around the end of the latch, alone: what commands and limits blocked is free, limits
        act anew, nothing is kept closed. `since`: `latched_so_often` when the resume began.
        Raises StillLatched when something latched or began to close since."""
        with self._telling:
            if self.latched_so_often != since or self.jobs.running is not None:
                raise StillLatched("a halt or flatten came meanwhile: look at it, resume again")
            yield
            for block in self.blocks.all():
                if lasts(block.cause):
                    self.blocks.end(block.cause)
            self._keep_blocks()
            self.free()

    def unblock(self, cause: str) -> bool:
        """A cause is over; True when it held."""
        ended = self.blocks.end(cause)
        if ended and lasts(cause):
            self._keep_blocks()
        return ended

    def free(self) -> None:
        """The latch is cleared: limits act anew, nothing is kept closed."""
        self.jobs.forget()
        self.watch.forget_breaches()

    def breached(self, verdict: Verdict, *, since_ms: int, delay_ms: int) -> None:
        """A hard limit was reached, and read so twice."""
        reason = (
            f"{verdict.limit}: {verdict.key} {verdict.value:.2f}, limit {verdict.threshold:.2f}"
        )
        breach_id = f"guard/{self.login}/{verdict.limit}/{since_ms}"
        if verdict.action == "flatten":  # first of all the gate
            self._latch_and_close(
                Job(self.watch.scope_of(verdict), reason, "guard", since_ms),
                lock=verdict.lock, until_ms=verdict.locked_until_ms, breach_id=breach_id,
            )  # fmt: skip
        elif verdict.action != "alert":
            cause = f"{OF_LIMIT}{verdict.limit}:{verdict.key.partition(':')[2]}".rstrip(":")
            self.block(Block(cause, reason, "guard", verdict.locked_until_ms))
        if verdict.action == "reduce":
            limit = self.watch.rules.limit(verdict.limit)
            command = reduction_of(
                limit, verdict, login=self.login, now_ms=since_ms, breach_id=breach_id
            )
            scope = self.watch.scope_of(verdict)
            self.jobs.add(Job(scope, reason, "guard", since_ms, command.command_id, command))
        self.voice.tell(
            breach_of(verdict, login=self.login, now_ms=self.now_ms(), delay_ms=delay_ms,
                      breach_id=breach_id)
        )  # fmt: skip
        self.voice.alert("critical", "limit_breach", reason, about=verdict.limit)
        self.say_state()

    def close_ahead(self, window: str, reason: str, until_ms: int, symbol: str = "") -> None:
        """A window demands that nothing is open when it begins. Of a symbol it alone is stopped,
        until the window ends; else the account is latched until then."""
        since_ms = self.wall_ms()
        job = Job(f"symbol={symbol}" if symbol else "account", reason, "guard", since_ms)
        if symbol:
            self.block(Block(f"{OF_AHEAD}{window}/{symbol}", reason, "guard", until_ms, symbol))
            self.jobs.add(job)
        else:
            self._latch_and_close(job, lock="until_reset", until_ms=until_ms)
        self.voice.alert("warning", "window", f"closing ahead of {reason}: {job.scope}")
        self.say_state()

    def currencies(self, symbol: str) -> tuple[str, ...] | None:
        """Of a symbol; None: not known yet."""
        return self.watch.symbols.currencies(symbol)

    def dead_man_tripped(self, reason: str, *, flatten: bool) -> None:
        """Somebody who should be heard of is silent."""
        first = all(block.cause != "dead_man" for block in self.blocks.all())
        self.block(Block("dead_man", f"dead-man switch: {reason.partition(' for ')[0]}", "guard"))
        self.voice.alert("critical", "dead_man", f"dead-man switch: {reason.partition(' for ')[0]}")
        if flatten and first:
            job = Job("account", f"dead-man switch: {reason}", "guard", self.wall_ms())
            self._latch_and_close(job)

    def _latch_and_close(self, job: Job, **latch: Any) -> None:
        """By the guard itself; no resume comes in between."""
        with self._telling:
            held = self.latch(job.reason, job.by, **latch)
            self.jobs.add(job._replace(latch_id=held.latch_id))

    def _keeps_closed(self) -> bool:
        """Whether something that was closed must stay so: all of it, or symbols."""
        return self.latching.current is not None or any(one.symbol for one in self.blocks.all())

    def _end_what_is_due(self) -> None:
        now_ms = self.now_ms()
        due = self.blocks.end_due(now_ms)
        if any(lasts(block.cause) for block in due):
            self._keep_blocks()
        if any(block.symbol for block in due) and not self._keeps_closed():
            self.jobs.forget()
        latch = self.latching.current
        if latch is None or not latch.over(now_ms) or self.jobs.running is not None:
            return
        # A log that is away keeps its copy, which has ended too: it goes when the log is back.
        try:
            self.latching.clear(None, by="reset")
        except StillLatched as error:
            self.voice.alert("warning", "unlatch", str(error))
            return
        self.free()
        self.voice.resolve("latch", "the lock ended at the reset")

    def _ended(self, ended: FlattenEnded) -> None:
        if ended.state == "FLAT":
            self.voice.resolve("flatten", "flat")
        else:
            self.voice.alert(
                "critical", "flatten", f"{ended.state}: {ended.positions} positions and "
                f"{ended.orders} orders are left ({ended.reason})", cure=CALL_THE_DESK,
            )  # fmt: skip
        self._wake.set()

    def _failed(self, what: str, error: Exception) -> None:
        self.voice.alert(
            "critical", "flatten", f"{what} failed: {error!r}",
            cure=f"look at the terminal, {CALL_THE_DESK}",
        )  # fmt: skip

    def _keep_blocks(self) -> None:
        try:
            self.journal.set_facts({BLOCKS_FACT: self.blocks.lasting() or None})
        except LogError as error:
            self.voice.alert("critical", "guard", str(error))


def _shape(state: GuardState) -> tuple[Any, ...]:
    """What of a state is worth telling at once."""
    silent = state.log_silent_s is not None
    return (state.state, state.latched, state.latch_id, state.reason, state.blocked_until_ms,
            state.positions, silent)  # fmt: skip
