"""Which deals were taken already: the newest tickets of an account, in pieces of bounded size."""

from __future__ import annotations

from consumers.runtime.state import State

PIECE_TICKETS_MAX = 512
"""A commit writes the newest piece; it grows to so many."""
PIECES_MAX = 64
"""So many pieces are remembered: 32 768 tickets of each account."""


class KnownTickets:
    """Remembers tickets of one account in a handler's state.

    Of what was forgotten only the time remains: a ticket of that time or before counts as known,
    because a deal that is told twice would be a trade that never was.
    """

    def __init__(self, state: State, login: int) -> None:
        self._state, self._name = state, f"tickets:{login}"
        self._known: set[int] = set()
        index = state.get(self._name)
        if index is not None:
            for number in range(index["first"], index["last"] + 1):
                self._known.update(state[f"{self._name}:{number}"]["tickets"])

    def add(self, ticket: int, time_ms: int) -> bool:
        """Whether it is new; from now on it is known."""
        index = self._state.setdefault(self._name, {"first": 0, "last": -1, "forgotten_ms": -1})
        if ticket in self._known or time_ms <= index["forgotten_ms"]:
            return False
        piece = self._state.get(f"{self._name}:{index['last']}")
        if piece is None or len(piece["tickets"]) >= PIECE_TICKETS_MAX:
            index["last"] += 1
            piece = {"tickets": [], "newest_ms": -1}
            self._state[f"{self._name}:{index['last']}"] = piece
        piece["tickets"].append(ticket)
        piece["newest_ms"] = max(piece["newest_ms"], time_ms)
        self._known.add(ticket)
        if index["last"] - index["first"] >= PIECES_MAX:
            self._forget(index)
        return True

    def _forget(self, index: dict[str, int]) -> None:
        """The piece with the oldest deals: deals of the past come after newer ones."""
        names = [f"{self._name}:{one}" for one in range(index["first"], index["last"])]
        oldest = min(names, key=lambda name: int(self._state[name]["newest_ms"]))
        gone = self._state[oldest]
        index["forgotten_ms"] = max(index["forgotten_ms"], gone["newest_ms"])
        self._known.difference_update(gone["tickets"])
        if oldest != names[0]:
            self._state[oldest] = self._state[names[0]]
        del self._state[names[0]]
        index["first"] += 1
