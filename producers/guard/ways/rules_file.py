"""The rule file of a terminal: read, checked, followed while it changes.

A file that cannot be used leaves the running rules in place and says so. What holds is told to
the log (`rules`), so that group `risk`, replays and what-if follow the very same rules.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event as Signal
from threading import Thread

from events.decisions import RulesSet
from events.log import LogError
from events.rules import Rules
from events.rules.files import BadRules, load_rules, rules_of_settings
from events.settings import Settings, TerminalSettings
from producers.guard.guard import Guard

logger = logging.getLogger(__name__)

LOOK_S = 1.0
READ_EVERY_S = 30.0
"""Read anew so often even if the file looks the same: calendars lie beside it."""
PROBLEMS_TOLD_MAX = 5


class RulesSource:
    """Where a terminal's rules come from: its file, the general file, or RISK_* settings."""

    def __init__(self, settings: Settings, terminal: TerminalSettings) -> None:
        named = terminal.rules_file or (str(settings.risk_rules) if settings.risk_rules else "")
        self.path = Path(named).expanduser().absolute() if named else None
        self._settings, self._terminal = settings, terminal

    @property
    def name(self) -> str:
        """For people and events."""
        return str(self.path) if self.path is not None else "settings"

    @property
    def names_any(self) -> bool:
        """Whether somebody set rules here, be they good or bad."""
        if self.path is not None:
            return True
        try:
            return rules_of_settings(self._settings, self._terminal) is not None
        except BadRules:
            return True

    def read(self) -> Rules:
        """Rules without limits where none are set. Raises BadRules."""
        if self.path is not None:
            return load_rules(self.path)
        return rules_of_settings(self._settings, self._terminal) or Rules()

    def stamp(self) -> tuple[int, int]:
        """Changes when the file does."""
        if self.path is None:
            return (0, 0)
        try:
            found = self.path.stat()
        except OSError:
            return (-1, -1)
        return (found.st_mtime_ns, found.st_size)


class RulesWatcher:
    """A thread that hands a guard its rules whenever they changed."""

    def __init__(
        self,
        guard: Guard,
        source: RulesSource,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._guard, self._source, self._monotonic = guard, source, monotonic
        self._stamp: tuple[int, int] | None = None
        self._read_at = 0.0
        self._told = ""
        self._stopping = Signal()
        self._thread = Thread(target=self._run, name="guard-rules", daemon=True)

    def start(self) -> None:
        """Read once now, then follow in the background."""
        self.look()
        self._thread.start()

    def stop(self) -> None:
        """Follow no longer."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """Read if something changed, or may have. Never raises."""
        stamp, now = self._source.stamp(), self._monotonic()
        if stamp == self._stamp and now - self._read_at < READ_EVERY_S:
            return
        self._stamp, self._read_at = stamp, now
        try:
            rules = self._source.read()
        except BadRules as error:
            problems = "; ".join(error.problems[:PROBLEMS_TOLD_MAX])
            self._guard.voice.alert(
                "critical", "rules", f"the rules are refused, those before hold: {problems}",
                cure=f"correct {self._source.name} (bridgectl risk check shows what is wrong)",
            )  # fmt: skip
            return
        self._guard.voice.resolve("rules", "the rules can be used")
        if rules.checksum == self._told:
            return
        try:
            self._guard.set_rules(rules, told=self._event(rules))
        except LogError as error:
            self._stamp = None  # tried again at the next look
            self._guard.voice.alert("critical", "guard", f"rules not written down: {error}")
            return
        self._told = rules.checksum
        logger.info("rules of %s hold: %d limits", self._source.name, len(rules.limits))

    def _event(self, rules: Rules) -> RulesSet:
        return RulesSet(
            event_time_ms=self._guard.now_ms(),
            login=self._guard.login,
            rules=rules.model_dump(mode="json") if rules != Rules() else {},
            source=self._source.name,
            checksum=rules.checksum,
        )

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_S):
            try:
                self.look()
            except Exception:  # a broken file must not end the watch over it
                logger.exception("looking at the rules failed")
