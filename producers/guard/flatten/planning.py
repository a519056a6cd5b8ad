"""In which order an account is closed. Pure: from a look to the requests of the next round.

Largest net exposure first; of a hedge only what is beyond the other side is closed at the market,
the rest against each other where the broker allows that (one request for two positions, no
spread, no moment in which one leg stands alone).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from producers.guard.flatten.account import VOLUME_DUST_LOTS, Held, Key, Look, Scope, Working
from producers.guard.flatten.instruments import InstrumentBook

CANCEL_BUDGET_S = 5.0
"""Pending orders that take longer to cancel than that are split: the near ones, then the
positions, then the others."""
CANCEL_FIRST_S = 2.0


@dataclass(frozen=True, slots=True)
class Close:
    """Close a position, or `volume_lots` of it; `against` closes it by an opposite one."""

    held: Held
    volume_lots: float
    against: Held | None = None

    @property
    def legs(self) -> tuple[Held, ...]:
        return (self.held,) if self.against is None else (self.held, self.against)

    @property
    def keys(self) -> frozenset[Key]:
        return frozenset(leg.key for leg in self.legs)


@dataclass(frozen=True, slots=True)
class Plan:
    """Requests of a round in their order: `first` cancels, closes, then the other cancels."""

    first: tuple[Working, ...] = ()
    closes: tuple[Close, ...] = ()
    last: tuple[Working, ...] = ()


def plan_round(
    look: Look,
    scope: Scope,
    book: InstrumentBook,
    *,
    skip: frozenset[Key] = frozenset(),
    fifo: bool = False,
    no_close_by: frozenset[str] = frozenset(),
    round_trip_s: float = 0.25,
) -> Plan:
    """What to send next for what `scope` holds, apart from what to `skip` for now.

    `fifo`: the broker wants the oldest first, whatever the account says. `no_close_by`: symbols
    whose broker refused to close positions by each other.
    """
    orders = [o for o in look.orders if o.pending and scope.holds(o.magic, o.symbol)]
    orders = [o for o in orders if ("order", o.ticket) not in skip]
    orders.sort(key=lambda o: (o.distance, o.ticket))
    # Planned with those that wait: of a hedge, what waits still stands against the other side.
    held = [p for p in look.positions if scope.holds(p.magic, p.symbol)]
    fifo = fifo or look.fifo
    closes = plan_closes(held, book, hedging=look.hedging, fifo=fifo, no_close_by=no_close_by)
    closes = [close for close in closes if not skip & close.keys]
    first, last = _split(orders, round_trip_s=round_trip_s, risk=bool(closes))
    return Plan(tuple(first), tuple(closes), tuple(last))


def plan_closes(
    held: Sequence[Held],
    book: InstrumentBook,
    *,
    hedging: bool,
    fifo: bool,
    no_close_by: frozenset[str] = frozenset(),
) -> list[Close]:
    """Closes in their order: what is net over all symbols by exposure, then what is hedged."""
    by_symbol: dict[str, list[Held]] = defaultdict(list)
    for position in held:
        by_symbol[position.symbol].append(position)
    net: list[Close] = []
    hedged: list[Close] = []
    for symbol in _by_exposure(by_symbol, book):
        positions = by_symbol[symbol]
        if fifo:
            net += _whole(sorted(positions, key=lambda p: (p.time_ms, p.ticket)))
            continue
        pairs = hedging and book.of(symbol).takes_close_by and symbol not in no_close_by
        alone, paired = _beyond_the_hedge(positions, book)
        net += _whole(alone)
        hedged += _pairs(paired) if pairs else _whole(_in_turns(paired))
    return net + hedged


def _by_exposure(by_symbol: dict[str, list[Held]], book: InstrumentBook) -> list[str]:
    """Symbols by net exposure, then by gross exposure, then by loss; the largest first."""

    def rank(symbol: str) -> tuple[float, float, float, str]:
        exposures = [book.exposure(p) for p in by_symbol[symbol]]
        loss = sum(p.profit for p in by_symbol[symbol])
        return (-abs(sum(exposures)), -sum(map(abs, exposures)), loss, symbol)

    return sorted(by_symbol, key=rank)


def _beyond_the_hedge(positions: list[Held], book: InstrumentBook) -> tuple[list[Held], list[Held]]:
    """Positions of one symbol: those whose closing brings the net nearer to nothing, largest
    first, and those that stand against each other."""
    net = sum(p.lots_signed for p in positions)
    side = 0 if net > 0 else 1
    ranked = sorted(positions, key=lambda p: (-abs(book.exposure(p)), p.profit, p.ticket))
    if all(p.side == side for p in positions):
        return ranked, []
    alone: list[Held] = []
    left = abs(net)
    for position in ranked:
        if position.side == side and position.volume_lots <= left + VOLUME_DUST_LOTS:
            alone.append(position)
            left -= position.volume_lots
    return alone, [p for p in ranked if p not in alone]


def _pairs(positions: list[Held]) -> list[Close]:
    """Close longs by shorts; what one side has more is seen again in the next round."""
    longs = [p for p in positions if p.side == 0]
    shorts = [p for p in positions if p.side == 1]
    pairs = [
        Close(long, min(long.volume_lots, short.volume_lots), short)
        for long, short in zip(longs, shorts, strict=False)
    ]
    # Without an opposite one left, a position is closed in the next round, when the pairs are gone.
    return pairs or _whole(positions)


def _in_turns(positions: list[Held]) -> list[Held]:
    """A long, a short, and so on: no side stands alone for longer than it must."""
    longs = [p for p in positions if p.side == 0]
    shorts = [p for p in positions if p.side == 1]
    turns = [p for pair in zip(longs, shorts, strict=False) for p in pair]
    return turns + [p for p in positions if p not in turns]


def _whole(positions: Iterable[Held]) -> list[Close]:
    return [Close(p, p.volume_lots) for p in positions]


def _split(
    orders: list[Working], *, round_trip_s: float, risk: bool
) -> tuple[list[Working], list[Working]]:
    """Cancels before the closes, and behind them."""
    if not risk or len(orders) * round_trip_s <= CANCEL_BUDGET_S:
        return orders, []
    count = max(1, int(CANCEL_FIRST_S / round_trip_s))
    return orders[:count], orders[count:]
