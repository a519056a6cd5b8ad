"""The examples of docs/GROUPS.md do what the page says."""

from __future__ import annotations

import http.server
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from consumers.groups import GroupSpec
from consumers.sinks import Sink, SinkGroup
from events.codec import encode
from events.decisions import LimitBreach
from events.log import Slot
from events.memory_log import MemoryLog
from events.operations import TerminalDown
from events.trading import Deal
from tests.markdown_pages import read_page

PAGE = Path(__file__).parents[2] / "docs" / "GROUPS.md"
SOURCE = Slot("demo", "source", 0)


def example(name: str) -> type[Sink]:
    """The class of that name, as a reader of the page would have it in a file."""
    for block in read_page(PAGE).blocks:
        if block.language == "python" and f"class {name}(" in block.text:
            names: dict[str, Any] = {"__name__": "my_sinks"}
            exec(compile(block.text, str(PAGE), "exec"), names)
            found: type[Sink] = names[name]
            assert issubclass(found, Sink)
            return found
    raise AssertionError(f"{PAGE} has no example {name}")


def written(sink: type[Sink], *events: Any, **parameters: Any) -> None:
    log = MemoryLog()
    log.open_namespace("demo", 1)
    claim = log.claim(SOURCE, "test", alive_within_s=0)
    log.append(claim, [encode(event) for event in events])
    group = SinkGroup("mine", sink, parameters)
    [spec] = group.specs(log)
    taken = log.tasks.acquire(spec.slot, "me", seen="")
    assert taken is not None
    run = group.run(log, spec, *taken)
    step = run.step()
    run.release()
    assert step.entries == len(events), run.waiting


def deal(ticket: int) -> Deal:
    return Deal(
        event_time_ms=1, recv_time_ms=2, login=7, ticket=ticket, order=1, position_id=9,
        symbol="EURUSD", type=0, entry=0, reason=0, volume_lots=1, price=1.1, profit=2.5,
        commission=0, swap=0, fee=0, time_server_ms=1,
    )  # fmt: skip


@pytest.fixture
def posted() -> Iterator[tuple[str, list[bytes]]]:
    """A server on loopback, and what was sent to it."""
    bodies: list[bytes] = []

    class Keeps(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Keeps)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", bodies
    server.shutdown()
    thread.join(5)
    server.server_close()


def test_the_sink_of_deals_fills_its_file(tmp_path: Path) -> None:
    sink = example("Deals")
    written(sink, deal(1), deal(2), path=tmp_path / "deals.db")
    with closing(sqlite3.connect(tmp_path / "deals.db")) as connection:
        rows = connection.execute("SELECT ticket, symbol, profit FROM deals").fetchall()
    assert rows == [(1, "EURUSD", 2.5), (2, "EURUSD", 2.5)]


def test_the_webhook_tells_of_a_breach(posted: tuple[str, list[bytes]]) -> None:
    url, bodies = posted
    webhook = example("Webhook")
    assert webhook.types == {LimitBreach.TYPE, TerminalDown.TYPE}
    sink: type[Sink] = type("Mine", (webhook,), {"url": url})
    down = TerminalDown(event_time_ms=5, terminal="a", reason="lost", detail="pulled the plug")
    written(sink, down)
    [body] = bodies
    assert b"pulled the plug" in body


def test_a_file_of_ones_own_with_a_sink_is_run_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = next(b.text for b in read_page(PAGE).blocks if "class Deals(" in b.text)
    (tmp_path / "sinks_of_mine.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    group = GroupSpec("deals", "sinks_of_mine:Deals", {"path": "other.db"}).group()
    assert isinstance(group, SinkGroup)
    assert getattr(group.sink, "path") == "other.db"  # noqa: B009 - of the example, not of Sink
