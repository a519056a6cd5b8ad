"""What a terminal says now about ticks that were captured before, for verification."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from events.settings import TerminalKind, TerminalSettings
from events.ticks import TICK_DTYPE, RateArray, TickArray
from producers.terminals import constants as mt5
from producers.terminals.attach import Attached, Attachment
from producers.terminals.attach.symbols import SymbolsRefused
from producers.terminals.client import HostClient, HostLimits, open_client
from producers.terminals.client.life import AttachLine
from producers.terminals.configured import terminal_spec
from producers.terminals.interface import (
    NotSent,
    Priority,
    Reply,
    TerminalClient,
    TerminalUnusable,
)
from producers.terminals.simulated.memory import moves_in
from producers.terminals.spec import TerminalSpec

PAGE_S = 3_600
"""Server time asked for at once: keeps answers small and other callers served."""
CALL_WAIT_S = 120.0
UP_WAIT_S = 90.0
REFUSED_WAIT_S = 5.0
"""A terminal that has just connected may not know all of its symbols yet."""
TRIES_MAX = 6
"""A terminal that loads history from its broker first answers with None, nothing or a part."""
PAUSE_S = 0.25
END_S = 4_000_000_000
"""A server time that no recording reaches (year 2096)."""
STEP_MS = 2 * 3_600_000
"""No clock is stepped back further when summer ends."""
AHEAD_MS = 15 * 3_600_000
"""No server's clock is further behind UTC."""


class TruthUnavailable(RuntimeError):
    """The terminal does not give what must be compared. The message names the symbol."""


