"""Finding a broker's clock rule in its bars: weekends, holidays, holes, noise."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import numpy as np
import pytest

from events.clock_rules import ClockRule
from events.ticks import RATE_DTYPE, RateArray
from producers.clock.detection import CannotDetect, detect

HOUR = 3_600
NEW_YORK = ClockRule("America/New_York")


def seconds(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp())  # type: ignore[misc, arg-type]  # a date's parts


def bars(
    rule: str,
    begin: tuple[int, int, int],
    end: tuple[int, int, int],
    *,
    seed: int = 0,
    missing: float = 0.0,
    early_closes: float = 0.0,
    late_closes: float = 0.0,
    holidays: bool = False,
    bar_s: int = HOUR,
    close_early_s: int = 0,
) -> RateArray:
    """Opening times of bars of a currency pair on a broker's clock. The market is open from
    Sunday 17:00 to Friday 17:00 New York (less `close_early_s`)."""
    rng, clock = random.Random(seed), ClockRule.parse(rule)
    utc = np.arange(seconds(*begin), seconds(*end), bar_s)
    week = (utc + NEW_YORK.offsets_s(utc * 1000) - 17 * HOUR - seconds(1970, 1, 4)) % (7 * 86_400)
    closing: dict[int, int] = {}
    weeks = (utc - seconds(1970, 1, 4)) // (7 * 86_400)
    for number in np.unique(weeks).tolist():
        fate = rng.random()
        closing[number] = 5 * 86_400 - close_early_s
        if fate < early_closes:
            closing[number] -= rng.randrange(1, 30) * HOUR
        elif fate < early_closes + late_closes:
            closing[number] += HOUR
    limits = np.array([closing[number] for number in weeks.tolist()])
    opened = week < limits
    opened &= np.array([rng.random() >= missing for _ in utc])
    if holidays:
        dates = [datetime.fromtimestamp(t, UTC) for t in utc.tolist()]
        opened &= np.array([(d.month, d.day) not in {(12, 25), (1, 1), (4, 3)} for d in dates])
    utc = utc[opened]
    made = np.zeros(len(utc), RATE_DTYPE)
    made["time"] = utc + clock.offsets_s(utc * 1000)
    return made


YEAR = ((2025, 6, 1), (2026, 6, 15))


@pytest.mark.parametrize(
    "rule",
    ["America/New_York+7h", "Europe/Athens", "Europe/Berlin", "Europe/London",
     "Australia/Sydney-8h", "fixed+3h", "UTC", "fixed-5h"],
)  # fmt: skip
def test_finds_the_rule_in_a_year(rule: str) -> None:
    found = detect(bars(rule, *YEAR))
    assert found.rule is not None
    assert found.rule.agrees(ClockRule.parse(rule))
    assert found.best.weeks == found.weeks
    assert str(found.rule) in found.evidence


@pytest.mark.parametrize("rule", ["America/New_York+7h", "Europe/Athens", "fixed+2h"])
@pytest.mark.parametrize("seed", range(5))
def test_finds_it_among_holidays_early_closes_holes_and_noise(rule: str, seed: int) -> None:
    made = bars(
        rule, *YEAR, seed=seed, missing=0.02, early_closes=0.06, late_closes=0.04, holidays=True
    )  # fmt: skip
    found = detect(made)
    assert str(found.rule) == rule, f"seed {seed}: {found.evidence}"
    assert found.best.weeks < found.weeks


def test_half_a_year_over_a_spring_tells_american_from_european() -> None:
    span = ((2026, 1, 10), (2026, 7, 10))
    assert str(detect(bars("ny-close", *span)).rule) == "America/New_York+7h"
    assert str(detect(bars("eet", *span)).rule) == "Europe/Athens"


def test_a_summer_alone_cannot_tell_american_from_european() -> None:
    found = detect(bars("ny-close", (2026, 4, 5), (2026, 10, 1)))
    assert found.rule is None
    assert "cannot tell US switches from EU switches" in found.evidence
    assert "America/New_York+7h, Europe/Athens" in found.evidence
    assert str(found.best.rule) == "America/New_York+7h"


def test_quarter_hours_are_read_off_short_bars() -> None:
    made = bars("fixed+5:45", (2026, 1, 1), (2026, 8, 1), bar_s=900, close_early_s=300)
    assert str(detect(made).rule) == "fixed+5:45"


def test_a_symbol_without_weekends_is_refused() -> None:
    made = np.zeros(5_000, RATE_DTYPE)
    made["time"] = np.arange(5_000) * HOUR + seconds(2026, 1, 1)
    with pytest.raises(CannotDetect, match="currency pair"):
        detect(made)


@pytest.mark.parametrize("count", [0, 1, 100])
def test_too_few_bars_are_refused(count: int) -> None:
    with pytest.raises(CannotDetect, match="weekends"):
        detect(bars("eet", *YEAR)[:count])


def test_bars_that_fit_nothing_name_no_rule() -> None:
    rng = np.random.default_rng(3)
    made = bars("UTC", *YEAR)
    weeks = (made["time"] + 2 * 86_400) // (7 * 86_400)
    shifts = rng.integers(-12, 12, int(weeks.max() - weeks.min()) + 1) * HOUR
    made["time"] += shifts[weeks - weeks.min()]
    found = detect(np.sort(made, order="time"))
    assert found.rule is None
    assert "fit no rule" in found.evidence
