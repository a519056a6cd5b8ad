"""What a trader writes: a class with parameters, and what it does on ticks and bars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from consumers.strategies.authoring.parameters import read
from consumers.strategies.authoring.signal import Lots, Notional, RiskPercent, Signal, Size, side_of

if TYPE_CHECKING:
    from consumers.bars import Bar
    from consumers.strategies.authoring.fill import Fill
    from consumers.strategies.authoring.tick import Tick
    from consumers.strategies.running.tick_run import TickRun
    from events.market import Instrument
    from events.trading import Account

Signals = Iterable[Signal] | Signal | None
"""What a method may give back: a generator of signals, a list, one, or nothing."""
TIMER_S = 60.0


class NotKnownYet(LookupError):
    """Something was asked for that no event told yet. The message says which, and how to ask."""


@dataclass(slots=True)
class Surroundings:
    """What a strategy may look at beside its ticks; kept up to date by whoever runs it."""

    account: Account | None = None
    instruments: dict[str, Instrument] = field(default_factory=dict)
    positions: dict[tuple[str, str], float] = field(default_factory=dict)
    """(symbol, leg) -> lots this strategy holds, signed."""


class Strategy:
    """Subclass it: class attributes are parameters, and methods yield signals.

    The same class runs live, in a replay and in a backtest, so a method may use no clock, no
    randomness, no files and no network: time is the tick's own. Whatever is put into attributes
    (numbers, text, lists, dicts, deques, indicators) is stored with every commit and is there
    again after a restart.
    """

    symbols: tuple[str, ...] = ()
    """Those it is for; empty: whatever it is run with. Each gets an object of its own."""
    together: bool = False
    """One object for all symbols, which sees their ticks in the order of the log."""
    timeframes: tuple[str, ...] = ("M5",)
    """Of the bars that `on_bar` is called with, such as ("M5", "H1")."""
    timer_s: float = TIMER_S
    """How often `on_timer` is called, at whole multiples of it (UTC)."""
    warm_up: int = 0
    """Bars of each timeframe (ticks, for a strategy without `on_bar`) before the first signal;
    signals before that are dropped."""
    lots: float | None = None
    """Size of a target that names none, as volume; or as one of the next two."""
    risk_percent: float | None = None
    notional: float | None = None
    no_stop: bool = False
    """Declares that it trades without a stop-loss; else an entry without one is refused."""
    deviation_points: int | None = None
    """How far from the price it was decided at an order may still be filled."""
    valid_for_s: float | None = None
    """How long a target may open something; what is open stays."""

    _surroundings: Surroundings
    _symbol: str

    def __init__(self, **parameters: object) -> None:
        """Raises BadParameter."""
        self._surroundings, self._symbol = Surroundings(), ""
        for name, value in parameters.items():
            setattr(self, name, read(type(self), Strategy, name, value))

    def setup(self) -> None:
        """Called once, before the first event: make indicators and what is to be remembered."""

    def on_tick(self, tick: Tick) -> Signals:
        """A tick of its symbol."""

    def on_bar(self, bar: Bar) -> Signals:
        """A bar closed: called with the first tick behind it, before that tick."""

    def on_ticks(self, ticks: TickRun) -> Signals:
        """Many ticks as arrays, in place of `on_tick`. Each signal says with `at=` on which of
        them it was decided, in ascending order, and may depend on none behind that one."""

    def on_account(self, account: Account) -> Signals:
        """Balance, equity or margin changed."""

    def on_trade(self, trade: Fill) -> Signals:
        """A deal of a position that this strategy owns: its own, a stop that was reached, a close
        by hand, a stop-out."""

    def on_timer(self, time_ms: int) -> Signals:
        """A multiple of `timer_s` passed."""

    @property
    def symbol(self) -> str:
        """Its symbol; empty for a strategy over several together."""
        return self._symbol

    @property
    def position(self) -> float:
        """Lots this strategy holds in its symbol, short negative. What was ordered and is not
        filled yet does not count."""
        return self._surroundings.positions.get((self._one_symbol("position"), ""), 0.0)

    def position_of(self, symbol: str, leg: str = "") -> float:
        """The same of one symbol and leg."""
        return self._surroundings.positions.get((symbol, leg), 0.0)

    @property
    def account(self) -> Account:
        """The account as it was seen last. Raises NotKnownYet."""
        if self._surroundings.account is None:
            raise NotKnownYet("no account was seen yet: use self.has_account, or on_account")
        return self._surroundings.account

    @property
    def has_account(self) -> bool:
        """Whether the account was seen."""
        return self._surroundings.account is not None

    @property
    def point(self) -> float:
        """The smallest step of its symbol's price. Raises NotKnownYet."""
        return self.instrument().point

    def instrument(self, symbol: str = "") -> Instrument:
        """Facts of its symbol, or of another one. Raises NotKnownYet."""
        wanted = symbol or self._one_symbol("point")
        found = self._surroundings.instruments.get(wanted)
        if found is None:
            raise NotKnownYet(
                f"no facts of {wanted} were seen yet: the terminal tells them when it starts; "
                "a backtest takes --spec"
            )
        return found

    def target(
        self,
        target: str | int | float,
        *,
        symbol: str = "",
        leg: str = "",
        size: Size | None = None,
        lots: float | None = None,
        risk_percent: float | None = None,
        notional: float | None = None,
        stop_loss: float | None = None,
        take_profit: float | None = None,
        limit: float | None = None,
        stop: float | None = None,
        valid_for_s: float | None = None,
        deviation_points: int | None = None,
        reason: str = "",
        at: int | None = None,
    ) -> Signal:
        """A signal: be `long`, `short` or `flat` (+1, -1, 0) in (symbol, leg), with this size,
        stop-loss and take-profit (prices), entered at market, or at `limit`, or at `stop`.

        Without a size those of the class hold, and without any the smallest lot. Raises BadSignal.
        """
        if isinstance(size, Lots):
            lots = size.lots
        elif isinstance(size, RiskPercent):
            risk_percent = size.percent
        elif isinstance(size, Notional):
            notional = size.amount
        if lots is None and risk_percent is None and notional is None:
            lots, risk_percent, notional = self.lots, self.risk_percent, self.notional
        return Signal(
            target=side_of(target), symbol=symbol or self._symbol, leg=leg,
            volume_lots=lots, risk_percent=risk_percent, notional=notional,
            price_limit=limit, price_stop=stop, stop_loss=stop_loss, take_profit=take_profit,
            valid_for_s=self.valid_for_s if valid_for_s is None else valid_for_s,
            price_deviation_points_max=(
                self.deviation_points if deviation_points is None else deviation_points
            ),
            reason=reason, at=at,
        )  # fmt: skip

    def _one_symbol(self, what: str) -> str:
        if not self._symbol:
            asks = {"position": "self.position_of(symbol)", "point": "self.instrument(symbol)"}
            raise NotKnownYet(
                f"a strategy over several symbols has no {what} of its own: use {asks[what]}"
            )
        return self._symbol


def live_in(
    strategy: Strategy, *, symbol: str, surroundings: Surroundings, values: Mapping[str, Any]
) -> Strategy:
    """Put a fresh strategy where it is run: its symbol, what it may look at, its parameters."""
    strategy._symbol, strategy._surroundings = symbol, surroundings
    for name, value in values.items():
        setattr(strategy, name, value)
    strategy.setup()
    return strategy
