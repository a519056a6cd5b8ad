"""Everything of a guard beside one terminal host: made when the account is known, ended in order.

Until then the gate is closed: a guard that does not know its account cannot say that it is free.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import closing
from pathlib import Path
from threading import Event as Signal
from threading import Lock, Thread
from typing import Any

from events.decisions import Command, ReferenceSet, RulesSet
from events.embedded.file_lock import FileLock
from events.guarding import GuardState
from events.log import Log, LogError
from events.rules import Rules
from producers.guard.closer import FlattenCloser
from producers.guard.commands import CLOSED, Answer, Via
from producers.guard.flatten.intents import FLATTEN_FACT
from producers.guard.guard import Guard
from producers.guard.journal import HeardRow, Journal, open_journal
from producers.guard.options import GuardOptions
from producers.guard.watch.hard_limits import HardLimits
from producers.guard.watch.watch import Watch
from producers.guard.ways.following import LogFollower, NearGuard
from producers.guard.ways.rules_file import RulesSource, RulesWatcher
from producers.guard.ways.socket_server import ADDRESS_FILE, GuardSocket
from producers.spool.journal_file import JournalUnusable
from producers.terminals.client import HostClient
from producers.terminals.client.order_gate import GuardsWay, may_open
from producers.terminals.interface import Priority, TerminalLost

logger = logging.getLogger(__name__)

LOGIN_WITHIN_S = 5.0
LOGIN_AGAIN_S = 0.5
LOCK_FILE = "lock"


class GuardHeld(Exception):
    """Another guard watches this terminal already. The message names it."""


class GuardKeeper:
    """Owns guard, journal, socket, follower and lock of one terminal. `start`, `stop` once.

    `open_log` None: no log of its own (a terminal server; the bridge relays). `rules` None: the
    rules that were kept from before.
    """

    def __init__(
        self,
        client: HostClient,
        options: GuardOptions,
        *,
        open_log: Callable[[], Log] | None = None,
        namespace: str = "",
        rules: RulesSource | None = None,
        far: bool = False,
        locked: bool = True,
    ) -> None:
        """`locked`: hold the terminal's lock, so that no second guard runs. Raises GuardHeld."""
        self.options = options
        self._client, self._open_log, self._namespace = client, open_log, namespace
        self._rules, self._far = rules, far
        self._lock = FileLock(options.folder / LOCK_FILE)
        self._troubles: list[str] = []
        """What the guard is to tell when it is made."""
        if locked and not self._acquired():
            raise GuardHeld(
                f"another guard watches {options.terminal}{_holder(options.folder)}: stop the "
                "program it runs in first (bridgectl down)"
            )
        self._made = Lock()
        self.guard: Guard | None = None
        self._journal: Journal | None = None
        self._stops: list[Callable[[], None]] = []
        self._stopping, self.known = Signal(), Signal()
        """`known` is set when the account is, and the guard looks at it."""
        self._finder = Thread(target=self._find, name="guard-finder", daemon=True)
        client.order_gate = self._gate

    def start(self) -> None:
        """Guard from now on; returns at once. What a full or read-only disk takes away (socket,
        memory) is told, and done without."""
        try:
            socket = GuardSocket(self, self.options.folder, on_beat=self._beat)
            self._stops.append(socket.close)
            socket.start()
        except OSError as error:
            self._troubles.append(f"no socket: {error}; commands come by the log alone")
        login = self.options.login or self._login_before()
        if login is not None:
            self._make(login)
        else:
            self._finder.start()

    def stop(self) -> None:
        """End everything but journal and client: what was told can still be heard. May be called
        twice. A latched gate stays closed."""
        self._stopping.set()
        if self._finder.is_alive():
            self._finder.join()
        for stop in reversed(self._stops):
            stop()
        self._stops.clear()

    def close(self) -> None:
        """Stop, close the journal, free the terminal for another guard."""
        self.stop()
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        self._lock.release()

    def tell(self, command: Command, via: Via = "socket") -> Answer:
        """See Guard.tell."""
        guard = self.guard
        if guard is None:
            return Answer(False, f"{CLOSED}: no new trades until then, nothing can be closed yet")
        return guard.tell(command, via)

    def hear(self, after_row: int, count_max: int = 500) -> list[HeardRow]:
        """See Guard.hear; nothing before the account is known."""
        return [] if self.guard is None else self.guard.hear(after_row, count_max)

    def state(self) -> GuardState | None:
        """None before the account is known."""
        return None if self.guard is None else self.guard.state()

    def newest_row(self) -> int:
        """The row of the newest event."""
        return 0 if self.guard is None else self.guard.newest_row()

    def identity(self) -> str:
        """Names the journal whose rows are heard; empty before the account is known."""
        return "" if self._journal is None or self.guard is None else self._journal.id

    def heard_log(self) -> None:
        """Somebody who follows the log for us says that it answers."""
        if self.guard is not None:
            self.guard.watch.heard_log()

    def state_reference(self, stated: ReferenceSet) -> bool:
        """See Guard.state_reference."""
        return self.guard is not None and self.guard.state_reference(stated)

    def offer_rules(self, rules: Rules, told: RulesSet) -> bool:
        """Rules of the bridge that uses this terminal; they hold where there are no own ones."""
        if self.guard is None or self._rules is not None or told.login != self.guard.login:
            return False
        if rules.checksum != self.guard.watch.rules.checksum:
            self.guard.set_rules(rules, told=told)
        return True

    def _acquired(self) -> bool:
        """Whether no other guard runs; where a lock cannot even be written, nobody can say."""
        try:
            return self._lock.acquire()
        except OSError as error:
            self._troubles.append(f"no lock: {error}; make sure that no other guard runs")
            return True

    def _gate(self, request: Mapping[str, Any], by_guard: bool) -> str | None:
        guard = self.guard
        if guard is not None:
            return guard.gate(request, by_guard)
        return None if by_guard or not may_open(request) else CLOSED

    def _beat(self) -> None:
        if self.guard is not None:
            self.guard.watch.heard_beat()

    def _login_before(self) -> int | None:
        """The account that was left latched, or half closed: whatever the terminal shows now,
        that one is guarded first."""
        for path in sorted(self.options.folder.glob("*.sqlite")):
            if path.stem.isdecimal():
                try:
                    with closing(Journal(path)) as journal:
                        if journal.read(int(path.stem)) or journal.fact(FLATTEN_FACT):
                            return int(path.stem)
                except JournalUnusable as error:
                    logger.error("whether an account was left latched is not known: %s", error)
        return None

    def _find(self) -> None:
        """Ask the terminal for its account until it says."""
        while not self._stopping.is_set():
            try:
                future = self._client.submit("account_info", priority=Priority.ACCOUNT)
                reply = future.result(timeout=LOGIN_WITHIN_S)
                if not reply.unknown and reply.value.login:
                    self._make(int(reply.value.login))
                    return
            except (TerminalLost, FutureTimeout) as error:
                logger.debug("the account is not known yet: %s", error)
            except LogError as error:
                logger.critical("no guard: %s", error)
            self._stopping.wait(LOGIN_AGAIN_S)

    def _make(self, login: int) -> None:
        options = self.options
        journal, forgotten = open_journal(options.folder / f"{login}.sqlite")
        client = GuardsWay(self._client)
        watch = Watch(
            client,
            HardLimits(journal, login=login),
            login=login,
            terminal=options.terminal,
            heartbeat_file=options.heartbeat,
            look_within_s=options.look_within_s,
            poll_s=options.poll_s,
            idle_s=options.idle_s,
        )
        closer = FlattenCloser(
            client, journal, login=login, terminal=options.terminal, magic=options.magic,
            rules=lambda: watch.rules.guard, on_page=self._page, lately=watch.lately.all,
            sound_s=watch.sound_s, far=self._far,
        )  # fmt: skip
        guard = Guard(watch, closer, journal, options, login=login)
        if forgotten:  # it may have been latched
            guard.latch(f"the guard lost its memory: {forgotten}", "guard")
            self._troubles.append(forgotten)
        for number, trouble in enumerate(self._troubles):
            guard.voice.alert("critical", "guard", trouble, about=str(number))
        with self._made:
            self._journal, self.guard = journal, guard
            if self._rules is not None:
                watcher = RulesWatcher(guard, self._rules)
                watcher.start()
                self._stops.append(watcher.stop)
            guard.start()
            self._stops.append(guard.stop)
            if self._open_log is not None:
                guard.follows_log = True
                follower = LogFollower(NearGuard(guard), self._open_log, namespace=self._namespace)
                follower.start()
                self._stops.append(follower.stop)
        self.known.set()

    def _page(self, text: str, cure: str) -> None:
        """A page of the closing machine is in the journal already; it goes past a dead log."""
        if self.guard is not None:
            self.guard.voice.page(text, cure)


def _holder(folder: Path) -> str:
    """Which process holds the lock, as its address file tells."""
    try:
        return f" in process {int(json.loads((folder / ADDRESS_FILE).read_text('utf-8'))['pid'])}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
