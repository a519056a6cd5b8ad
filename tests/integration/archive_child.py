"""A program that moves history, and waits behind each step for a byte of whoever kills it.

archive_child.py fetch-archive FOLDER | fetch-log URL | export URL FOLDER | import FOLDER URL
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from events.archive import exporting, importing
from events.archive.exporting import Exporter
from events.archive.folder import ArchiveFolder
from events.archive.importing import import_archive
from events.archive.source import Wanted
from events.redis import open_log
from producers.append import Writer
from producers.history.batches import Feed
from producers.history.fetching import HistoryFetch, Span
from producers.history.into_archive import IntoArchive
from producers.history.into_log import IntoLog
from producers.report import Report
from tests.made_up_past import BEGIN, HOUR_MS, RULE, MadeUp

FEEDS = (Feed("EURUSD"), Feed("GBPUSD"), Feed("EURUSD", "M1"))
UNTIL = BEGIN + 30 * HOUR_MS
PARTITIONS = 2
HISTORY = "demo-history"
Gate = Callable[..., None]


def fetch_archive(gate: Gate, folder: str) -> None:
    place = ArchiveFolder(Path(folder))
    with place.writing("demo"):
        _fetch(IntoArchive(place, "demo", PARTITIONS), gate)


def fetch_log(gate: Gate, url: str) -> None:
    with opened_history(url) as target:
        _fetch(target, gate)


@contextmanager
def opened_history(url: str) -> Iterator[IntoLog]:
    with closing(open_log(url)) as log:
        writer = Writer(
            log, HISTORY, PARTITIONS, holder="test", report=Report(), alive_within_s=0.1,
            origin="import",
        )  # fmt: skip
        writer.open()
        try:
            yield IntoLog(writer)
        finally:
            writer.close()


def _fetch(target: IntoArchive | IntoLog, gate: Gate) -> None:
    spans = [Span(feed, BEGIN + HOUR_MS, UNTIL) for feed in FEEDS]
    HistoryFetch(MadeUp(), target, clock=RULE, now_ms=lambda: 1, pause=gate).run(spans)


def export(gate: Gate, url: str, folder: str) -> None:
    with closing(open_log(url)) as log:
        Exporter(log, ArchiveFolder(Path(folder)), "demo", told=gate).run()


def import_(gate: Gate, folder: str, url: str) -> None:
    with closing(open_log(url)) as log:
        import_archive(
            ArchiveFolder(Path(folder)), log, Wanted("demo"), into="copy", holder="test", told=gate
        )


MOVES: dict[str, Callable[..., None]] = {
    "fetch-archive": fetch_archive, "fetch-log": fetch_log, "export": export, "import": import_,
}  # fmt: skip


SMALL = ((exporting, "CHUNK_ENTRIES_MAX", 20), (importing, "PUT_ENTRIES_MAX", 15),
         (importing, "ALIVE_WITHIN_S", 0.1))  # fmt: skip
"""Small steps, so that there are many; and whoever held a slot was killed."""


def waiting(*_: object) -> None:
    """Tell that a step is done, and wait to be told to go on."""
    sys.stdout.write(".")
    sys.stdout.flush()
    sys.stdin.read(1)


if __name__ == "__main__":
    for where, name, value in SMALL:
        setattr(where, name, value)
    MOVES[sys.argv[1]](waiting, *sys.argv[2:])
