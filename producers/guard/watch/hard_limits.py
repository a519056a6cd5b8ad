"""The guard's own limits: the hard ones, judged at every look from its own references.

Needs neither log nor database nor consumers. Soft limits are group `risk`'s, which sends commands.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from events.decisions import ReferenceSet
from events.rules import (
    BalanceOperation,
    Lock,
    Reading,
    References,
    Rules,
    Verdict,
    Watched,
    advance,
    floors,
    judge,
    look,
    trading_day,
    with_set,
)
from events.rules.references import DAY_BALANCE
from producers.guard.journal import Journal
from producers.guard.watch.looking import Look as TerminalLook

logger = logging.getLogger(__name__)

REFERENCES_FACT, RULES_FACT = "references", "rules"
KEEP_EVERY_S = 1.0
"""References are written down so often while they only creep; a crash in between loses less than
the worst-case bound of the next start adds."""


@dataclass(frozen=True, slots=True)
class Found:
    """What hard limits make of one reading."""

    acting: tuple[Verdict, ...]
    """Confirmed: act on them now."""
    reached: frozenset[str]
    """Limits beyond act in this reading, confirmed or not."""
    reread: bool
    """Whether the account must be read again at once."""


class HardLimits:
    """Rules and references of one account. For one thread, except `rules` and `floor`."""

    def __init__(self, journal: Journal, *, login: int) -> None:
        self._journal, self._login = journal, login
        self.rules = _kept_rules(journal)
        self._references = _kept_references(journal)
        self._kept = self._references
        self._kept_at = 0.0
        self._watched = Watched()
        """How far limits are on their way; its references are not used."""
        self._identities: frozenset[int] | None = None

    @property
    def references(self) -> References | None:
        """What losses are measured from; None before the first reading."""
        return self._references if self._references and self._references.since_ms else None

    @property
    def floor(self) -> float | None:
        """Equity at which a hard limit acts; None: there is none, or nothing was read yet."""
        known = self.references
        if known is None:
            return None
        hard = [floor.act_equity for floor in floors(self.rules, known) if floor.hard]
        return max(hard, default=None)

    def set_rules(self, rules: Rules) -> None:
        """Follow other rules from here on. Raises LogError when they cannot be written down."""
        self.rules = rules
        self._journal.set_facts({RULES_FACT: rules.model_dump(mode="json")})

    def state(self, stated: ReferenceSet) -> bool:
        """Take over what a human stated; False before the first reading."""
        if self.references is None or stated.login != self._login:
            return False
        assert self._references is not None
        self._references = with_set(self._references, stated)
        self.keep()
        return True

    def reading_of(
        self,
        seen: TerminalLook,
        *,
        cost_of_closing: float,
        operations: Mapping[int, float],
        reset_balance: float | None = None,
        counts: bool = True,
    ) -> Reading:
        """A look in the words of the rules. `operations`: amount by deal ticket. `counts`: what
        is open from now on counts as seen."""
        account = seen.account
        identities = (
            frozenset(int(row.identifier) for row in seen.positions)
            if seen.positions is not None
            else None
        )
        opened = 0
        if identities is not None:
            opened = len(identities - self._identities) if self._identities is not None else 0
            self._identities = identities if counts else self._identities
        return Reading(
            time_ms=seen.utc_ms,
            login=self._login,
            equity=None if account is None else float(account.equity),
            balance=None if account is None else float(account.balance),
            credit=0.0 if account is None else float(account.credit),
            floating=None if account is None else float(account.profit),
            margin=None if account is None else float(account.margin),
            positions=None if seen.positions is None else len(seen.positions),
            cost_of_closing=cost_of_closing,
            operations=tuple(
                BalanceOperation(ticket, seen.utc_ms, amount)
                for ticket, amount in operations.items()
            ),
            opened=opened,
            reset_balance=reset_balance,
            connected=seen.connected,
        )

    def reset_ms(self, now_ms: int) -> int:
        """When the firm's day that runs began."""
        account = self.rules.account
        return trading_day(
            now_ms, reset_time=account.reset_time, reset_zone=account.reset_zone
        ).start_ms

    def misses_reset(self, now_ms: int) -> bool:
        """Whether nobody saw the balance at the reset: before the first reading, or after one that
        passed while nobody looked."""
        known = self.references
        if known is None or DAY_BALANCE in known.unknown:
            return True
        gap = now_ms - known.time_ms > self.rules.account.gap_s * 1000
        return gap and now_ms >= known.day_until_ms

    def take(self, reading: Reading, *, now: float) -> None:
        """Move the references on by a reading, without judging it."""
        self._references = advance(self._references, reading, self.rules)
        self._keep_sometimes(now)

    def judge(
        self, reading: Reading, figures: Mapping[str, float | None], *, now_ms: int, now: float
    ) -> Found:
        """Move the references on, and judge the hard limits as `events.rules.look` does: one
        reading asks for another, a bad one neither trips them nor hides a breach, and what was
        seen is remembered from look to look."""
        watched = self._watched.model_copy(update={"references": self._references or References()})
        found = look(
            watched, self.alone(), reading, login=self._login, now_ms=now_ms, figures=figures
        )
        self._watched, self._references = found.watched, found.watched.references
        self._keep_sometimes(now)
        acts = {one.limit for one in found.decisions if one.kind == "act"}
        verdicts = judge(self.rules, found.watched.references, found.figures, now_ms=now_ms)
        return Found(
            acting=tuple(one for one in verdicts if one.limit in acts),
            reached=frozenset(one.limit for one in found.verdicts if one.level == "act"),
            reread=any(one.kind == "reread" for one in found.decisions),
        )

    def forget(self) -> None:
        """A human resumed, or a lock ended: limits act anew."""
        self._watched = self._watched.model_copy(update={"trips": self._watched.trips.released()})

    def alone(self) -> Rules:
        """The hard limits, without locks: what was closed may have to be closed again."""
        hard = (one for one in self.rules.limits if one.hard)
        return self.rules.model_copy(
            update={
                "limits": tuple(one.model_copy(update={"lock": Lock.NONE}) for one in hard),
                "windows": (),
            }
        )

    def _keep_sometimes(self, now: float) -> None:
        if self._references != self._kept and now - self._kept_at >= KEEP_EVERY_S:
            self._kept_at = now
            self.keep()

    def keep(self) -> None:
        """Write the references down. Raises LogError."""
        if self._references is not None and self._references.since_ms:
            self._journal.set_facts({REFERENCES_FACT: self._references.model_dump(mode="json")})
            self._kept = self._references


def _kept_rules(journal: Journal) -> Rules:
    """The rules that held last: they hold until others are read."""
    try:
        return Rules.model_validate(journal.fact(RULES_FACT) or {})
    except ValidationError as error:
        logger.error("the rules in %s cannot be read, none hold: %s", journal.path, error)
        return Rules()


def _kept_references(journal: Journal) -> References | None:
    found = journal.fact(REFERENCES_FACT)
    try:
        return None if found is None else References.model_validate(found)
    except ValidationError as error:
        logger.error("the references in %s cannot be read: %s", journal.path, error)
        return None
