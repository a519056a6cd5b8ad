"""Moments as people read them: the broker's wall clock, UTC and local time side by side."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNKNOWN = "-"


def utc_text(utc_ms: int | None) -> str:
    """`2026-11-23 14:05:07.123`, or `-`."""
    return UNKNOWN if utc_ms is None else _text(utc_ms)


def server_text(utc_ms: int | None, offset_s: int) -> str:
    """The broker's wall clock at a UTC moment."""
    return UNKNOWN if utc_ms is None else _text(utc_ms + offset_s * 1000)


def local_text(utc_ms: int | None) -> str:
    """This machine's wall clock at a UTC moment."""
    if utc_ms is None:
        return UNKNOWN
    try:
        moment = (EPOCH + timedelta(milliseconds=utc_ms)).astimezone()
    except (OverflowError, OSError, ValueError):
        return UNKNOWN
    return moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{utc_ms % 1000:03d}"


def clock_face(text: str) -> str:
    """The hours of a moment without its date and milliseconds, for narrow tables."""
    return text[11:19] or text


def three_times(utc_ms: int | None, offset_s: int) -> str:
    """`server ... | UTC ... | local ...` of one moment."""
    return (
        f"server {server_text(utc_ms, offset_s)} | UTC {utc_text(utc_ms)} | "
        f"local {local_text(utc_ms)}"
    )


def offset_text(offset_s: int) -> str:
    """`UTC+03:00`, seconds only where there are some."""
    sign = "-" if offset_s < 0 else "+"
    minutes, seconds = divmod(abs(offset_s), 60)
    text = f"UTC{sign}{minutes // 60:02d}:{minutes % 60:02d}"
    return f"{text}:{seconds:02d}" if seconds else text


def ago_text(utc_ms: int | None, now_ms: int) -> str:
    """How long ago, in the largest fitting unit."""
    if utc_ms is None:
        return UNKNOWN
    seconds = (now_ms - utc_ms) / 1000
    if seconds < -1:
        return f"in {_span(-seconds)}"
    return f"{_span(max(0.0, seconds))} ago"


def _span(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _text(epoch_ms: int) -> str:
    try:
        moment = EPOCH + timedelta(milliseconds=epoch_ms)
    except OverflowError:
        return f"{epoch_ms} ms"
    return moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{epoch_ms % 1000:03d}"
