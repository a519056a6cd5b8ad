"""E-mail, Telegram, Slack, ntfy and well over a hundred others, through the library Apprise."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from events.notify.masking import masked
from events.notify.message import Message
from events.notify.target import BadTarget, Undelivered

APP = "MT5 Bridge"
PAUSE_S_MAX = 10.0
PAUSE_WITHIN_S_MAX = 0.5
"""Between two requests of one message, such as one to each of several people."""
_KINDS = {"info": "info", "warning": "warning", "critical": "failure"}
_log = logging.getLogger("apprise")


class Service:
    """One address as Apprise writes it. Raises BadTarget where Apprise is missing or does not
    know it; the text names `name`, never the address."""

    gathers = True

    def __init__(self, name: str, url: str) -> None:
        self._name = name
        try:
            import apprise
        except ImportError as error:
            raise BadTarget(
                "ALERT_URLS needs Apprise: install it with `pip install mt5-stream-bridge[alerts]`"
            ) from error
        _log.propagate = False  # what it says reaches people as the outcome of a delivery
        with _heard() as said:
            # mypy: Apprise is typed in parts
            plugin: Any = apprise.Apprise.instantiate(
                url, asset=apprise.AppriseAsset(app_id=APP, async_mode=False)
            )
        if plugin is None:
            hint = masked(f" ({'; '.join(said)})", url) if said else ""
            raise BadTarget(
                f"ALERT_URLS: Apprise cannot use the address {name!r}{hint}: see "
                "https://appriseit.com for how it is written"
            )
        self._plugin, self._url = plugin, url
        asked_s = float(plugin.request_rate_per_sec)  # seconds between two requests, by its use
        self.pause_s = min(asked_s, PAUSE_S_MAX)
        plugin.request_rate_per_sec = min(asked_s, PAUSE_WITHIN_S_MAX)

    @property
    def name(self) -> str:
        return self._name

    def send(self, message: Message, *, timeout_s: float) -> None:
        """Raises Undelivered. Apprise's own time-outs are shortened to `timeout_s`."""
        self._plugin.socket_connect_timeout = min(self._plugin.socket_connect_timeout, timeout_s)
        self._plugin.socket_read_timeout = min(self._plugin.socket_read_timeout, timeout_s)
        kind = "success" if message.alerts[-1].resolved else _KINDS[message.severity]
        with _heard() as said:
            try:
                done = self._plugin.notify(body=message.body, title=message.title, notify_type=kind)
            except Exception as error:  # a plugin of a hundred; whatever it is, try again
                raise Undelivered(masked(f"{type(error).__name__}: {error}", self._url)) from None
        if not done:
            raise Undelivered(masked("; ".join(said), self._url) or "Apprise could not deliver it")


class _Hearing(logging.Handler):
    """What Apprise says in this thread, which is all it tells of a failure."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.said.append(record.getMessage())


@contextmanager
def _heard() -> Iterator[list[str]]:
    hearing = _Hearing()
    _log.addHandler(hearing)
    try:
        yield hearing.said
    finally:
        _log.removeHandler(hearing)
