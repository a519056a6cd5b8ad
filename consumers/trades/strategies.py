"""Which strategy a trade belongs to: its magic number, or what its comment begins with."""

from __future__ import annotations

import re
from collections.abc import Mapping

MANUAL = "manual"
NAME_CHARS_MAX = 24
_BEGINNING = re.compile(r"[A-Za-z][A-Za-z_.-]*")


def strategy_of(magic: int, comment: str, names: Mapping[str, str] | None = None) -> str:
    """The magic number, by its name where `names` has one; without one the first word of the
    comment (`grid 17` and `grid 18` are one strategy); else `manual`. Comments that brokers write
    begin with a bracket or a number and name nothing."""
    if magic:
        return (names or {}).get(str(magic), str(magic))
    found = _BEGINNING.match(comment)
    return found[0][:NAME_CHARS_MAX] if found else MANUAL


def names_of(text: str) -> dict[str, str]:
    """`1001=ema,2002=grid` as names by magic number. Raises ValueError."""
    names = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        magic, equals, name = part.partition("=")
        if not (equals and magic.strip().isdecimal() and name.strip()):
            raise ValueError(f"{part!r} names no strategy: write MAGIC=NAME, such as 1001=ema")
        names[magic.strip()] = name.strip()
    return names
