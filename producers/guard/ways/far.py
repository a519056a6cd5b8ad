"""A guard on another machine, beside the terminal that is served there, as this side sees it.

It guards whatever becomes of the link. From here it gets the commands of the log, references and
rules; what it tells is relayed into the log; and the log's copy of its latch is kept here, since
it has no log of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeout
from threading import Lock
from typing import Any

from events.codec import decode_data
from events.decisions import Command, ReferenceSet, RulesSet
from events.guarding import GuardState, LatchChanged
from events.latch import Latch, LatchStore
from events.log import EntryId, LogError, Stream
from events.rules import Rules
from producers.guard.commands import CLOSED, Answer, Via
from producers.guard.journal import HeardRow, Journal
from producers.terminals.client import HostClient
from producers.terminals.interface import Priority, TerminalLost

CALL_S = 10.0
TELL_S = 30.0
"""A resume may wait for a flatten that it stops."""
CLEARED_MAX = 64
CLEARED_FACT, LATCH_FACT = "cleared", "far_latch"


class FarAway(LogError):
    """The link to the guard does not carry; it guards all the same. Asking again is safe."""


class FarGuard:
    """See the module. Implements Told, GuardSource and Follower; thread-safe."""

    def __init__(
        self,
        client: HostClient,
        journal: Journal,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`journal` keeps what this side must not forget: places in the log, cleared latches."""
        self._client, self._journal = client, journal
        self._wall, self._monotonic = wall, monotonic
        self._lock = Lock()
        self._heard_log_at = monotonic()
        self._cleared: list[str] = journal.fact(CLEARED_FACT) or []
        kept = journal.fact(LATCH_FACT)
        self._latch = None if kept is None else Latch.model_validate(kept)
        self._latches: LatchStore | None = None
        self._identity = ""

    def tell(self, command: Command, via: Via = "socket") -> Answer:
        """Raises FarAway: what became of it is then unknown, the same command may be told again."""
        if command.verb == "resume" and self._latches is not None:
            try:
                self._latches.read(command.login or 0)
            except LogError as error:
                return Answer(False, f"the log's copy of the latch would remain: {error}")
        named = "link" if via == "socket" else via
        answer = self._call("guard_tell", command.model_dump_json(), named, timeout_s=TELL_S)
        told = Answer(*answer)
        if not told.accepted and told.text.startswith(CLOSED) and via != "socket":
            raise FarAway(told.text)  # what the log says is not lost: it is told again
        return told

    def hear(self, after_row: int, count_max: int = 500) -> list[HeardRow]:
        """Raises FarAway."""
        silent_s = self._monotonic() - self._heard_log_at
        rows = [HeardRow(*row) for row in self._call("guard_hear", after_row, count_max, silent_s)]
        for row in rows:
            if row.type.startswith(f"{LatchChanged.TYPE}."):
                self._note(decode_data(row.type, row.key, row.data))
        return rows

    def state(self) -> GuardState | None:
        """Raises FarAway."""
        text, _, self._identity = self._call("guard_state")
        return GuardState.model_validate_json(text) if text else None

    def newest_row(self) -> int:
        """Raises FarAway."""
        return int(self._call("guard_state")[1])

    def identity(self) -> str:
        """Raises FarAway."""
        if not self._identity:
            self.state()
        return self._identity

    def heard_log(self) -> None:
        """The log answered here; the far guard is told with the next `hear`."""
        self._heard_log_at = self._monotonic()

    def state_reference(self, stated: ReferenceSet) -> bool:
        """Raises FarAway."""
        return bool(self._call("guard_set", stated.TYPE, stated.model_dump_json()))

    def take_reference(self, stated: ReferenceSet) -> None:
        """Raises FarAway."""
        self.state_reference(stated)

    def offer_rules(self, rules: Rules, told: RulesSet) -> bool:
        """Rules of this side; False: there are others. Raises FarAway."""
        return bool(self._call("guard_set", told.TYPE, told.model_dump_json()))

    def take_risk_halted(self, text: str) -> None:
        """Without group risk nobody judges soft limits; a human resumes. Raises FarAway."""
        if text:
            now_ms = int(self._wall() * 1000)
            self.tell(
                Command(
                    event_time_ms=now_ms,
                    command_id=f"risk-halted-{now_ms}",
                    verb="block",
                    issued_by="guard",
                    arguments={"reason": text},
                ),
                "risk",
            )

    def place(self, stream: Stream) -> str | None:
        """How far a lane of the log was read for it."""
        found = self._journal.fact(f"place:{stream}")
        return None if found is None else str(found)

    def keep_place(self, stream: Stream, id: EntryId) -> None:
        """A lane was read so far."""
        self._journal.set_facts({f"place:{stream}": str(id)})

    def sync_is_urgent(self) -> bool:
        """Changes are seen with the next look, a second later at most."""
        return False

    def sync(self, latches: LatchStore) -> None:
        """Either copy latches; one that the guard cleared goes here too. Raises LogError."""
        self._latches = latches
        state = self.state()
        if state is None:
            return
        theirs = latches.read(state.login)
        if state.latched:
            mine = self._latch_of(state)
            if theirs is None or theirs.latch_id != mine.latch_id:
                latches.set(mine)
        elif theirs is not None:
            if theirs.latch_id in self._cleared or theirs.over(state.event_time_ms):
                latches.clear(state.login, theirs.latch_id)
            else:
                self._halt(theirs)

    def _latch_of(self, state: GuardState) -> Latch:
        with self._lock:
            if self._latch is not None and self._latch.latch_id == state.latch_id:
                return self._latch
        return Latch(
            login=state.login,
            latch_id=state.latch_id,
            reason=state.reason,
            by=state.by,
            since_ms=state.event_time_ms,
        )

    def _halt(self, latch: Latch) -> None:
        """The log's copy is set and the guard's is not."""
        self.tell(
            Command(
                event_time_ms=int(self._wall() * 1000),
                command_id=f"latch-{latch.latch_id}",
                verb="halt",
                issued_by=latch.by,
                arguments={
                    "reason": latch.reason, "lock": latch.lock, "until_ms": latch.until_ms,
                },
            ),
            "link",
        )  # fmt: skip

    def _note(self, event: Any) -> None:
        """What the guard told of its latch."""
        assert isinstance(event, LatchChanged)
        with self._lock:
            if event.latched:
                self._latch = Latch(
                    login=event.login, latch_id=event.latch_id, reason=event.reason, by=event.by,
                    since_ms=event.event_time_ms, command_id=event.command_id, lock=event.lock,
                    until_ms=event.until_ms,
                )  # fmt: skip
            else:
                self._latch = None
                self._cleared = [*self._cleared, event.latch_id][-CLEARED_MAX:]
            kept = None if self._latch is None else self._latch.model_dump(mode="json")
            self._journal.set_facts({CLEARED_FACT: self._cleared, LATCH_FACT: kept})

    def _call(self, method: str, *args: Any, timeout_s: float = CALL_S) -> Any:
        future = self._client.submit(
            method, *args, priority=Priority.EMERGENCY, timeout_s=timeout_s
        )
        try:
            reply = future.result(timeout=timeout_s)
        except (TerminalLost, FutureTimeout) as error:
            future.cancel()
            raise FarAway(f"the guard beside the terminal is out of reach: {error}") from error
        if reply.error[0] != 1:
            raise FarAway(f"the guard beside the terminal: {reply.error[1]}")
        return reply.value
