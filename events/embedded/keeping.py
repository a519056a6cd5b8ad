"""Bringing an embedded server that died up again, at the same address, while its users wait."""

from __future__ import annotations

import logging
from threading import Event, Thread

from events.embedded.server import EmbeddedError, EmbeddedServer

LOOK_S = 0.5
AGAIN_S_MAX = 30.0
"""Between two tries where it does not come up."""

log = logging.getLogger(__name__)


class Keeper:
    """A thread that looks after one server from `start` to `stop`."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server
        self._stopping = Event()
        self._thread = Thread(target=self._run, name=f"keep-{server.name}", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no longer; whoever started the server stops it then."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        wait_s = LOOK_S
        while not self._stopping.wait(wait_s):
            wait_s = min(wait_s * 2, AGAIN_S_MAX) if self._mend() is False else LOOK_S

    def _mend(self) -> bool | None:
        """None: nothing was to be done; else whether the server is up again."""
        server = self._server
        if not server.died():
            return None
        log.error("the embedded %s ended by itself; starting it again", server.name)
        try:
            server.start_again()
        except (EmbeddedError, OSError) as error:
            log.error("the embedded %s does not come up again yet: %s", server.name, error)
            return False
        log.warning("the embedded %s is up again", server.name)
        return True
