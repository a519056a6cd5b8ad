"""Durations as people write them on a command line: `30s`, `5m`, `1h30m`, `2d`, `90`."""

from __future__ import annotations

import math
import re
from typing import Any

import click

_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|min|s|m|h|d)")
DURATION_S_MAX = 366 * 86_400.0


def parse_duration_s(text: str) -> float:
    """Seconds. A bare number is seconds. Raises ValueError, naming what is allowed."""
    lowered = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", lowered):
        seconds = float(lowered)
    else:
        parts = _PART.findall(lowered)
        if not parts or "".join(number + unit for number, unit in parts) != lowered:
            raise ValueError(f"{text!r} is no duration: use 30s, 5m, 1h30m or 2d")
        seconds = sum(float(number) * _UNIT_S[unit] for number, unit in parts)
    if not 0 < seconds <= DURATION_S_MAX:
        raise ValueError(f"{text!r} is no duration between 1ms and 366d")
    return seconds


class SecondsRange(click.FloatRange):
    """Seconds as a plain number between two limits. `nan` lies between any two, click thinks."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        seconds = float(super().convert(value, param, ctx))
        if math.isnan(seconds):
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        return seconds


def duration_option(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """A click callback: the option's text as seconds."""
    try:
        return None if value is None else parse_duration_s(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx=ctx, param=param) from error
