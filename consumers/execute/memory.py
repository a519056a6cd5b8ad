"""What group execute remembers of one account, as plain values in a task's state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NotRequired, TypedDict, TypeVar

from consumers.risk.figures.holdings import Market, PriceSeen
from consumers.runtime.state import State
from events.accounting import Contract
from events.decisions import RiskMetrics
from events.executing import ExecutionSet
from events.market import Contracts, Instrument, Quotes
from events.ownership import Holdings, Seen
from events.trading import Account, Book

TARGETS_MAX = 2_000
"""Targets of one account that are remembered; those that hold and want nothing go first."""
HEDGING = 2

TargetStateName = Literal["wanted", "reached", "retired", "refused", "expired", "unknown"]


_Value = TypeVar("_Value")


class _Once(Generic[_Value]):
    """An attribute that is looked up once; `functools.cached_property` takes a lock each time."""

    def __init__(self, look_up: Callable[[Any], _Value]) -> None:
        self._look_up, self._name = look_up, look_up.__name__
        self.__doc__ = look_up.__doc__

    def __get__(self, memory: Any, owner: type) -> _Value:
        value = memory.__dict__[self._name] = self._look_up(memory)
        return value


class Target(TypedDict):
    """The newest signal of a strategy, symbol and leg, and how far it is carried out."""

    key: str
    strategy: str
    symbol: str
    leg: str
    owner: int
    side: int
    """+1 long, -1 short, 0 flat."""
    size: list[Any]
    """Kind and amount, as `sizing.Wanted`."""
    lots: float | None
    """Wanted, once it is sized."""
    stop_loss: float
    take_profit: float
    """0: none."""
    price_limit: float | None
    price_stop: float | None
    no_stop: bool
    valid_until_ms: int | None
    deviation_points: int | None
    bid: float
    ask: float
    at_ms: int
    signal: str
    """Place of the signal."""
    state: TargetStateName
    reason: str
    tries: int
    """Intents of this signal that came to nothing."""
    orders: int
    """Intents of this signal."""
    rests: int
    """Times a partial fill was topped up."""
    not_before_ms: int
    waiting_since_ms: int
    order: int
    """Ticket of the pending order that stands for it; 0: none."""
    order_terms: list[Any]
    order_intent: int
    """The intent that placed it."""
    intent: int
    """Under way; 0: none."""
    last_number: int
    told: list[Any]
    """What was told of it last."""
    alarmed: bool
    """A human was told that it needs one."""
    repeated: NotRequired[bool]
    """The strategy said this side more than once."""


class Intent(TypedDict):
    """An intent without an end."""

    key: str
    verb: str
    opens: bool
    lots: float
    filled: float
    """As deals tell."""
    answered: float
    """Filled, as its final answer tells; -1: no final answer yet."""
    state: str
    valid_until_ms: int
    holding: str
    stops: list[float]
    terms: list[Any]
    """Of a pending order: what it stands for."""
    until_ms: int
    """When deals that its answer promises are given up."""
    detail: str
    retcode: int
    """Of its final answer."""


@dataclass(slots=True)
class Known:
    """What was read from the state already."""

    contracts_mark: int | None = None
    contracts: dict[str, Contract] = field(default_factory=dict)
    instruments: dict[str, Instrument] = field(default_factory=dict)


class Memory:
    """One account in the state of a task, until that is read anew (`is_of`). Keys begin with its
    login.

    What is looked at often is looked up once: such values are changed in place.
    """

    def __init__(self, state: State, login: int, known: Known) -> None:
        self._state, self._known, self.login = state, known, login
        self._generation = state.generation
        self._prefix = f"{login}:"
        self.now_ms: int = self._get("now", 0)
        """The newest time that any event told (UTC)."""

    def is_of(self, state: State) -> bool:
        """Whether what was looked up is still what lies in the state."""
        return self._state is state and self._generation == state.generation

    def _get(self, name: str, default: Any = None) -> Any:
        return self._state.get(self._prefix + name, default)

    def _set(self, name: str, value: Any) -> None:
        self._state[self._prefix + name] = value

    def _default(self, name: str, value: Any) -> Any:
        found = self._get(name)
        if found is None:
            self._set(name, value)
            return value
        return found

    def _forget(self, *names: str) -> None:
        """Look it up again."""
        for name in names:
            self.__dict__.pop(name, None)

    # --- time, account, prices

    def pass_time(self, at_ms: int) -> None:
        """Time never runs backwards."""
        if at_ms > self.now_ms:
            self.now_ms = at_ms
            self._set("now", at_ms)

    def take_account(self, event: Account) -> None:
        self._forget("account", "hedging")
        self._set(
            "account",
            {
                "hedging": event.margin_mode == HEDGING, "currency": event.currency,
                "leverage": max(1, event.leverage), "equity": event.equity,
                "margin_free": event.margin_free, "fifo": event.fifo_close,
                "allowed": event.trade_allowed and event.trade_expert,
                "deals_pending": event.deals_pending,
            },
        )  # fmt: skip

    @_Once
    def account(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._get("account")
        return found

    @_Once
    def hedging(self) -> bool:
        account = self.account
        return account is not None and bool(account["hedging"])

    def take_contracts(self, event: Contracts) -> None:
        self._set("contracts", event.model_dump_json())
        self._set("contracts_mark", event.event_time_ms)
        self.take_quotes(event)

    def take_instrument(self, event: Instrument) -> None:
        """Of a log that has no `contracts`."""
        facts = self._default("instruments", {})
        facts[event.symbol] = event.model_dump_json()
        self._set("contracts_mark", event.event_time_ms)

    def take_quotes(self, event: Quotes | Contracts) -> None:
        quotes = self._default("quotes", {})
        for one in event.quotes:
            self.take_price(one.symbol, one.bid, one.ask, one.time_ms, quotes=quotes)

    def take_price(
        self, symbol: str, bid: float, ask: float, at_ms: int, *, quotes: Any = None
    ) -> None:
        """Newer prices replace older ones."""
        quotes = self._default("quotes", {}) if quotes is None else quotes
        if symbol not in quotes or quotes[symbol][2] <= at_ms:
            quotes[symbol] = [bid, ask, at_ms]

    def price(self, symbol: str) -> tuple[float, float] | None:
        """(bid, ask), the newest that is known."""
        found = (self._get("quotes") or {}).get(symbol)
        return (found[0], found[1]) if found and found[0] > 0 and found[1] > 0 else None

    @property
    def market(self) -> Market:
        """Facts and prices, as sizing needs them."""
        self._read_facts()
        account = self.account
        prices = {s: PriceSeen(*price) for s, price in (self._get("quotes") or {}).items()}
        currency = "" if account is None else account["currency"]
        return Market(currency, self._known.contracts, prices, self._known.instruments)

    def instrument(self, symbol: str) -> Instrument | None:
        self._read_facts()
        return self._known.instruments.get(symbol)

    def _read_facts(self) -> None:
        known, mark = self._known, self._get("contracts_mark")
        if mark is None or mark == known.contracts_mark:
            return
        one_by_one = (self._get("instruments") or {}).values()
        found = [Instrument.model_validate_json(text) for text in one_by_one]
        together = self._get("contracts")
        if together is not None:
            found += Contracts.model_validate_json(together).instruments
        known.instruments = {one.symbol: one for one in found}
        known.contracts = {one.symbol: Contract.of(one) for one in found}
        known.contracts_mark = mark

    # --- what stops

    def take_switch(self, event: ExecutionSet) -> None:
        self._set(
            "switch",
            {
                "mode": event.mode, "strategies": list(event.strategies),
                "lots_max": event.volume_lots_max,
            },
        )  # fmt: skip

    @property
    def switch(self) -> dict[str, Any]:
        return self._get("switch") or {"mode": "off", "strategies": [], "lots_max": None}

    def take_metrics(self, event: RiskMetrics) -> None:
        reached = [name for name, left in event.headroom.items() if left is not None and left <= 0]
        self._set(
            "risk",
            {
                "at_ms": event.event_time_ms, "largest_lot": dict(event.largest_lot),
                "locks": dict(event.locks), "reached": reached,
            },
        )  # fmt: skip

    @property
    def risk(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._get("risk")
        return found

    @_Once
    def stopping(self) -> dict[str, Any]:
        """Latch, guard and commands; may be changed in place. See `checks`."""
        found: dict[str, Any] = self._default(
            "stopping", {"latch": "", "guard": "", "until_ms": None, "asked": "", "asked_ms": 0}
        )
        return found

    # --- what is held

    def take_book(self, event: Book) -> None:
        self._forget("book")
        self._set(
            "book",
            [
                [
                    one.identifier, one.ticket, one.symbol, one.side, one.volume_lots,
                    one.stop_loss, one.take_profit, one.magic,
                ]
                for one in event.positions
            ],
        )  # fmt: skip

    @_Once
    def book(self) -> dict[int, Seen] | None:
        """By identifier; None before the first book."""
        found = self._get("book")
        if found is None:
            return None
        return {row[0]: Seen(*row) for row in found}

    @_Once
    def holdings(self) -> Holdings:
        """May be changed in place."""
        found: Holdings = self._default("holdings", {})
        return found

    @_Once
    def strays(self) -> dict[int, list[int]]:
        """Owner -> [ticket, magic, since when] of a pending order with a magic of ours that no
        target knows of; may be changed in place."""
        found: dict[int, list[int]] = self._default("strays", {})
        return found

    def held_of_all(self) -> dict[int, float]:
        """Owner -> signed lots."""
        found: dict[int, float] = {}
        for one in self.holdings.values():
            for owner, part in one["parts"].items():
                found[owner] = found.get(owner, 0.0) + part["lots"]
        return found

    @property
    def doubt_since_ms(self) -> int:
        """Since when book and deals tell different things; 0: they agree."""
        return int(self._get("doubt", 0))

    @doubt_since_ms.setter
    def doubt_since_ms(self, at_ms: int) -> None:
        self._set("doubt", at_ms)

    # --- targets and intents

    @_Once
    def owners(self) -> dict[int, str]:
        """Owner -> key of its target; may be changed in place."""
        found: dict[int, str] = self._default("owners", {})
        return found

    def target(self, key: str) -> Target | None:
        """May be changed in place."""
        found: Target | None = self._get(f"target:{key}")
        return found

    def add_target(self, target: Target) -> None:
        self._set(f"target:{target['key']}", target)
        self.owners[target["owner"]] = target["key"]

    def forget_target(self, key: str) -> None:
        """Its owner's name is kept: deals may still carry its magic."""
        del self._state[f"{self._prefix}target:{key}"]

    def targets(self) -> list[Target]:
        """Every one, by its key."""
        begin = f"{self._prefix}target:"
        return [self._state[name] for name in self._state if name.startswith(begin)]

    def of_owner(self, owner: int) -> Target | None:
        key = self.owners.get(owner)
        return None if key is None else self.target(key)

    @_Once
    def active(self) -> list[str]:
        """Keys of targets with something to do or to wait for; may be changed in place."""
        found: list[str] = self._default("active", [])
        return found

    @_Once
    def intents(self) -> dict[int, Intent]:
        """Without an end yet; may be changed in place."""
        found: dict[int, Intent] = self._default("intents", {})
        return found
