"""Calibration files: what `bridgectl probe` found out about a terminal, for a simulated one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

VERSION = 1


def read_simulated_options(path: Path) -> dict[str, Any]:
    """The simulated terminal's options of a calibration file. Raises ValueError, OSError."""
    content = json.loads(path.read_text(encoding="utf-8"))
    options = content.get("simulated_options") if isinstance(content, dict) else None
    if not isinstance(options, dict) or content.get("version") != VERSION:
        raise ValueError(f"{path} is no calibration file of version {VERSION}")
    return options
