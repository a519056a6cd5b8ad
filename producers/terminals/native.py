"""The MetaTrader5 package as a terminal: the one place that imports it.

It exists for Windows only (also under Wine) and drives one terminal per process.
"""

from __future__ import annotations

import sys
from typing import cast

from producers.terminals.interface import CALLS, Terminal
from producers.terminals.spec import SpecError


def open_native() -> Terminal:
    """The module itself: its functions are the terminal's. Raises SpecError."""
    try:
        import MetaTrader5 as module
    except ImportError as error:
        if sys.platform == "win32":
            cure = 'pip install "mt5-stream-bridge[mt5]"'
        else:
            cure = (
                "it exists for Windows only; run `bridgectl terminal serve` where the terminal"
                " runs and connect with kind remote"
            )
        raise SpecError(f"the MetaTrader5 package is not there ({error}): {cure}") from error
    missing = sorted(name for name in (*CALLS, "last_error") if not hasattr(module, name))
    if missing:
        raise SpecError(
            f"the MetaTrader5 package lacks {', '.join(missing)}:"
            ' pip install --upgrade "mt5-stream-bridge[mt5]"'
        )
    return cast(Terminal, module)
