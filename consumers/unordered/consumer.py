"""One of any number of consumers of an unordered group.

An entry is given to one consumer. Its outputs are appended, once per entry, and then it is
acknowledged; whoever dies in between leaves it on its list, and after a while another consumer
takes it over. So everything is handled at least once, and outputs are there exactly once.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from consumers.runtime.group import TaskSpec
from consumers.runtime.sharing import Members, worker_name
from consumers.sinks import SinkGroup
from consumers.sinks.letter import dead_letter
from consumers.sinks.sink import GIVEN_MAX
from consumers.unordered.effect import Done, effect_of
from consumers.workers.beginning import Begin
from consumers.workers.progress import Count, Progress
from consumers.workers.taking import AnyGroup, GroupRefused, WorkerOptions
from consumers.workers.worker import registered, waits
from events.log import (
    APPEND_ENTRIES_MAX,
    BEGIN,
    ENTRY_BYTES_MAX,
    Entry,
    EntryId,
    Log,
    LogError,
    LogUnavailable,
    Slot,
    Stream,
)
from events.unordered import Derived, Reclaimed

logger = logging.getLogger(__name__)

SILENT_S = 15.0
"""Entries that a consumer did not acknowledge for this long are given to another one."""
ENTRIES_MAX = 200
"""Most entries taken of each stream at once: what a consumer that dies leaves to others."""
SPECS_S = 2.0
WAIT_S = 0.05


@dataclass(slots=True)
class _Hand:
    """What a consumer knows of one task."""

    spec: TaskSpec
    begin: dict[Stream, EntryId]
    """Up to where everything is done: a list that somebody removed begins there."""
    unsure: bool = True
    """Something may be on our list that we do not know of."""
    kept: list[Entry] = field(default_factory=list)
    """Given to us, and not done yet since the sink is down."""
    alone: list[Entry] = field(default_factory=list)
    """Taken over from consumers that died, perhaps of one of them: handled one by one."""
    told_lost: dict[Stream, int] = field(default_factory=dict)


class Consumer:
    """`run` until `stopping` is set; used as `consumers.workers.worker.Worker`."""

    def __init__(
        self,
        log: Log,
        group: AnyGroup,
        options: WorkerOptions,
        *,
        silent_s: float = SILENT_S,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        chance: random.Random | None = None,
    ) -> None:
        self._log, self._group, self._options = log, group, options
        self._silent_ms = int(silent_s * 1000)
        self._janitor_s = max(0.1, silent_s / 4)
        self._monotonic, self._sleep = monotonic, sleep
        self._chance = chance or random.Random()  # noqa: S311 - spreads retries, no secret
        self._code = group.sink if isinstance(group, SinkGroup) else group.handler
        self._what = "sink" if isinstance(group, SinkGroup) else "handler"
        self._given_max = group.sink.given_max if isinstance(group, SinkGroup) else GIVEN_MAX
        self._entries_max = min(options.entries_max, ENTRIES_MAX)
        self.name = worker_name(options.holder, group.namespaces)
        self.stopping = False
        self.progress = Progress()
        self._effect = effect_of(group)
        self._members = Members(log.tasks, group.name, self.name, monotonic=monotonic)
        self._hands: dict[Slot, _Hand] = {}
        self._seen: dict[Stream, EntryId] = {}
        self._waits = waits(self._chance)
        self._not_before = self._next_specs = self._next_janitor = monotonic()

    @property
    def owned(self) -> Mapping[Slot, TaskSpec]:
        """Slots to trim: one consumer does it for all."""
        if self.name != min(self._members.living):
            return {}
        return {slot: hand.spec for slot, hand in list(self._hands.items())}

    def run(self) -> None:
        """Work until told to stop. Raises GroupRefused."""
        try:
            while not self.stopping:
                if not self.turn():
                    self.wait()
        finally:
            self.leave()

    def turn(self) -> bool:
        """Take, handle and acknowledge once for every task; False when nothing was there."""
        if self._monotonic() < self._not_before:
            return False
        try:
            self._tend()
            worked = any([self._work(hand) for hand in self._hands.values()])
        except GroupRefused:
            raise
        except LogError as error:
            self._lose(error)
            return False
        except Exception as error:
            self._wait_for_sink(error)
            return False
        if self.progress.waiting:
            logger.info("%s goes on", self._group.name)
            self.progress.waiting, self._waits = "", waits(self._chance)
        return worked

    def wait(self) -> None:
        """Sleep until something may be there."""
        left_s = self._not_before - self._monotonic()
        if left_s > 0 or not self._seen:
            self._sleep(min(WAIT_S, max(left_s, 0.001)) if left_s > 0 else WAIT_S)
            return
        try:
            for stream in self._log.read(self._seen, count_max=1, block_ms=int(WAIT_S * 1000)):
                self._seen[stream] = self._log.info(stream).last_id
        except LogUnavailable as error:
            self._lose(error)

    def leave(self) -> None:
        """End; what is still on our list goes to others after a while."""
        self._effect.close()
        with suppress(LogError):
            self._members.leave()
            for hand in self._hands.values():
                for stream in hand.spec.inputs:
                    self._log.unordered.tidy(
                        hand.spec.reader, stream, self.name, silent_ms=self._forget_ms
                    )

    @property
    def _forget_ms(self) -> int:
        """Consumers that were silent for this long, and have nothing to do, are forgotten."""
        return 100 * self._silent_ms

    def _tend(self) -> None:
        self._members.tend()
        now = self._monotonic()
        if now >= self._next_specs:
            self._next_specs = now + SPECS_S
            self._find_specs()
        if now >= self._next_janitor:
            self._next_janitor = now + self._janitor_s
            for hand in self._hands.values():
                self._look_after(hand)

    def _find_specs(self) -> None:
        found = registered(self._log, self._group)
        for slot, spec in found.items():
            if slot not in self._hands or self._hands[slot].spec != spec:
                self._hands[slot] = self._opened(spec)

    def _opened(self, spec: TaskSpec) -> _Hand:
        if self._log.tasks.peek(spec.slot).offsets:
            raise GroupRefused(
                f"group {self._group.name!r} was run in order before: its offsets would be lost; "
                "give this one another name with --group"
            )
        done_to = self._log.unordered.done_to(spec.slot)
        newest = self._options.begin is Begin.NEWEST
        begin = {}
        for stream in spec.inputs:
            last = self._log.info(stream).last_id
            self._seen.setdefault(stream, last)
            begin[stream] = done_to.get(stream, last if newest else BEGIN)
        for stream, first in begin.items():  # this also tells that the group has no order
            self._log.unordered.settle(spec.slot, stream, first)
        self._log.unordered.open(spec.reader, begin)
        self._log.tasks.join(spec.reader, spec.inputs)
        return _Hand(spec, begin)

    def _work(self, hand: _Hand) -> bool:
        """What is on our list first, then what nobody has."""
        if hand.kept:
            return self._handle(hand, hand.kept)
        if hand.alone:
            return self._handle(hand, [hand.alone.pop(0)])
        give = self._log.unordered.again if hand.unsure else self._log.unordered.take
        taken = give(hand.spec.reader, self.name, hand.begin, count_max=self._entries_max)
        self._tell_lost(taken.lost)
        if hand.unsure and not taken.entries:
            hand.unsure = False
            return self._work(hand)
        return self._handle(hand, taken.entries)

    def _handle(self, hand: _Hand, entries: Sequence[Entry]) -> bool:
        """Effect, outputs, acknowledgement: in this order."""
        if not entries:
            return False
        hand.kept = list(entries)
        slot = hand.spec.slot
        self._finish(hand, entries, self._effect.of(slot, entries))
        hand.kept = []
        return True

    def _finish(self, hand: _Hand, entries: Sequence[Entry], done: Done) -> None:
        slot = hand.spec.slot
        for part in _parts(done.derived):
            self._log.unordered.derive(slot, part)
        self._log.unordered.acknowledge(hand.spec.reader, entries)
        count = self.progress.tasks.setdefault(slot, Count())
        count.entries += len(entries)
        count.outputs += done.outputs
        count.failed += done.failed
        count.commits += 1

    def _look_after(self, hand: _Hand) -> None:
        """Take over what others left lying; note how far everything is done."""
        if hand.kept or hand.alone:
            self._log.unordered.hold(hand.spec.reader, self.name, [*hand.kept, *hand.alone])
        for stream in hand.spec.inputs:
            found = self._log.unordered.reclaim(
                hand.spec.reader, self.name, stream,
                silent_ms=self._silent_ms, count_max=self._entries_max,
            )  # fmt: skip
            self._tell_lost(found.lost)
            if found.entries:
                self._take_over(hand, found)
            if found.done_to > hand.begin[stream]:
                self._log.unordered.settle(hand.spec.slot, stream, found.done_to)
                hand.begin[stream] = found.done_to
            self._tell_removed(hand, stream)
            self._log.unordered.tidy(hand.spec.reader, stream, "", silent_ms=self._forget_ms)

    def _take_over(self, hand: _Hand, found: Reclaimed) -> None:
        logger.warning(
            "%s: %d entries taken over from consumers that were silent",
            self._group.name, len(found.entries),
        )  # fmt: skip
        known = {entry.place for entry in (*hand.kept, *hand.alone)}
        doomed = []
        for entry, times in zip(found.entries, found.times, strict=True):
            if times > self._given_max:
                doomed.append(entry)
            elif entry.place not in known:
                hand.alone.append(entry)
        if doomed:
            self._give_up(hand, doomed)
        self._next_janitor = self._monotonic()  # there may be more

    def _give_up(self, hand: _Hand, entries: Sequence[Entry]) -> None:
        """Entries that nobody survived, or that never end."""
        reason = f"given out {self._given_max} times, and every consumer died or hung over it"
        done = Done(failed=len(entries))
        for entry in entries:
            logger.error("%s is passed over: %s", entry.place, reason)
            letter = dead_letter(self._group.name, self._code.version, entry, reason)
            done.add(Derived(entry, [letter]))
        self._finish(hand, entries, done)

    def _tell_lost(self, places: Collection[str]) -> None:
        for place in places:
            logger.error(
                "%s: LOST: %s was removed from the log before it was done. Somebody trims by "
                "hand or with MAXLEN: stop that",
                self._group.name, place,
            )  # fmt: skip

    def _tell_removed(self, hand: _Hand, stream: Stream) -> None:
        """Whether entries were removed before anybody was given them."""
        seen = self._log.groups(stream).get(hand.spec.reader)
        if seen is None or not seen.entries_read:
            return
        info = self._log.info(stream)
        removed = info.entries_added - info.length - seen.entries_read
        if removed > hand.told_lost.get(stream, 0):
            hand.told_lost[stream] = removed
            logger.error(
                "%s: LOST: %d entries of %s were removed from the log before they were given out",
                self._group.name, removed, stream,
            )  # fmt: skip

    def _wait_for_sink(self, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        self._not_before = self._monotonic() + next(self._waits)
        if self.progress.waiting != text:
            logger.warning(
                "%s: the %s does not take entries (%s): they wait, nothing is lost",
                self._group.name, self._what, text, exc_info=error,
            )  # fmt: skip
        self.progress.waiting = text
        self._effect.close()

    def _lose(self, error: LogError) -> None:
        """The log does not answer: what it gave us, or whether our answer arrived, is not known."""
        for hand in self._hands.values():
            hand.unsure, hand.kept, hand.alone = True, [], []
        self._not_before = self._monotonic() + next(self._waits)
        if not self.progress.waiting:
            logger.warning("%s: %s: waiting, nothing is lost", self._group.name, error)
        self.progress.waiting = str(error)


def _parts(derived: Sequence[Derived]) -> Iterator[list[Derived]]:
    """As much as the log takes at once; the outputs of one entry stay together."""
    part: list[Derived] = []
    outputs = size = 0
    for one in derived:
        count, length = len(one.outputs), sum(len(output.data) for output in one.outputs)
        if part and (outputs + count > APPEND_ENTRIES_MAX or size + length > ENTRY_BYTES_MAX):
            yield part
            part, outputs, size = [], 0, 0
        part.append(one)
        outputs, size = outputs + count, size + length
    if part:
        yield part
