"""A handler's state: values per key, of which a commit writes only what changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import msgpack

VALUE_BYTES_MAX = 16 * 1024 * 1024
"""Largest value of one key, packed."""


class UnstorableState(TypeError):
    """A handler put something into its state that cannot be stored. Names the key."""


class State(MutableMapping[str, Any]):
    """Text keys; values of None, bool, int, float, str, bytes, list and dict.

    Values may be changed in place. Tuples and objects are refused: they would come back as
    something else after a restart. Keys are iterated in sorted order, whatever store they are in.
    """

    def __init__(self, stored: Mapping[str, bytes] | None = None) -> None:
        self._stored = dict(stored or {})
        self._touched: dict[str, Any] = {}
        self._gone: set[str] = set()
        self.generation = 0
        """Another number whenever values are read anew: what was kept of them is out of date."""

    @property
    def stored(self) -> Mapping[str, bytes]:
        """What is durable of it."""
        return self._stored

    def __getitem__(self, key: str) -> Any:
        if key in self._touched:
            return self._touched[key]
        if key in self._gone:
            raise KeyError(key)
        value = self._touched[key] = msgpack.unpackb(self._stored[key], strict_map_key=False)
        return value

    def get(self, key: str, default: Any = None) -> Any:
        """The value, or `default`; asked for once per event, so without an exception inside."""
        if key in self._touched:
            return self._touched[key]
        if key not in self:
            return default
        return self[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise UnstorableState(f"state key {key!r}: keys are text")
        self._touched[key] = value
        if self._gone:
            self._gone.discard(key)

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        self._touched.pop(key, None)
        self._gone.add(key)

    def __contains__(self, key: object) -> bool:
        return key in self._touched or (key in self._stored and key not in self._gone)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted((self._stored.keys() | self._touched.keys()) - self._gone))

    def __len__(self) -> int:
        return len((self._stored.keys() | self._touched.keys()) - self._gone)

    def changes(self) -> tuple[dict[str, bytes], list[str]]:
        """What a commit has to write: new values by key, and keys that are gone.

        Raises UnstorableState.
        """
        changed = {}
        for key, value in self._touched.items():
            packed = _pack(key, value)
            if packed != self._stored.get(key):
                changed[key] = packed
        return changed, sorted(key for key in self._gone if key in self._stored)

    def settle(self, changed: Mapping[str, bytes], removed: list[str]) -> None:
        """The changes are durable now. Values are read anew from what was stored, so that a
        handler sees the same after a commit as after a restart."""
        self._stored.update(changed)
        for key in removed:
            self._stored.pop(key, None)
        self.discard()

    def discard(self) -> None:
        """Back to what is durable."""
        self.generation += 1
        self._touched.clear()
        self._gone.clear()


def _pack(key: str, value: Any) -> bytes:
    try:
        key.encode()
        packed: bytes = msgpack.packb(value, strict_types=True)
    except (TypeError, ValueError, OverflowError) as error:
        raise UnstorableState(
            f"state {key!r} cannot be stored ({error}): use None, bool, int, float, str, bytes, "
            "list and dict"
        ) from error
    if len(packed) > VALUE_BYTES_MAX:
        raise UnstorableState(
            f"state {key!r} has {len(packed)} bytes, at most {VALUE_BYTES_MAX}: keep it under "
            "several keys, or keep less"
        )
    return packed
