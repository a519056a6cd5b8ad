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
    WriterHeld,
)
from events.origin import LIVE, Origin
from producers.report import Report
from producers.tail_watch import LOOK_S, TailWatch

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


class LogRewound(LogError):
    """The log lost entries that we had appended: feeds go on from the cursors it has now."""


class Writer:
    """Appends to every partition of one namespace as the writer `source`.

    The whole cursor texts are remembered here, so that every append is a compare-and-set.
    Each feed belongs to one thread; different feeds may be appended at the same time.

    When the log comes back without its tail (or without our claim), its cursors are taken over
    and `rewinds` of the partition grows: every feed of it must go on from its cursor.
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
        look_s: float = LOOK_S,
        origin: Origin = LIVE,
    ) -> None:
        self.log, self.namespace, self.partitions, self.holder = log, namespace, partitions, holder
        self._report, self._origin = report, origin
        self._alive_within_s, self._beat_s = alive_within_s, beat_s
        self._claims: dict[int, Claim] = {}
        self._former: dict[Slot, str] = {}
        """Who held a slot before us: what a log without its tail may say again."""
        self._account: Claim | None = None
        self._texts: dict[int, dict[str, str]] = {}
        self._rewinds: dict[int, int] = {}
        self._claiming = threading.Lock()
        self._watch = TailWatch()
        self._looks_every = max(1, round(look_s / beat_s))
        self._stop = threading.Event()
        self._beater: threading.Thread | None = None
        self.fenced: Fenced | None = None
        """Set for good when another producer took over: stop writing."""

    def open(self) -> None:
        """Register the namespace, claim every slot, read every cursor.

        Raises WriterHeld (another producer lives), LogUnavailable, LogError.
        """
        self.partitions = self.log.open_namespace(self.namespace, self.partitions, self._origin)
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
        self._former[slot] = self.log.holder(slot)
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
        beats = 0
        while not self._stop.wait(self._beat_s):
            beats += 1
            try:
                self._beat_once()
                if beats % self._looks_every == 0:
                    self._look_for_lost_tail()
            except Fenced:
                on_fenced()
                return
            except LogError as error:
                self._report.incident("log", str(error))

    def _beat_once(self) -> None:
        """Raises Fenced when somebody else lives in our place."""
        for partition, claim in list(self._claims.items()):
            try:
                self.log.beat(claim)
            except Fenced as error:
                self._claim_again(partition, claim, error)
        account = self._account
        if account is not None:
            try:
                self.log.beat(account)
            except Fenced as error:
                self._account = self._claimed_again(account.slot, error)

    def _look_for_lost_tail(self) -> None:
        """Compare every cursor with the log's, also those of feeds that have nothing to append."""
        for partition in list(self._claims):
            ours = dict(self._texts[partition])
            found = self.log.cursors(self.slot(partition))
            if self._watch.astray(partition, ours, found):
                self._rewound(partition, found)

    def _claim_again(self, partition: int, lost: Claim, error: Fenced) -> None:
        """Our claim is gone from the log. When nobody took the slot over, the claim was lost with
        the log's tail: claim again. Raises Fenced otherwise, for good."""
        with self._claiming:
            if self._claims.get(partition) is not lost:
                return  # another thread did it
            if self.fenced is not None:
                raise self.fenced
            self.log.open_namespace(self.namespace, self.partitions, self._origin)
            self._claims[partition] = self._claimed_again(lost.slot, error)
        self._rewound(partition, self.log.cursors(lost.slot))

    def _claimed_again(self, slot: Slot, error: Fenced) -> Claim:
        """Raises Fenced, for good, when somebody took the slot over."""
        holder = self.log.holder(slot)
        if holder in ("", self.holder, self._former.get(slot, "")):
            try:
                return self.log.claim(slot, self.holder, alive_within_s=self._alive_within_s)
            except WriterHeld:
                pass
        self._fence(error)
        raise error from None

    def _rewound(self, partition: int, found: Mapping[str, str]) -> None:
        self._texts[partition] = dict(found)
        self._rewinds[partition] = self._rewinds.get(partition, 0) + 1
        self._report.count("log_rewinds")
        logger.warning(
            "%s lost entries that were appended: going on from its cursors, what is lost is "
            "pulled or sent again",
            self.slot(partition),
        )

    def rewinds(self, partition: int | None = None) -> int:
        """How often a partition (or any) was found without its tail."""
        if partition is None:
            return sum(self._rewinds.values())
        return self._rewinds.get(partition, 0)

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

        Raises Fenced; and StaleCursor, LogRewound, LogUnavailable or LogError: then `settle`.
        """
        texts, claim = self._texts[partition], self._claims[partition]
        cursors = [
            CursorMove(feed, texts.get(feed, ""), new) for feed, new in (moves or {}).items()
        ]
        try:
            appended = self.log.append(claim, entries, cursors)
        except Fenced as error:
            self._claim_again(partition, claim, error)
            raise LogRewound(f"{claim.slot} lost our claim, and was claimed again") from error
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
        rewound = False
        for feed, new in moves.items():
            text = found.get(feed, "")
            if text == texts.get(feed, ""):
                outcomes[feed] = Outcome.ABSENT
            elif text.rpartition("@")[0] == new:
                outcomes[feed] = Outcome.LANDED
            else:
                outcomes[feed] = Outcome.FOREIGN
                rewound |= _lies_before(text, texts.get(feed, ""))
            texts[feed] = text
        if rewound:
            self._rewound(partition, found)
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


def _lies_before(found: str, ours: str) -> bool:
    """Whether the log's cursor lies before the one we left there. (An append that was given up
    and took effect late left it behind ours.)"""
    last, known = cursor_entry(found), cursor_entry(ours)
    return known is not None and (last is None or last < known)


def cursor_entry(text: str) -> EntryId | None:
    """The id of the last entry of a feed, from the text the log keeps (`...@ms-seq`)."""
    _, at, id_ = text.rpartition("@")
    return EntryId.parse(id_) if at else None
