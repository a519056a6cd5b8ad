"""The dead letter: what is told of an entry that a handler could not bear."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import PurePath
from traceback import walk_tb
from types import TracebackType

from events.log import Entry
from events.operations import HandlerFailed

TRACEBACK_LINES_MAX = 12
ERROR_CHARS_MAX = 500
TYPE_CHARS_MAX = 100
FRAMES_MAX = 2_000
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,16}\b")
_RUNTIME_FILES = ("/runtime/deriving.py", "/runtime/outputs.py", "/unordered/effect.py")


def failure(
    entry: Entry, error: BaseException | str, *, group: str, version: str, halts: bool
) -> HandlerFailed:
    """HandlerFailed for an entry: the same text on every machine and in every run."""
    return HandlerFailed(
        event_time_ms=entry.id.ms,
        group=group,
        place=entry.place,
        entry_type=tidy(entry.type, TYPE_CHARS_MAX),
        error=tidy(error) if isinstance(error, str) else told(error),
        traceback="" if isinstance(error, str) else frames(error),
        code_version=version,
        halted=halts,
    )


def halt_text(failed: HandlerFailed, *, in_a_row: int = 0) -> str:
    """Why a task stands still; `halted_at` reads the place back. `in_a_row`: so many entries
    failed before anything succeeded."""
    what = f"{failed.place} ({failed.entry_type})"
    if not in_a_row:
        return tidy(f"{what} may not be skipped: {failed.error}")
    return tidy(
        f"{what} may not be skipped, {in_a_row} entries in a row failed: correct the handler, then "
        f"`bridgectl dlq retry`; the last error: {failed.error}"
    )


def told(error: BaseException) -> str:
    """Name and text of an error, without what differs from run to run."""
    try:
        text = str(error)
    except Exception as odd:  # whatever a class of the handler's makes of it
        text = f"(its text cannot be had: {type(odd).__name__})"
    return tidy(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def tidy(text: str, chars_max: int = ERROR_CHARS_MAX) -> str:
    """Text that JSON and a database take, of bounded length, without addresses of objects."""
    kept = text[: chars_max * 2].encode("utf-8", "backslashreplace").decode()
    return _ADDRESS.sub("0x-", kept)[:chars_max]


def frames(error: BaseException) -> str:
    """Where it happened, without folders. The innermost calls; of endless recursion, whose depth
    says nothing, the outermost."""
    lines = list(islice(_frames(error.__traceback__), FRAMES_MAX))
    deep = isinstance(error, RecursionError)
    return "\n".join(lines[:TRACEBACK_LINES_MAX] if deep else lines[-TRACEBACK_LINES_MAX:])


def _frames(found: TracebackType | None) -> Iterator[str]:
    for frame, line in walk_tb(found):
        path = frame.f_code.co_filename.replace("\\", "/")
        if not path.endswith(_RUNTIME_FILES):
            yield tidy(f"{PurePath(path).name}:{line} in {frame.f_code.co_name}")
