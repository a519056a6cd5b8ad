"""Small numbers for names: terminals, symbols and streams, made when first seen."""

from __future__ import annotations

from events.log import Slot, Stream
from events.postgres.connection import Connection
from events.postgres.tables import text


class Dimensions:
    """Ids of one database, remembered for ever: names are never deleted or renumbered.

    Every method may raise the driver's errors; ids are committed at once, outside the
    transaction that uses them.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._terminals: dict[str, int] = {}
        self._symbols: dict[tuple[str, str], int] = {}
        self._streams: dict[Stream, int] = {}
        self._feeds: dict[tuple[Stream, str], int] = {}

    def stream(self, stream: Stream) -> int:
        if stream not in self._streams:
            terminal = self.terminal(stream.slot.namespace)
            self._streams[stream] = self._id_of(
                "SELECT id FROM raw.streams WHERE name = %s",
                "INSERT INTO raw.streams (name, terminal_id) VALUES (%s, %s)"
                " ON CONFLICT DO NOTHING",
                (str(stream),),
                (str(stream), terminal),
            )
        return self._streams[stream]

    def symbol(self, namespace: str, symbol: str) -> int:
        if (namespace, symbol) not in self._symbols:
            place = (self.terminal(namespace), text(symbol))
            self._symbols[namespace, symbol] = self._id_of(
                "SELECT id FROM raw.symbols WHERE terminal_id = %s AND name = %s",
                "INSERT INTO raw.symbols (terminal_id, name) VALUES (%s, %s)"
                " ON CONFLICT DO NOTHING",
                place,
                place,
            )
        return self._symbols[namespace, symbol]

    def feed(self, stream: Stream, symbol: str) -> int:
        if (stream, symbol) not in self._feeds:
            place = (self.stream(stream), self.symbol(stream.slot.namespace, symbol))
            self._feeds[stream, symbol] = self._id_of(
                "SELECT id FROM raw.feeds WHERE stream_id = %s AND symbol_id = %s",
                "INSERT INTO raw.feeds (stream_id, symbol_id) VALUES (%s, %s)"
                " ON CONFLICT DO NOTHING",
                place,
                place,
            )
        return self._feeds[stream, symbol]

    def terminal(self, namespace: str) -> int:
        if namespace not in self._terminals:
            self._terminals[namespace] = self._id_of(
                "SELECT id FROM raw.terminals WHERE name = %s",
                "INSERT INTO raw.terminals (name) VALUES (%s) ON CONFLICT DO NOTHING",
                (namespace,),
                (namespace,),
            )
        return self._terminals[namespace]

    def remember_streams(self, slot: Slot) -> None:
        """Make the ids of a slot's streams now."""
        for stream in slot.streams():
            self.stream(stream)

    def retire_streams(self, slot: Slot) -> None:
        """Rename a slot's streams, so that the log begun anew gets numbers of its own."""
        names = [str(stream) for stream in slot.streams()]
        self._connection.execute(
            "UPDATE raw.streams SET name = name || ' until ' || now() WHERE name = ANY(%s)",
            (names,),
        )
        for stream in slot.streams():
            self._streams.pop(stream, None)
        retired = [key for key in self._feeds if key[0].slot == slot]
        for key in retired:
            del self._feeds[key]

    def _id_of(
        self, select: str, insert: str, key: tuple[object, ...], row: tuple[object, ...]
    ) -> int:
        found = self._connection.execute(select, key).fetchone()
        if found is None:
            self._connection.execute(insert, row)
            found = self._connection.execute(select, key).fetchone()
        assert found is not None, "a name that was just inserted is there"
        number: int = found[0]
        return number
