"""A guard whose memory is damaged or cannot be written still guards, and trusts nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from events.alerts import Alert
from events.guarding import FlattenEnded
from events.latch import Latch
from events.redis import open_log
from producers.terminals.interface import NotSent
from tests.integration.guarding import (
    LOGIN,
    command,
    guard_of,
    guarded,
    hosted,
    market,
    open_positions,
    positions,
    resume,
    spec_of,
    told,
)
from tests.servers import RedisServer, wait_until


@pytest.mark.parametrize("damage", ["no database", "no folder"])
def test_a_guard_without_its_memory_is_latched_and_closes(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "guard"
    with hosted(spec_of()) as client:
        open_positions(client, 2)
        if damage == "no database":
            folder.mkdir()
            (folder / f"{LOGIN}.sqlite").write_bytes(b"\xff" * 9_000)
        else:
            folder.write_text("a file where the folder should be")
        with guarded(client, folder) as keeper:
            with pytest.raises(NotSent, match="halted: the guard lost its memory"):
                client.call("order_send", market())
            alerts = [one.text for one in told(keeper, Alert) if one.severity == "critical"]
            assert any("guard's journal" in text for text in alerts)
            assert keeper.tell(command("flatten")).accepted
            wait_until(lambda: bool(told(keeper, FlattenEnded)), what="the flatten ends")
            assert positions(client) == 0
            assert keeper.tell(resume()).accepted
            assert guard_of(keeper).latching.current is None


@pytest.mark.parametrize("named", [True, False], ids=["with its id", "without"])
def test_a_latch_in_the_log_that_cannot_be_read_latches(
    redis_server: RedisServer, named: bool
) -> None:
    log = open_log(redis_server.url)
    log.open_namespace("sim")
    store = log.latches("sim")
    store.set(Latch(login=1, latch_id="a", reason="r", by="b", since_ms=1))
    with redis.Redis.from_url(redis_server.url) as raw:
        raw.hset("{sim}:latches", "1", "{broken")
        if not named:
            raw.hdel("{sim}:latches", "1:id")
    held = store.read(1)
    assert held is not None
    assert "cannot be read" in held.reason
    assert store.clear(1, held.latch_id)
    assert store.read(1) is None
    log.close()
