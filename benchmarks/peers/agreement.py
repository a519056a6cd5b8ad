"""Whether two tools made the same trades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

EXACT = ("side", "opened_ms", "closed_ms")
PRICE_APART_MAX = 1e-9
CENT_APART_MAX = 0.00501
"""Both round money to cents, of which sums of doubles may differ in the last bit."""
TOLD_MAX = 5

Trade = Mapping[str, Any]


def differences(ours: Sequence[Trade], theirs: Sequence[Trade], *, exact_times: bool = True,
                name: str = "the other") -> list[str]:  # fmt: skip
    """Trade by trade: side, times, prices and net result; empty: the same. `exact_times` off
    compares neither opening nor closing times."""
    found = []
    if len(ours) != len(theirs):
        found.append(f"{len(ours)} trades here, {len(theirs)} in {name}")
    for number, (own, other) in enumerate(zip(ours, theirs, strict=False), 1):
        fields = [
            field
            for field in (EXACT if exact_times else EXACT[:1])
            if own[field] != other[field]
        ]  # fmt: skip
        fields += [
            field
            for field in ("price_open", "price_close")
            if abs(own[field] - other[field]) > PRICE_APART_MAX
        ]
        if abs(own["net"] - other["net"]) > CENT_APART_MAX:
            fields.append("net")
        found += [
            f"trade {number}: {field} is {own[field]} here, {other[field]} in {name}"
            for field in fields
        ]
    return found


def told(found: Sequence[str]) -> str:
    """The first few differences for people."""
    more = len(found) - TOLD_MAX
    return "; ".join(found[:TOLD_MAX]) + (f"; and {more} more" if more > 0 else "")
