"""A look into one terminal: account, symbols under the broker's names, clock. Trades nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from events.settings import TerminalSettings
from events.settings.terminals import TradeMode
from producers.clock.detection import CannotDetect, Detection, detect
from producers.terminals import constants as mt5
from producers.terminals.attach import Attached, Attachment, candidates
from producers.terminals.client import HostClient, open_client
from producers.terminals.configured import terminal_spec
from producers.terminals.spec import TRADE_MODES

UP_WAIT_S = 90.0
BARS_WANTED = 6_500
"""About a year of hourly bars: one switch at least in any half of it."""
HISTORY_WAIT_S = 60.0
SYMBOLS_TRIED_MAX = 3
_NAME_CUT = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Clock:
    """`rule` is empty where history does not tell; `tied` are those it cannot tell apart."""

    rule: str
    evidence: str
    tied: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Inspected:
    """What a terminal is attached to, and how it names what we want."""

    login: int
    server: str
    company: str
    trade_mode: TradeMode
    build: int
    connected: bool
    path: str
    symbols: tuple[str, ...]
    aliases: dict[str, str]
    """Canonical name -> broker's name, only where they differ."""
    unresolved: dict[str, list[str]] = field(default_factory=dict)
    """Wanted name -> the broker's names it could mean (none or several)."""
    clock: Clock = Clock("", "")
    warnings: tuple[str, ...] = ()

    @property
    def suggested_name(self) -> str:
        """A namespace made of the server's name."""
        return _NAME_CUT.sub("-", self.server.lower()).strip("-")[:48] or "mt5"


def inspect(
    terminal: TerminalSettings, *, wanted: Sequence[str], wait_s: float = UP_WAIT_S
) -> Inspected:
    """Attach, look, detach. Raises NotSent (with the cause) or TerminalLost."""
    spec = terminal_spec(terminal, observe=True)
    with open_client(spec, attach=Attachment(spec)) as client:
        client.wait_until_up(wait_s)
        attached = client.attached
        assert isinstance(attached, Attached), "an attached client knows what it is attached to"
        names, unresolved = _resolved(client, wanted)
        account, info = attached.account, attached.terminal
        return Inspected(
            login=account.login,
            server=account.server,
            company=account.company,
            trade_mode=TradeMode(TRADE_MODES[account.trade_mode]),
            build=info.build,
            connected=bool(info.connected),
            path=info.path,
            symbols=tuple(names),
            aliases={name: broker for name, broker in names.items() if name != broker},
            unresolved=unresolved,
            clock=_clock(client, list(names.values()), configured=terminal.clock),
            warnings=tuple(attached.warnings),
        )


def _resolved(
    client: HostClient, wanted: Sequence[str]
) -> tuple[dict[str, str], dict[str, list[str]]]:
    every = client.call("symbols_get").value or ()
    names: dict[str, str] = {}
    unresolved: dict[str, list[str]] = {}
    for name in wanted:
        found = candidates(name, every)
        if len(found) == 1:
            names[name] = found[0]
        else:
            unresolved[name] = found
    return names, unresolved


def _clock(client: HostClient, symbols: Sequence[str], *, configured: str) -> Clock:
    """The clock's rule: the configured one, else by the weekends of the first symbols that have
    them."""
    if configured:
        return Clock(configured, "as configured")
    reason = "none of the symbols is known to the broker"
    for symbol in symbols[:SYMBOLS_TRIED_MAX]:
        client.call("symbol_select", symbol, True)
        reply = client.call(
            "copy_rates_from_pos",
            symbol, mt5.TIMEFRAME_H1, 0, BARS_WANTED,
            timeout_s=HISTORY_WAIT_S,
        )  # fmt: skip
        if reply.value is None or not len(reply.value):
            reason = f"no hourly bars of {symbol}: {reply.error[1]}"
            continue
        try:
            return _judged(detect(reply.value))
        except CannotDetect as error:
            reason = str(error)
    return Clock("", reason)


def _judged(found: Detection) -> Clock:
    rule = str(found.rule) if found.rule is not None else ""
    tied = () if rule else tuple(str(candidate.rule) for candidate in found.tied)
    return Clock(rule, found.evidence, tied)
