"""The newest values of a kind in a handler's state, first in first out."""

from __future__ import annotations

from typing import Any

from consumers.runtime.state import State

PIECE_MAX = 256


class Newest:
    """At most about `values_max` values by key; a commit writes those that changed and one piece
    of the list of keys."""

    def __init__(self, state: State, name: str, values_max: int) -> None:
        self._state, self._name = state, name
        self._pieces_max = max(1, values_max // PIECE_MAX)

    def get(self, key: int) -> Any | None:
        return self._state.get(f"{self._name}:{key}")

    def put(self, key: int, value: Any) -> None:
        """Keep a value; the oldest ones leave. A key that is there already is replaced."""
        there = f"{self._name}:{key}" in self._state
        self._state[f"{self._name}:{key}"] = value
        if there:
            return
        index = self._state.setdefault(f"{self._name}-keys", {"first": 0, "last": 0})
        keys: list[int] = self._state.setdefault(f"{self._name}-keys:{index['last']}", [])
        keys.append(key)
        if len(keys) < PIECE_MAX:
            return
        index["last"] += 1
        if index["last"] - index["first"] > self._pieces_max:
            oldest = f"{self._name}-keys:{index['first']}"
            for one in self._state[oldest]:
                del self._state[f"{self._name}:{one}"]
            del self._state[oldest]
            index["first"] += 1
