"""Is the right terminal there? Every change of the answer is an event; facts flow only then."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from events.event import Event
from events.log import WriterHeld
from events.operations import TerminalDown, TerminalUp
from producers.pollers.clock_finding import find_clock
from producers.pollers.context import Context
from producers.spool.file import SpoolFull, SpoolUnusable
from producers.terminals.attach import SymbolsRefused, WrongAccount
from producers.terminals.interface import (
    HistoryLost,
    Priority,
    Reply,
    TerminalHung,
    TerminalLost,
    TerminalUnusable,
)

logger = logging.getLogger(__name__)

BACK_OFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)
CHECK_S = 1.0
IPC_ERRORS = range(-10_005, -9_999)
"""-10000 to -10005: the module has no connection to its terminal."""
STARTING = "starting"
COMPARE_CLOCK_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class Attached:
    """What attaching found out."""

    symbols: Mapping[str, str]
    """Canonical name -> the broker's."""


class Connection:
    """The state of the terminal: up, or why not.

    `attach` brings the terminal to the point where it can be asked, and raises TerminalLost or
    an error with cause and cure. Facts may be recorded while `up`.
    """

    def __init__(self, context: Context, attach: Callable[[], Attached]) -> None:
        self._context = context
        self._attach = attach
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._failures = 0
        self._clock_found = False
        self._host_end: tuple[str, str] | None = None
        self.reason = STARTING
        """up, starting, lost, hung, disconnected, wrong_account, refused, stopped."""
        self.login = context.options.login or 0
        self.server = context.options.server
        self.trade_mode = context.options.trade_mode
        self.up_since = 0.0
        """Monotonic time of the last change to up."""
        self.generation = 0
        """Grows with every change to up: pollers compare it to see that there was a gap."""
        self.former_reason = STARTING
        """Why it was not up before it came up last."""
        self.refusal: Exception | None = None
        """Set for good when trying again cannot help: another producer records this account, a
        symbol is not the broker's, or the terminal cannot be opened as it is described."""

    @property
    def up(self) -> bool:
        return self.reason == "up"

    def run(self) -> None:
        """Attach, watch, attach again, until the producer stops."""
        while not self._context.stopping.is_set() and self.refusal is None:
            if self.up:
                self._changed.wait(CHECK_S)
                self._changed.clear()
                self._notice_host_end()
                self._compare_clock()
                continue
            if self.try_to_come_up():
                self._failures = 0
            else:
                pause_s = BACK_OFF_S[min(self._failures, len(BACK_OFF_S) - 1)]
                if self.reason == "disconnected":
                    pause_s = CHECK_S
                self._failures += 1
                self._context.stopping.wait(pause_s)

    def host_ended(self, *, hung: bool, detail: str) -> None:
        """The terminal's host ended and another one follows, perhaps without any call lost.
        Returns at once."""
        self._host_end = ("hung" if hung else "lost", detail)
        self._changed.set()

    def _notice_host_end(self) -> None:
        ended, self._host_end = self._host_end, None
        if ended is not None:
            self.down(*ended)

    def try_to_come_up(self) -> bool:
        """One attempt. Returns True when the terminal is up."""
        try:
            attached = self._attach()
            self._host_end = None  # whatever ended before, this host answers
            self._context.name_symbols(attached.symbols)
            return self._examine()
        except WrongAccount as error:
            self.down("wrong_account", str(error))
        except (WriterHeld, SymbolsRefused, TerminalUnusable) as error:
            self.refusal = error
            self.down("refused", str(error))
            self._context.stopping.set()
        except TerminalLost as error:
            self.lost(error)
        except (SpoolFull, SpoolUnusable) as error:
            self._context.report.incident("spool", str(error))
        except Exception as error:
            # The attach sequence has an error class for each cause, with its cure in the text.
            self.down("lost", f"{type(error).__name__}: {error}")
        return False

    def _examine(self) -> bool:
        client = self._context.client
        terminal = client.call("terminal_info", priority=Priority.ACCOUNT)
        account = client.call("account_info", priority=Priority.ACCOUNT)
        self._context.heard(account)
        if account.unknown or terminal.unknown:
            self.down("lost", f"no account or terminal information: {account.error}")
            return False
        self.check_account(account.value)
        if not terminal.value.connected:
            self.down("disconnected", "the terminal has no connection to the broker")
            return False
        if not self._context.options.virtual:
            self._context.writer.claim_account(self.login, self.server)
        self._find_clock()
        self._come_up(terminal.value, account)
        return True

    def _find_clock(self) -> None:
        """Once, before the first fact: what the history of bars says of the broker's clock. A
        configured rule is not kept waiting for that."""
        if self._clock_found or self._context.clock.rule:
            self._context.clock.clock.recheck()
        else:
            self._read_bars()

    def _compare_clock(self) -> None:
        """Hold a configured rule against the bars, when the first rush is over."""
        waited = self._context.monotonic() - self.up_since >= COMPARE_CLOCK_AFTER_S
        if self.up and waited and not self._clock_found and not self._context.options.virtual:
            try:
                self._read_bars()
            except TerminalLost as error:
                self.lost(error)

    def _read_bars(self) -> None:
        clock = self._context.clock.clock
        said = find_clock(self._context.client, clock, self._context.symbols.values())
        self._clock_found = True
        logger.info("clock: %s", said)

    def check_account(self, info: Any) -> None:
        """Compare with what is configured, or with what was found first. Raises WrongAccount."""
        expected = {
            "login": self.login or info.login,
            "server": self.server or info.server,
            "trade_mode": info.trade_mode if self.trade_mode is None else self.trade_mode,
        }
        found = {name: getattr(info, name) for name in expected}
        if found != expected or not info.login:
            raise WrongAccount(
                f"the terminal is attached to {found}, expected {expected}: log it in to the "
                "right account, or correct the settings"
            )
        self.login, self.server, self.trade_mode = info.login, info.server, info.trade_mode

    def _come_up(self, terminal: Any, account: Reply) -> None:
        with self._lock:
            reading = self._context.reading(self.login, account)
            event = TerminalUp(
                event_time_ms=account.utc_ms,
                recv_time_ms=account.utc_ms,
                offset_s=reading.offset_s,
                offset_source=reading.offset_source,
                terminal=self._context.options.terminal,
                kind=self._context.options.kind,
                login=self.login,
                server=self.server,
                build=terminal.build,
            )
            self._context.emit([event])
            self.generation += 1
            self.up_since = self._context.monotonic()
            self.former_reason, self.reason = self.reason, "up"
        self._context.report.recovered("terminal")

    def observe(self, terminal: Reply, account: Reply) -> bool:
        """Judge what an account poll read. Returns True when its facts may be recorded."""
        for reply in (terminal, account):
            if reply.unknown:
                self.unknown("terminal", reply)
                return False
        try:
            self.check_account(account.value)
        except WrongAccount as error:
            self.down("wrong_account", str(error))
            return False
        if not terminal.value.connected:
            self.down("disconnected", "the terminal has no connection to the broker")
            return False
        return self.up

    def unknown(self, source: str, reply: Reply) -> None:
        """A poller got no answer it may conclude from."""
        code, text = reply.error
        if code in IPC_ERRORS:
            self.down("lost", f"{text} ({code})")
        else:
            self._context.report.incident(source, f"no answer: {text} ({code})")

    def lost(self, error: TerminalLost) -> None:
        """A call ended without an answer."""
        if isinstance(error, HistoryLost):  # the live host may well be up
            self._context.report.incident("history", str(error))
            return
        self.down("hung" if isinstance(error, TerminalHung) else "lost", str(error))

    def down(self, reason: str, detail: str) -> None:
        """The terminal is not to be believed until it came up again."""
        with self._lock:
            news = reason != self.reason
            if self.reason == "stopped":
                return
            self.reason = reason
        self._changed.set()
        self._context.report.incident("terminal", f"{reason}: {detail}")
        if news:
            self._context.report.count(f"terminal_{reason}")
            self._tell(self._down_event(reason, detail))

    def stop(self) -> None:
        """Say that nothing follows because we stop."""
        with self._lock:
            self.reason = "stopped"
        self._changed.set()
        self._tell(self._down_event("stopped", ""))

    def _down_event(self, reason: str, detail: str) -> TerminalDown:
        return TerminalDown(
            event_time_ms=self._context.utc_ms,
            terminal=self._context.options.terminal,
            reason=reason,
            detail=detail,
        )

    def _tell(self, event: Event) -> None:
        try:
            self._context.emit([event])
        except (SpoolFull, SpoolUnusable) as error:
            self._context.report.incident("spool", str(error))
