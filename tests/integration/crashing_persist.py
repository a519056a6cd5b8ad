"""Group persist in a process that dies, or stands still, at a chosen step of a chosen commit.

`python -m tests.integration.crashing_persist STEP COMMIT REDIS_URL DSN`
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from consumers.persist import PersistGroup, PersistOptions, all_slots
from events.postgres import Sink, sink
from events.postgres.binary_copy import Array, PackedTable, copy_chunks
from events.postgres.connection import Connection
from events.postgres.offsets import Ownership
from events.redis import open_log

STEPS = ("in-copy", "before-commit", "after-commit", "stopped-in-copy")


def at_commit(number: int, then: int) -> None:
    """Send ourselves the signal `then` when so many commits were begun."""
    at_commit.count += 1  # type: ignore[attr-defined] # a counter that lives as long as the process
    if at_commit.count == number:  # type: ignore[attr-defined] # as above
        os.kill(os.getpid(), then)


at_commit.count = 0  # type: ignore[attr-defined] # as above


def patch(step: str, number: int) -> None:
    then = signal.SIGSTOP if step.startswith("stopped") else signal.SIGKILL
    if step.endswith("in-copy"):

        def copy_packed(
            connection: Connection, table: PackedTable, arrays: Iterable[Array]
        ) -> None:
            with connection.cursor() as cursor, cursor.copy(table.copy_in) as copy:
                for chunk in copy_chunks(arrays):
                    half = len(chunk) // 2
                    copy.write(chunk[:half])
                    at_commit(number, then)
                    copy.write(chunk[half:])

        sink.copy_packed = copy_packed
        return
    if step == "before-commit":
        advance = Ownership.advance

        def advance_and_die(self: Ownership, moves: Any) -> None:
            advance(self, moves)
            at_commit(number, then)

        Ownership.advance = advance_and_die  # type: ignore[method-assign] # the point of it
        return
    write = Sink.write

    def write_and_die(self: Sink, *batch: Any) -> None:
        write(self, *batch)
        at_commit(number, then)

    Sink.write = write_and_die  # type: ignore[method-assign, assignment] # the point of it


def main() -> None:
    step, number, redis_url, dsn = sys.argv[1:]
    assert step in STEPS, step
    patch(step, int(number))
    group = PersistGroup(
        PersistOptions(
            dsn, lambda: open_log(redis_url), all_slots(), f"crashing:{os.getpid()}", lease_s=1.0
        )
    )
    group.start()
    with suppress(KeyboardInterrupt):
        while group.running:
            group.join(0.2)


if __name__ == "__main__":
    main()
