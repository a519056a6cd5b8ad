"""What group risk remembers of one account, as plain values in a task's state.

Large values lie under keys of their own and are read only when what follows from them is not at
hand: `Known` keeps that, and can always be made anew from the state.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from consumers.risk.figures import realised
from consumers.risk.figures.holdings import Holding, Market, PriceSeen
from consumers.risk.figures.value_at_risk import Returns, Series, daily_deviation, returns_of
from consumers.runtime.state import State
from events.accounting import Contract
from events.market import Closes, Contracts, Instrument, Quotes
from events.marks import MARK_DTYPE, Marks
from events.rules import Rules, Watched
from events.trading import Account, Book

CLOSES_SYMBOLS_MAX = 64


@dataclass(slots=True)
class Known:
    """What was read from the state already, each with the mark it was read under."""

    contracts_mark: int | None = None
    contracts: dict[str, Contract] = field(default_factory=dict)
    instruments: dict[str, Instrument] = field(default_factory=dict)
    series: dict[str, tuple[int, Series, float | None]] = field(default_factory=dict)
    """With the standard deviation of a day's return."""
    returns: tuple[tuple[tuple[str, int], ...], Returns | None] = ((), None)
    rules_text: str | None = None
    rules: Rules = field(default_factory=Rules)
    watched_text: bytes | None = None
    watched: Watched = field(default_factory=Watched)
    realised: tuple[tuple[int, str, str | None], dict[str, float]] | None = None


