"""The broker of a backtest: the trade server of the simulated terminal, walked over recorded ticks.

Whatever happens between two ticks (orders under way, ends of orders, nights) happens at the prices
before; then the tick itself acts; only then does the strategy see it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from consumers.backtest.broker.chance import Chance
from consumers.backtest.broker.describing import assumptions
from consumers.backtest.broker.intents import Unfit, request_of
from consumers.backtest.broker.options import BrokerOptions
from consumers.backtest.broker.prices.present import Present
from consumers.backtest.broker.prices.tape import Tape
from consumers.backtest.broker.prices.watch import first_reached
from consumers.backtest.broker.reaching import Reaching
from consumers.backtest.broker.spec.account import AccountSpec
from consumers.backtest.broker.symbols import contracts_of, conversions_of, pairs_of, terms_of
from consumers.backtest.broker.telling import Teller
from consumers.strategies.running.tick_run import TickRun
from events import mt5
from events.accounting import MissingRate
from events.broker.desk import carry_out
from events.broker.nightly import midnight
from events.broker.requests import Outcome
from events.broker.server import DAY_MS, TradeServer
from events.broker.valuation import Valuer
from events.codec import AnyEvent
from events.executing import OrderAnswer, OrderIntent
from events.market import Instrument

NEVER_MS = 1 << 62
AHEAD_FIRST, AHEAD_GROWTH, AHEAD_MAX = 4_096, 4, 1 << 20
"""Ticks that are looked ahead for a level."""
_DONE = {
    mt5.TRADE_RETCODE_DONE: "done",
    mt5.TRADE_RETCODE_DONE_PARTIAL: "partial",
    mt5.TRADE_RETCODE_PLACED: "placed",
    mt5.TRADE_RETCODE_NO_CHANGES: "done",
}


@dataclass(order=True, slots=True)
class _Underway:
    """An intent on its way to the broker."""

    due_ms: int
    number: int
    intent: OrderIntent = field(compare=False)
    sent_ms: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class _Quiet:
    """From `first` up to `until` no price does anything, as long as the account is the same."""

    tape: Tape
    version: int
    first: int
    until: int
    ahead: int


class BrokerModel:
    """One account at one broker, over a run of ticks (`consumers.backtest.trading.Broker`).

    The account begins with its balance as the first deal. Indexes count the ticks of a run; runs
    follow each other. Raises NoConversion when money of a symbol that `traded` names cannot become
    account currency; the ticks of what converts it must be in the runs too (`conversions_of`).
    `latency_of` tells how long an intent that leaves at a time (UTC ms) is under way, in ms, in
    place of what options draw.
    """

    def __init__(
        self,
        account: AccountSpec,
        instruments: Mapping[str, Instrument],
        options: BrokerOptions | None = None,
        seed: int = 1,
        *,
        traded: Iterable[str] = (),
        latency_of: Callable[[OrderIntent, int], int] | None = None,
    ) -> None:
        self.account = account
        self.instruments = dict(instruments)
        self.options = options or BrokerOptions()
        conversions_of(account.currency, self.instruments, traded, rates=tuple(self.options.rates))
        self._chance = Chance(self.options, seed)
        self._latency_of = latency_of or (
            lambda intent, _: self._chance.latency_ms(intent.intent_id)
        )
        self._terms = terms_of(self.instruments, self.options)
        self._present = Present(
            tuple(self.instruments),
            rates=self.options.rates,
            hours=self.options.hours,
            quote_age_max_ms=int(self.options.quote_age_max_s * 1000),
        )
        self._server: TradeServer | None = None
        self._reaching: Reaching
        self._teller: Teller
        self._underway: list[_Underway] = []
        self._parked: list[_Underway] = []
        self._sent = 0
        self._version = 0
        self._quiet: _Quiet | None = None
        self._answers: list[AnyEvent] = []

    def assumptions(self) -> list[str]:
        """What is taken for granted, a line each, for whoever reads the result."""
        return assumptions(self.account, self.instruments, self.options)

    # What the engine asks ------------------------------------------------------------------------

    def quiet_until(self, run: TickRun, first: int, stop: int) -> int:
        """The first tick of first..stop at which something may happen; `stop` when nothing can."""
        tape, server = self._enter(run), self._opened()
        stop = min(stop, len(run))
        if first >= stop:
            return stop
        ledger = server.ledger
        if self._underway:
            stop = tape.first_after(self._underway[0].due_ms, first, stop)
        for one in self._parked:
            stop = self._first_open(tape, one.intent.symbol, first, stop)
        if server.executions:
            stop = tape.first_after(min(server.executions)[0], first, stop)
        if not ledger.positions and not server.orders:
            return stop
        stop = tape.first_on((server.swapped_day + 1) * DAY_MS, first, stop)
        expires_ms = self._expires_ms()
        if expires_ms < NEVER_MS:
            stop = tape.first_at(expires_ms, first, stop)
        return self._quiet_prices(tape, first, stop)

    def at(self, run: TickRun, index: int) -> list[AnyEvent]:
        """What happens at that tick, before the strategy sees it: answers, deals, orders that are
        done, and the levels they change."""
        tape, server = self._enter(run), self._opened()
        self._present.stand(index - 1)
        self._until(int(tape.clock_ms[index]), int(tape.server_ms[index]))
        self._stand(tape, index)
        self._unpark()
        symbol = run.symbol_of(index)
        prices = tape.prices(symbol)
        place = prices.before(index)
        if place < len(prices) and prices.index(place) == index:
            self._reaching.happen(prices, symbol, place)
        return self._told(server)

    def submit(self, intent: OrderIntent, run: TickRun, index: int) -> list[AnyEvent]:
        """An intent leaves at that tick, and is at the broker at once or by its latency."""
        self._stand(self._enter(run), index)
        server = self._opened()
        self._sent += 1
        delay_ms = self._latency_of(intent, server.now_ms)
        underway = _Underway(server.now_ms + delay_ms, self._sent, intent, server.now_ms)
        if delay_ms:
            heapq.heappush(self._underway, underway)
            self._answers.append(self._answer(underway, state="sent"))
        else:
            self._arrive(underway)
        return self._told(server)

    def look(self, run: TickRun, index: int) -> list[AnyEvent]:
        """The account at that tick as a producer shows it: contracts (every few minutes), orders
        and book where they changed, marks, quotes, account."""
        self._stand(self._enter(run), index)
        self._opened()
        return self._teller.look()

    def equity(self, run: TickRun, first: int, stop: int) -> npt.NDArray[np.float64]:
        """Equity at each of those ticks, with what is open now, in account currency."""
        self._enter(run)
        server = self._opened()

        def quote(symbol: str) -> Any:
            return self._present.series(symbol, first, stop)

        equity = server.valuer.equity(server.ledger, quote)
        return np.array(np.broadcast_to(np.asarray(equity, np.float64), (stop - first,)))

    def _quiet_prices(self, tape: Tape, first: int, stop: int) -> int:
        """Where prices may do something next. It looks ahead a little after every change and
        further each time nothing came of it, so that it costs by what is passed, not by what is
        left of the run: where it stops looking, something may happen."""
        known = self._quiet
        same = known is not None and known.tape is tape and known.version == self._version
        if known is not None and same and known.first <= first <= known.until:
            return min(known.until, stop)
        ahead = min(known.ahead * AHEAD_GROWTH, AHEAD_MAX) if known and same else AHEAD_FIRST
        end = min(first + ahead, stop)
        until = first_reached(self._opened(), self._present, tape, first, end)
        self._quiet = _Quiet(tape, self._version, first, until, ahead)
        return until

    # What happens --------------------------------------------------------------------------------

    def _enter(self, run: TickRun) -> Tape:
        server = self._server
        tape = self._present.enter(run, 0 if server is None else server.now_ms)
        if server is None:
            self._open(int(run.time_ms[0]))
        return tape

    def _open(self, start_ms: int) -> None:
        valuer = Valuer(
            self._terms, contracts_of(self.instruments), self._present, self.account,
            pairs=pairs_of(self.instruments, self.options.rates),
        )  # fmt: skip
        self._server = server = TradeServer(
            self.account, valuer, self._present, hours=self._present, start_utc_ms=start_ms,
            conditions=self._chance,
        )  # fmt: skip
        self._reaching = Reaching(server)
        self._teller = Teller(server, self._present, self.account, self.instruments)

    def _opened(self) -> TradeServer:
        assert self._server is not None, "a run is entered first"
        return self._server

    def _stand(self, tape: Tape, index: int) -> None:
        """Be at a tick; days without anything open pass unseen."""
        self._present.stand(index)
        server = self._opened()
        server.now_ms = max(server.now_ms, int(tape.clock_ms[index]))
        if not server.ledger.positions and not server.orders:
            server.swapped_day = max(server.swapped_day, server.server_ms // DAY_MS)

    def _until(self, time_ms: int, server_ms: int) -> None:
        """Everything that is due by the clock before a tick, in order of time. What arrives in
        the very millisecond of a tick arrives behind it."""
        server = self._opened()
        while True:
            offset_ms = self._present.offset_s(0) * 1000
            night_ms = (server.swapped_day + 1) * DAY_MS
            due = [
                (self._underway[0].due_ms + 1 if self._underway else NEVER_MS, 0),
                (min(server.executions)[0] + 1 if server.executions else NEVER_MS, 1),
                (self._expires_ms(), 2),
                (night_ms - offset_ms if night_ms <= server_ms else NEVER_MS, 3),
            ]
            when, what = min(due)
            if when > time_ms and not (what == 3 and when < NEVER_MS):
                return
            server.now_ms = max(server.now_ms, when - (what < 2))
            if what == 0:
                self._arrive(heapq.heappop(self._underway))
            elif what == 1:
                server.execute_due()
            elif what == 2:
                self._expire(when)
            else:
                ended = server.swapped_day
                server.swapped_day += 1
                midnight(server, ended)

    def _expires_ms(self) -> int:
        """When the first pending order ends (UTC)."""
        server = self._opened()
        ends = [order.expires_s for order in server.orders.values() if order.expires_s]
        return min(ends) * 1000 - self._present.offset_s(0) * 1000 if ends else NEVER_MS

    def _expire(self, when_ms: int) -> None:
        server = self._opened()
        until_s = server.clock.server_ms(when_ms) // 1000
        for order in list(server.orders.values()):
            if order.expires_s and order.expires_s <= until_s:
                server.drop(order, mt5.ORDER_STATE_EXPIRED)

    def _arrive(self, underway: _Underway) -> None:
        """An intent is at the broker."""
        server, intent = self._opened(), underway.intent
        until_ms = intent.valid_until_ms
        if until_ms is not None and server.now_ms > until_ms and intent.verb != "cancel":
            self._answers.append(
                self._answer(underway, state="expired", detail="it came after its time")
            )
            return
        try:
            if intent.verb == "open" and intent.symbol in self._terms:
                contract = server.valuer.contract(intent.symbol)
                server.valuer.rate(contract.currency_profit, intent.side, server.now_ms)
            request = request_of(intent, server, self._terms.get(intent.symbol))
            outcome = carry_out(server, request)
        except Unfit as error:
            self._refuse(underway, error.retcode, str(error))
            return
        except MissingRate as error:
            self._refuse(underway, mt5.TRADE_RETCODE_PRICE_OFF, str(error))
            return
        closed = outcome.retcode == mt5.TRADE_RETCODE_MARKET_CLOSED
        if closed and self.options.closed_market == "park" and intent.verb in ("open", "close"):
            self._parked.append(underway)
            self._answers.append(
                self._answer(underway, state="sent", detail="the market is closed: it waits")
            )
            return
        self._answer_outcome(underway, request.action, outcome)

    def _answer_outcome(self, underway: _Underway, action: int, outcome: Outcome) -> None:
        state = _DONE.get(outcome.retcode)
        if state is None:
            self._refuse(underway, outcome.retcode, outcome.text)
            return
        if action == mt5.TRADE_ACTION_PENDING:
            state = "placed"
        server = self._opened()
        deal = server.deals[-1] if outcome.deal else None
        held = server.ledger.positions.get(deal.position_id) if deal is not None else None
        position = underway.intent.position if held is None else held.ticket
        self._answers.append(
            self._answer(
                underway, state=state, retcode=outcome.retcode, order=outcome.order,
                deal=outcome.deal, position=position or (deal.position_id if deal else 0),
                volume_lots=outcome.volume if outcome.deal else 0.0, price=outcome.price,
                detail=outcome.text,
            )
        )  # fmt: skip

    def _refuse(self, underway: _Underway, retcode: int, detail: str) -> None:
        self._answers.append(
            self._answer(underway, state="refused", retcode=retcode, detail=detail)
        )

    def _answer(self, underway: _Underway, **what: Any) -> OrderAnswer:
        intent, now_ms = underway.intent, self._opened().now_ms
        return OrderAnswer(
            event_time_ms=now_ms, intent_id=intent.intent_id, login=intent.login,
            strategy=intent.strategy, symbol=intent.symbol, leg=intent.leg, attempts=1,
            sent_ms=underway.sent_ms, answered_ms=now_ms, **what,
        )  # fmt: skip

    def _first_open(self, tape: Tape, symbol: str, first: int, stop: int) -> int:
        """The first tick from `first` on at which a symbol trades."""
        prices = tape.prices(symbol)
        low, high = prices.before(first), prices.before(stop)
        if prices.open is not None:
            found = np.flatnonzero(prices.open[low:high])
            return prices.index(low + int(found[0])) if len(found) else stop
        return prices.index(low) if low < high else stop

    def _unpark(self) -> None:
        """Orders that waited for their market, if it is open now."""
        server, waiting = self._opened(), self._parked
        if not waiting:
            return
        self._parked = []
        for one in waiting:
            if server.is_open(one.intent.symbol):
                self._arrive(one)
            else:
                self._parked.append(one)

    def _told(self, server: TradeServer) -> list[AnyEvent]:
        answers, self._answers = self._answers, []
        told = [*answers, *self._teller.changes()]
        self._version += bool(told)
        return told
