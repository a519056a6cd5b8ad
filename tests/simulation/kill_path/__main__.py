"""Run every fault case and print the table: `python -m tests.simulation.kill_path [WORD]`."""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

import click

from events.guarding import FlattenEnded
from tests.simulation.kill_path.cases import CASES
from tests.simulation.kill_path.hosted import Case, Outcome, run_case


def main() -> int:
    """Returns how many cases failed."""
    logging.disable(logging.CRITICAL)
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    click.echo("case | state | breach to flat ms | orders | hosts killed | problems")
    click.echo("---|---|---|---|---|---")
    failed = count = 0
    for case in CASES:
        if word not in case.name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            outcome = _run(case, Path(folder))
        count += 1
        failed += bool(outcome.problems)
        row = (outcome.name, *_told(outcome.ended), outcome.restarts)
        click.echo(" | ".join(map(str, (*row, "; ".join(outcome.problems) or "none"))))
    click.echo(f"\n{count} cases, {failed} failed")
    return failed


def _told(ended: FlattenEnded | None) -> tuple[str, str, str]:
    """State, milliseconds until flat, orders."""
    if ended is None:
        return "-", "-", "-"
    flat_ms = ended.breach_to_flat_ms
    return ended.state, "-" if flat_ms is None else f"{flat_ms:.0f}", str(ended.requests)


def _run(case: Case, folder: Path) -> Outcome:
    try:
        return run_case(case, folder)
    except Exception as error:
        return Outcome(case.name, None, [f"{type(error).__name__}: {error}"], 0.0)


if __name__ == "__main__":
    sys.exit(min(main(), 100))
