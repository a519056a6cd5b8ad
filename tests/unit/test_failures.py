"""Entries that handlers cannot bear: dead letters, halts, quarantine, and what operators may do."""

from __future__ import annotations

import itertools
import json
import random
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import pytest

from consumers.failures.desk import Desk, NoSuchLetter
from consumers.failures.failure import failure, tidy, told
from consumers.failures.letters import Letter, answer_to, letters, task_slots
from consumers.failures.quarantine import ALONE_MAX, Suspicion, Trial
from consumers.failures.request import Action, BadRequest, Request, halted_at, parse_place
from consumers.replay.verification import verify_task
from consumers.runtime import outputs
from consumers.runtime.group import Group
from consumers.runtime.handler import Handler, Order
from consumers.runtime.journal import Deed, JournalStep, Note
from consumers.runtime.outputs import OUTPUTS_PER_ENTRY_MAX
from consumers.runtime.task import Step, TaskRun
from consumers.sinks import Batch as SinkBatch
from consumers.sinks import Refused, Sink, SinkGroup, SinkRun
from consumers.unordered import Consumer
from consumers.workers.taking import WorkerOptions
from events.codec import AnyEvent, decode, encode
from events.event import Event
from events.log import BEGIN, Claim, Entry, EntryId, Lane, LogError, LogUnavailable, NewEntry, Slot
from events.memory_log import MemoryLog
from events.operations import ClockTick, GapHealed, HandlerFailed, OperatorAnswered, TerminalDown
from events.tasks import COMMIT_OUTPUTS_MAX, TaskRecord

SOURCE = Slot("demo", "source", 0)
TASK = Slot("demo", "counted", 0)
NORMAL, HIGH = SOURCE.stream(Lane.NORMAL), SOURCE.stream(Lane.HIGH)


class Killed(BaseException):
    """The process is gone: raised where a test kills it."""


class Counted(Handler):
    """Numbers what it hears; a gap's reason says how to misbehave. Fixed by `mended`."""

    mended: ClassVar[bool] = False

    def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
        reason = event.reason if isinstance(event, GapHealed) else ""
        if reason and not self.mended:
            yield from self.misbehave(reason)
        count = self.state["count"] = self.state.get("count", 0) + 1
        yield ClockTick(event_time_ms=count)

    def misbehave(self, reason: str) -> Iterator[Any]:
        self.state["count"] = -1
        yield ClockTick(event_time_ms=-1)
        if reason == "recursion":
            yield from self.misbehave(reason)
        if reason in ERRORS:
            raise ERRORS[reason]()
        if reason in OUTPUTS:
            yield from OUTPUTS[reason]()
        if reason in STATES:
            key, value = STATES[reason]
            self.state[key] = value


class CountedStrictly(Counted):
    halts_on = frozenset({"gap_healed"})


class CountedByPriority(Counted):
    order = Order.PRIORITY


class Unknown(Event):
    TYPE = "unknown"


