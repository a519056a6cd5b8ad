"""Every fault case: the account is flat in the end, nothing was opened, nothing closed twice, and
no order passed the latch. `pytest -m slow` runs all of them, `python -m
tests.simulation.kill_path` prints them as a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.kill_path.cases import CASES
from tests.simulation.kill_path.hosted import Case, run_case

ALL = [pytest.param(case, id=case.name, marks=pytest.mark.slow) for case in CASES if not case.quick]
FEW = [pytest.param(case, id=case.name) for case in CASES if case.quick]


@pytest.mark.parametrize("case", [*FEW, *ALL])
def test_the_account_ends_flat_whatever_goes_wrong(case: Case, tmp_path: Path) -> None:
    outcome = run_case(case, tmp_path)
    assert outcome.problems == []


def test_there_are_at_least_fifty_cases_and_each_has_its_own_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 50
