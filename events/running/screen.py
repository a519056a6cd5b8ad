"""What a person sees while the bridge runs: a live window, or plain lines in a pipe."""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from events.log import Log, LogError
from events.processes import ProcessReport, ProcessState
from events.program_log import LineFormatter
from events.views.state import NamespaceState, collect
from events.views.tables import page, status_view

REFRESH_S = 0.5
LINES_KEPT_MAX = 8
LINE_CHARS_MAX = 400


class Screen(Protocol):
    """Where the run shows itself."""

    def line(self, name: str, text: str) -> None:
        """A line that a child wrote for people."""

    def refresh(self, reports: Sequence[ProcessReport]) -> None:
        """Called often; shows the state when it is time."""

    def close(self) -> None: ...


class PlainScreen:
    """Children's log lines pass through to stderr; they name module and level already."""

    def line(self, name: str, text: str) -> None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def refresh(self, reports: Sequence[ProcessReport]) -> None:
        return

    def close(self) -> None:
        return


class WindowScreen(logging.Handler):
    """A live view on the whole window: rates, account, positions, prices, lanes, lag."""

    def __init__(
        self,
        open_log: Callable[[], Log],
        *,
        names: Sequence[str],
        title: str,
        console: Console | None = None,
    ) -> None:
        super().__init__()
        self.setFormatter(LineFormatter())
        self._open_log = open_log
        self._log: Log | None = None
        self._names = tuple(names)
        self._title = title
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

    def refresh(self, reports: Sequence[ProcessReport]) -> None:
        if time.monotonic() < self._due_at:
            return
        self._due_at = time.monotonic() + REFRESH_S
        self._live.update(self._view(reports), refresh=True)

    def close(self) -> None:
        super().close()
        self._live.stop()
        if self._log is not None:
            self._log.close()

    def _view(self, reports: Sequence[ProcessReport]) -> RenderableType:
        return Group(
            Text(self._title, style="bold"),
            children_table(reports),
            Text(),
            self._state(),
            Panel(Text("\n".join(self._lines)), title="program log", border_style="dim"),
        )

    def _state(self) -> RenderableType:
        try:
            self._log = self._log or self._open_log()
            found: list[NamespaceState] = []
            for name in self._names:
                found += collect(self._log, only=name)
        except LogError as error:
            return Text(f"the log does not answer: {error}", style="bold red")
        if not found:
            return Text("waiting for the first event", style="dim")
        return status_view(found, now_ms=time.time_ns() // 1_000_000)


def children_table(reports: Sequence[ProcessReport]) -> Table:
    """The parts of the bridge and how they fare."""
    table = Table.grid(padding=(0, 2))
    for report in reports:
        good = report.state in (ProcessState.RUNNING, ProcessState.DONE)
        again = f"started {report.starts} times" if report.starts > 1 else ""
        table.add_row(
            report.name,
            Text(str(report.state), style="green" if good else "bold red"),
            f"pid {report.pid}" if report.pid else "",
            again,
        )
    return table
