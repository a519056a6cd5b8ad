"""The sender's own connection to the log: intents of group `execute`, switches of operators.

How far intents were taken lies in the sender's journal, with the checksum of the last one, so that
a log that was cut and grew again is read from its beginning: the journal knows what was sent. A
journal that is new knows nothing: what lies in the log then may have been sent by another one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Event as Signal
from typing import Any, NamedTuple, Protocol

from events.codec import BadEvent, UnknownEvent, decode, decode_data
from events.executing import ExecutionSet, OrderIntent
from events.following import LogThread
from events.log import (
    ACCOUNT_PARTITION,
    BEGIN,
    OPERATOR,
    Entry,
    EntryId,
    Lane,
    Log,
    LogError,
    Slot,
)
from events.offset import checksum_of
from events.origin import refuse_unless_live

logger = logging.getLogger(__name__)

EXECUTE = "execute"
"""The group whose intents are carried out."""
BLOCK_MS = 500
READ_MAX = 200
INHERIT_MAX = 500
"""Entries of a log that a new journal looks back on."""
LOOK_S = 5.0
"""How often the log is asked whether it is still the one that was read."""
PLACE_FACT = "place:"


class TakenIntent(NamedTuple):
    """An intent of the log. `facts`: what the journal is to note with it. `inherited`: somebody
    else may have sent it before."""

    intent: OrderIntent
    place: str
    facts: dict[str, Any]
    inherited: bool = False


class Taker(Protocol):
    """On whose behalf the log is followed."""

    def take(self, taken: TakenIntent) -> None:
        """Must return soon; waits while too many wait."""
        ...

    def switch(self, switched: ExecutionSet | None) -> None:
        """The operators' newest word; None: there is none in this log."""
        ...

    def forbid(self, why: str) -> None:
        """The log may not lead to orders; "": it may."""
        ...

    def began(self) -> None:
        """What lay in the log at the beginning was handed over."""
        ...

    def fact(self, name: str) -> Any: ...
    def note(self, facts: dict[str, Any]) -> None:
        """Raises LogError (the journal's)."""
        ...


class IntentFollower:
    """A thread that follows the log for one sender. `open_log` makes a connection of its own."""

    def __init__(
        self,
        taker: Taker,
        open_log: Callable[[], Log],
        *,
        namespace: str,
        login: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._taker = taker
        self._namespace, self._login, self._monotonic = namespace, login, monotonic
        self.intents = Slot(namespace, EXECUTE, ACCOUNT_PARTITION).stream(Lane.HIGH)
        self.operators = Slot(namespace, OPERATOR, ACCOUNT_PARTITION).stream(Lane.CRITICAL)
        self._place, self._checksum = BEGIN, 0
        self._read_again = Signal()
        self._log = LogThread(
            "orders-log", open_log, self._follow, who="the sender of orders reads no intents",
            monotonic=monotonic,
        )  # fmt: skip

    def start(self) -> None:
        """Follow in the background."""
        self._log.start()

    def read_again(self) -> None:
        """What was taken could not be written down: begin again at the journal's place."""
        self._read_again.set()

    def stop(self) -> None:
        """Returns when the connection is closed."""
        self._log.stop()

    def _follow(self, log: Log) -> None:
        """Raises LogError when the log goes away."""
        self._check_origin(log)
        seen = log.info(self.operators).last_id
        self._taker.switch(self._newest_switch(log))
        self._read_again.clear()
        self._begin(log)
        self._taker.began()
        looked_s = self._monotonic()
        while not self._log.stopping.is_set() and not self._read_again.is_set():
            found = log.read(
                {self.intents: self._place, self.operators: seen},
                count_max=READ_MAX, block_ms=BLOCK_MS,
            )  # fmt: skip
            for entry in found.get(self.operators, ()):
                self._take_switch(entry)
                seen = entry.id
            for entry in found.get(self.intents, ()):
                self._take(entry, inherited=False)
            if self._monotonic() - looked_s >= LOOK_S:
                looked_s = self._monotonic()
                self._check_origin(log)
                if not self._is_whole(log):
                    logger.warning("the log was cut: intents are read from its beginning")
                    self._place, self._checksum = BEGIN, 0
                if log.info(self.operators).last_id < seen:
                    return

    def _check_origin(self, log: Log) -> None:
        try:
            refuse_unless_live(log, self._namespace, who="whoever sends orders")
            self._taker.forbid("")
        except LogError as error:
            self._taker.forbid(str(error))

    def _newest_switch(self, log: Log) -> ExecutionSet | None:
        for (type_, key), data in log.last_states(self.operators.slot).items():
            if key == str(self._login) and type_.partition(".")[0] == ExecutionSet.TYPE:
                try:
                    event = decode_data(type_, key, data)
                except (UnknownEvent, BadEvent) as error:
                    logger.warning("a switch cannot be read, so nothing is sent: %s", error)
                    return None
                return event if isinstance(event, ExecutionSet) else None
        return None

    def _take_switch(self, entry: Entry) -> None:
        if not entry.type.startswith(f"{ExecutionSet.TYPE}."):
            return
        try:
            event = decode(entry)
        except (UnknownEvent, BadEvent) as error:
            logger.warning("a switch cannot be read, so nothing is sent: %s", error)
            self._taker.switch(None)
            return
        if isinstance(event, ExecutionSet) and event.login == self._login:
            self._taker.switch(event)

    def _begin(self, log: Log) -> None:
        """Where to go on: behind what the journal has."""
        kept = self._taker.fact(f"{PLACE_FACT}{self.intents}")
        if kept is not None:
            self._place, self._checksum = EntryId.parse(kept["id"]), int(kept["checksum"])
            if not self._is_whole(log):
                logger.warning("this is not the log that was read: intents are read from its begin")
                self._place, self._checksum = BEGIN, 0
            return
        newest = log.newest(self.intents, count_max=INHERIT_MAX)
        if not newest:
            self._taker.note({f"{PLACE_FACT}{self.intents}": {"id": str(BEGIN), "checksum": 0}})
        for entry in reversed(newest):
            self._take(entry, inherited=True)

    def _is_whole(self, log: Log) -> bool:
        """Whether the entry that was read last is still there, or was rightly removed."""
        if self._place == BEGIN:
            return True
        found = log.between(self.intents, self._place, self._place, count_max=1)
        if found:
            return checksum_of(found[0]) == self._checksum
        info = log.info(self.intents)
        return info.last_id >= self._place and (
            info.first_id is None or self._place < info.first_id
        )

    def _take(self, entry: Entry, *, inherited: bool) -> None:
        """One entry; one that is no intent, or cannot be read, is passed over."""
        self._place, self._checksum = entry.id, checksum_of(entry)
        try:
            event = decode(entry)
        except (UnknownEvent, BadEvent) as error:
            logger.error("not carried out: %s", error)
            return
        if isinstance(event, OrderIntent):
            facts = {
                f"{PLACE_FACT}{self.intents}": {"id": str(entry.id), "checksum": self._checksum}
            }
            self._taker.take(TakenIntent(event, entry.place, facts, inherited))
