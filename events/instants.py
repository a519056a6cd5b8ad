"""Moments as people write them on a command line: `2026-11-23`, `2026-11-23T14:05`, with a zone."""

from __future__ import annotations

from datetime import UTC, datetime

import click


def parse_instant_ms(text: str) -> int:
    """UTC in ms. Without a zone it is UTC; a date is its first moment. Raises ValueError, naming
    what is allowed."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            f"{text!r} is no moment: write 2026-11-23, 2026-11-23T14:05 or 2026-11-23T14:05+02:00"
            " (without a zone it is UTC)"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def instant_option(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """A click callback: the option's text as UTC in ms."""
    try:
        return None if value is None else parse_instant_ms(value)
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(str(error), ctx=ctx, param=param) from error
