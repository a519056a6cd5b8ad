"""Taking over a task whose state other code wrote: the state is derived again first."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from consumers.runtime.deriving import Deriving
from consumers.runtime.group import Group, TaskSpec
from consumers.runtime.journal import Deed, JournalStep, Note
from consumers.runtime.rederive.again import Again, Discarding
from consumers.runtime.rederive.feed import Feeds, retried
from consumers.runtime.rederive.snapshots import Snapshots
from consumers.runtime.rederive.starts import Start, removed, usable_starts
from events.codec import encode
from events.log import BEGIN, Claim, EntryId, Fenced, Log, LogError, LogUnavailable, Stream
from events.offset import Offset
from events.operations import HandlerUpgraded
from events.tasks import Commit, OffsetChange, Output, TaskRecord

logger = logging.getLogger(__name__)

BEAT_S = 0.2
TELL_S = 5.0
OLDEST_KEPT = "the oldest entries that are kept"
HALTED = "upgrade: "
"""How a halt begins that waits for an operator to choose how to upgrade."""


class Upgrade(StrEnum):
    """How a task goes on whose state was written by other code."""

    DERIVE = "derive"
    """Derive the state again from where the task began; halt where that is no longer kept."""
    OLDEST = "oldest"
    """Where it is not, derive it from the oldest entries that are kept, by entry id, beginning
    with an empty state."""
    KEEP = "keep"
    """Take the state as the former code left it."""


@dataclass(frozen=True, slots=True)
class UpgradeProgress:
    """How far deriving again has come."""

    entries: int
    entries_all: int


def needed(record: TaskRecord, version: str) -> bool:
    """Whether other code wrote what is durable of a task."""
    return record.version not in ("", version)


def waits_for_choice(halted: str) -> bool:
    """Whether a task is halted until an operator chooses how to upgrade it."""
    return halted.startswith(HALTED)


def upgraded(
    log: Log,
    group: Group,
    spec: TaskSpec,
    claim: Claim,
    record: TaskRecord,
    *,
    policy: Upgrade = Upgrade.DERIVE,
    told: Callable[[UpgradeProgress], None] = lambda _: None,
    monotonic: Callable[[], float] = time.monotonic,
) -> TaskRecord:
    """The record of a task as code of the group's version would have left it.

    Unchanged where it is of that version already, or halted for an operator to choose. Outputs are
    discarded; state, HandlerUpgraded and a note in the journal become durable in one commit, at
    unchanged offsets. Beats the claim meanwhile. Raises Fenced, LogUnavailable.
    """
    version = group.handler.version
    if not needed(record, version):
        return record
    if policy is Upgrade.KEEP:
        return _done(log, group, spec, claim, record, record.state, "the state as it was", 0)
    try:
        start = _start(log, spec, record, version, policy)
        logger.warning(
            "%s: version %r after %r: deriving the state again from %s",
            spec.slot, version, record.version, start.told,
        )  # fmt: skip
        beating = _Beating(log, claim, spec, told, monotonic)
        state, entries = _derived(log, group, spec, start, record, beating)
    except (Fenced, LogUnavailable):
        raise
    except LogError as error:
        return _halted(log, spec, claim, record, version, str(error))
    return _done(log, group, spec, claim, record, state, start.told, entries)


def _start(log: Log, spec: TaskSpec, record: TaskRecord, version: str, policy: Upgrade) -> Start:
    try:
        return usable_starts(log, record, version)[0]
    except LogUnavailable:
        raise
    except LogError:
        if policy is not Upgrade.OLDEST:
            raise
    offsets = {
        stream: Offset(entries=min(removed(log, stream), offset.entries))
        for stream, offset in record.offsets.items()
    }
    return Start(TaskRecord(spec.slot, offsets, {}, BEGIN, 0, ""), OLDEST_KEPT)


def _derived(
    log: Log,
    group: Group,
    spec: TaskSpec,
    start: Start,
    record: TaskRecord,
    beating: _Beating,
) -> tuple[Mapping[str, bytes], int]:
    """The state at the record's offsets, and how many entries led to it."""
    deriving = Deriving(group, replace(start.record, version=group.handler.version))
    feeds = Feeds(
        log, spec, group.handler.order, start.record, record,
        journal_wanted=start.told != OLDEST_KEPT,
    )  # fmt: skip
    done_twice = retried(log, spec.slot, start.record, record)
    again = Again(log, deriving, Discarding(), retried=done_twice, upgrading=True)
    for turn in feeds.turns():
        again.take(turn)
        beating.tell(again.entries, feeds.entries)
    return deriving.state.stored, again.entries


