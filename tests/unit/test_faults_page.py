"""docs/FAULTS.md names every fault and tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "FAULTS.md").read_text(encoding="utf-8")
FAULTS = 48


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.splitlines() if re.match(r"\| \d+ \|", line)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_fault_has_its_row() -> None:
    assert [int(row[0]) for row in rows()] == list(range(1, FAULTS + 1))


def test_every_row_names_a_test_or_the_reason_why_there_is_none() -> None:
    for number, _, _, test, result in rows():
        assert "`test_" in test or "the same two" in test or test == "not here", number
        assert len(result) > 3, number


def test_every_test_that_is_named_exists() -> None:
    sources = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")
    )
    defined = set(re.findall(r"^def (test_\w+)\(", sources, re.MULTILINE))
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert named - defined == set()