class TerminalTicks:
    """Ticks as the terminal gives them now.

    `names` maps canonical symbols to the broker's. With `settle` an answer is believed when two
    in a row are equal (terminals that load from a broker).
    """

    def __init__(
        self,
        client: TerminalClient,
        names: Mapping[str, str],
        *,
        settle: bool,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._names = dict(names)
        self._settle = settle
        self._sleep = sleep

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(self._names)

    def ticks(self, symbol: str, from_server_ms: int, until_server_ms: int) -> TickArray:
        """Every tick with from <= time_msc < until (server clock).

        Raises TruthUnavailable, TerminalLost.
        """
        begin_s, end_s = from_server_ms // 1000, -(-until_server_ms // 1000)
        parts = [np.zeros(0, TICK_DTYPE)]
        for page_s in range(begin_s, end_s, PAGE_S):
            until_s = min(page_s + PAGE_S, end_s)
            rows = self._pulled(symbol, page_s, until_s)
            # Whether a terminal counts its upper bound in is not documented: cut it ourselves.
            times = rows["time_msc"]
            parts.append(rows[(times >= page_s * 1000) & (times < until_s * 1000)])
        rows = np.concatenate(parts)
        times = rows["time_msc"]
        return rows[(times >= from_server_ms) & (times < until_server_ms)]

    def candles(
        self, symbol: str, timeframe: str, from_server_ms: int, until_server_ms: int
    ) -> RateArray:
        """Every candle that opened in from <= time < until (server clock).

        Raises TruthUnavailable, TerminalLost.
        """
        number = getattr(mt5, f"TIMEFRAME_{timeframe}")
        begin_s, until_s = from_server_ms // 1000, -(-until_server_ms // 1000)
        before, error = None, ""
        for attempt in range(TRIES_MAX):
            if attempt:
                self._sleep(PAUSE_S * 2 ** (attempt - 1))
            name = self._names[symbol]
            reply = self._call("copy_rates_range", name, number, begin_s, until_s)
            if reply.unknown:
                error, before = reply.error[1], None
                continue
            rows: RateArray = reply.value
            if not self._settle or (before is not None and before == len(rows)):
                return rows[(rows["time"] >= begin_s) & (rows["time"] < until_s)]
            before = len(rows)
        raise TruthUnavailable(
            f"{symbol}: the terminal does not give its {timeframe} candles "
            f"({error or 'answers keep changing'}): is it connected?"
        )

    def whole_spans(self) -> dict[str, tuple[int, int]]:
        """A span around all ticks that a recorded terminal has of each symbol (server ms, end
        excluded). Where clocks step back the first and last ticks are not the extreme times."""
        spans = {}
        for symbol, name in self._names.items():
            first = self._call("copy_ticks_from", name, 0, 1, mt5.COPY_TICKS_ALL).value
            self._call("copy_ticks_range", name, END_S, END_S + 1, mt5.COPY_TICKS_ALL)
            last = self._call("symbol_info_tick", name).value
            if first is None or not len(first) or last is None:
                raise TruthUnavailable(f"{symbol}: the recorded terminal shows no ticks of it")
            begin_ms, end_ms = int(first[0]["time_msc"]), int(last.time_msc)
            spans[symbol] = max(0, begin_ms - STEP_MS), end_ms + STEP_MS
        return spans

    def _pulled(self, symbol: str, from_s: int, until_s: int) -> TickArray:
        """One page, asked for again until the terminal has loaded it."""
        name, before, error = self._names[symbol], None, ""
        for attempt in range(TRIES_MAX):
            if attempt:
                self._sleep(PAUSE_S * 2 ** (attempt - 1))
            reply = self._call("copy_ticks_range", name, from_s, until_s, mt5.COPY_TICKS_ALL)
            if reply.unknown:
                error, before = reply.error[1], None
                continue
            rows: TickArray = reply.value
            if not self._settle or (before is not None and len(before) == len(rows)):
                return rows
            before = rows
        raise TruthUnavailable(
            f"{symbol}: the terminal does not give its ticks of server second {from_s} to "
            f"{until_s} ({error or 'answers keep changing'}): is it connected?"
        )

    def _call(self, method: str, *args: object) -> Reply:
        return self._client.call(method, *args, priority=Priority.HISTORY, timeout_s=CALL_WAIT_S)


@contextmanager
def opened_truth(
    terminal: TerminalSettings,
    symbols: tuple[str, ...],
    *,
    newest_server_ms: int,
    state_dir: Path | None = None,
) -> Iterator[TerminalTicks]:
    """A terminal of its own process to compare with, attached and with its symbols selected
    (without symbols: all it has, for a recorded terminal).

    A simulated terminal is made anew from the same seed, at a time when everything up to
    `newest_server_ms` has happened, with its prices pushed as the account's memory in
    `state_dir` tells. Raises NotSent (with the cause), TerminalLost, TruthUnavailable.
    """
    made_up = terminal.kind in (TerminalKind.SIMULATED, TerminalKind.RECORDED)
    spec = terminal_spec(terminal, observe=True, state_dir=state_dir)
    spec = _told_all(spec, newest_server_ms)
    attachment = _Refusals(Attachment(spec, symbols=symbols, aliases=terminal.aliases))
    with open_client(spec, limits=HostLimits(call_s=CALL_WAIT_S), attach=attachment) as client:
        _wait_until_up(client, attachment)
        attached = client.attached
        assert isinstance(attached, Attached), "an attached client knows what it is attached to"
        names = attached.symbols or {one.name: one.name for one in client.call("symbols_get").value}
        yield TerminalTicks(client, names, settle=not made_up)


class _Refusals:
    """Attaches, and remembers since when symbols are refused."""

    def __init__(self, attachment: Attachment) -> None:
        self._attachment = attachment
        self.since: float | None = None
        self.reason: SymbolsRefused | None = None

    def __call__(self, line: AttachLine) -> Attached:
        try:
            return self._attachment(line)
        except SymbolsRefused as error:
            self.since, self.reason = self.since or time.monotonic(), error
            raise


def _wait_until_up(client: HostClient, refusals: _Refusals) -> None:
    """Raises NotSent, TerminalUnusable; TruthUnavailable for symbols that the broker has not."""
    deadline = time.monotonic() + UP_WAIT_S
    while True:
        left_s = deadline - time.monotonic()
        try:
            client.wait_until_up(max(0.0, min(PAUSE_S, left_s)))
            return
        except TerminalUnusable:
            raise
        except NotSent:
            since = refusals.since
            if since is not None and time.monotonic() - since >= REFUSED_WAIT_S:
                raise TruthUnavailable(str(refusals.reason)) from None
            if left_s <= 0:
                cause = client.state().last_error or client.state().state
                raise NotSent(
                    f"the terminal {client.name} is not up after {UP_WAIT_S:g} s: {cause}"
                ) from None


def _told_all(spec: TerminalSpec, newest_server_ms: int) -> TerminalSpec:
    """The spec of a made-up terminal for which everything captured lies in the past."""
    options = dict(spec.options)
    if spec.kind == "recorded":
        options["speed"] = "max"
    elif spec.kind == "simulated":
        now_ms = time.time_ns() // 1_000_000
        options["start_utc_ms"] = max(now_ms, newest_server_ms + AHEAD_MS)
        # The memory itself is left alone: its account is somebody else's, at another time.
        memory = options.pop("memory", None)
        if memory is not None:
            try:
                options["moves"] = moves_in(Path(str(memory)).expanduser())
            except (OSError, ValueError) as error:
                raise TruthUnavailable(f"how prices were pushed cannot be read: {error}") from error
    return spec.model_copy(update={"options": options})
