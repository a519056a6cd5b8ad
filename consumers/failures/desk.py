"""Where operators decide about dead letters: those in the log, and those in the database."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from consumers.failures.letters import Letter, answer_to, entry_at, letters, task_slots
from consumers.failures.request import SETTLING, Action, Outcome, Request, halted_at
from events.codec import encode
from events.log import Entry, EntryId, Lane, Log, LogError
from events.unordered import Derived
from events.views import lines

if TYPE_CHECKING:
    from events.postgres.dead_entries import DeadEntries, DeadEntry

PERSIST = "persist"
POLL_S = 0.1
NAME_CHARS, NAME_CHARS_MIN = 8, 4
ASKED_MAX = 100
"""Requests that wait for answers at a time."""


class NoSuchLetter(LogError):
    """No dead letter, or more than one, is called so."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A dead letter as operators see it, wherever it lies."""

    name: str
    group: str
    task: str
    place: str
    entry_type: str
    error: str
    traceback: str = ""
    code_version: str = ""
    tries: int = 1
    halts: bool = False
    """The task stands still in front of this entry."""
    letter: Letter | None = None
    dead: DeadEntry | None = None

    def as_json(self) -> dict[str, Any]:
        fields = asdict(replace(self, letter=None, dead=None))
        return {name: value for name, value in fields.items() if name not in ("letter", "dead")}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a decision. Without an outcome nobody answered in time."""

    shown: Shown
    outcome: str
    detail: str = ""

    @property
    def settled(self) -> bool:
        return self.outcome in SETTLING

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.shown.name,
            "place": self.shown.place,
            "group": self.shown.group,
            "outcome": self.outcome or None,
            "detail": self.detail,
        }

    def told(self) -> str:
        said = ": ".join(part for part in (self.outcome or "asked", self.detail) if part)
        return f"{self.shown.name} {self.shown.task} {self.shown.place}: {said}"


class Desk:
    """All dead letters of a log and, where there is one, of its database."""

    def __init__(
        self,
        log: Log,
        dsn: str | None,
        *,
        group: str = "",
        namespaces: Sequence[str] = (),
        warn: Callable[[str], None],
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._log, self._dsn = log, dsn
        self._group, self._namespaces = group, namespaces
        self._warn, self._now_ms = warn, now_ms
        self._monotonic, self._sleep = monotonic, sleep
        self._database: DeadEntries | None = None

    def letters(self) -> list[Shown]:
        """Those nobody decided about, oldest first. Raises LogError, DatabaseError."""
        self._check_names()
        slots = task_slots(self._log, namespaces=self._namespaces, group=self._group)
        halted = {one.slot: halted_at(one.halted) for one in self._log.tasks.look(slots)}
        found = [
            _shown(one, halts=halted[one.slot] == one.failed.place)
            for one in letters(self._log, slots)
        ]
        return found + self._in_the_database()

    def _check_names(self) -> None:
        known = self._log.namespaces()
        for name in self._namespaces:
            if name not in known:
                raise LogError(f"no terminal is called {name!r}: there is {_named(known)}")
        groups = {slot.writer for slot in task_slots(self._log)} | {PERSIST}
        if self._group and self._group not in groups:
            raise LogError(f"no group is called {self._group!r}: there is {_named(groups)}")

    def found(self, wanted: Sequence[str]) -> list[Shown]:
        """The letters of these names or places. Raises NoSuchLetter."""
        every = self.letters()
        chosen = []
        for text in wanted:
            fits = [one for one in every if text == one.place]
            if len(text) >= NAME_CHARS_MIN:
                fits += [one for one in every if one.name.startswith(text)]
            if len(fits) != 1:
                problem = (
                    f"{len(fits)} dead letters are called {text!r}: give the whole name"
                    if fits
                    else f"no dead letter is called {text!r} (it may be settled already): "
                    "look at `bridgectl dlq list`"
                )
                raise NoSuchLetter(problem)
            chosen += fits
        return chosen

    def shown(self, one: Shown) -> dict[str, Any]:
        """The letter, and its entry: decoded, or its bytes; None where it was trimmed."""
        entry: Entry | None = None
        entry = _entry_of(one.dead) if one.dead is not None else entry_at(self._log, one.place)
        return {"letter": one.as_json(), "entry": None if entry is None else lines.as_json(entry)}

    def decide(
        self, action: Action, chosen: Sequence[Shown], *, by: str, reason: str, wait_s: float
    ) -> Iterator[Answer]:
        """Have something done about letters, and tell what came of it, in order."""
        for start in range(0, len(chosen), ASKED_MAX):
            asked = [
                (one, self._asked(one, action, by=by, reason=reason))
                for one in chosen[start : start + ASKED_MAX]
            ]
            until = self._monotonic() + wait_s
            for one, asked_or_done in asked:
                if isinstance(asked_or_done, Answer):
                    yield asked_or_done
                else:
                    yield self._answered(one, *asked_or_done, until)

    def close(self) -> None:
        if self._database is not None:
            self._database.close()

    def _asked(
        self, one: Shown, action: Action, *, by: str, reason: str
    ) -> Answer | tuple[Letter, str, EntryId]:
        """Decide about a letter here, or leave a request with the task that owns it: its answer
        comes behind the entry that is newest now."""
        if one.letter is None:
            return self._decided_in_the_database(action, one)
        letter = one.letter
        id_ = f"{action.value}-{letter.name}"
        request = Request(id_, action, letter.failed.place, by, reason, self._now_ms())
        record = self._log.tasks.peek(letter.slot)
        if not record.commits:  # outputs without a commit: no task owns anything here
            return self._decided_for_all(one, letter, request)
        self._log.tasks.ask(letter.slot, id_, request.to_bytes())
        return letter, id_, record.newest

    def _decided_for_all(self, one: Shown, letter: Letter, request: Request) -> Answer:
        """A group without order has consumers, but nobody who owns an entry."""
        if request.action is Action.RETRY:
            why = "the group runs --unordered, where nobody owns an entry: it can be dropped only"
            return Answer(one, Outcome.REFUSED, why)
        told = letter.slot.stream(Lane.CRITICAL)
        cause = Entry(told, letter.id, "", "", b"")
        answer = encode(request.answered(one.group, Outcome.DROPPED), cause=cause.place)
        self._log.unordered.derive(letter.slot, [Derived(cause, [answer])])
        return Answer(one, Outcome.DROPPED)

    def _answered(
        self, one: Shown, letter: Letter, request: str, after: EntryId, until: float
    ) -> Answer:
        while True:
            answer = answer_to(self._log, letter.slot, request, after)
            if answer is not None:
                detail = answer.detail
                if answer.outcome == Outcome.FAILED:
                    detail = "look at `bridgectl dlq show` for what it raised now"
                return Answer(one, answer.outcome, detail)
            if self._monotonic() >= until:
                return Answer(one, "", self._why_no_answer(letter))
            self._sleep(POLL_S)

    def _why_no_answer(self, letter: Letter) -> str:
        [holding] = self._log.tasks.look([letter.slot])
        if holding.token:
            return f"no answer yet from {holding.holder}: it is done when the task comes to it"
        return f"nobody runs group {letter.slot.writer} now: it is done as soon as somebody does"

    def _in_the_database(self) -> list[Shown]:
        if self._dsn is None or self._group not in ("", PERSIST):
            return []
        from events.postgres import DatabaseError
        from events.postgres.dead_entries import DeadEntries

        try:
            if self._database is None:
                self._database = DeadEntries(self._dsn)
            found = [_shown_dead(dead) for dead in self._database.listed()]
        except DatabaseError as error:
            if self._group:
                raise
            self._warn(f"what the database could not take is not shown: {error}")
            return []
        wanted = set(self._namespaces)
        return [one for one in found if not wanted or one.task.partition("/")[2] in wanted]

    def _decided_in_the_database(self, action: Action, one: Shown) -> Answer:
        assert self._database is not None, "a letter from the database"
        assert one.dead is not None, "a letter from the database"
        if action is Action.DROP:
            why = "the database keeps it as the only copy of its entry: it can be retried only"
            return Answer(one, Outcome.REFUSED, why)
        error = self._database.store(one.dead)
        return Answer(one, Outcome.FAILED if error else Outcome.HANDLED, error)


def _named(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none yet"


def _shown(letter: Letter, *, halts: bool) -> Shown:
    failed = letter.failed
    return Shown(
        letter.name,
        failed.group,
        f"{letter.slot.writer}.{letter.slot.partition}/{letter.slot.namespace}",
        failed.place,
        failed.entry_type,
        failed.error,
        failed.traceback,
        failed.code_version,
        letter.tries,
        halts,
        letter=letter,
    )


def _shown_dead(dead: DeadEntry) -> Shown:
    name = hashlib.blake2b(f"{PERSIST} {dead.place}".encode(), digest_size=NAME_CHARS // 2)
    namespace = dead.stream.strip("{").partition(":")[0]
    return Shown(
        name.hexdigest(),
        PERSIST,
        f"{PERSIST}/{namespace}",
        dead.place,
        dead.type,
        dead.error,
        dead=dead,
    )


def _entry_of(dead: DeadEntry) -> Entry | None:
    try:
        return dead.entry()
    except ValueError:
        return None
