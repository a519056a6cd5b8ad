"""Entries that kill the process: found by handling one at a time, and then passed over.

A handler that raises leaves a dead letter at once. One that ends its process (a crash in native
code, memory used up, `os._exit`) leaves nothing but a task nobody holds. Owners that died without
a commit are counted; from the third on entries are handled one by one, and which one is written
down before. An entry over which two more owners died alone is not handled any more.

Processes that are killed from outside put no entry under suspicion for long: the next commit
clears it, and a process that lived on says so by its name.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from events.log import Entry
from events.tasks import TaskRecord

ATTEMPTS_MAX = 3
"""Owners that may die without a commit before entries are handled one by one."""
TRIES_MAX = 2
"""Owners that may die over one entry, handled alone."""
ALONE_MAX = 500
"""So many commits of one entry (a full batch of them) until batches are full again."""
PROCESS = secrets.token_hex(8)
"""This process: what it tried alone and lived through killed nobody."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Which entry an owner handled alone, for the how-manieth time, in which process."""

    place: str = ""
    times: int = 0
    process: str = ""

    def __str__(self) -> str:
        return f"{self.place}|{self.times}|{self.process}"

    @classmethod
    def parse(cls, text: str) -> Trial:
        """What cannot be read is no trial: it only costs another round."""
        place, _, rest = text.partition("|")
        times, _, process = rest.partition("|")
        return cls(place, int(times), process) if place and times.isdecimal() else cls()


class Suspicion:
    """What an owner makes of the deaths of those before it."""

    def __init__(self, record: TaskRecord, *, process: str = PROCESS) -> None:
        trial = Trial.parse(record.trying)
        self._process = process
        self._suspect = trial.place
        self._deaths = trial.times - (trial.process == process)
        suspected = bool(trial.place) or record.attempts >= ATTEMPTS_MAX
        self._left = ALONE_MAX if suspected else 0

    def __bool__(self) -> bool:
        """Whether entries are to be handled one by one."""
        return self._left > 0

    def chosen(self, entries: Sequence[Entry], wants: Callable[[Entry], bool]) -> list[Entry]:
        """The entries for one commit: the suspect first, else up to the next that is handled."""
        for entry in entries:
            if entry.place == self._suspect:
                return [entry]
        for index, entry in enumerate(entries):
            if wants(entry):
                return list(entries[: index + 1])
        return list(entries)

    def condemns(self, entry: Entry) -> str:
        """Why an entry is not to be handled again, or ""."""
        if entry.place != self._suspect or self._deaths < TRIES_MAX:
            return ""
        return f"its process ended each of {self._deaths} times that it was handled alone"

    def trial(self, entry: Entry) -> Trial:
        """What to write down before an entry is handled."""
        deaths = self._deaths if entry.place == self._suspect else 0
        return Trial(entry.place, deaths + 1, self._process)

    def passed(self, entries: Sequence[Entry]) -> None:
        """These are committed."""
        self._left -= 1
        if self._suspect and any(entry.place == self._suspect for entry in entries):
            self._suspect, self._deaths = "", 0
