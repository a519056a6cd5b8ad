"""Whoever acts on an account, or wakes people, leaves namespaces alone that hold the past."""

from __future__ import annotations

import logging

import pytest

from events.log import LogError
from events.memory_log import MemoryLog
from events.origin import LIVE, ORIGINS, NotLive, refuse_unless_live
from producers.guard.ways import following
from tests.servers import wait_until


@pytest.mark.parametrize("origin", [one for one in ORIGINS if one != LIVE])
def test_a_guard_says_once_that_a_namespace_holds_the_past(
    origin: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("events.following.BACK_OFF_S", (0.001,))
    log, opened = MemoryLog(), 0
    log.open_namespace("past", 1, origin)  # type: ignore[arg-type] # one of them

    def opening() -> MemoryLog:
        nonlocal opened
        opened += 1
        return log

    caplog.set_level(logging.WARNING)
    guard = following.LogFollower(_Untouched(), opening, namespace="past")  # type: ignore[arg-type] # never asked
    guard.start()
    try:
        wait_until(lambda: opened > 5)
    finally:
        guard.stop()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert f"came by {origin}: a guard follows only what a terminal's producer writes" in told[0]


class _Untouched:
    """Fails whoever asks it anything."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"a guard that is refused looked at {name}")


def test_a_namespace_stays_what_it_was_opened_as() -> None:
    log = MemoryLog()
    for origin in ORIGINS:
        log.open_namespace(origin, 1, origin)
        refused = [other for other in ORIGINS if other != origin]
        if origin == LIVE:
            refused.remove("import")  # ticks may be imported into a live one
        for other in refused:
            with pytest.raises(LogError, match=f"came by {origin}"):
                log.open_namespace(origin, 1, other)
        assert log.origin(origin) == origin
        if origin != LIVE:
            with pytest.raises(NotLive, match=f"came by {origin}: a guard"):
                refuse_unless_live(log, origin, who="a guard")
