"""What `probe` found, as a file from which a simulated terminal takes its manners."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from producers.setup.inspection import Inspected
from producers.setup.questions import Answer
from producers.terminals.calibration import VERSION

NATIVE_TICK_MS = 0.12
"""What symbol_info_tick takes in the simulated terminal's `native` latency."""
_TICK_OPTIONS = ("same_ms_share", "identical_share", "zero_price_share", "zero_time_share",
                 "crossed_share", "flag_bits")  # fmt: skip


def calibration(seen: Inspected, found: Sequence[Answer]) -> dict[str, Any]:
    """The whole file: who was asked, what came out, and options of a simulated terminal."""
    return {
        "version": VERSION,
        "made_ms": time.time_ns() // 1_000_000,
        "server": seen.server,
        "company": seen.company,
        "build": seen.build,
        "clock": {"rule": seen.clock.rule, "evidence": seen.clock.evidence},
        "aliases": seen.aliases,
        "answers": [asdict(answer) for answer in found],
        "simulated_options": simulated_options(seen, found),
    }


def simulated_options(seen: Inspected, found: Sequence[Answer]) -> dict[str, Any]:
    """Fields of SimulatedOptions that make the simulated terminal like the one that was asked."""
    facts: dict[str, Any] = {}
    for answer in found:
        facts |= answer.facts
    options: dict[str, Any] = {"latency": "native"}
    if seen.clock.rule:
        options["clock"] = seen.clock.rule
    if "symbol_info_tick" in facts:
        beyond = facts["symbol_info_tick"]["p50_ms"] - NATIVE_TICK_MS
        options["latency_ms"] = round(max(0.0, beyond), 3)
    ticks = {name: facts[name] for name in _TICK_OPTIONS if name in facts}
    if ticks:
        options["ticks"] = ticks
    return options


def write_calibration(path: Path, content: dict[str, Any]) -> None:
    """Replace the file, all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    draft.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    draft.replace(path)
