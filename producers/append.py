"""The producer's right to write: claims of every slot, cursors of every feed, heartbeats."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from hashlib import blake2s

from events.log import (
    SOURCE,
    Appended,
    Claim,
    CursorMove,
    EntryId,
    Fenced,
    Log,
    LogError,
    LogUnavailable,
    NewEntry,
    Slot,
)
from producers.report import Report

logger = logging.getLogger(__name__)

ALIVE_WITHIN_S = 5.0
"""A holder whose heartbeat stood still that long is taken for dead."""
BEAT_S = 1.0
CLAIMS_AT_ONCE_MAX = 16


class Outcome(Enum):
    """What became of an append whose reply was lost or refused."""

    LANDED = "landed"
    ABSENT = "absent"
    FOREIGN = "foreign"
    """The cursor is neither where we left it nor where we sent it: read the feed's past again."""


class Writer:
    """Appends to every partition of one namespace as the writer `source`.

    The whole cursor texts are remembered here, so that every append is a compare-and-set.
    Each feed belongs to one thread; different feeds may be appended at the same time.
    """

    def __init__(
        self,
        log: Log,
        namespace: str,
        partitions: int,
        *,
        holder: str,
        report: Report,
        alive_within_s: float = ALIVE_WITHIN_S,
        beat_s: float = BEAT_S,
    ) -> None:
        self.log, self.namespace, self.partitions, self.holder = log, namespace, partitions, holder
        self._report = report
        self._alive_within_s, self._beat_s = alive_within_s, beat_s
        self._claims: dict[int, Claim] = {}
        self._account: Claim | None = None
        self._texts: dict[int, dict[str, str]] = {}
        self._stop = threading.Event()
        self._beater: threading.Thread | None = None
        self.fenced: Fenced | None = None
        """Set for good when another producer took over: stop writing."""

    def open(self) -> None:
        """Register the namespace, claim every slot, read every cursor.

        Raises WriterHeld (another producer lives), LogUnavailable, LogError.
        """
        self.partitions = self.log.open_namespace(self.namespace, self.partitions)
        with ThreadPoolExecutor(min(self.partitions, CLAIMS_AT_ONCE_MAX)) as pool:
            futures = [pool.submit(self._claim, self.slot(p)) for p in range(self.partitions)]
        taken = [future.result() for future in futures if future.exception() is None]
        errors = [error for future in futures if (error := future.exception()) is not None]
        if errors:
            for claim in taken:
                self._release(claim)
            raise errors[0]
        self._claims = {claim.slot.partition: claim for claim in taken}
        for partition in range(self.partitions):
            self._texts[partition] = dict(self.log.cursors(self.slot(partition)))

    def _claim(self, slot: Slot) -> Claim:
        return self.log.claim(slot, self.holder, alive_within_s=self._alive_within_s)

    def claim_account(self, login: int, server: str) -> None:
        """Make sure that no other namespace records the same account. Raises WriterHeld."""
        slot = account_slot(login, server)
        if self._account is not None and self._account.slot == slot:
            return
        claim = self._claim(slot)
        self._account, former = claim, self._account
        if former is not None:
            self._release(former)

    def slot(self, partition: int) -> Slot:
        """The slot this producer writes for a partition."""
        return Slot(self.namespace, SOURCE, partition)

    def start_beating(self, on_fenced: Callable[[], None]) -> None:
        """Show from a thread of its own that we live, whatever the terminal does."""
        self._beater = threading.Thread(
            target=self._beat, args=(on_fenced,), name="producer-beat", daemon=True
        )
        self._beater.start()

    def _beat(self, on_fenced: Callable[[], None]) -> None:
        while not self._stop.wait(self._beat_s):
            try:
                for claim in [*self._claims.values(), *([self._account] if self._account else [])]:
                    self.log.beat(claim)
            except Fenced as error:
                self._fence(error)
                on_fenced()
                return
            except LogError as error:
                self._report.incident("log", str(error))

    def _fence(self, error: Fenced) -> None:
        if self.fenced is None:
            self.fenced = error
            self._report.incident("log", f"{error}; this producer stops")

    def cursor(self, partition: int, feed: str) -> str:
        """The whole text of a feed's cursor, "" for one never seen."""
        return self._texts[partition].get(feed, "")

    def append(
        self, partition: int, entries: Sequence[NewEntry], moves: Mapping[str, str] | None = None
    ) -> Appended:
        """Append entries and move the cursors of their feeds (feed -> new text), all or nothing.

        Raises Fenced; and StaleCursor, LogUnavailable or LogError: then `settle`.
        """
        texts = self._texts[partition]
        cursors = [
            CursorMove(feed, texts.get(feed, ""), new) for feed, new in (moves or {}).items()
        ]
        try:
            appended = self.log.append(self._claims[partition], entries, cursors)
        except Fenced as error:
            self._fence(error)
            raise
        texts.update(appended.cursors)
        self._report.count("entries_appended", len(entries))
        # Only this shows that the log is well: one that is full still answers everything else.
        self._report.recovered("log")
        return appended

    def settle(self, partition: int, moves: Mapping[str, str]) -> dict[str, Outcome]:
        """Ask the log what became of an append that failed, and take over its cursors.

        Raises LogUnavailable when it still does not answer.
        """
        found = self.log.cursors(self.slot(partition))
        texts = self._texts[partition]
        outcomes = {}
        for feed, new in moves.items():
            text = found.get(feed, "")
            if text == texts.get(feed, ""):
                outcomes[feed] = Outcome.ABSENT
            elif text.rpartition("@")[0] == new:
                outcomes[feed] = Outcome.LANDED
            else:
                outcomes[feed] = Outcome.FOREIGN
            texts[feed] = text
        return outcomes

    def close(self) -> None:
        """Stop the heartbeat and give every slot up."""
        self._stop.set()
        if self._beater is not None:
            self._beater.join()
        for claim in [*self._claims.values(), *([self._account] if self._account else [])]:
            self._release(claim)
        self._claims, self._account = {}, None

    def _release(self, claim: Claim) -> None:
        try:
            self.log.release(claim)
        except (LogUnavailable, LogError) as error:
            logger.warning("%s could not be released: %s", claim.slot, error)


def account_slot(login: int, server: str) -> Slot:
    """The slot whose claim stands for one account at one server, in whatever namespace."""
    readable = re.sub(r"[^a-z0-9]+", "-", server.lower()).strip("-")[:12]
    digest = blake2s(f"{login}@{server}".encode(), digest_size=4).hexdigest()
    return Slot(f"account-{login}-{readable}-{digest}"[:48], SOURCE, 0)


def cursor_entry(text: str) -> EntryId | None:
    """The id of the last entry of a feed, from the text the log keeps (`...@ms-seq`)."""
    _, at, id_ = text.rpartition("@")
    return EntryId.parse(id_) if at else None
