"""Noticing that the log lost its tail: its cursors are not where appends left them.

A failover to a replica that lagged, a power failure, a restored copy or a FLUSHALL take
acknowledged entries away, with the cursors that counted them: what is left is a consistent prefix.
Whoever appends next hears of it (StaleCursor, Fenced). This watch is for feeds that are quiet.
"""

from __future__ import annotations

from collections.abc import Mapping

LOOK_S = 5.0
"""How often the log's cursors are compared with ours; longer than any reply is waited for."""


class TailWatch:
    """Compares cursors look by look. One look alone may meet an append that is under way: a
    difference counts when two looks in a row see the same one."""

    def __init__(self) -> None:
        self._seen: dict[int, dict[str, tuple[str, str]]] = {}

    def astray(self, partition: int, ours: Mapping[str, str], log: Mapping[str, str]) -> list[str]:
        """Feeds whose cursor in the log has not been ours for two looks."""
        differing = {
            feed: (text, log.get(feed, ""))
            for feed, text in ours.items()
            if text != log.get(feed, "")
        }
        before = self._seen.get(partition, {})
        self._seen[partition] = differing
        return [feed for feed, texts in differing.items() if before.get(feed) == texts]
