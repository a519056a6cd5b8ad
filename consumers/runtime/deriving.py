"""What a handler derives from entries, and nothing else: no log, no clock, no commit.

A task that runs and a replay of it do the same thing here; only where entries come from and where
outputs go differs.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from consumers.runtime.group import Group
from consumers.runtime.handler import Handler
from consumers.runtime.state import State
from events.codec import AnyEvent, BadEvent, UnknownEvent, decode, encode, split_type
from events.log import Entry, EntryId
from events.operations import HandlerFailed
from events.tasks import Output, TaskRecord

TRACEBACK_LINES_MAX = 12
ERROR_CHARS_MAX = 500
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,16}\b")
_OWN_FILE = PurePath(__file__).name


@dataclass(slots=True)
class Batch:
    """What was handled so far of some entries."""

    outputs: list[Output] = field(default_factory=list)
    handled: int = 0
    failed: int = 0
    halted: str = ""


class _Failed(Exception):
    """Handling `entries[index]` raised."""

    def __init__(self, index: int, error: Exception) -> None:
        super().__init__(str(error))
        self.index, self.error = index, error


class Deriving:
    """A handler with its state, from one durable moment to the next.

    `handle` entries, store `changes()` and the outputs, then `settle`. Whoever cannot store them
    drops this object and begins anew from a record.
    """

    def __init__(self, group: Group, record: TaskRecord) -> None:
        self.group = group
        self.newest = record.newest
        """Id of the newest output that is durable."""
        self.handler: Handler = group.make(record)

    @property
    def version(self) -> str:
        return self.group.handler.version

    @property
    def state(self) -> State:
        return self.handler.state

    def handle(self, entries: Sequence[Entry], urgent: Callable[[], bool] = lambda: False) -> Batch:
        """Handle what can be handled, in order; `Batch.handled` tells how many that were.

        An entry that raises is tried no second time: state and handler go back to what is
        durable, those before it are handled again, and in its place stands HandlerFailed.
        `urgent` is asked between entries: when it says so, the batch ends there.
        """
        try:
            return self._handle(entries, urgent)
        except _Failed as failed:
            failure = failed
        while True:
            self._reload()
            try:
                batch = self._handle(entries[: failure.index], lambda: False)
            except _Failed as failed:
                failure = failed
                continue
            self._bury(entries[failure.index], failure.error, batch)
            return batch

    def changes(self) -> tuple[dict[str, bytes], list[str]]:
        """What a commit has to write of the state: new values, keys that are gone."""
        return self.state.changes()

    def settle(self, batch: Batch, changed: Mapping[str, bytes], removed: list[str]) -> None:
        """Outputs and state are durable now."""
        self.state.settle(changed, removed)
        if batch.outputs:
            self.newest = batch.outputs[-1].id

    def _handle(self, entries: Sequence[Entry], urgent: Callable[[], bool]) -> Batch:
        batch = Batch()
        handle, wanted = self.handler.handle, self.group.handler.types
        for index, entry in enumerate(entries):
            if batch.handled and urgent():
                break
            batch.handled += 1
            if wanted and entry.type.rpartition(".")[0] not in wanted:
                continue
            try:
                event = decode(entry)
            except (UnknownEvent, BadEvent) as error:
                batch.handled -= 1
                self._bury(entry, error, batch)
                if batch.halted:
                    break
                continue
            try:
                for derived in handle(event):
                    self.derive(derived, entry, batch)
            except Exception as error:
                raise _Failed(index, error) from error
        return batch

    def derive(self, event: AnyEvent, cause: Entry, batch: Batch) -> None:
        """Add an output behind those there are, at the id it must get."""
        newest = batch.outputs[-1].id if batch.outputs else self.newest
        id_ = EntryId(max(newest.ms, cause.id.ms), newest.seq + 1)
        batch.outputs.append(Output(id_, encode(event, cause=cause.place)))

    def _bury(self, entry: Entry, error: Exception, batch: Batch) -> None:
        """HandlerFailed in place of what the entry would have led to; where it may not be
        skipped, the task halts in front of it."""
        halts = _name(entry) in self.group.handler.halts_on
        text = _ADDRESS.sub("0x-", f"{type(error).__name__}: {error}")[:ERROR_CHARS_MAX]
        failed = HandlerFailed(
            event_time_ms=entry.id.ms,
            group=self.group.name,
            place=entry.place,
            entry_type=entry.type,
            error=text,
            traceback=_frames(error),
            code_version=self.version,
            halted=halts,
        )
        self.derive(failed, entry, batch)
        batch.failed += 1
        if halts:
            batch.halted = f"{entry.place} ({entry.type}) may not be skipped: {text}"
        else:
            batch.handled += 1

    def _reload(self) -> None:
        """State and handler as they are durable."""
        state = self.handler.state
        state.discard()
        made = self.group.handler(**self.group.parameters)
        made.state = state
        made.setup()
        self.handler = made


def _name(entry: Entry) -> str:
    try:
        return split_type(entry.type)[0]
    except UnknownEvent:
        return entry.type


def _frames(error: Exception) -> str:
    """Where it happened, without folders: the same text wherever the program lies."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [
        f"{frame.filename.replace(chr(92), '/').rpartition('/')[2]}:{frame.lineno} in {frame.name}"
        for frame in frames
    ]
    kept = [line for line in lines if not line.startswith(f"{_OWN_FILE}:")]
    return "\n".join(kept[-TRACEBACK_LINES_MAX:])
