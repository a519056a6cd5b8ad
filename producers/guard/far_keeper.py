"""A served terminal's guard: the one beside the terminal where there is one, else one of ours.

Which it is shows when the link is up. Until then no order may leave that could open something.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event as Signal
from threading import Thread
from typing import Any

from events.decisions import Command, ReferenceSet, RulesSet
from events.guarding import GuardState
from events.log import Log, LogError
from events.rules import Rules
from events.rules.files import BadRules
from producers.guard.commands import CLOSED, Answer, Via
from producers.guard.journal import HeardRow, Journal
from producers.guard.keeper import GuardKeeper
from producers.guard.ways.far import FarGuard
from producers.guard.ways.following import LogFollower
from producers.guard.ways.rules_file import RulesSource
from producers.guard.ways.serving import Told
from producers.guard.ways.socket_server import GuardSocket
from producers.terminals.client import HostClient
from producers.terminals.client.order_gate import may_open
from producers.terminals.interface import TerminalLost

logger = logging.getLogger(__name__)

UP_S = 5.0
JOURNAL_FILE = "far.journal"
RULES_EVERY_S = 5.0


class FarKeeper:
    """In the place of a GuardKeeper. `make_near` makes a guard of our own, over the link."""

    def __init__(
        self,
        client: HostClient,
        folder: Path,
        *,
        make_near: Callable[[], GuardKeeper],
        open_log: Callable[[], Log] | None,
        namespace: str,
        rules: RulesSource,
    ) -> None:
        self._client, self._folder, self._make_near = client, folder, make_near
        self._open_log, self._namespace, self._rules = open_log, namespace, rules
        self._told: Told | None = None
        self._journal: Journal | None = None
        self._near: GuardKeeper | None = None
        self._stops: list[Callable[[], None]] = []
        self._stopping, self.known = Signal(), Signal()
        self._thread = Thread(target=self._choose, name="guard-far", daemon=True)
        client.order_gate = self._gate

    def start(self) -> None:
        """Find out in the background."""
        self._thread.start()

    def stop(self) -> None:
        """End our side; a guard beside the terminal stays. May be called twice."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        for stop in reversed(self._stops):
            stop()
        self._stops.clear()

    def close(self) -> None:
        """Stop, and free what is held."""
        self.stop()
        if self._near is not None:
            self._near.close()
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def tell(self, command: Command, via: Via = "socket") -> Answer:
        """Raises LogError."""
        return Answer(False, f"{CLOSED}") if self._told is None else self._told.tell(command, via)

    def hear(self, after_row: int, count_max: int = 500) -> list[HeardRow]:
        """Raises LogError."""
        return [] if self._told is None else self._told.hear(after_row, count_max)

    def state(self) -> GuardState | None:
        """Raises LogError."""
        return None if self._told is None else self._told.state()

    def newest_row(self) -> int:
        """Raises LogError."""
        return 0 if self._told is None else self._told.newest_row()

    def identity(self) -> str:
        """Raises LogError."""
        return "" if self._told is None else self._told.identity()

    def heard_log(self) -> None:
        """See GuardKeeper."""
        if self._told is not None:
            self._told.heard_log()

    def state_reference(self, stated: ReferenceSet) -> bool:
        """Raises LogError."""
        return self._told is not None and self._told.state_reference(stated)

    def offer_rules(self, rules: Rules, told: RulesSet) -> bool:
        """Raises LogError."""
        return self._told is not None and self._told.offer_rules(rules, told)

    def _gate(self, request: Mapping[str, Any], by_guard: bool) -> str | None:
        return None if by_guard or not may_open(request) else CLOSED

    def _choose(self) -> None:
        while not self._stopping.is_set():
            try:
                self._client.wait_until_up(UP_S)
                if self._client.state().facts.get("guard"):
                    self._use_far()
                else:
                    self._use_near()
                self.known.set()
                break
            except TerminalLost as error:
                logger.debug("no guard is chosen yet: %s", error)
                self._stopping.wait(1.0)
            except Exception:
                logger.exception("no guard: nothing may be opened")
                self._stopping.wait(UP_S)
        while self._journal is not None and not self._stopping.wait(RULES_EVERY_S):
            self._offer_own_rules()

    def _use_near(self) -> None:
        logger.warning("the terminal server has no guard: guarding over the link")
        near = self._near = self._near or self._make_near()
        near.start()
        self._told = near
        self._stops.append(near.stop)

    def _use_far(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._journal = self._journal or Journal(self._folder / JOURNAL_FILE)
        far = FarGuard(self._client, self._journal)
        self._told = far
        self._client.order_gate = None  # the server's own gate decides
        socket = GuardSocket(self, self._folder)
        socket.start()
        self._stops.append(socket.close)
        if self._open_log is not None:
            follower = LogFollower(far, self._open_log, namespace=self._namespace)
            follower.start()
            self._stops.append(follower.stop)
        self._offer_own_rules()

    def _offer_own_rules(self) -> None:
        """Rules of this side hold there unless that side has its own."""
        try:
            rules = self._rules.read()
            state = self.state()
            if state is None or rules == Rules():
                return
            event = RulesSet(
                event_time_ms=state.event_time_ms,
                login=state.login,
                rules=rules.model_dump(mode="json"),
                source=self._rules.name,
                checksum=rules.checksum,
            )
            if not self.offer_rules(rules, event):
                logger.debug("the guard beside the terminal has rules of its own")
        except BadRules as error:
            logger.error("the rules are refused: %s", error)
        except LogError as error:
            logger.debug("rules are not offered: %s", error)
