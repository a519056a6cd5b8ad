"""The latches of a namespace in Redis: one hash, two fields per account (the latch, its id)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from events.latch import Latch, unreadable_latch
from events.redis import keys
from events.redis.connect import Client
from events.redis.scripts import Script

_UNLATCH = Script("unlatch")
Run = Callable[[Script, Sequence[str], Sequence[Any]], Any]


class RedisLatches:
    """See `events.latch.LatchStore`."""

    def __init__(
        self,
        client: Client,
        run: Run,
        calls: Callable[[], AbstractContextManager[None]],
        namespace: str,
    ) -> None:
        self._client, self._run, self._calls = client, run, calls
        self._key = keys.latches(namespace)

    def read(self, login: int) -> Latch | None:
        with self._calls():
            found, named = self._client.hmget(self._key, [str(login), f"{login}:id"])
        if found is None:
            return None
        try:
            return Latch.model_validate_json(found)
        except ValueError:
            told = named.decode("utf-8", "replace") if named else "unreadable"
            return unreadable_latch(login, f"{self._key} of the log", told)

    def set(self, latch: Latch) -> None:
        login = str(latch.login)
        fields = {login: latch.model_dump_json(), f"{login}:id": latch.latch_id}
        with self._calls():
            self._client.hset(self._key, mapping=fields)

    def clear(self, login: int, latch_id: str) -> bool:
        return bool(self._run(_UNLATCH, [self._key], [str(login), latch_id]) == 1)
