"""The facts a backtest stands on, and where they came from. Nothing of them is ever guessed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from consumers.backtest.broker.options import BrokerOptions, SymbolCosts
from consumers.backtest.broker.prices.hours import WeeklyHours
from consumers.backtest.broker.spec.account import AccountSpec
from events.accounting import Entry
from events.codec import AnyEvent
from events.market import Contracts, Instrument
from events.trading import Account, Deal

SELL = 1
CHARGED_DIGITS = 4


class NoFacts(ValueError):
    """What a backtest must know is not known. Names cause and cure."""


@dataclass(frozen=True, slots=True)
class Spec:
    """Account, instruments and what trading in them costs."""

    account: AccountSpec | None
    """None: no account was recorded."""
    instruments: Mapping[str, Instrument]
    costs: Mapping[str, SymbolCosts] = field(default_factory=dict)
    hours: Mapping[str, WeeklyHours] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    source: str = ""

    def require(self, symbols: Sequence[str]) -> AccountSpec:
        """The account, once it and the facts of these symbols are known. Raises NoFacts."""
        if self.account is None:
            raise NoFacts(
                f"{self.source or 'the source'} tells nothing of an account: give --spec FILE "
                "(bridgectl backtest --write-spec FILE writes one to fill in)"
            )
        missing = sorted(set(symbols) - self.instruments.keys())
        if missing:
            known = ", ".join(sorted(self.instruments)) or "none"
            raise NoFacts(
                f"{self.source or 'the source'} holds no facts of {', '.join(missing)} (it holds: "
                f"{known}): give --spec FILE (bridgectl backtest --write-spec FILE writes one)"
            )
        for symbol in symbols:
            _require_sound(self.instruments[symbol], self.source)
        return self.account

    def options(self, base: BrokerOptions | None = None) -> BrokerOptions:
        """Broker options with what this knows of costs, hours and rates."""
        base = base or BrokerOptions()
        return base.merged(
            costs={**self.costs, **base.costs},
            hours={**self.hours, **base.hours},
            rates={**self.rates, **base.rates},
        )

    def over(self, other: Spec) -> Spec:
        """This, with what only the other knows."""
        return Spec(
            account=self.account or other.account,
            instruments={**other.instruments, **self.instruments},
            costs={**other.costs, **self.costs},
            hours={**other.hours, **self.hours},
            rates={**other.rates, **self.rates},
            source=" and ".join(one for one in (self.source, other.source) if one),
        )


def spec_of(events: Iterable[AnyEvent], *, source: str = "the log") -> Spec:
    """The newest account and instruments of recorded events (Account, Contracts, Instrument), and
    the commission that recorded deals were charged."""
    account: Account | None = None
    instruments: dict[str, Instrument] = {}
    charged: dict[str, list[Deal]] = {}
    for event in events:
        if isinstance(event, Account):
            if account is None or event.event_time_ms >= account.event_time_ms:
                account = event
        elif isinstance(event, Contracts):
            for one in event.instruments:
                _newer(instruments, one)
        elif isinstance(event, Instrument):
            _newer(instruments, event)
        elif isinstance(event, Deal) and event.type <= SELL and event.volume_lots > 0:
            charged.setdefault(event.symbol, []).append(event)
    return Spec(
        account=None if account is None else AccountSpec.of(account),
        instruments=instruments,
        costs={symbol: costs for symbol, deals in charged.items() if (costs := costs_of(deals))},
        source=source,
    )


def costs_of(deals: Sequence[Deal]) -> SymbolCosts:
    """What deals of one symbol were charged per lot: the sums over all of them, so that rounding
    and minimum charges even out."""
    sides = {"in": (Entry.IN, Entry.IN_OUT), "out": (Entry.OUT, Entry.IN_OUT)}
    per_lot = {}
    for name, entries in sides.items():
        own = [deal for deal in deals if deal.entry in entries]
        lots = sum(deal.volume_lots for deal in own)
        per_lot[name] = -sum(deal.commission for deal in own) / lots if lots else 0.0
    chargeable = [deal for deal in deals if deal.entry != Entry.OUT_BY]
    fee = -sum(deal.fee for deal in chargeable) / len(chargeable) if chargeable else 0.0
    paid = {name: round(amount, CHARGED_DIGITS) for name, amount in per_lot.items() if amount > 0}
    if not paid:
        return SymbolCosts(fee_per_deal=max(0.0, round(fee, CHARGED_DIGITS)))
    both = len(paid) == len(sides)
    return SymbolCosts(
        commission_per_lot=round(sum(paid.values()) / len(paid), CHARGED_DIGITS),
        commission_on="both" if both else ("in" if "in" in paid else "out"),
        fee_per_deal=max(0.0, round(fee, CHARGED_DIGITS)),
    )


def _newer(instruments: dict[str, Instrument], one: Instrument) -> None:
    known = instruments.get(one.symbol)
    if known is None or one.event_time_ms >= known.event_time_ms:
        instruments[one.symbol] = one


def _require_sound(one: Instrument, source: str) -> None:
    """Facts that arithmetic cannot work with."""
    for name in ("point", "contract_size", "volume_min_lots", "volume_max_lots"):
        value = getattr(one, name)
        if not value > 0:
            raise NoFacts(
                f"{source or 'the source'}: {one.symbol} has {name} {value:g}: it must be above 0"
            )