class Memory:
    """One account in the state of a task. Keys begin with its login."""

    def __init__(self, state: State, login: int, known: Known, *, trial: bool = False) -> None:
        self._state, self._known = state, known
        self.trial = trial
        """Other rules are tried: nobody asks what could be opened."""
        self._prefix = f"{login}:"

    def _get(self, name: str, default: Any = None) -> Any:
        return self._state.get(self._prefix + name, default)

    def _set(self, name: str, value: Any) -> None:
        self._state[self._prefix + name] = value

    # --- what is taken in

    def take_account(self, event: Account) -> None:
        self._set("account", event.model_dump_json())

    def take_book(self, event: Book) -> None:
        self._set(
            "book",
            [
                [
                    one.ticket, one.symbol, one.side, one.volume_lots, one.price_open,
                    one.stop_loss, one.magic, one.time_ms,
                ]
                for one in event.positions
            ],
        )  # fmt: skip

    def take_marks(self, event: Marks) -> None:
        self._set("marks", [event.event_time_ms, event.rows.tobytes()])

    def take_quotes(self, event: Quotes | Contracts) -> None:
        """Newer prices replace older ones of the same symbol."""
        seen = self._get("quotes") or {}
        for one in event.quotes:
            if one.symbol not in seen or seen[one.symbol][2] <= one.time_ms:
                seen[one.symbol] = [one.bid, one.ask, one.time_ms]
        self._set("quotes", seen)

    def take_contracts(self, event: Contracts) -> None:
        """Facts of symbols; of those that are no longer told prices are forgotten."""
        self._set("contracts", event.model_dump_json())
        self._set("contracts_mark", event.event_time_ms)
        told = {one.symbol for one in event.instruments}
        kept = {s: price for s, price in (self._get("quotes") or {}).items() if s in told}
        self._set("quotes", kept)
        self.take_quotes(event)

    def take_closes(self, event: Closes) -> None:
        if not event.time_server_s:
            return
        marks = self._get("closes_marks") or {}
        held = {row[1] for row in self._get("book") or ()}
        for symbol in [s for s in marks if s not in held][
            : max(0, len(marks) - CLOSES_SYMBOLS_MAX)
        ]:
            del marks[symbol]
            del self._state[f"{self._prefix}closes:{symbol}"]
        times = np.asarray(event.time_server_s, np.int64)
        closes = np.asarray(event.close, np.float64)
        self._set(f"closes:{event.symbol}", [times.tobytes(), closes.tobytes()])
        marks[event.symbol] = int(event.time_server_s[-1])
        self._set("closes_marks", marks)

    def take_rules(self, rules: Rules) -> None:
        self._set("rules", rules.model_dump_json())

    # --- what is known

    @property
    def account(self) -> Account | None:
        found = self._get("account")
        return None if found is None else Account.model_validate_json(found)

    @property
    def marks_ms(self) -> int:
        """When positions were marked last; 0: never."""
        marks = self._get("marks")
        return 0 if marks is None else int(marks[0])

    @property
    def rules(self) -> Rules:
        text = self._get("rules")
        if text is None:
            return Rules()
        if text != self._known.rules_text:
            self._known.rules, self._known.rules_text = Rules.model_validate_json(text), text
        return self._known.rules

    @property
    def watched(self) -> Watched:
        """References, trips, and what the last trusted reading said."""
        packed = self._get("watched")
        if packed is None:
            return Watched()
        if packed != self._known.watched_text:
            self._known.watched = Watched.model_validate_json(packed)
            self._known.watched_text = packed
        return self._known.watched

    @watched.setter
    def watched(self, watched: Watched) -> None:
        packed = watched.model_dump_json().encode()
        self._set("watched", packed)
        self._known.watched, self._known.watched_text = watched, packed

    @property
    def holdings(self) -> tuple[Holding, ...] | None:
        """The newest book with its newest marks; None before the first book."""
        book = self._get("book")
        if book is None:
            return None
        marks = self._get("marks")
        rows = () if marks is None else np.frombuffer(marks[1], MARK_DTYPE).tolist()
        marked = {row[0]: row for row in rows}
        found = []
        for ticket, symbol, side, lots, price_open, stop_loss, magic, open_time_ms in book:
            _, price, profit, swap = marked.get(ticket, (ticket, 0.0, 0.0, 0.0))
            found.append(
                Holding(
                    ticket, symbol, side, lots, price_open, price, profit, swap, stop_loss, magic,
                    open_time_ms,
                )
            )  # fmt: skip
        return tuple(found)

    def market(self, currency: str) -> Market:
        known, mark = self._known, self._get("contracts_mark")
        if mark is not None and mark != known.contracts_mark:
            told = Contracts.model_validate_json(self._get("contracts"))
            known.contracts = {one.symbol: Contract.of(one) for one in told.instruments}
            known.instruments = {one.symbol: one for one in told.instruments}
            known.contracts_mark = mark
        prices = {s: PriceSeen(*price) for s, price in (self._get("quotes") or {}).items()}
        return Market(currency, known.contracts, prices, known.instruments)

    def returns(self, symbols: set[str]) -> Returns | None:
        """Returns of these symbols at common times; None when some have none."""
        marks = self._get("closes_marks") or {}
        key = tuple((symbol, marks.get(symbol, 0)) for symbol in sorted(symbols))
        if self._known.returns[0] != key:
            series = {symbol: one for symbol, _ in key if (one := self._series(symbol, marks))}
            found = returns_of(series) if len(series) == len(key) else None
            self._known.returns = (key, found)
        return self._known.returns[1]

    def daily_deviations(self, symbols: set[str]) -> dict[str, float]:
        """Symbol -> standard deviation of a day's return, where enough closes are known."""
        marks, found = self._get("closes_marks") or {}, {}
        for symbol in sorted(symbols & marks.keys()):
            if self._series(symbol, marks) is not None:
                deviation = self._known.series[symbol][2]
                if deviation is not None:
                    found[symbol] = deviation
        return found

    def _series(self, symbol: str, marks: dict[str, int]) -> Series | None:
        mark = marks.get(symbol)
        if mark is None:
            return None
        kept = self._known.series.get(symbol)
        if kept is None or kept[0] != mark:
            times, closes = self._get(f"closes:{symbol}")
            one = Series(np.frombuffer(times, np.int64), np.frombuffer(closes, np.float64))
            kept = self._known.series[symbol] = (mark, one, daily_deviation(one))
        return kept[1]

    # --- deals, and what was told

    @property
    def ledger(self) -> dict[str, Any]:
        """Closed trades; may be changed in place."""
        return self._default("ledger", realised.new_ledger())

    @property
    def counts(self) -> dict[str, Any]:
        """What is looked at often of them; may be changed in place."""
        return self._default("counts", realised.new_counts())

    @property
    def told(self) -> dict[str, Any]:
        """What was told or asked for already; may be changed in place."""
        return self._default("told", {})

    def realised(self, now_ms: int) -> dict[str, float]:
        """Closed profit of the day, the week and the month."""
        rules = self.rules
        day = realised.day_of(rules, now_ms).name
        key = (self.counts["deals"], day, self._known.rules_text)
        if self._known.realised is None or self._known.realised[0] != key:
            sums = realised.realised(self.ledger["minutes"], rules, now_ms)
            self._known.realised = (key, sums)
        return self._known.realised[1]

    def _default(self, name: str, value: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] | None = self._get(name)
        if found is None:
            self._set(name, value)
            return value
        return found
