"""The magic number of an order: whose it is and which intent it carries out, in 63 bits.

    bit 62..56   MARK: tells our orders from those of people and other programs
    bit 55..28   owner: a hash of (strategy, symbol, leg)
    bit 27..0    number of the intent among its owner's

MetaTrader 5 keeps a magic in orders, deals and positions for ever, where a comment is rewritten by
brokers; so whose a position is can be told from the account alone. A magic is the id of its intent.
"""

from __future__ import annotations

import hashlib
import re

MARK = 0x5A
_MARK_BITS, OWNER_BITS, NUMBER_BITS = 7, 28, 28
OWNER_MAX, NUMBER_MAX = (1 << OWNER_BITS) - 1, (1 << NUMBER_BITS) - 1
_EPOCH_MS = 1_577_836_800_000
"""2020-01-01 UTC."""
_NUMBER_EVERY_MS = 4_000
COMMENT_CHARS_MAX = 26
"""The terminal's module refuses longer comments (some brokers from 28 characters on)."""
_NO_COMMENT = re.compile(r"[^A-Za-z0-9 _.-]")


class NoMagic(ValueError):
    """Numbers that make no magic. Names the bound."""


def owner_of(strategy: str, symbol: str, leg: str = "") -> int:
    """The 28-bit number of a target; the same in every process and version."""
    text = "\x00".join((strategy, symbol, leg)).encode()
    return int.from_bytes(hashlib.blake2s(text, digest_size=4).digest(), "big") & OWNER_MAX


def magic_of(owner: int, number: int) -> int:
    """The magic of an owner's intent. Raises NoMagic."""
    if not (0 <= owner <= OWNER_MAX and 0 < number <= NUMBER_MAX):
        raise NoMagic(f"owner {owner}, number {number}: both have at most {NUMBER_BITS} bits")
    return MARK << (OWNER_BITS + NUMBER_BITS) | owner << NUMBER_BITS | number


def parts_of(magic: int) -> tuple[int, int] | None:
    """(owner, number) of a magic of ours; None: it is somebody else's."""
    if magic >> (OWNER_BITS + NUMBER_BITS) != MARK or not magic & NUMBER_MAX:
        return None
    return magic >> NUMBER_BITS & OWNER_MAX, magic & NUMBER_MAX


def number_after(last: int, now_ms: int) -> int:
    """The number of an owner's next intent: above the last one, and above all that were given
    out before, even by somebody whose memory is lost (one in four seconds since 2020; 28 bits last
    until 2054). Raises NoMagic when numbers are used up."""
    number = max(last + 1, (now_ms - _EPOCH_MS) // _NUMBER_EVERY_MS, 1)
    if number > NUMBER_MAX:
        raise NoMagic(f"intent number {number} has more than {NUMBER_BITS} bits")
    return number


def comment_of(strategy: str, leg: str = "") -> str:
    """The comment of an order: the strategy's name and the leg, as far as they fit."""
    text = f"{strategy} {leg}".strip()
    return _NO_COMMENT.sub("-", text)[:COMMENT_CHARS_MAX].rstrip()
