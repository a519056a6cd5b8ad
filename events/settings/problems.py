"""What is said about a setting that cannot be used: its name, what was given, what is allowed."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from pydantic import SecretStr

GIVEN_CHARS_MAX = 60
"""A value is shown no longer than this."""


class BadSettings(ValueError):
    """Settings that cannot be used. One line per problem, each with its cure."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


def unknown_name(name: str, known: Iterable[str], *, where: str) -> str:
    """The line about a name nobody knows, with the one that was probably meant."""
    near = get_close_matches(name.upper(), [known_name.upper() for known_name in known], n=1)
    spelled = {known_name.upper(): known_name for known_name in known}
    hint = f"did you mean {spelled[near[0]]}?" if near else "remove it, or see .env.example"
    return f"{name} in {where} is no setting: {hint}"


def bad_value(name: str, given: Any, *, allowed: str, where: str, secret: bool) -> str:
    """The line about a value that is not allowed. Secrets are never shown."""
    shown = "a value that is not shown" if secret else _shown(given)
    return f"{name} in {where} is {shown}: allowed is {allowed}"


def _shown(given: Any) -> str:
    if isinstance(given, SecretStr):
        return "a value that is not shown"
    text = repr(given)
    return text if len(text) <= GIVEN_CHARS_MAX else text[: GIVEN_CHARS_MAX - 1] + "…"
