"""The account of a simulated terminal in a file that other processes share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from events.accounting import RefusedFill
from producers.terminals import constants as mt5
from producers.terminals.simulated.broker.people.trader import BackgroundTrader
from producers.terminals.simulated.broker.recording import Recorder
from producers.terminals.simulated.calls.arguments import CallFailed
from producers.terminals.simulated.market.moved import Move
from producers.terminals.simulated.memory import BrokerMemory, MemoryDamaged
from producers.terminals.simulated.options import SimulatedOptions
from producers.terminals.simulated.server_clock import DAY_MS

if TYPE_CHECKING:
    from producers.terminals.simulated.calls.core import TerminalCore


SHORTENED_ABOVE_BYTES = 32 << 20
KEPT_DAYS = 5
"""Of a file that long, so much of what is over."""
AWAY_MS = 3_600_000
"""After a longer absence of every process the background trader was away too."""


@dataclass(frozen=True, slots=True)
class Past:
    """When an account was opened, and how late it is for it now; None: the computer's time."""

    start_utc_ms: int
    now_utc_ms: int


class AccountMemory:
    """Keeps what happens to the accounts of one terminal."""

    def __init__(self, options: SimulatedOptions) -> None:
        """Raises OSError when the file cannot be opened."""
        self._options = options
        self._memory = BrokerMemory(Path(options.memory or "").expanduser())
        self._lines: list[dict[str, Any]] = []
        self._header: dict[str, Any] = {}
        self._newest: dict[str, Any] = {}
        self._recorders: dict[int, Recorder] = {}
        self._moves: tuple[Move, ...] = ()
        self._stepped = False
        self._broken = False

    def close(self) -> None:
        """Give the file back; nothing can be remembered after it."""
        self._memory.close()

    def opened(self) -> Past:
        """Raises MemoryDamaged (a ValueError) when the file is of another account."""
        options, account = self._options, self._options.account
        asked = options.start_utc_ms
        with self._memory.held():
            now_ms = int(self._memory.wall_s() * 1000) if asked is None else asked
            self._header, self._lines = self._memory.begin(
                {
                    "start_utc_ms": now_ms, "utc_ms": now_ms, "seed": options.seed,
                    "login": account.login, "currency": account.currency,
                    "currency_digits": account.currency_digits, "balance": account.balance,
                    "credit": account.credit, "margin_mode": account.margin_mode,
                },
                asked_start_ms=asked,
            )  # fmt: skip
            self._newest = self._lines[-1] if self._lines else self._header
            then = self._memory.resumed_at(self._newest, speed=options.speed, follows=asked is None)
            return Past(int(self._header["start_utc_ms"]), then)

    def recall_all(self, terminal: TerminalCore) -> None:
        """Bring freshly opened accounts up to what the file tells. Raises MemoryDamaged."""
        servers = terminal.accounts.servers
        self._recorders = {login: Recorder(server) for login, server in servers.items()}
        self._moves = terminal.market.moves
        for line in self._lines:
            self._recall(terminal, line)
        self._let_rest(terminal)
        self._lines = []
        for server in terminal.accounts.servers.values():
            held = {p.symbol for p in server.ledger.positions.values()}
            held |= {order.symbol for order in server.orders.values()}
            if missing := sorted(held - set(terminal.specs)):
                raise self._memory.damaged(f"it holds {', '.join(missing)}, which is not offered")

    def shorten(self, terminal: TerminalCore) -> None:
        """Put away what is old when the file has become long, if nobody else has it open. Done
        once, after `recall_all`."""
        if self._memory.read_bytes <= SHORTENED_ABOVE_BYTES:
            return
        since_ms = terminal.clock.utc_ms() - KEPT_DAYS * DAY_MS
        with self._memory.held():
            self._catch_up(terminal)
            parts = [
                self._recorder(terminal, login).shortened(server.clock.server_ms(since_ms))
                for login, server in terminal.accounts.servers.items()
            ]
            if None in parts:
                return
            stamps = {name: self._newest[name] for name in ("utc_ms", "wall_ms")}
            line = {"accounts": parts, "moves": terminal.market.state(), **stamps}
            if self._memory.rewrite((self._header, line)):
                self._broken = True  # what is in memory is longer than the file now
                self._catch_up(terminal)

    def clock_stepped(self) -> None:
        """The clock was pushed by hand: others must know, though nothing happened."""
        self._stepped = True

    @contextmanager
    def shared(self, terminal: TerminalCore) -> Iterator[Callable[[], None]]:
        """Have the account alone, as every process left it. What the given function is called
        after is kept. Both raise CallFailed when the file fails; what was not kept is undone."""
        with self._memory.held():
            try:
                self._catch_up(terminal)
            except (OSError, MemoryDamaged) as error:
                raise CallFailed(mt5.RES_E_FAIL, f"Terminal: Call failed ({error})") from error
            yield lambda: self._keep(terminal)

    def _catch_up(self, terminal: TerminalCore) -> None:
        if self._broken:
            self._memory.read_again()
            self._lines = self._memory.news()[1:]
            terminal.accounts.open_anew()
            self.recall_all(terminal)
            self._broken = False
            return
        for line in self._memory.news():
            self._recall(terminal, line)
            self._newest = line
            terminal.clock.advance_to(line["utc_ms"])

    def _recall(self, terminal: TerminalCore, line: dict[str, Any]) -> None:
        try:
            for part in line.get("accounts", ()):
                self._recorder(terminal, part["login"]).recall(part)
            if "moves" in line:
                terminal.market.restore(line["moves"])
                self._moves = terminal.market.moves
        except (KeyError, TypeError, ValueError, AttributeError, RefusedFill) as error:
            raise self._memory.damaged(f"a line does not fit: {error!r}") from error

    def _let_rest(self, terminal: TerminalCore) -> None:
        """Nobody lets a made-up trader trade through days in which no terminal ran."""
        now_ms = terminal.clock.utc_ms()
        if not self._lines or now_ms - self._lines[-1]["utc_ms"] < AWAY_MS:
            return
        for server in terminal.accounts.servers.values():
            for actor in server.actors.values():
                if isinstance(actor, BackgroundTrader):
                    actor.rest_until(now_ms)

    def _recorder(self, terminal: TerminalCore, login: int) -> Recorder:
        if login not in self._recorders:
            self._recorders[login] = Recorder(terminal.accounts.server(login))
        return self._recorders[login]

    def _keep(self, terminal: TerminalCore) -> None:
        """Write what changed, and a step of the clock that only stands or was pushed."""
        logins = list(terminal.accounts.servers)
        changed = [self._recorder(terminal, login).changes() for login in logins]
        line: dict[str, Any] = {}
        if accounts := [one for one in changed if one is not None]:
            line["accounts"] = accounts
        moves = terminal.market.moves
        if moves is not self._moves:
            line["moves"] = terminal.market.state()
        now_ms = terminal.clock.utc_ms()
        if not line and not self._stepped:
            return
        try:
            self._memory.append({**line, "utc_ms": now_ms})
        except OSError as error:
            self._broken = True
            raise CallFailed(mt5.RES_E_FAIL, f"Terminal: Call failed ({error})") from error
        self._moves, self._stepped = moves, False
