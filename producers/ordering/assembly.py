"""A sender of orders out of the settings, and what its producer tells it."""

from __future__ import annotations

import logging

from events.alerts import Alert
from events.log import LogError
from events.settings import Settings, TerminalSettings
from events.ticks import OffsetSource
from producers.append import account_slot
from producers.guard.assembly import log_opener
from producers.ordering.options import FOLDER, OrderingOptions, permission_of
from producers.ordering.sender import OrderSender
from producers.producer import Producer
from producers.spool.file import SpoolFull, SpoolUnusable
from producers.terminals.client import HostClient
from producers.terminals.spec import TRADE_MODES

logger = logging.getLogger(__name__)

SOURCE = "orders"


class ProducerSurroundings:
    """What a producer knows, in a sender's words. Thread-safe."""

    def __init__(self, producer: Producer) -> None:
        self._context, self._connection = producer.context, producer.connection

    def now_ms(self) -> int:
        """See Surroundings."""
        return self._context.utc_ms

    def offset_s(self) -> int | None:
        """See Surroundings."""
        offset_s, source = self._context.clock.offset(self._context.utc_ms)
        return None if source is OffsetSource.UNKNOWN else offset_s

    def broker_symbol(self, symbol: str) -> str:
        """See Surroundings."""
        return self._context.symbols.get(symbol, symbol)

    def not_ready(self) -> str:
        """See Surroundings."""
        if self._context.writer.fenced is not None:
            return "another producer took this terminal over"
        if not self._connection.up:
            return f"the terminal is not up: {self._connection.reason}"
        return ""

    def account(self) -> tuple[int, str]:
        """See SenderSurroundings. An account that is nobody's is known by its terminal."""
        if not self._connection.up:
            return 0, ""
        login, options = self._connection.login, self._context.options
        if options.virtual:
            return login, options.terminal
        return login, account_slot(login, self._connection.server).namespace

    def incident(self, text: str) -> None:
        """See SenderSurroundings."""
        if text:
            self._context.report.incident(SOURCE, text)
        else:
            self._context.report.recovered(SOURCE)

    def alert(self, alert: Alert) -> None:
        """See WatchSurroundings."""
        try:
            self._context.emit([alert])
        except (SpoolFull, SpoolUnusable, LogError) as error:
            logger.error("not told (%s): %s", error, alert.text)


def ordering_options(settings: Settings, terminal: TerminalSettings) -> OrderingOptions:
    """What the settings say, in the sender's words."""
    kind = terminal.kind.value
    wanted = "off" if settings.execution == "off" else terminal.execution
    return OrderingOptions(
        namespace=terminal.namespace,
        terminal=terminal.name,
        kind=kind,
        folder=settings.state_dir / FOLDER / terminal.name,
        permission=permission_of(wanted, kind),
        login=terminal.login,
        server=terminal.server,
        trade_mode=TRADE_MODES.index(terminal.trade_mode.value) if terminal.trade_mode else None,
    )


def sender_of(
    settings: Settings, terminal: TerminalSettings, client: HostClient, producer: Producer
) -> OrderSender:
    """A sender beside a producer, still to be started."""
    return OrderSender(
        ordering_options(settings, terminal),
        client,
        producer.context.spool,
        log_opener(settings),
        ProducerSurroundings(producer),
    )
