"""Clocks that jump: libfaketime between a program and its clock."""

from __future__ import annotations

from pathlib import Path

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
HOUR_S = 3_600


def jump(clock: Path, by_s: int) -> None:
    """From now on the clock shows so much more or less."""
    clock.write_text(f"{by_s:+d}")


def preload(clock: Path) -> dict[str, str]:
    """The variables of a program that looks at this clock. Monotonic clocks stay as they are, as
    they do when somebody sets a computer's clock."""
    return {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
