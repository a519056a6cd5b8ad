"""A copied log back into an empty server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from events.log import LogError
from events.redis import keys
from events.redis.copying.dump import Record
from events.redis.errors import errors_translated
from events.redis.log import RedisLog


class LogLoad:
    """Writes records into an empty server. Nothing of ours may be there, and nobody may run."""

    def __init__(self, log: RedisLog) -> None:
        self._log, self._client = log, log.client
        self._open: dict[str, tuple[str, int, Mapping[str, Any]]] = {}

    def refuse_unless_empty(self) -> None:
        """Raises LogError."""
        if self._log.volatile:
            raise LogError("the stand-in for Redis cannot take a copy: it forgets anyway")
        found = self._log.namespaces()
        if found:
            raise LogError(
                f"this Redis holds {', '.join(found)} already: restore into an empty one (another "
                "REDIS_URL, or FLUSHALL when nothing there is needed)"
            )

    def write(self, records: Iterable[Record]) -> int:
        """Returns the number of entries. Namespaces become visible last, when all is there."""
        entries, late = 0, []
        with errors_translated():
            for record in records:
                if record[0] == "key" and record[2] == keys.NAMESPACES:
                    late.append(record)
                elif record[0] == "entries":
                    entries += self._entries(record[1], record[2])
                elif record[0] == "stream":
                    self._begin(*record[1:])
                else:
                    self._key(*record[1:])
            for name, facts in self._open.items():
                self._end(name, *facts)
            for record in late:
                self._key(*record[1:])
        return entries

    def _begin(self, name: str, last: str, added: int, groups: Mapping[str, Any]) -> None:
        self._client.execute_command("XGROUP", "CREATE", name, "restore", "0-0", "MKSTREAM")
        self._client.execute_command("XGROUP", "DESTROY", name, "restore")
        self._open[name] = (last, added, groups)

    def _entries(self, name: str, page: Iterable[tuple[str, list[bytes]]]) -> int:
        pipeline = self._client.pipeline(transaction=False)
        count = 0
        for id_, fields in page:
            pipeline.execute_command("XADD", name, id_, *fields)
            count += 1
        pipeline.execute()
        return count

    def _end(self, name: str, last: str, added: int, groups: Mapping[str, Any]) -> None:
        self._client.execute_command(
            "XSETID", name, last, "ENTRIESADDED", added, "MAXDELETEDID", "0-0"
        )
        for group, (place, read) in groups.items():
            self._client.execute_command(
                "XGROUP", "CREATE", name, group, place, "ENTRIESREAD", read
            )

    def _key(self, kind: str, name: str, value: Any) -> None:
        if kind == "hash":
            self._client.hset(name, mapping=value)
        elif kind == "set":
            self._client.sadd(name, *value)
        elif kind == "string":
            self._client.set(name, value)
        elif kind == "zset":
            self._client.zadd(name, dict(value))
        else:
            self._client.rpush(name, *value)
