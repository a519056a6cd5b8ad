"""One finding: what was looked at, how it is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How something is."""

    OK = "ok"
    WARN = "warn"
    """Works, but something may be lost or stop."""
    BAD = "bad"
    """The bridge cannot work like this."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`cure` is empty where nothing needs doing."""

    subject: str
    verdict: Verdict
    fact: str
    cure: str = ""

    def line(self) -> str:
        tail = f" -> {self.cure}" if self.cure else ""
        return f"{self.verdict:<4}  {self.subject:<14} {self.fact}{tail}"


def ok(subject: str, fact: str) -> Finding:
    return Finding(subject, Verdict.OK, fact)


def warn(subject: str, fact: str, cure: str) -> Finding:
    return Finding(subject, Verdict.WARN, fact, cure)


def bad(subject: str, fact: str, cure: str) -> Finding:
    return Finding(subject, Verdict.BAD, fact, cure)
