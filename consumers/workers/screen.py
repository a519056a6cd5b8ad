"""What a person sees while groups run: a live table, or a line every few seconds in a pipe."""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from consumers.workers.status import TaskStatus
from consumers.workers.supervise import CrewState, Screen, Totals
from events.program_log import LineFormatter
from events.views.tables import BAD, DIM, page

logger = logging.getLogger(__name__)

STATUS_S = 5.0
REFRESH_S = 0.5
LINES_KEPT_MAX = 8
LINE_CHARS_MAX = 400
UNKNOWN = "?"


class _Rates:
    """Entries a second between two looks."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._before: dict[str, tuple[float, int]] = {}

    def of(self, name: str, entries: int) -> float:
        now = time.monotonic()
        then, before = self._before.get(name, (self._begun, 0))
        self._before[name] = now, entries
        return (entries - before) / (now - then) if now > then else 0.0


class PlainScreen:
    """Workers' log lines pass through to stderr; a line on each group every few seconds."""

    def __init__(self) -> None:
        self._due_at = time.monotonic() + STATUS_S
        self._rates = _Rates()

    def line(self, name: str, text: str) -> None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def refresh(self, states: Callable[[], Sequence[CrewState]]) -> None:
        if time.monotonic() < self._due_at:
            return
        self._due_at = time.monotonic() + STATUS_S
        for state in states():
            logger.info(
                "%s", status_line(state, self._rates.of(state.group, state.total("entries")))
            )

    def close(self) -> None:
        return


class WindowScreen(logging.Handler):
    """A live view on the whole window."""

    def __init__(self, title: str, *, console: Console | None = None) -> None:
        super().__init__()
        self.setFormatter(LineFormatter())
        self._title, self._rates = title, _Rates()
        self._lines: deque[str] = deque(maxlen=LINES_KEPT_MAX)
        self._due_at = 0.0
        self._live = Live(
            console=console or page(), screen=True, auto_refresh=False, transient=True
        )
        self._live.start()

    def emit(self, record: logging.LogRecord) -> None:
        """A line of our own program log."""
        self._lines.append(self.format(record)[:LINE_CHARS_MAX])

    def line(self, name: str, text: str) -> None:
        self._lines.append(text[:LINE_CHARS_MAX])

    def refresh(self, states: Callable[[], Sequence[CrewState]]) -> None:
        if time.monotonic() < self._due_at:
            return
        self._due_at = time.monotonic() + REFRESH_S
        self._live.update(self._view(states()), refresh=True)

    def close(self) -> None:
        super().close()
        self._live.stop()

    def _view(self, states: Sequence[CrewState]) -> RenderableType:
        tables: list[RenderableType] = []
        for state in states:
            tables += [_headline(state), _tasks_table(state, self._rates), Text()]
        lines = Panel(Text("\n".join(self._lines)), title="program log", border_style="dim")
        return Group(Text(self._title, style="bold"), *tables, lines)


def screen(title: str, *, window: bool) -> Screen:
    return WindowScreen(title) if window else PlainScreen()


def status_line(state: CrewState, entries_per_s: float | None) -> str:
    """A group in one line. Without a rate it is one that ended."""
    rate = f" ({entries_per_s:.0f}/s)" if entries_per_s is not None else ""
    parts = [
        f"{state.group}: {state.total('entries')} entries{rate}, {state.total('outputs')} derived"
    ]
    if entries_per_s is not None:
        parts.append(_crewed(state))
        parts.append(f"{_behind(state)} behind")
    if state.total("failed"):
        parts.append(f"{state.total('failed')} dead letters")
    if state.fenced:
        parts.append(f"{state.fenced} times fenced")
    if state.restarts:
        parts.append(f"{state.restarts} restarts")
    if state.halted:
        parts.append(f"{len(state.halted)} tasks HALTED")
    if state.waiting:
        parts.append(f"waiting: {state.waiting}")
    return ", ".join(parts)


def _crewed(state: CrewState) -> str:
    """Who works: holders of tasks, or the consumers of a group without an order."""
    if state.unordered:
        running = sum(one.pid is not None for one in state.running)
        return f"{running} of {state.workers} consumers running"
    held = sum(bool(task.holder) for task in state.tasks)
    return f"{held} of {len(state.tasks)} tasks held"


def _behind(state: CrewState) -> str:
    lags = [lag for task in state.tasks for lag in task.lag.values()]
    known = sum(lag for lag in lags if lag is not None)
    return f"{known}{'+' if None in lags else ''}"


def _headline(state: CrewState) -> Text:
    text = Text(state.group, style="bold")
    running = sum(one.pid is not None for one in state.running)
    text.append(f"  {running} of {state.workers} workers", style=DIM)
    if state.restarts:
        text.append(f", {state.restarts} restarts", style=BAD)
    if state.waiting:
        text.append(f"  waiting: {state.waiting}", style=BAD)
    return text


def _tasks_table(state: CrewState, rates: _Rates) -> Table:
    table = Table(box=None, header_style=DIM, padding=(0, 1))
    lanes = sorted({lane for task in state.tasks for lane in task.lag})
    for name in ("task", "holder", *(f"{lane.label} behind" for lane in lanes),
                 "entries/s", "derived", "dead letters", ""):  # fmt: skip
        left = name in ("task", "holder", "")
        table.add_column(name, justify="left" if left else "right", no_wrap=name == "task")
    for task in state.tasks:
        done = state.done.get(str(task.slot), Totals())
        table.add_row(
            str(task.slot),
            Text("any consumer", style=DIM) if state.unordered else _short(task),
            *(_number(task.lag.get(lane, 0)) for lane in lanes),
            f"{rates.of(str(task.slot), done.entries):,.0f}",
            f"{done.outputs:,}",
            f"{done.failed:,}",
            Text(task.halted and f"HALTED: {task.halted}", style=BAD),
        )
    return table


def _short(task: TaskStatus) -> Text:
    return Text(task.holder.partition("/")[0] or "nobody", style="" if task.holder else BAD)


def _number(lag: int | None) -> str:
    return UNKNOWN if lag is None else f"{lag:,}"
