"""One owned task of a sink: read a batch, write it, then commit the offset.

Where the sink keeps the offset with its effect, that one decides what is written; the offset in
the log follows it, for operators and for trimming.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from consumers.failures.inbox import Inbox
from consumers.runtime.group import TaskSpec
from consumers.runtime.reading import BATCH_ENTRIES_MAX, Reading
from consumers.runtime.task import MIRROR_ALL_EVERY, Step
from consumers.sinks.letter import ERROR_CHARS_MAX, dead_letter
from consumers.sinks.requests import carried_out
from consumers.sinks.sink import Batch, Refused, Sink, offsets_text, parsed_offsets
from events import continuity
from events.codec import AnyEvent, BadEvent, UnknownEvent, decode
from events.log import Claim, Entry, EntryId, Log, LogError, Stream
from events.offset import Offset
from events.tasks import Commit, OffsetChange, Output, TaskRecord

logger = logging.getLogger(__name__)

RETRY_FIRST_S = 0.25
RETRY_MAX_S = 15.0
KNOWN = "written"
"""State key: the text that the sink kept with its newest effect, as far as the log knows."""


@dataclass(slots=True)
class _Readable:
    """What of some entries goes to the sink, and which of them nobody can read."""

    entries: list[Entry] = field(default_factory=list)
    events: list[AnyEvent] = field(default_factory=list)
    dead: list[tuple[Entry, str]] = field(default_factory=list)


class SinkRun:
    """A sink's task while this worker owns it; used as `consumers.runtime.task.TaskRun`.

    `step` may raise Fenced, StaleOffset, StaleOutput or LogUnavailable: close this object,
    acquire the task again and reload. Errors of the sink itself are waited out in here; `waiting`
    tells of them.
    """

    def __init__(
        self,
        log: Log,
        sink: Sink,
        spec: TaskSpec,
        claim: Claim,
        record: TaskRecord,
        *,
        entries_max: int = BATCH_ENTRIES_MAX,
        monotonic: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
    ) -> None:
        self.spec, self.claim, self.halted = spec, claim, record.halted
        self.waiting = ""
        self._log, self._sink, self._monotonic = log, sink, monotonic
        self._chance = chance or random.Random()  # noqa: S311 - spreads retries, no secret
        self._reading = Reading(log, spec.inputs, sink.order, entries_max=entries_max)
        self._durable = dict(record.offsets)
        self._offsets = {s: self._begun(s, record.offsets.get(s, Offset())) for s in spec.inputs}
        self._newest = record.newest
        self._known = record.state.get(KNOWN, b"").decode()
        self._own: dict[Stream, Offset] | None = None
        """What the sink itself keeps; None when it keeps nothing."""
        self._own_text = ""
        self._mirrored: dict[Stream, Offset] = {}
        self._mirrors = 0
        self._opened = False
        self._inbox = Inbox(log, record, monotonic=monotonic)
        self._waits = self._fresh_waits()
        self._again_at = monotonic()

    @property
    def offsets(self) -> Mapping[Stream, Offset]:
        """How far the log knows the task to be, for every input."""
        return self._offsets

    @property
    def ends(self) -> dict[Stream, EntryId]:
        """Where to read on; nothing while the sink is to be left alone."""
        return {} if self._monotonic() < self._again_at else self._ends

    @property
    def _ends(self) -> dict[Stream, EntryId]:
        return {stream: offset.last for stream, offset in self._offsets.items()}

    def step(self, *, urgent: Callable[[], bool] = lambda: False) -> Step:
        """Read, write and commit one batch; nothing happens while the sink is down."""
        if self._monotonic() < self._again_at:
            return Step(halted=self.halted)
        if self.halted:
            refused = self._inbox.next()
            return Step(halted=self.halted) if refused is None else self._carry_out(refused)
        try:
            if not self._opened:
                self._open()
            if self.halted:
                return Step(halted=self.halted)
            if (asked := self._inbox.next()) is not None:
                return self._carry_out(asked)
            entries = self._reading.batch(self._ends)
            step = self._write(entries) if entries else Step()
        except LogError:
            raise
        except Exception as error:
            self._wait_for_sink(error)
            return Step()
        if self.waiting and step.entries:
            logger.info("%s: the sink takes entries again", self.spec.slot)
            self.waiting, self._waits = "", self._fresh_waits()
        return step

    def halt(self, reason: str) -> None:
        """Stand still, durably, until an operator says how to go on."""
        self.halted = reason
        self._commit({}, [])

    def mirror(self) -> None:
        """Show the durable offsets to operators, outside of any commit (about once a second).

        Now and then all of them: a former owner that woke up late may have shown older ones.
        """
        self._mirrors += 1
        if self._mirrors % MIRROR_ALL_EVERY == 0:
            self._mirrored.clear()
        for stream, offset in self._offsets.items():
            if self._mirrored.get(stream) != offset:
                self._log.mirror(self.spec.reader, stream, offset.last, offset.entries)
                self._mirrored[stream] = offset

    def release(self) -> None:
        """Hand the task over: whoever looks next may take it at once."""
        self.close()
        self._log.release(self.claim)

    def close(self) -> None:
        """Let go of the sink, whatever state it is in."""
        self._opened = False
        try:
            self._sink.close()
        except Exception:
            logger.exception("%s: the sink did not close", self.spec.slot)

    def _begun(self, stream: Stream, offset: Offset) -> Offset:
        return continuity.counted_from_here(self._log, stream, offset)

    def _open(self) -> None:
        self._sink.open(self.spec.slot)
        self._opened = True
        text = self._sink.offset_of(self.spec.slot)
        if text is None:
            return
        self._own_text, kept = text, parsed_offsets(text)
        self._own = {s: self._begun(s, kept.get(s, Offset())) for s in self.spec.inputs}
        if text == self._known:  # what the log counts beyond it was nothing that it wanted
            self._own = {s: max(own, self._offsets[s]) for s, own in self._own.items()}
        for stream, own in self._own.items():
            if own.last < self._offsets[stream].last:
                logger.warning(
                    "%s: the sink is at %s of %s, before %s: it is written again from there",
                    self.spec.slot, own.last, stream, self._offsets[stream].last,
                )  # fmt: skip
                self._offsets[stream] = own
        self._check(self._own)

    def _check(self, own: Mapping[Stream, Offset]) -> None:
        """Whether the sink was written from this log. What it is ahead of nobody else knows."""
        wrong = continuity.findings(self._log, own)
        if wrong:
            causes = "; ".join(f"{one.stream}: {one.cause}" for one in wrong)
            logger.error("%s is halted: the sink does not fit the log: %s", self.spec.slot, causes)
            self.halt(
                f"the sink does not fit the log ({causes}): take away what the log has lost and "
                "set the offset that the sink keeps back, then run `bridgectl repair`"
            )

    def _write(self, entries: Sequence[Entry]) -> Step:
        """Effects of these entries, then the offset. What the sink refuses ends the batch."""
        readable = self._readable(entries)
        try:
            self._give(entries, readable)
        except Refused as refused:
            ends = [entry.place for entry in entries].index(refused.entry.place)
            if ends:
                return self._write(entries[:ends])  # it comes first next time
            entries, readable = entries[:1], _Readable(dead=[(refused.entry, refused.reason)])
            self._give(entries, readable)
        moves = self._moves(self._offsets, entries)
        outputs = self._dead_letters(readable.dead)
        self._commit(moves, outputs)
        return Step(len(entries), len(outputs), len(readable.dead), self.halted)

    def _carry_out(self, asked: tuple[str, bytes]) -> Step:
        """What an operator asked about an entry that was passed over."""
        done = carried_out(
            self._log, self.spec.slot, asked,
            newest=self._newest, ends=self._ends, version=self._sink.version,
            write=self._write_again, halted=self.halted,
        )  # fmt: skip
        self._commit({}, done.outputs, answered=(done.request,))
        self._inbox.done(done.request)
        return Step(0, len(done.outputs), done.failed, self.halted)

    def _write_again(self, entry: Entry) -> str:
        """One entry, long passed over; the offset stays. Why the sink refuses it, or ""."""
        readable = self._readable([entry])
        if readable.dead:
            return readable.dead[0][1]
        if readable.entries:
            text = offsets_text(self._offsets) if self._own is None else self._own_text
            try:
                self._sink.write(self._batch(readable.entries, readable.events, text, text))
            except Refused as refused:
                return refused.reason
        return ""

    def _readable(self, entries: Sequence[Entry]) -> _Readable:
        found = _Readable()
        for entry in entries:
            if self._sink.types and entry.type.rpartition(".")[0] not in self._sink.types:
                continue
            if not self._sink.raw:
                try:
                    found.events.append(decode(entry))
                except (UnknownEvent, BadEvent) as error:
                    found.dead.append((entry, f"{type(error).__name__}: {error}"))
                    continue
            found.entries.append(entry)
        return found

    def _give(self, entries: Sequence[Entry], readable: _Readable) -> None:
        """To the sink what it has not written yet."""
        if self._own is None:
            if readable.entries:
                after = self._offsets | self._moves(self._offsets, entries)
                texts = offsets_text(self._offsets), offsets_text(after)
                self._sink.write(self._batch(readable.entries, readable.events, *texts))
            return
        own = self._own
        fresh = [entry for entry in entries if entry.id > own[entry.stream].last]
        places = [i for i, e in enumerate(readable.entries) if e.id > own[e.stream].last]
        if not fresh:
            return
        after = own | self._moves(own, fresh)
        text = offsets_text(after)
        if places:
            kept = [readable.entries[place] for place in places]
            events = [readable.events[place] for place in places if readable.events]
            self._sink.write(self._batch(kept, events, self._own_text, text))
            self._own_text = text
        self._own = after

    def _batch(
        self, entries: Sequence[Entry], events: Sequence[AnyEvent], before: str, after: str
    ) -> Batch:
        return Batch(self.spec.slot, entries, events, before, after)

    def _commit(
        self,
        moves: Mapping[Stream, Offset],
        outputs: Sequence[Output],
        *,
        answered: Sequence[str] = (),
    ) -> None:
        changes = {
            stream: OffsetChange(self._durable.get(stream, Offset()), offset)
            for stream, offset in moves.items()
        }
        known = {KNOWN: self._own_text.encode()} if self._own_text != self._known else {}
        self._log.tasks.commit(
            Commit(
                self.claim, self._newest, changes, known, outputs=outputs,
                version=self._sink.version, halted=self.halted, answered=answered,
            )
        )  # fmt: skip
        self._known = self._own_text
        self._durable |= moves
        self._offsets |= moves
        if outputs:
            self._newest = outputs[-1].id

    def _moves(
        self, offsets: Mapping[Stream, Offset], entries: Sequence[Entry]
    ) -> dict[Stream, Offset]:
        counts: dict[Stream, int] = {}
        newest: dict[Stream, Entry] = {}
        for entry in entries:
            counts[entry.stream] = counts.get(entry.stream, 0) + 1
            newest[entry.stream] = entry
        return {s: offsets[s].after(entry, counts[s]) for s, entry in newest.items()}

    def _dead_letters(self, dead: Sequence[tuple[Entry, str]]) -> list[Output]:
        outputs: list[Output] = []
        newest = self._newest
        for entry, reason in dead:
            logger.error("%s is passed over: %s", entry.place, reason)
            newest = EntryId(max(newest.ms, entry.id.ms), newest.seq + 1)
            letter = dead_letter(self.spec.slot.writer, self._sink.version, entry, reason)
            outputs.append(Output(newest, letter))
        return outputs

    def _wait_for_sink(self, error: Exception) -> None:
        """Once per trouble, not once per try."""
        text = f"{type(error).__name__}: {error}"[:ERROR_CHARS_MAX]
        wait_s = next(self._waits)
        self._again_at = self._monotonic() + wait_s
        if self.waiting != text:
            logger.warning(
                "%s: the sink does not take entries (%s): they wait in the log, nothing is lost",
                self.spec.slot, text, exc_info=error,
            )  # fmt: skip
        self.waiting = text
        self.close()

    def _fresh_waits(self) -> Iterator[float]:
        """Waits that double up to RETRY_MAX_S, each shortened by up to a quarter."""
        wait_s = RETRY_FIRST_S
        while True:
            yield wait_s * (1 - self._chance.random() / 4)
            wait_s = min(wait_s * 2, RETRY_MAX_S)
