"""Events about the bridge itself: terminals, clocks, gaps, failures."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from events.event import Event, OffsetSourceField, Part, TerminalEvent
from events.log import Lane
from events.ticks import OffsetSource


class TerminalUp(TerminalEvent):
    """The terminal answers, with the account it is attached to."""

    TYPE: ClassVar[str] = "terminal_up"
    LANE: ClassVar[Lane] = Lane.CRITICAL
    KEEP_LAST: ClassVar[bool] = True

    terminal: str
    kind: str
    """native, remote, classic, simulated, recorded."""
    login: int
    server: str
    build: int = 0
    connected: bool = True

    @property
    def key(self) -> str:
        return self.terminal


class TerminalDown(Event):
    """The terminal does not answer, or is not the one that was configured."""

    TYPE: ClassVar[str] = "terminal_down"
    LANE: ClassVar[Lane] = Lane.CRITICAL
    KEEP_LAST: ClassVar[bool] = True

    terminal: str
    reason: str
    """lost, hung, disconnected, wrong_account, stopped."""
    detail: str = ""

    @property
    def key(self) -> str:
        return self.terminal


class ClockChanged(Event):
    """The offset between server clock and UTC, or what is known of it, changed."""

    TYPE: ClassVar[str] = "clock_changed"
    LANE: ClassVar[Lane] = Lane.HIGH
    KEEP_LAST: ClassVar[bool] = True

    server: str
    rule: str
    """An IANA rule such as `America/New_York+7h`, or `fixed+3h`."""
    offset_s: int
    offset_source: OffsetSourceField
    old_offset_s: int | None = None
    old_offset_source: OffsetSourceField = OffsetSource.UNKNOWN
    since_server_ms: int | None = None
    """From which server time on the new offset holds (None: from now on)."""
    evidence: str = ""

    @property
    def key(self) -> str:
        return self.server


class ClockTick(Event):
    """One second passed (UTC). Timers are events; their absence says that the producer is gone."""

    TYPE: ClassVar[str] = "clock"

    offset_s: int = 0
    offset_source: OffsetSourceField = OffsetSource.UNKNOWN
    terminal_connected: bool = True


class GapHealed(Event):
    """A span in which nothing was seen, and what re-pulling it brought."""

    TYPE: ClassVar[str] = "gap_healed"
    LANE: ClassVar[Lane] = Lane.HIGH

    symbol: str
    reason: str
    from_ms: int
    until_ms: int
    ticks: int

    @property
    def key(self) -> str:
        return self.symbol


class SymbolState(Part):
    """What a producer knows of one symbol's feed."""

    symbol: str
    broker_symbol: str
    state: str
    """waiting (no answer yet), live, healing (a gap is being filled), failing."""
    ticks: int = 0
    """Ticks appended since the producer started."""
    last_tick_ms: int | None = None
    """UTC time of the newest tick."""
    last_tick_server_ms: int | None = None
    bid: float = 0.0
    ask: float = 0.0
    last_error: str = ""


class ProducerState(Event):
    """How a producer fares, every few seconds: what `bridgectl status` shows of it."""

    TYPE: ClassVar[str] = "producer_state"
    LANE: ClassVar[Lane] = Lane.LOW
    KEEP_LAST: ClassVar[bool] = True

    terminal: str
    kind: str = ""
    holder: str = ""
    login: int = 0
    server: str = ""
    connection: str = ""
    """up, or the reason of the last TerminalDown."""
    started_ms: int = 0
    finished: bool = False
    """True when a recorded terminal was played to its end and everything is appended."""
    rule: str = ""
    offset_s: int = 0
    offset_source: OffsetSourceField = OffsetSource.UNKNOWN
    ticks_appended: int = 0
    ticks_per_s: float = 0.0
    entries_appended: int = 0
    gaps_healed: int = 0
    calls: int = 0
    call_timeouts: int = 0
    host_restarts: int = 0
    queue_length: dict[str, int] = Field(default_factory=dict)
    """Calls waiting for the terminal host, by priority."""
    counters: dict[str, int] = Field(default_factory=dict)
    """Everything else that is counted, by name."""
    spool_rows: int = 0
    spool_bytes: int = 0
    log_available: bool = True
    last_error: str = ""
    last_error_ms: int | None = None
    symbols: tuple[SymbolState, ...] = ()

    @property
    def key(self) -> str:
        return self.terminal


class Silence(Event):
    """Somebody who should say something did not, for so long: a fact that only a clock beside the
    log can tell. Posted once, however many watch; `over` when signs of life are seen again."""

    TYPE: ClassVar[str] = "silence"
    LANE: ClassVar[Lane] = Lane.CRITICAL

    of: Literal["producer", "group"]
    name: str
    """The terminal, or the group."""
    holder: str = ""
    """Who it was that is silent: host and process."""
    silent_s: float = 0.0
    over: bool = False
    seen_by: str = ""
    last_sign: str = ""
    """The last sign of life that was seen: an entry's id, or a count of heartbeats."""
    number: int = 0
    """Counts how often the same silence was told."""

    @property
    def key(self) -> str:
        said = "over" if self.over else str(self.number)
        return f"silence/{self.of}/{self.name}/{self.last_sign}/{said}"


class HandlerFailed(Event):
    """A handler could not bear an entry; the entry is skipped or the task halted."""

    TYPE: ClassVar[str] = "handler_failed"
    LANE: ClassVar[Lane] = Lane.CRITICAL

    group: str
    place: str
    """`stream@id` of the entry."""
    entry_type: str
    error: str
    traceback: str = ""
    code_version: str = ""
    halted: bool = False

    @property
    def key(self) -> str:
        return self.place


class OperatorAnswered(Event):
    """What a task did when an operator asked it to retry or to drop an entry.

    A dead letter is settled by the outcomes handled, dropped and skipped.
    """

    TYPE: ClassVar[str] = "operator_answered"
    LANE: ClassVar[Lane] = Lane.CRITICAL

    group: str
    request: str
    """Id of the request."""
    action: str
    """retry, drop."""
    place: str
    """`stream@id` of the entry."""
    outcome: str
    """handled; failed (it raised again); dropped (a dead letter was given up); skipped (a halted
    task went on behind the entry); refused (why stands in `detail`)."""
    detail: str = ""
    by: str = ""
    reason: str = ""

    @property
    def key(self) -> str:
        return self.place


class HandlerUpgraded(Event):
    """Other code took a task over: its state was derived again, outputs discarded."""

    TYPE: ClassVar[str] = "handler_upgraded"
    LANE: ClassVar[Lane] = Lane.HIGH

    group: str
    task: str
    """`GROUP.TASK`."""
    version_before: str
    version: str
    derived_from: str
    """Where deriving again began."""
    entries: int
    """How many entries were handled again."""

    @property
    def key(self) -> str:
        return self.task
