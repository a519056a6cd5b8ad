"""Which strategy a trade belongs to: its magic number, or what its comment begins with."""

from __future__ import annotations

import re
from collections.abc import Mapping

from events.codec import BadEvent, UnknownEvent, decode_data
from events.executing import TargetState
from events.log import ACCOUNT_PARTITION, Log, Slot
from events.magic import owner_of, parts_of

EXECUTE = "execute"
MANUAL = "manual"
NAME_CHARS_MAX = 24
_BEGINNING = re.compile(r"[A-Za-z][A-Za-z_.-]*")


def strategy_of(magic: int, comment: str, names: Mapping[str, str] | None = None) -> str:
    """The magic number, by its name where `names` has one; without one the first word of the
    comment (`grid 17` and `grid 18` are one strategy); else `manual`. Comments that brokers write
    begin with a bracket or a number and name nothing.

    A magic that the bridge gave out names a target: `names` may have it as `target:OWNER`; else
    the comment that went with the order begins with the strategy's name.
    """
    known = names or {}
    if magic:
        named, ours = known.get(str(magic)), parts_of(magic)
        if named is not None or ours is None:
            return named or str(magic)
        word = comment.partition(" ")[0] if comment[:1] not in ("[", "") else ""
        return known.get(f"target:{ours[0]}") or word or f"target-{ours[0]:07x}"
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


def target_names(log: Log, namespace: str) -> dict[str, str]:
    """Names for `strategy_of`, from the targets that group execute has told of. Raises
    LogUnavailable."""
    names = {}
    states = log.last_states(Slot(namespace, EXECUTE, ACCOUNT_PARTITION))
    for (type_, key), content in states.items():
        if not type_.startswith(f"{TargetState.TYPE}."):
            continue
        try:
            told = decode_data(type_, key, content)
        except (BadEvent, UnknownEvent):
            continue  # a newer program's
        if isinstance(told, TargetState):
            owner = owner_of(told.strategy, told.symbol, told.leg)
            names[f"target:{owner}"] = told.strategy
    return names
