"""A real HTTP server on loopback that answers as a test tells it, and keeps what it was sent."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Endpoint:
    """A real HTTP server that answers as it is told, and keeps what it was sent."""

    def __init__(self) -> None:
        self.seen: list[tuple[dict[str, str], bytes]] = []
        self.status, self.wait_s, self.location = 200, 0.0, ""
        self.closing = threading.Event()
        endpoint = self

        class Answering(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                endpoint.seen.append(({k.lower(): v for k, v in self.headers.items()}, body))
                endpoint.closing.wait(endpoint.wait_s)
                with suppress(OSError):
                    self.send_response(endpoint.status)
                    if endpoint.location:
                        self.send_header("Location", endpoint.location)
                    self.end_headers()
                    self.wfile.write(b"said so")

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/hook"

    @property
    def texts(self) -> list[str]:
        """What each alert that was posted here says, in order."""
        return [json.loads(body)["data"]["text"] for _, body in list(self.seen)]

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
