"""Group `risk`: from every look at an account to figures, breached limits, and what the guard is
asked to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import ValidationError

from consumers.risk.figures import realised
from consumers.risk.looking import Looking
from consumers.risk.memory import Known, Memory
from consumers.runtime.handler import Handler, Inputs, Order
from events.alerts import Alert
from events.codec import AnyEvent
from events.decisions import Command, ReferenceSet, RulesSet
from events.guarding import GuardState, LatchChanged
from events.log import OPERATOR, SOURCE, Lane
from events.market import Closes, Contracts, Quotes
from events.marks import Marks
from events.operations import TerminalDown, TerminalUp
from events.rules import Rules
from events.trading import Account, Book, Deal, Orders


class RiskHandler(Handler):
    """Judges every look at the account; yields RiskMetrics, LimitBreach and Command.

    `rules_json`, when given, holds in place of all rules in the log: that is how other rules are
    tried on what was recorded.
    """

    order: ClassVar[Order] = Order.PRIORITY
    inputs: ClassVar[Inputs] = Inputs(writers=(SOURCE, OPERATOR), lanes=(Lane.CRITICAL, Lane.HIGH))
    tasks: ClassVar[int | None] = 1
    types: ClassVar[frozenset[str]] = frozenset(
        {
            "account", "book", "marks", "quotes", "contracts", "closes", "deal", "orders",
            "rules", "reference_set", "command", "latch", "guard_state", "terminal_up",
            "terminal_down",
        }
    )  # fmt: skip
    version: ClassVar[str] = "2"

    rules_json = ""

    def setup(self) -> None:
        """Nothing is known yet of what lies in the state; other rules are read once."""
        self._known: dict[int, Known] = {}
        self._own = Rules.model_validate_json(self.rules_json) if self.rules_json else None

    def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
        login = getattr(event, "login", None)
        if login is None:
            login = self.state.get("login")
            if login is None:
                return
        if isinstance(event, Account | TerminalUp):
            self.state["login"] = login
        known = self._known.setdefault(login, Known())
        memory = Memory(self.state, login, known, trial=self._own is not None)
        if self._own is not None and memory.rules != self._own:
            memory.take_rules(self._own)
        counts = memory.counts
        if counts["first_seen_ms"] is None and isinstance(event, Account | Deal | Book):
            counts["first_seen_ms"] = event.recv_time_ms
        yield from self._taken(event, memory, login)

    def _taken(self, event: AnyEvent, memory: Memory, login: int) -> Iterator[AnyEvent]:
        if isinstance(event, Account):
            memory.take_account(event)
            yield from self._looking(memory, login).account(event)
        elif isinstance(event, Marks):
            # An account that is not told with its marks is the one before: it was looked at.
            yield from self._looking(memory, login).unchanged(event.event_time_ms)
            memory.take_marks(event)
        elif isinstance(event, GuardState | TerminalDown):
            yield from self._looking(memory, login).sign_of_life(event)
        elif isinstance(event, RulesSet):
            yield from self._rules(event, memory)
        elif isinstance(event, ReferenceSet):
            yield from self._looking(memory, login).stated(event)
        elif isinstance(event, LatchChanged | Command):
            self._resumed(event, memory, login)
        else:
            self._facts(event, memory)

    def _facts(self, event: AnyEvent, memory: Memory) -> None:
        """What is only remembered."""
        if isinstance(event, Book):
            memory.take_book(event)
        elif isinstance(event, Quotes):
            memory.take_quotes(event)
        elif isinstance(event, Deal):
            since_ms = memory.watched.references.since_ms
            realised.book_deal(memory.ledger, memory.counts, event, since_ms=since_ms)
        elif isinstance(event, Contracts):
            memory.take_contracts(event)
        elif isinstance(event, Closes):
            memory.take_closes(event)
        elif isinstance(event, Orders):
            memory.told["orders_open"] = len(event.orders)
        elif isinstance(event, TerminalUp):
            memory.told.pop("down", None)

    def _looking(self, memory: Memory, login: int) -> Looking:
        assert self.entry is not None, "handlers are told the entry before the event"
        return Looking(memory, login, self.entry)

    def _rules(self, event: RulesSet, memory: Memory) -> Iterator[AnyEvent]:
        """Follow other rules; those that cannot be read change nothing."""
        if self._own is not None:
            return
        try:
            memory.take_rules(Rules.model_validate(event.rules))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            yield Alert(
                event_time_ms=event.event_time_ms,
                severity="critical",
                topic="rules",
                subject=str(event.login),
                text=f"rules from {event.source or 'the log'} are refused ({where}: "
                f"{first['msg']}); those before still hold",
                cure="check the file with `bridgectl risk check FILE`; upgrade all programs alike",
            )

    def _resumed(self, event: LatchChanged | Command, memory: Memory, login: int) -> None:
        """A human ended every lock: what is reached still acts again."""
        if isinstance(event, Command):
            typed = str(event.arguments.get("typed_login", ""))
            if event.verb != "resume" or typed != str(login):
                return
        elif event.latched or not event.command_id:
            return
        for what in ("unknown", "windows"):  # what still holds is asked for again
            memory.told.pop(what, None)
        watched = memory.watched
        memory.watched = watched.model_copy(update={"trips": watched.trips.released()})