class Untold(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


ERRORS: dict[str, Callable[[], BaseException]] = {
    "raise": lambda: ZeroDivisionError("cannot bear it"),
    "exit": lambda: SystemExit(3),
    "interrupt": KeyboardInterrupt,
    "text": Untold,
    "surrogate": lambda: ValueError("\udc80 at 0x7f3a12345678"),
}
OUTPUTS: dict[str, Callable[[], Iterable[Any]]] = {
    "number": lambda: [7],
    "unknown event": lambda: [Unknown(event_time_ms=1)],
    "endless": lambda: (ClockTick(event_time_ms=-1) for _ in itertools.count()),
    "large": lambda: [
        TerminalDown(event_time_ms=0, terminal="x", reason="lost", detail="x" * 17_000_000)
    ],
}
STATES = {
    "state": ("odd", object()),
    "large state": ("odd", b"x" * 17_000_000),
    "state key": ("\udc80", 1),
}
MISDEEDS = {
    "raise": "ZeroDivisionError: cannot bear it",
    "exit": "SystemExit: 3",
    "number": "TypeError: handle() gave int, which is no event",
    "unknown event": "TypeError: Unknown is no event of the log",
    "endless": f"TooMuchDerived: more than {OUTPUTS_PER_ENTRY_MAX} events from one entry",
    "large": "OversizedEntry: terminal_down.1",
    "recursion": "RecursionError: maximum recursion depth exceeded",
    "state": "UnstorableState: state 'odd' cannot be stored",
    "large state": "UnstorableState: state 'odd' has 17000005 bytes",
    "state key": r"UnstorableState: state '\udc80' cannot be stored",
    "text": "Untold: (its text cannot be had: RuntimeError)",
    "surrogate": r"ValueError: \udc80 at 0x-",
}


def world() -> tuple[MemoryLog, Claim]:
    log = MemoryLog(now_ms=lambda: 1_000)
    log.open_namespace("demo", 1)
    log.tasks.open_group("demo", "counted", 1)
    return log, log.claim(SOURCE, "test", alive_within_s=0)


def clock(number: int = 0) -> NewEntry:
    return encode(ClockTick(event_time_ms=number))


def gap(reason: str) -> NewEntry:
    healed = GapHealed(event_time_ms=0, symbol="X", reason=reason, from_ms=0, until_ms=1, ticks=0)
    return encode(healed)


def owned(
    log: MemoryLog, handler: type[Handler] = Counted, *, process: str = "p", **more: Any
) -> TaskRun:
    group = Group("counted", handler)
    [spec] = group.specs(log)
    taken = log.tasks.acquire(spec.slot, "me", seen=log.tasks.look([spec.slot])[0].token)
    assert taken is not None
    task = TaskRun(log, group, spec, *taken, **more)
    suspicion = Suspicion(taken[1], process=process)
    task._suspicion = task._requests._suspicion = suspicion
    return task


def run(task: TaskRun) -> list[Step]:
    steps = []
    while (step := task.step()) != Step(halted=task.halted):
        steps.append(step)
    return steps


def counts(log: MemoryLog) -> list[int]:
    stream = TASK.stream(Lane.NORMAL)
    found = [decode(entry) for entry in log.between(stream, count_max=10**6)]
    return [event.event_time_ms for event in found if isinstance(event, ClockTick)]


def notes(log: MemoryLog) -> list[tuple[str, str]]:
    rows = log.tasks.journal(TASK, count_max=10**6)
    return [
        (note.deed.value, note.place)
        for row in rows
        for note in JournalStep.from_bytes(row.data).notes
        if note.deed is not Deed.BEGAN
    ]


def ask(log: MemoryLog, action: str, place: str, *, name: str = "r1") -> None:
    asked = Request(name, Action(action), place, "ann@desk", "because", asked_ms=77)
    log.tasks.ask(TASK, name, asked.to_bytes())


def answers(log: MemoryLog) -> list[tuple[str, str]]:
    found = [decode(e) for e in log.between(TASK.stream(Lane.CRITICAL), count_max=999)]
    return [(e.outcome, e.detail) for e in found if isinstance(e, OperatorAnswered)]


@pytest.mark.parametrize("reason", MISDEEDS)
def test_whatever_a_handler_makes_of_an_entry_is_a_dead_letter_in_its_place(reason: str) -> None:
    log, claim = world()
    log.append(claim, [clock(), gap(reason), clock(), gap(reason)])
    run(owned(log))
    assert counts(log) == [1, 2]
    first, second = letters(log, [TASK])
    assert first.failed.error.startswith(MISDEEDS[reason])
    assert len(first.failed.error) <= 500
    assert first.failed.error == second.failed.error
    assert first.failed.traceback == second.failed.traceback
    assert log.tasks.peek(TASK).newest.seq == 4


def test_an_interrupt_that_nobody_pressed_is_a_failure_of_the_handler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, claim = world()
    log.append(claim, [gap("interrupt"), clock()])
    task = owned(log)
    with pytest.raises(KeyboardInterrupt):
        task.step()
    monkeypatch.setattr(outputs.signal, "getsignal", lambda number: lambda *_: number)
    assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    run(owned(log))
    assert counts(log) == [1]
    assert letters(log, [TASK])[0].failed.error == "KeyboardInterrupt"


def test_a_handler_that_gives_nothing_back_is_told_what_to_do() -> None:
    class Forgetful(Counted):
        def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
            return None  # type: ignore[return-value]  # what a user forgets

    log, claim = world()
    log.append(claim, [clock()])
    run(owned(log, Forgetful))
    assert "yield events, or return ()" in letters(log, [TASK])[0].failed.error


def test_an_entry_for_which_memory_is_short_is_tried_alone_before_it_is_given_up() -> None:
    class Hungry(Counted):
        sizes: ClassVar[list[int]] = []
        greedy: ClassVar[int] = 0

        def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
            if isinstance(event, GapHealed):
                self.sizes.append(self.state.get("count", 0))
                if len(self.sizes) <= self.greedy:
                    raise MemoryError
            yield from super().handle(event)

    for greedy, failed in ((1, 0), (2, 1)):
        log, claim = world()
        log.append(claim, [clock(), clock(), gap(""), clock()])
        Hungry.greedy = greedy
        Hungry.sizes.clear()
        run(owned(log, Hungry))
        assert counts(log) == list(range(1, 5 - failed))
        assert len(letters(log, [TASK])) == failed


def test_a_batch_ends_before_a_commit_gets_too_large() -> None:
    class Talkative(Counted):
        def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
            for number in range(OUTPUTS_PER_ENTRY_MAX - 1):
                yield ClockTick(event_time_ms=number)

    log, claim = world()
    log.append(claim, [clock() for _ in range(7)])
    steps = run(owned(log, Talkative))
    assert [step.entries for step in steps] == [2, 2, 2, 1]
    assert max(step.outputs for step in steps) <= COMMIT_OUTPUTS_MAX
    assert len(counts(log)) == 7 * (OUTPUTS_PER_ENTRY_MAX - 1)


@pytest.mark.parametrize(
    "entry",
    [
        NewEntry(Lane.NORMAL, "clock.9", "", b"{}"),
        NewEntry(Lane.NORMAL, "foreign.0", "", b"\x00\xff"),
        NewEntry(Lane.NORMAL, "no type at all", "", b""),
        NewEntry(Lane.NORMAL, "\udc80.1", "", b"{}"),
        NewEntry(Lane.NORMAL, "clock.1", "", b"{" * 9_000),
        NewEntry(Lane.NORMAL, "ticks.1", "X", b"short"),
        NewEntry(Lane.NORMAL, "x" * 5_000, "", b"{}"),
    ],
)
def test_an_entry_that_cannot_be_read_is_a_dead_letter(entry: NewEntry) -> None:
    log, claim = world()
    log.append(claim, [clock(), entry, clock()])
    [step] = run(owned(log))
    assert (step.entries, step.failed) == (3, 1)
    assert counts(log) == [1, 2]
    [letter] = letters(log, [TASK])
    assert len(letter.failed.entry_type) <= 100


def test_an_entry_that_cannot_be_read_halts_where_its_type_may_not_be_skipped() -> None:
    log, claim = world()
    log.append(claim, [clock(), NewEntry(Lane.HIGH, "gap_healed.9", "X", b"{}"), clock()])
    task = owned(log, CountedStrictly)
    halted = run(task)[-1].halted
    [letter] = letters(log, [TASK])
    assert halted_at(halted) == letter.failed.place
    assert notes(log) == [("halted", letter.failed.place)]
    assert counts(log) == [1]
    assert task.step() == Step(halted=halted)


def test_a_mended_handler_can_be_asked_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    log, claim = world()
    log.append(claim, [clock(), gap("raise"), clock()])
    run(owned(log))
    [letter] = letters(log, [TASK])
    ask(log, "retry", letter.failed.place)
    run_once(owned(log))
    assert answers(log) == [("failed", "")]
    assert [(one.failed.place, one.tries) for one in letters(log, [TASK])] == [
        (letter.failed.place, 2)
    ]
    assert log.tasks.requests(TASK) == {}
    monkeypatch.setattr(Counted, "mended", True)
    ask(log, "retry", letter.failed.place, name="r2")
    run_once(owned(log))
    assert counts(log) == [1, 2, 3]
    assert letters(log, [TASK]) == []
    assert answers(log)[1] == ("handled", "")
    assert notes(log) == [("retried", letter.failed.place)] * 2
    ask(log, "retry", letter.failed.place, name="r3")
    run_once(owned(log))
    assert answers(log)[2] == ("refused", "it was handled already")
    assert counts(log) == [1, 2, 3]


def run_once(task: TaskRun) -> Step:
    step = task.step()
    assert step.entries <= 1
    return step


def test_a_dead_letter_can_be_dropped_and_says_by_whom() -> None:
    log, claim = world()
    log.append(claim, [gap("raise")])
    run(owned(log))
    [letter] = letters(log, [TASK])
    ask(log, "drop", letter.failed.place)
    before = log.tasks.peek(TASK).newest
    task = owned(log)
    run_once(task)
    answer = answer_to(log, TASK, "r1", before)
    assert answer is not None
    assert (answer.outcome, answer.by, answer.reason) == ("dropped", "ann@desk", "because")
    assert answer.event_time_ms == 77
    assert letters(log, [TASK]) == []
    assert notes(log) == [("settled", letter.failed.place)]
    assert counts(log) == []


def test_an_entry_of_a_newer_program_is_handled_after_an_upgrade(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, claim = world()
    log.append(claim, [NewEntry(Lane.NORMAL, "clock.9", "", clock().data), clock()])
    run(owned(log))
    [letter] = letters(log, [TASK])
    assert "upgrade it" in letter.failed.error
    monkeypatch.setattr(ClockTick, "VERSION", 9)
    ask(log, "retry", letter.failed.place)
    run_once(owned(log))
    assert answers(log) == [("handled", "")]
    assert letters(log, [TASK]) == []
    assert log.tasks.peek(TASK).newest.seq == 4


def test_a_halted_task_goes_on_when_its_handler_was_mended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, claim = world()
    log.append(claim, [clock(), gap("raise"), clock()])
    task = owned(log, CountedStrictly)
    halted = run(task)[-1].halted
    place = halted_at(halted)
    ask(log, "retry", place)
    task = owned(log, CountedStrictly)
    assert run_once(task).halted == halted
    assert counts(log) == [1]
    monkeypatch.setattr(Counted, "mended", True)
    ask(log, "retry", place, name="r2")
    task = owned(log, CountedStrictly)
    assert run_once(task).halted == ""
    run(task)
    assert counts(log) == [1, 2, 3]
    assert answers(log) == [("failed", ""), ("handled", "")]
    assert letters(log, [TASK]) == []
    assert notes(log) == [("halted", place), ("retried", place), ("resumed", place)]


def test_a_halted_task_goes_on_behind_an_entry_that_is_dropped() -> None:
    log, claim = world()
    log.append(claim, [clock(), gap("raise"), clock()])
    task = owned(log, CountedStrictly)
    place = halted_at(run(task)[-1].halted)
    ask(log, "drop", place)
    task = owned(log, CountedStrictly)
    run_once(task)
    run(task)
    assert counts(log) == [1, 2]
    assert answers(log) == [("skipped", "")]
    assert letters(log, [TASK]) == []
    assert notes(log)[-1] == ("skipped", place)


@pytest.mark.parametrize(
    ("place", "why"),
    [
        (f"{NORMAL}@1000-0", "no dead letter"),
        (f"{NORMAL}@9000-0", "not read yet"),
        ("{other:source:0}:normal@1-0", "no input of counted"),
        ("nonsense", "is no place of an entry"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(place: str, why: str) -> None:
    log, claim = world()
    log.append(claim, [clock()])
    run(owned(log))
    ask(log, "retry", place)
    task = owned(log)
    run_once(task)
    [(outcome, detail)] = answers(log)
    assert outcome == "refused"
    assert why in detail
    assert counts(log) == [1]
    assert log.tasks.requests(TASK) == {}


def test_a_trimmed_entry_can_only_be_dropped() -> None:
    log, claim = world()
    log.append(claim, [gap("raise")])
    run(owned(log))
    [letter] = letters(log, [TASK])
    log.drop(HIGH)
    ask(log, "retry", letter.failed.place)
    run_once(owned(log))
    ask(log, "drop", letter.failed.place, name="r2")
    run_once(owned(log))
    assert [outcome for outcome, _ in answers(log)] == ["refused", "dropped"]
    assert letters(log, [TASK]) == []


def test_a_task_looks_for_requests_now_and_then_though_it_is_halted() -> None:
    now = 0.0
    log, claim = world()
    log.append(claim, [gap("raise"), clock()])
    task = owned(log, CountedStrictly, monotonic=lambda: now)
    place = halted_at(run(task)[-1].halted)
    ask(log, "drop", place)
    assert task.step().halted
    now += 2.0
    assert not task.step().halted
    run(task)
    assert counts(log) == [1]


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b"\xff", b"[" * 8_000, b"x" * 9_000, b'{"action": "dance", "place": ""}'],
)
def test_requests_nobody_understands_are_answered_and_harm_nothing(data: bytes) -> None:
    with pytest.raises(BadRequest):
        Request.from_bytes("r", data)
    log, claim = world()
    log.append(claim, [clock()])
    log.tasks.ask(TASK, "r", data)
    task = owned(log)
    task.step()
    run(task)
    assert [outcome for outcome, _ in answers(log)] == ["refused"]
    assert counts(log) == [1]


# --- entries that kill the process ---------------------------------------------------------------


def deaths_until_done(
    log: MemoryLog, handler: type[Handler], *, deadly: str = "kill", limit: int = 60, **more: Any
) -> int:
    """Take the task over from dead owners until nothing is left to read."""
    for deaths in range(limit):
        task = owned(log, handler, process=f"process {deaths}", **more)
        handle = task._deriving.handle

        def handled(entries: Any, *args: Any, handle: Any = handle, **named: Any) -> Any:
            for entry in entries:  # a death leaves no trace of what came before it in the batch
                event = decode(entry)
                if isinstance(event, GapHealed) and event.reason == deadly:
                    raise Killed
            return handle(entries, *args, **named)

        task._deriving.handle = handled  # type: ignore[method-assign]  # a handler that kills
        try:
            run(task)
        except Killed:
            continue
        return deaths
    raise AssertionError("never done")


@pytest.mark.parametrize("handler", [Counted, CountedByPriority])
def test_an_entry_that_kills_the_process_is_passed_over_after_five_deaths(
    handler: type[Handler],
) -> None:
    log, claim = world()
    log.append(claim, [*(clock() for _ in range(9)), gap("kill"), *(clock() for _ in range(9))])
    assert deaths_until_done(log, handler) == 5
    assert counts(log) == list(range(1, 19))
    [letter] = letters(log, [TASK])
    assert "its process ended each of 2 times" in letter.failed.error
    assert notes(log) == [("quarantined", letter.failed.place)]


def test_two_entries_that_kill_are_both_found() -> None:
    log, claim = world()
    log.append(claim, [clock(), gap("kill"), clock(), gap("kill"), clock()])
    assert deaths_until_done(log, Counted) == 7
    assert counts(log) == [1, 2, 3]
    assert len(letters(log, [TASK])) == 2


def test_one_that_kills_and_may_not_be_skipped_halts_and_can_be_dropped() -> None:
    log, claim = world()
    log.append(claim, [clock(), gap("kill"), clock()])
    assert deaths_until_done(log, CountedStrictly) == 5
    place = halted_at(log.tasks.peek(TASK).halted)
    assert notes(log) == [("quarantined", place), ("halted", place)]
    ask(log, "retry", place)
    assert deaths_until_done(log, CountedStrictly) == 2
    assert answers(log) == [("failed", "")]
    assert log.tasks.peek(TASK).halted
    ask(log, "drop", place, name="r2")
    assert deaths_until_done(log, CountedStrictly) == 0
    assert counts(log) == [1, 2]


def test_a_retried_letter_that_kills_is_answered_after_two_deaths() -> None:
    log, claim = world()
    log.append(claim, [clock(), gap("kill"), clock()])
    deaths_until_done(log, Counted)
    [letter] = letters(log, [TASK])
    ask(log, "retry", letter.failed.place)
    assert deaths_until_done(log, Counted) == 2
    assert answers(log) == [("failed", "")]
    assert [one.tries for one in letters(log, [TASK])] == [2]
    assert counts(log) == [1, 2]


@pytest.mark.parametrize("seed", range(20))
def test_kills_from_outside_put_no_entry_into_quarantine(seed: int) -> None:
    """Owners die at random moments: idle, while handling, before and after the commit."""
    chance = random.Random(seed)
    log, claim = world()
    for death in range(60):
        log.append(claim, [clock() for _ in range(chance.randrange(4))])
        task = owned(log, process=f"process {death}", entries_max=chance.choice([1, 3, 50]))
        moment = chance.randrange(6)
        try:
            for step in range(chance.randrange(1, 4)):
                if step == moment:
                    kill_in_the_middle(task, chance)
                task.step()
        except Killed:
            pass
    run(owned(log, process="last"))
    assert letters(log, [TASK]) == [], f"seed {seed}"
    appended = log.info(NORMAL).entries_added
    assert counts(log) == list(range(1, appended + 1))


def kill_in_the_middle(task: TaskRun, chance: random.Random) -> None:
    def killed(*_: Any, **__: Any) -> Any:
        raise Killed

    target = chance.choice([task._deriving, task._log.tasks, task._reading])
    name = {task._deriving: "handle", task._reading: "batch"}.get(target, "commit")  # type: ignore[call-overload]  # by identity
    if name == "commit":
        task._commit = killed  # type: ignore[method-assign]  # dies before it commits
    else:
        setattr(target, name, killed)


def test_a_process_that_lived_on_did_not_die_of_the_entry() -> None:
    """The log goes away between trial and commit, again and again, in one living process."""
    log, claim = world()
    log.append(claim, [clock(), clock()])
    for _ in range(3):
        owned(log, process="dead")
    for _ in range(9):
        task = owned(log, process="alive")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(log.tasks, "commit", unavailable)
            with pytest.raises(LogUnavailable):
                task.step()
    assert Trial.parse(log.tasks.peek(TASK).trying).times == 1
    run(owned(log, process="alive"))
    assert letters(log, [TASK]) == []
    assert counts(log) == [1, 2]


def unavailable(*_: Any) -> None:
    raise LogUnavailable("no answer")


def test_batches_are_full_again_after_a_while() -> None:
    log, claim = world()
    for _ in range(3):
        owned(log, process="dead")
    log.append(claim, [clock() for _ in range(ALONE_MAX + 100)])
    steps = run(owned(log))
    assert [step.entries for step in steps] == [1] * ALONE_MAX + [100]


@pytest.mark.parametrize("text", ["", "x", "x|", "x|y|z", "|3|p", "a|b", "x|\u0665|p"])
def test_a_trial_that_cannot_be_read_accuses_nobody(text: str) -> None:
    record = TaskRecord(TASK, {}, {}, BEGIN, 0, "", trying=text)
    if Trial.parse(text) == Trial():
        assert not Suspicion(record)
    place = f"{NORMAL}@1-0"
    assert Trial.parse(str(Trial(place, 2, "p"))) == Trial(place, 2, "p")


# --- what is told --------------------------------------------------------------------------------


def test_places_are_read_back_and_nonsense_is_named() -> None:
    assert parse_place(f"{HIGH}@5-6") == (HIGH, EntryId(5, 6))
    for text in ("", "@", "x@1-2", f"{HIGH}@", f"{HIGH}@x", "{a:b}:high@1-1", "{a:b:1}:odd@1-1"):
        with pytest.raises(ValueError, match="is no place of an entry"):
            parse_place(text)


def test_a_failure_tells_the_same_wherever_it_happens() -> None:
    def fail() -> None:
        raise ValueError(f"{object()!r}: {'x' * 2_000}")

    def failed() -> HandlerFailed:
        try:
            fail()
        except ValueError as error:
            entry = Entry(NORMAL, EntryId(1, 1), "clock.1", "", b"")
            return failure(entry, error, group="g", version="1", halts=False)
        raise AssertionError

    one, other = failed(), failed()
    assert one == other
    assert "<object object at 0x->" in one.error
    assert one.traceback.splitlines()[-1].endswith("in fail")
    assert "/" not in one.traceback
    assert told(KeyError()) == "KeyError"
    assert len(tidy("\udc80" * 9_999)) == 500


def test_only_tasks_of_groups_have_letters() -> None:
    log, _ = world()
    log.open_namespace("other", 2)
    log.tasks.open_group("other", "risk", 2)
    assert task_slots(log) == [TASK, Slot("other", "risk", 0), Slot("other", "risk", 1)]
    assert task_slots(log, group="risk", namespaces=("demo",)) == []


def test_letters_have_short_names_that_stay() -> None:
    failed = HandlerFailed(event_time_ms=1, group="g", place="p", entry_type="t", error="e")
    one = Letter(TASK, EntryId(1, 1), failed)
    assert one.name == Letter(TASK, EntryId(9, 9), failed, 3).name
    assert len(one.name) == 8


def test_notes_of_requests_tell_the_answer() -> None:
    log, claim = world()
    log.append(claim, [gap("raise")])
    run(owned(log))
    ask(log, "drop", letters(log, [TASK])[0].failed.place)
    run_once(owned(log))
    [row] = [r for r in log.tasks.journal(TASK, count_max=9) if b"settled" in r.data]
    [note] = JournalStep.from_bytes(row.data).notes
    newest = log.newest(TASK.stream(Lane.CRITICAL))[0]
    assert note == Note(Deed.SETTLED, note.place, newest.data.decode())
    assert json.loads(note.told)["outcome"] == "dropped"


@pytest.mark.parametrize("handler", [Counted, CountedStrictly, CountedByPriority])
def test_a_replay_derives_the_same_after_deaths_and_decisions(handler: type[Handler]) -> None:
    log, claim = world()
    reasons = ["", "raise", "", "kill", "endless", "", "raise", "kill", ""]
    log.append(claim, [gap(reason) if reason else clock() for reason in reasons])
    chance = random.Random(5)
    for number in range(30):
        deaths_until_done(log, handler)
        waiting = letters(log, [TASK])
        if not waiting:
            break
        place = halted_at(log.tasks.peek(TASK).halted) or chance.choice(waiting).failed.place
        ask(log, chance.choice(["retry", "drop", "drop"]), place, name=f"r{number}")
    assert letters(log, [TASK]) == []
    assert counts(log) == [1, 2, 3, 4]
    group = Group("counted", handler)
    found = verify_task(log, group, group.specs(log)[0])
    assert found.same, found
    assert found.equal >= 4


# --- sinks ---------------------------------------------------------------------------------------


class Picky(Sink):
    """Refuses gaps while `refuses`; is down while `down`. Keeps what it wrote, and its offset."""

    refuses: ClassVar[bool] = True
    down: ClassVar[bool] = False
    written: ClassVar[list[str]] = []
    kept: ClassVar[str] = ""

    def offset_of(self, task: Slot) -> str:
        return self.kept

    def write(self, batch: SinkBatch) -> None:
        if self.down:
            raise ConnectionError("down")
        if self.refuses:
            for entry in batch.entries:
                if entry.type.startswith(GapHealed.TYPE):
                    raise Refused(entry, "no gaps here")
        assert batch.before == self.kept
        type(self).kept = batch.after
        self.written.extend(entry.place for entry in batch.entries)


def sink_run(log: MemoryLog, **more: Any) -> SinkRun:
    group = SinkGroup("counted", Picky)
    [spec] = group.specs(log)
    taken = log.tasks.acquire(spec.slot, "me", seen=log.tasks.look([spec.slot])[0].token)
    assert taken is not None
    return SinkRun(log, Picky(), spec, *taken, **more)


@pytest.fixture
def picky(monkeypatch: pytest.MonkeyPatch) -> type[Picky]:
    for name, value in (("refuses", True), ("down", False), ("written", []), ("kept", "")):
        monkeypatch.setattr(Picky, name, value)
    return Picky


def test_what_a_sink_refused_can_be_written_later_or_dropped(picky: type[Picky]) -> None:
    log, claim = world()
    log.append(claim, [clock(), gap("x"), clock(), gap("y")])
    task = sink_run(log)
    while task.step().entries:
        pass
    first, second = letters(log, [TASK])
    assert first.failed.error == "no gaps here"
    ask(log, "retry", first.failed.place)
    assert sink_run(log).step().failed == 1
    picky.refuses = False
    ask(log, "retry", first.failed.place, name="r2")
    ask(log, "drop", second.failed.place, name="r3")
    ask(log, "retry", f"{NORMAL}@1000-0", name="r4")
    task = sink_run(log)
    for _ in range(3):
        task.step()
    assert [outcome for outcome, _ in answers(log)] == ["failed", "handled", "dropped", "refused"]
    assert picky.written.count(first.failed.place) == 1
    assert len(picky.written) == 3
    assert letters(log, [TASK]) == []
    assert log.tasks.requests(TASK) == {}
    assert sink_run(log).step() == Step()


def test_a_sink_that_is_down_answers_when_it_is_up(picky: type[Picky]) -> None:
    now = 0.0
    log, claim = world()
    log.append(claim, [gap("x")])
    sink_run(log).step()
    [letter] = letters(log, [TASK])
    picky.down, picky.refuses = True, False
    ask(log, "retry", letter.failed.place)
    task = sink_run(log, monotonic=lambda: now)
    assert task.step() == Step()
    assert "down" in task.waiting
    picky.down = False
    now += 60.0
    task.step()
    assert answers(log) == [("handled", "")]
    assert picky.written == [letter.failed.place]


def test_a_halted_sink_refuses_requests(picky: type[Picky]) -> None:
    log, claim = world()
    log.append(claim, [gap("x")])
    task = sink_run(log)
    task.step()
    task.halt("the log is another one")
    ask(log, "drop", letters(log, [TASK])[0].failed.place)
    sink_run(log).step()
    [(outcome, detail)] = answers(log)
    assert outcome == "refused"
    assert "the log is another one" in detail


# --- the desk ------------------------------------------------------------------------------------


def desk(log: MemoryLog, **more: Any) -> Desk:
    return Desk(log, None, warn=lambda text: pytest.fail(text), now_ms=lambda: 5, **more)


def test_the_desk_finds_letters_by_name_and_place_and_says_what_is_ambiguous() -> None:
    log, claim = world()
    log.append(claim, [gap("raise"), gap("raise")])
    run(owned(log))
    at = desk(log)
    first, second = at.letters()
    assert at.found([first.name[:4], second.place]) == [first, second]
    assert first.as_json()["error"] == "ZeroDivisionError: cannot bear it"
    for text in ("", first.name[:3], "0000", "{demo:source:0}:high@1-1"):
        with pytest.raises(NoSuchLetter, match="dlq list"):
            at.found([text])
    assert desk(log, group="persist").letters() == []
    with pytest.raises(LogError, match="no group is called 'other': there is counted, persist"):
        desk(log, group="other").letters()
    with pytest.raises(LogError, match="no terminal is called 'x': there is demo"):
        desk(log, namespaces=("x",)).letters()
    assert desk(log, namespaces=("demo",), group="counted").letters() == [first, second]


def test_a_decision_waits_for_the_task_and_tells_what_came_of_it() -> None:
    log, claim = world()
    log.append(claim, [gap("raise"), gap("raise")])
    run(owned(log))
    clock_s = itertools.count()

    def worker(_: float) -> None:
        owned(log).step()

    at = desk(log, monotonic=lambda: float(next(clock_s)), sleep=worker)
    first, second = at.letters()
    [failed] = at.decide(Action.RETRY, [first], by="ann", reason="", wait_s=10)
    assert (failed.outcome, failed.settled) == ("failed", False)
    [dropped] = at.decide(Action.DROP, [second], by="ann", reason="old", wait_s=10)
    assert dropped.settled
    assert "dropped" in dropped.told()
    [first] = at.letters()
    assert first.tries == 2
    asleep = desk(log, monotonic=lambda: float(next(clock_s)), sleep=lambda _: None)
    task = owned(log)
    [silent] = asleep.decide(Action.RETRY, [first], by="ann", reason="", wait_s=3)
    assert "no answer yet from me" in silent.detail
    log.release(task.claim)
    [nobody] = asleep.decide(Action.RETRY, [first], by="ann", reason="", wait_s=3)
    assert "nobody runs group counted now" in nobody.detail
    assert nobody.as_json()["outcome"] is None


def test_letters_of_a_group_without_order_can_be_dropped_only() -> None:
    log, claim = world()
    log.append(claim, [gap("raise"), clock(), gap("raise")])

    class Stateless(Handler):
        def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
            raise ZeroDivisionError
            yield event

    consumer = Consumer(log, Group("counted", Stateless), WorkerOptions(holder="me"))
    consumer.turn()
    at = desk(log)
    assert len(at.letters()) == 3
    first = at.letters()[0]
    [refused] = at.decide(Action.RETRY, [first], by="ann", reason="", wait_s=1)
    assert "--unordered" in refused.detail
    done = list(at.decide(Action.DROP, at.letters(), by="ann", reason="odd", wait_s=1))
    assert [answer.outcome for answer in done] == ["dropped"] * 3
    assert at.letters() == []
    assert [answer for answer, _ in answers(log)] == ["dropped"] * 3
