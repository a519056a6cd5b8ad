"""What a verification found, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group as Together
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from consumers.replay.places import UnknownPlace, read_place
from consumers.replay.verification import COUNTS, Difference, TaskVerification
from events.log import Entry, Log
from events.views import lines
from events.views.tables import BAD, GOOD

FIELDS_SHOWN_MAX = 8
VALUE_CHARS_MAX = 120


def told(log: Log, found: Sequence[TaskVerification]) -> RenderableType:
    """The table of all tasks, then what differs, first difference first."""
    parts: list[RenderableType] = [_table(found)]
    for task in found:
        parts += [Text(line) for line in _lines(log, task)]
    return Together(*parts)


def _table(found: Sequence[TaskVerification]) -> Table:
    table = Table(title="Derived again and compared", title_justify="left")
    table.add_column("task")
    for name in COUNTS:
        table.add_column(name, justify="right")
    table.add_column("from")
    for task in found:
        table.add_row(
            Text(task.task, style=GOOD if task.good else BAD),
            *(str(getattr(task, name)) for name in COUNTS),
            task.began or task.problem,
        )
    return table


def _lines(log: Log, task: TaskVerification) -> Iterator[str]:
    for span in task.skipped:
        yield f"{task.task}: skipped: {span}"
    if task.problem:
        yield f"{task.task}: cannot be compared whole: {task.problem}"
    if task.first is not None:
        yield f"{task.task}: first difference: output {task.first.ordinal}, {task.first.what}"
        yield from _both(task.first)
        for place in task.first.causes:
            yield f"  cause     {_looked_up(log, place)}"
    for one in task.state:
        both = f"{_short(one.recorded)} recorded, {_short(one.derived)} derived"
        yield f"{task.task}: state {one.key!r}: {both}"


def _both(difference: Difference) -> Iterator[str]:
    for name, entry in (("recorded", difference.recorded), ("derived", difference.derived)):
        yield f"  {name:9} {lines.line(entry) if entry else 'nothing'}"
    if difference.recorded and difference.derived:
        changed = list(_changed(difference.recorded, difference.derived))
        for name, before, after in changed[:FIELDS_SHOWN_MAX]:
            yield f"  {name}: {_short(before)} recorded, {_short(after)} derived"


def _changed(recorded: Entry, derived: Entry) -> Iterator[tuple[str, Any, Any]]:
    """Fields of the event in which the two differ."""
    before, after = lines.as_json(recorded), lines.as_json(derived)
    for name in ("id", "stream", "type", "key", "cause"):
        if before[name] != after[name]:
            yield name, before[name], after[name]
    values, others = before.get("event", {}), after.get("event", {})
    for name in dict.fromkeys([*values, *others]):
        if values.get(name) != others.get(name):
            yield name, values.get(name), others.get(name)


def _looked_up(log: Log, place: str) -> str:
    try:
        stream, id_ = read_place(place)
    except UnknownPlace:
        return f"{place!r}, which is no place"
    entry = next(iter(log.between(stream, id_, id_, count_max=1)), None)
    return lines.line(entry) if entry else f"{place}, which is no longer kept"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= VALUE_CHARS_MAX else text[: VALUE_CHARS_MAX - 1] + "…"
