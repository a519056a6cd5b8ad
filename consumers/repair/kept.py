"""Entries whose rows are removed are written to a file first: repairing throws nothing away."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from events.log import Entry, Stream


def keep(folder: Path, stream: Stream, stamp: str, entries: Iterable[Entry]) -> tuple[Path, int]:
    """Write entries as lines of JSON (`data` in base64), on disk before this returns.

    Returns the file and the number of entries.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{re.sub(r'[^a-z0-9_.-]+', '-', str(stream)).strip('-')}-{stamp}.jsonl.gz"
    count = 0
    with path.open("wb") as file:
        with gzip.open(file, "wt", encoding="utf-8") as lines:
            for entry in entries:
                lines.write(json.dumps(_as_json(entry)) + "\n")
                count += 1
        file.flush()
        os.fsync(file.fileno())
    return path, count


def _as_json(entry: Entry) -> dict[str, str]:
    return {
        "stream": str(entry.stream),
        "id": str(entry.id),
        "type": entry.type,
        "key": entry.key,
        "cause": entry.cause,
        "data": base64.b64encode(entry.data).decode(),
    }
