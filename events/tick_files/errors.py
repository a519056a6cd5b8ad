"""What can be wrong with a tick file."""

from __future__ import annotations

from pathlib import Path


class TickFileError(ValueError):
    """A tick file cannot be read from some line on. `rows` sound ticks stand before it."""

    def __init__(self, path: Path | str, reason: str, *, line: int = 1, rows: int = 0) -> None:
        super().__init__(f"{path}, line {line}: {reason}")
        self.path, self.reason, self.line, self.rows = Path(path), reason, line, rows
