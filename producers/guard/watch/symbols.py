"""The currencies of symbols, as windows of a calendar are about them: asked once for each."""

from __future__ import annotations

from concurrent.futures import TimeoutError as FutureTimeout
from threading import Lock

from producers.terminals.interface import Priority, TerminalClient, TerminalLost

WITHIN_S = 2.0
ASKED_MAX = 16
"""In one turn of the guard."""
SYMBOLS_MAX = 5_000


class SymbolFacts:
    """`currencies` is answered at once, from any thread; `learn` asks the terminal."""

    def __init__(self, client: TerminalClient) -> None:
        self._client = client
        self._lock = Lock()
        self._known: dict[str, tuple[str, ...]] = {}
        self._wanted: dict[str, None] = {}

    def currencies(self, symbol: str) -> tuple[str, ...] | None:
        """Base and profit currency; None when it is not known, and is asked for now."""
        with self._lock:
            known = self._known.get(symbol)
            if known is None and len(self._wanted) < SYMBOLS_MAX:
                self._wanted[symbol] = None
            return known

    def learn(self) -> None:
        """Ask for what was wanted, a few at a time. Never raises."""
        with self._lock:
            wanted = list(self._wanted)[:ASKED_MAX]
            for symbol in wanted:
                del self._wanted[symbol]
        asked = [(one, self._client.submit("symbol_info", one, priority=Priority.ACCOUNT))
                 for one in wanted]  # fmt: skip
        for symbol, future in asked:
            try:
                reply = future.result(timeout=WITHIN_S)
            except (TerminalLost, FutureTimeout):
                future.cancel()
                continue
            if reply.unknown:
                continue
            with self._lock:
                if len(self._known) < SYMBOLS_MAX:
                    found = (str(reply.value.currency_base), str(reply.value.currency_profit))
                    self._known[symbol] = found