class _Beating:
    """Keeps the lease while entries are handled again, and tells how far that is."""

    def __init__(
        self,
        log: Log,
        claim: Claim,
        spec: TaskSpec,
        told: Callable[[UpgradeProgress], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._log, self._claim, self._spec = log, claim, spec
        self._told, self._monotonic = told, monotonic
        self._beat_at = monotonic()
        self._tell_at = monotonic() + TELL_S

    def tell(self, entries: int, entries_all: int) -> None:
        now = self._monotonic()
        self._told(UpgradeProgress(entries, entries_all))
        if now >= self._beat_at:
            self._log.beat(self._claim)
            self._beat_at = now + BEAT_S
        if now >= self._tell_at:
            logger.info("%s: %d of %d entries again", self._spec.slot, entries, entries_all)
            self._tell_at = now + TELL_S


def _done(
    log: Log,
    group: Group,
    spec: TaskSpec,
    claim: Claim,
    record: TaskRecord,
    state: Mapping[str, bytes],
    told: str,
    entries: int,
) -> TaskRecord:
    """Commit the state of the new code, and that it is so."""
    version = group.handler.version
    ends = {stream: offset.last for stream, offset in record.offsets.items()}
    newest_ms = max([record.newest.ms, *(end.ms for end in ends.values())])
    event = HandlerUpgraded(
        event_time_ms=newest_ms, group=group.name, task=spec.reader,
        version_before=record.version, version=version, derived_from=told, entries=entries,
    )  # fmt: skip
    halted = "" if waits_for_choice(record.halted) else record.halted
    snapshots = Snapshots(log, spec, group.handler.order, version)
    place = snapshots.place(record.commits + 1)
    step = JournalStep(version, ends, (Note(Deed.UPGRADED, "", record.version),))
    output = Output(EntryId(newest_ms, record.newest.seq + 1), encode(event))
    log.tasks.commit(
        Commit(
            claim,
            record.newest,
            _unmoved(record),
            {name: packed for name, packed in state.items() if record.state.get(name) != packed},
            sorted(record.state.keys() - state.keys()),
            [output],
            journal=step.to_bytes(),
            version=version,
            halted=halted,
            snapshot=place.place,
            journal_from=place.journal_from,
        )
    )
    logger.warning(
        "%s: version %r after %r, from %s (%d entries)",
        spec.slot, version, record.version, told, entries,
    )  # fmt: skip
    return log.tasks.peek(spec.slot)


def _halted(
    log: Log, spec: TaskSpec, claim: Claim, record: TaskRecord, version: str, why: str
) -> TaskRecord:
    """Stand still with the state of the former code, until an operator chooses."""
    cure = (
        "choose: `consume --upgrade oldest` derives it from what is kept, `--upgrade keep` takes "
        "the state as it is, `groups remove` begins anew, or go back to the former code"
    )
    what = f"version {version!r} cannot derive again what version {record.version!r} left"
    halted = f"{HALTED}{what}: {why}; {cure}"
    logger.error("%s: %s", spec.slot, halted)
    if record.halted == halted:
        return record
    step = JournalStep(record.version, {s: o.last for s, o in record.offsets.items()})
    log.tasks.commit(
        Commit(
            claim, record.newest, _unmoved(record), journal=step.to_bytes(),
            version=record.version, halted=halted,
        )
    )  # fmt: skip
    return log.tasks.peek(spec.slot)


def _unmoved(record: TaskRecord) -> dict[Stream, OffsetChange]:
    """Offsets stay, and are compared all the same."""
    return {stream: OffsetChange(offset, offset) for stream, offset in record.offsets.items()}
