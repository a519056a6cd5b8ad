"""A read under way: the command was sent on a connection of its own, the reply comes later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from events.log import Entry, Stream
from events.redis.connect import Client

Found = dict[Stream, list[Entry]]


class RedisAskedRead:
    """See `events.ahead.AskedRead`. While its reply is awaited the server works, and so do we."""

    def __init__(
        self,
        client: Client,
        command: Sequence[Any],
        parse: Callable[[Any], Found],
        calls: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._parse, self._calls = parse, calls
        self._pool = client.connection_pool
        self._connection: Any = None
        with calls():
            self._connection = self._pool.get_connection()
            try:
                self._connection.send_command(*command)
            except BaseException:
                self.drop()
                raise

    def ready(self) -> bool:
        with self._calls():
            return bool(self._connection.can_read(0))

    def take(self) -> Found:
        connection, self._connection = self._connection, None
        with self._calls():
            try:  # the connection closes itself when it cannot read a reply to its end
                reply = connection.read_response()
            finally:
                self._pool.release(connection)
        return self._parse(reply)

    def drop(self) -> None:
        """Closes the connection: its reply would be taken for that of the next command."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()
            self._pool.release(connection)

    def __del__(self) -> None:
        self.drop()
