"""A host process whose terminal does what the symbol's name says, for tests of supervision.

`symbol_info("sleep 0.5")` sleeps, holding the GIL as the native module does; "hang" never
returns; "die" ends the process; "crash" is a segmentation fault; "print" writes to stdout.
Run as `python -m tests.integration.scripted_host --parent PID`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Any

from producers.terminals.host import __main__ as host
from producers.terminals.spec import TerminalSpec
from producers.terminals.structs import AccountInfo, SymbolInfo, TerminalInfo

LIBC = ctypes.PyDLL(None)  # calls through PyDLL keep the GIL


class ScriptedTerminal:
    """Remembers what it was asked, in the order in which it was asked."""

    def __init__(self, spec: TerminalSpec) -> None:
        self.spec = spec
        self.journal: list[str] = []
        self.attached = False
        self.error = (1, "Success")

    def last_error(self) -> tuple[int, str]:
        return self.error

    def initialize(self, *args: Any, **kwargs: Any) -> bool:
        self.attached = "wrong path" not in args
        self.error = (1, "Success") if self.attached else (-10003, "IPC initialize failed")
        return self.attached

    def shutdown(self) -> None:
        self.attached = False

    def account_info(self) -> AccountInfo | None:
        if not self.attached:
            self.error = (-10004, "No IPC connection")
            return None
        self.error = (1, "Success")
        return AccountInfo.of(login=self.spec.login or 1, server="Scripted", balance=1000.0)

    def terminal_info(self) -> TerminalInfo | None:
        return TerminalInfo.of(connected=True, build=6140) if self.attached else None

    def version(self) -> tuple[int, int, str]:
        return (500, 6140, "1 Oct 2026")

    def symbols_get(self, group: str = "") -> tuple[str, ...]:
        """The journal: what was asked since the start."""
        return tuple(self.journal)

    def order_send(self, request: dict[str, Any]) -> None:
        with open(request["comment"], "a", encoding="utf-8") as sent:
            sent.write("sent\n")
        self.symbol_info(request["symbol"])

    def symbol_info(self, symbol: str) -> SymbolInfo:
        self.journal.append(symbol)
        action, _, value = symbol.partition(" ")
        if action == "sleep":
            LIBC.usleep(int(float(value) * 1_000_000))
        elif action == "hang":
            while True:
                LIBC.sleep(1000)
        elif action == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif action == "crash":
            ctypes.string_at(0)
        elif action == "print":
            sys.stdout.write("this must not reach the frames\n")
            sys.stdout.flush()
            os.write(1, b"nor this\n")
        elif action == "raise":
            raise SystemError("C function returned NULL without setting an error")
        return SymbolInfo.of(name=symbol)


if __name__ == "__main__":
    host.build_terminal = lambda spec: ScriptedTerminal(spec)  # type: ignore[assignment]
    sys.exit(host.main())
