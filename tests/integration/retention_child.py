"""A process that keeps one slot within its memory, to be killed: URL, folder, budget in bytes."""

from __future__ import annotations

import sys
from pathlib import Path

from events.log import Slot
from events.redis import open_log
from events.retention import Limits, Retention, SegmentFolder


def main() -> None:
    url, folder, budget = sys.argv[1:]
    log = open_log(url)
    segments = SegmentFolder(Path(folder), bytes_max=1 << 40)
    retention = Retention(log, segments, Limits(memory_bytes_max=int(budget)))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        retention.keep(Slot("demo", "source", 0))


if __name__ == "__main__":
    main()
