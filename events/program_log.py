"""The program's own log: console on stderr and a rotating file per process role.

Lines read `timestamp - module - level - message` with UTC times, or one JSON object each. Secrets
never belong into a message; a mask stands behind that rule as a second line of defence.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from events import presence
from events.settings import Settings

FILE_BYTES_MAX = 10 * 1024 * 1024
FILES_KEPT_MAX = 5
MASK = "***"
SECRET_CHARS_MIN = 4
"""Shorter secrets are not searched for: they would mask ordinary words."""
_URL_PASSWORD = re.compile(r"(?P<before>[a-z][a-z0-9+.-]{1,30}://[^\s/@:]{0,100}:)[^\s/@]+@", re.I)
_NAMED = re.compile(
    r"(?P<before>\b(?:password|passwd|token|secret)\b['\"]?\s*[=:]\s*)[^\s,;]+", re.I
)
_FORMAT = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"
TALKATIVE = ("alembic", "apscheduler", "sqlalchemy")
"""Libraries whose everyday messages are nobody's concern."""
_ROLE = re.compile(r"[^a-z0-9_.-]+")
_installed: list[logging.Handler] = []


class SecretMask(logging.Filter):
    """Replaces known secrets, passwords inside addresses, and `password=...` in each record."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        known = sorted({text for text in secrets if len(text) >= SECRET_CHARS_MIN}, key=len)
        self._known = re.compile("|".join(map(re.escape, reversed(known)))) if known else None

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self.mask(_message(record)), None
        if record.exc_info:
            formatter = logging.Formatter()
            record.exc_text = self.mask(formatter.formatException(record.exc_info))
            record.exc_info = None
        return True

    def mask(self, text: str) -> str:
        """`text` without the secrets in it."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        text = _URL_PASSWORD.sub(rf"\g<before>{MASK}@", text)
        return _NAMED.sub(rf"\g<before>{MASK}", text)


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, module, level, message, traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": _utc(record.created),
            "module": record.name,
            "level": record.levelname,
            "message": record.getMessage(),
        }
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            fields["traceback"] = record.exc_text
        return json.dumps(fields, ensure_ascii=False)


class LineFormatter(logging.Formatter):
    """`timestamp - module - level - message`; the time is UTC to the millisecond."""

    def __init__(self) -> None:
        super().__init__(_FORMAT)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return _utc(record.created)


def start_program_log(
    role: str,
    *,
    folder: Path,
    level: str = "INFO",
    file: Path | None = None,
    as_json: bool = False,
    secrets: Iterable[str] = (),
    console: bool = True,
) -> Path | None:
    """Set the root logger up for one process; returns the file it writes to. From now on the
    process is one of the programs of `folder`, which `bridgectl down` ends.

    Each role has a file of its own, because a rotating file cannot be shared by processes on
    Windows: `folder/logs/ROLE.log`, or for `file=x.log` `x.ROLE.log`. Where the file cannot be
    opened the console goes on alone, says why, and None is returned.
    """
    root = logging.getLogger()
    stop_program_log()
    presence.show(role, folder)
    root.setLevel(level)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))
    formatter: logging.Formatter = JsonFormatter() if as_json else LineFormatter()
    mask = SecretMask(secrets)
    if console:
        _add(root, logging.StreamHandler(sys.stderr), formatter, mask)
    path = log_path(role, folder=folder, file=file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _add(root, _rotating(path), formatter, mask)
    except OSError as error:
        logging.getLogger(__name__).warning("no log file: %s cannot be written: %s", path, error)
        return None
    return path


@contextmanager
def program_log_of(role: str, settings: Settings, *, console: bool = True) -> Iterator[None]:
    """The program log of a command, as the settings want it."""
    start_program_log(
        role,
        folder=settings.state_dir,
        level=settings.log_level,
        file=settings.log_file,
        as_json=settings.log_json,
        secrets=settings.secrets(),
        console=console,
    )
    try:
        yield
    finally:
        stop_program_log()


def stop_program_log() -> None:
    """Flush and remove our handlers; handlers of others stay."""
    presence.hide()
    while _installed:
        handler = _installed.pop()
        logging.getLogger().removeHandler(handler)
        handler.close()


def log_path(role: str, *, folder: Path, file: Path | None = None) -> Path:
    """The file of one process role."""
    name = _ROLE.sub("-", role.lower()).strip("-") or "bridgectl"
    if file is None:
        return folder / "logs" / f"{name}.log"
    return file.with_name(f"{file.stem}.{name}{file.suffix or '.log'}")


def _rotating(path: Path) -> RotatingFileHandler:
    return RotatingFileHandler(
        path, maxBytes=FILE_BYTES_MAX, backupCount=FILES_KEPT_MAX, encoding="utf-8"
    )


def _add(
    root: logging.Logger,
    handler: logging.Handler,
    formatter: logging.Formatter,
    mask: SecretMask,
) -> None:
    handler.setFormatter(formatter)
    handler.addFilter(mask)
    root.addHandler(handler)
    _installed.append(handler)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError) as error:
        return f"{record.msg} (arguments do not fit: {error})"


def _utc(seconds: float) -> str:
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
    return f"{moment}.{int(seconds % 1 * 1000):03d}Z"
