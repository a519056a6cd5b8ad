"""An account told reading by reading, for tests of rules: what is known and judged after each."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from events.rules import (
    BalanceOperation,
    Floor,
    Reading,
    References,
    Rules,
    Verdict,
    advance,
    floors,
    judge,
)
from events.rules.files import rules_of_text

LOGIN = 7


def ms(text: str, zone: str = "UTC") -> int:
    """UTC of `2026-03-29 00:00:00` in a zone."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def of_pack(name: str, account: str = "initial_balance = 100000\nhigh_water = 100000") -> Rules:
    """A pack with what a user states."""
    text = f'extends = "{name}"\n[account]\n{account}\n'
    return rules_of_text(text, where="rules.toml", folder=Path())


class Story:
    """An account under rules; times are written in the zone of the firm's day."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.references: References | None = None
        self.now_ms = 0
        self.balance = self.equity = 0.0
        self._ticket = 0

    def at(
        self,
        when: str,
        balance: float,
        equity: float | None = None,
        *,
        deposit: float = 0.0,
        zone: str = "",
        **more: object,
    ) -> Story:
        """A reading; `deposit` became known with it."""
        equity = balance if equity is None else equity
        self.now_ms = ms(when, zone or self.rules.account.reset_zone)
        operations: tuple[BalanceOperation, ...] = ()
        if deposit:
            self._ticket += 1
            operations = (BalanceOperation(self._ticket, self.now_ms, deposit),)
        held = {"positions": 0 if balance == equity else 1} | more
        reading = Reading(
            self.now_ms, LOGIN, equity, balance, floating=equity - balance, operations=operations
        )
        self.read(replace(reading, **held))  # type: ignore[arg-type]
        return self

    def read(self, reading: Reading) -> None:
        self.references = advance(self.references, reading, self.rules)
        if reading.equity is not None and reading.balance is not None:
            self.equity, self.balance = reading.equity, reading.balance

    @property
    def known(self) -> References:
        assert self.references is not None
        return self.references

    def floor(self, limit: str) -> Floor:
        return next(one for one in floors(self.rules, self.known) if one.limit == limit)

    def verdicts(self, equity: float | None = None, cost: float = 0.0) -> tuple[Verdict, ...]:
        figures = {
            "equity": self.equity if equity is None else equity,
            "balance": self.balance,
            "cost_of_closing": cost,
        }
        return judge(self.rules, self.known, figures, now_ms=self.now_ms)

    def acts(self, equity: float | None = None, cost: float = 0.0) -> list[str]:
        """Limits that act at this equity."""
        return [one.limit for one in self.verdicts(equity, cost) if one.level == "act"]
