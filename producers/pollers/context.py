"""What every poller needs: options, the way to the terminal, the way to the log, the time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from events.codec import AnyEvent, encode
from events.log import ACCOUNT_PARTITION, PARTITIONS_DEFAULT, partition_of
from events.market import Instrument
from events.operations import GapHealed
from events.ticks import BATCH_TICKS_MAX
from producers.append import Writer
from producers.pollers.server_time import ServerTime
from producers.pollers.translate import Reading
from producers.report import Report
from producers.spool.file import SPOOL_BYTES_MAX, Known, Spool
from producers.terminals.interface import Reply, TerminalClient

DAY_S = 86_400
DEALS_BACKFILL_S = 30 * DAY_S
PAGE_TICKS_DEFAULT = 10_000
FAR_S = 2 * DAY_S
"""No server's clock is a day ahead of UTC; asking for what lies ahead costs nothing."""
VIRTUAL_KINDS = frozenset({"simulated", "recorded"})
"""Terminals with a clock of their own, and accounts that belong to nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerOptions:
    """Everything a producer is told. Intervals and times in seconds."""

    namespace: str
    terminal: str
    kind: str
    symbols: tuple[str, ...]
    """Canonical names; attaching finds the broker's."""
    state_dir: Path
    holder: str
    login: int | None = None
    """Expected account; anything else is an incident. None: whatever is found first."""
    server: str = ""
    trade_mode: int | None = None
    partitions: int = PARTITIONS_DEFAULT
    workers: int = 4
    call_timeout_s: float = 30.0
    price_interval_s: float = 0.1
    copy_interval_s: float = 1.0
    """Ticks are copied at least this often, whatever the newest quote says."""
    account_interval_s: float = 0.25
    account_idle_interval_s: float = 1.0
    account_repeat_s: float = 5.0
    """An unchanged account is told again after this time."""
    instrument_interval_s: float = 300.0
    instrument_cron: str = "1 * * * *"
    """When they are read again in any case (UTC): swaps and margins change at the server's
    midnight, which is a full hour nearly everywhere."""
    history_interval_s: float = 60.0
    backfill_s: int = 0
    deals_backfill_s: int = DEALS_BACKFILL_S
    timeframes: tuple[str, ...] = ("M1", "H1")
    candles_first: int = 1_000
    """Closed candles taken of a symbol and timeframe seen for the first time."""
    page_ticks: int = PAGE_TICKS_DEFAULT
    bulk: bool = False
    """A recorded terminal at full speed: page after page until it is played."""
    entry_ticks_max: int = 5_000
    spool_bytes_max: int = SPOOL_BYTES_MAX
    state_interval_s: float = 5.0

    def __post_init__(self) -> None:
        if not self.symbols:
            raise ValueError("no symbols: name at least one (FOREX_PAIRS, CRYPTO_PAIRS)")
        if not 1 <= self.entry_ticks_max <= BATCH_TICKS_MAX:
            raise ValueError(f"entry_ticks_max is {self.entry_ticks_max}, not 1..{BATCH_TICKS_MAX}")

    @property
    def ends(self) -> bool:
        """Whether the terminal is played to an end at which the producer stops."""
        return self.kind == "recorded"

    @property
    def virtual(self) -> bool:
        """Whether the terminal's time is its own, and its account nobody's."""
        return self.kind in VIRTUAL_KINDS


@dataclass
class Context:
    """Shared by all pollers of one producer."""

    options: ProducerOptions
    client: TerminalClient
    writer: Writer
    spool: Spool
    clock: ServerTime
    report: Report
    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.symbols: dict[str, str] = {symbol: symbol for symbol in self.options.symbols}
        self._canonical: dict[str, str] = {}

    def name_symbols(self, symbols: Mapping[str, str]) -> None:
        """Take over what the terminal calls our symbols (canonical -> broker's name)."""
        self.symbols = {symbol: symbols.get(symbol, symbol) for symbol in self.options.symbols}
        self._canonical = {broker: symbol for symbol, broker in self.symbols.items()}

    def canonical(self, broker_symbol: str) -> str:
        """Our name for a broker's symbol; symbols nobody configured keep theirs."""
        return self._canonical.get(broker_symbol, broker_symbol)

    def partition(self, symbol: str) -> int:
        """Where a symbol's market data lies."""
        return partition_of(symbol, self.writer.partitions)

    def emit(
        self,
        events: Sequence[AnyEvent],
        known: Iterable[Known] = (),
        *,
        places: Mapping[str, int] | None = None,
    ) -> None:
        """Spool events that cannot be pulled again, with what is remembered beside them. Raises
        SpoolFull, SpoolUnusable."""
        known = tuple(known)
        if events or known or places:
            entries = [(self._place(event), encode(event)) for event in events]
            self.spool.put(entries, known, places=places)

    def _place(self, event: AnyEvent) -> int:
        if isinstance(event, Instrument | GapHealed):
            return self.partition(event.symbol)
        return ACCOUNT_PARTITION

    def reading(self, login: int, reply: Reply) -> Reading:
        """The circumstances of a reply, for `translate`."""
        offset_s, source = self.clock.offset(reply.utc_ms)
        return Reading(
            login=login,
            recv_ms=reply.utc_ms,
            offset_s=offset_s,
            offset_source=source,
            utc_ms=self.clock.utc_ms,
            canonical=self.canonical,
        )

    def heard(self, reply: Reply) -> None:
        """Take over the time a reply tells."""
        self.clock.host.heard(reply)

    @property
    def utc_ms(self) -> int:
        """Now, by the clock of the terminal's host."""
        return self.clock.host.utc_ms

    def server_far_s(self) -> int:
        """A server time that certainly lies ahead: until when to ask for "everything"."""
        return self.utc_ms // 1000 + FAR_S
