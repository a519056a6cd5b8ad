"""The accounts at a simulated broker: opened alike, each with its trade server and its people."""

from __future__ import annotations

from events.broker.terms import Conditions
from producers.terminals.simulated.broker.people.outsiders import Outsiders
from producers.terminals.simulated.broker.people.trader import BackgroundTrader
from producers.terminals.simulated.broker.server import TradeServer
from producers.terminals.simulated.broker.valuation import MarketQuotes, valuer_of
from producers.terminals.simulated.faults import AT_THE_BROKER, Fault
from producers.terminals.simulated.market.moved import Move, MovedMarket
from producers.terminals.simulated.options import AccountOptions, SimulatedOptions
from producers.terminals.simulated.server_clock import ServerClock
from producers.terminals.simulated.symbols import SymbolSpec

OUTSIDERS, TRADER = "outsiders", "trader"


class Accounts:
    """All accounts that one terminal may log in to. `known` are their options by login, `servers`
    the trade servers of those that were used."""

    def __init__(
        self,
        options: SimulatedOptions,
        *,
        specs: dict[str, SymbolSpec],
        market: MovedMarket,
        clock: ServerClock,
        conditions: Conditions,
        started_utc_ms: int,
        watched: tuple[str, ...],
    ) -> None:
        """`watched`: where the background trader trades unless he was told. Raises ValueError on
        a symbol that is not offered or cannot become account currency."""
        self._options = options
        self._specs = specs
        self._market = market
        self._clock = clock
        self._conditions = conditions
        self._started_utc_ms = started_utc_ms
        self._watched = watched
        self.known: dict[int, AccountOptions] = {
            account.login: account for account in (options.account, *options.other_accounts)
        }
        self.servers: dict[int, TradeServer] = {}
        self.open_anew()

    def server(self, login: int) -> TradeServer:
        """The trade server of an account; one that nobody described is like the first."""
        if login not in self.servers:
            account = self.known.get(login)
            if account is None:
                account = self._options.account.model_copy(update={"login": login})
                self.known[login] = account
            self.servers[login] = self._opened(account)
        return self.servers[login]

    def happen(self, fault: Fault, *, login: int, utc_ms: int) -> None:
        """Let something befall an account, or its market. Raises ValueError when too much is
        planned already."""
        if fault.kind == "price_jump":
            self._market.add(Move.of(fault, utc_ms + 1))
            return
        outsiders = self.server(login).actors[OUTSIDERS]
        assert isinstance(outsiders, Outsiders)
        outsiders.plan(fault, utc_ms)

    def open_anew(self) -> None:
        """Every account as it was when it was opened."""
        self.servers.clear()
        self._market.restore([])
        for fault in self._options.faults:
            if fault.kind == "price_jump":
                begin_ms = self._started_utc_ms + int(fault.at_s * 1000)
                self._market.add(Move.of(fault, begin_ms))
        for login in tuple(self.known):
            self.server(login).valuer.require_conversions()
        self._employ_trader()

    def _opened(self, account: AccountOptions) -> TradeServer:
        quotes = MarketQuotes(self._market)
        server = TradeServer(
            account,
            valuer_of(self._specs, quotes, account),
            self._market,
            self._clock,
            quotes=quotes,
            start_utc_ms=self._started_utc_ms,
            execution_ms=self._options.execution_ms,
            conditions=self._conditions,
        )
        first = account.login == self._options.account.login
        theirs = [
            fault
            for fault in self._options.faults
            if first and fault.kind in AT_THE_BROKER - {"price_jump"}
        ]
        server.actors[OUTSIDERS] = Outsiders(theirs, start_utc_ms=self._started_utc_ms)
        return server

    def _employ_trader(self) -> None:
        trader = self._options.trader
        if trader is None:
            return
        symbols = trader.symbols or self._watched
        unknown = sorted(set(symbols) - set(self._specs))
        if unknown:
            offered = ", ".join(self._specs)
            raise ValueError(f"trader: {', '.join(unknown)} not offered; offered are {offered}")
        self.server(self._options.account.login).actors[TRADER] = BackgroundTrader(
            self._options.seed, trader, symbols=symbols, start_utc_ms=self._started_utc_ms
        )
