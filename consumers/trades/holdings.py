"""What is held now, as the newest look at each account told it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from consumers.trades.strategies import strategy_of, target_names
from events.codec import AnyEvent, BadEvent, UnknownEvent, decode_data
from events.guarding import GuardState, LatchChanged
from events.log import ACCOUNT_PARTITION, SOURCE, Log, LogError, Slot
from events.market import Quotes
from events.marks import Marks
from events.trading import Account, Book, Position

TICKETS_AS_TEXT = ("ticket", "identifier", "magic")


@dataclass(frozen=True, slots=True)
class Holding:
    """One open position. Money in account currency; None where no mark was told yet."""

    ticket: int
    identifier: int
    symbol: str
    side: str
    lots: float
    price_open: float
    price_now: float | None
    bid: float | None
    ask: float | None
    profit: float | None
    swap: float | None
    stop_loss: float | None
    take_profit: float | None
    magic: int
    comment: str
    strategy: str
    opened_ms: int

    def as_json(self) -> dict[str, Any]:
        """Plain values; tickets as text, because they have 64 bits."""
        values = asdict(self)
        return {**values, **{name: str(values[name]) for name in TICKETS_AS_TEXT}}


@dataclass(frozen=True, slots=True)
class AccountHoldings:
    """The open book of one terminal's account. `account` is None where none was told yet."""

    terminal: str
    account: Account | None
    book_ms: int | None
    """When it was read (UTC); None where no book was told yet."""
    marked_ms: int | None
    holdings: tuple[Holding, ...]
    guard: GuardState | None
    latch: LatchChanged | None

    @property
    def halted(self) -> str:
        """Why nothing may be opened, in words; empty where nothing says so."""
        if self.latch is not None and self.latch.latched:
            return f"halted by {self.latch.by}: {self.latch.reason}"
        if self.guard is not None and self.guard.state not in ("watching", "stopped"):
            return f"{self.guard.state}: {self.guard.reason}".rstrip(": ")
        return ""

    @property
    def floating(self) -> float:
        """Profit and swap of what is open, as far as it is known."""
        return sum((one.profit or 0.0) + (one.swap or 0.0) for one in self.holdings)

    def as_json(self) -> dict[str, Any]:
        events = {"account": self.account, "guard": self.guard, "latch": self.latch}
        return {
            "terminal": self.terminal,
            "login": self.account.login if self.account is not None else None,
            "book_ms": self.book_ms,
            "marked_ms": self.marked_ms,
            "floating": round(self.floating, 8),
            "halted": self.halted,
            "positions": [one.as_json() for one in self.holdings],
            **{
                name: event.model_dump(mode="json") if event is not None else None
                for name, event in events.items()
            },
        }


def holdings(log: Log, names: Sequence[str] = ()) -> list[AccountHoldings]:
    """Of every terminal, or of those named. Raises LogUnavailable; LogError for an unknown name."""
    known = log.namespaces()
    for name in names:
        if name not in known:
            there = ", ".join(sorted(known)) or "none yet"
            raise LogError(f"the log holds no terminal {name!r}; there is: {there}")
    return [_of(log, name) for name in sorted(set(names) or known)]


def _of(log: Log, namespace: str) -> AccountHoldings:
    newest = _newest(log.last_states(Slot(namespace, SOURCE, ACCOUNT_PARTITION)))
    account, book = newest.get(Account), newest.get(Book)
    marks, quotes = newest.get(Marks), newest.get(Quotes)
    prices = {one.symbol: one for one in quotes.quotes} if isinstance(quotes, Quotes) else {}
    rows: dict[int, Any] = {}
    if isinstance(marks, Marks):
        rows = {int(row["ticket"]): row for row in marks.rows}
    names = target_names(log, namespace)
    held = book.positions if isinstance(book, Book) else ()
    guard, latch = newest.get(GuardState), newest.get(LatchChanged)
    return AccountHoldings(
        terminal=namespace,
        account=account if isinstance(account, Account) else None,
        book_ms=book.recv_time_ms if isinstance(book, Book) else None,
        marked_ms=marks.recv_time_ms if isinstance(marks, Marks) else None,
        holdings=tuple(
            _holding(one, rows.get(one.ticket), prices.get(one.symbol), names) for one in held
        ),
        guard=guard if isinstance(guard, GuardState) else None,
        latch=latch if isinstance(latch, LatchChanged) else None,
    )


def _newest(states: Mapping[tuple[str, str], bytes]) -> dict[type, AnyEvent]:
    """The newest event of each type: another account may have been there before."""
    newest: dict[type, AnyEvent] = {}
    for (type_, key), content in states.items():
        try:
            event = decode_data(type_, key, content, place=f"last {type_} {key}")
        except (BadEvent, UnknownEvent):
            continue  # `status` names those
        before = newest.get(type(event))
        if before is None or event.event_time_ms >= before.event_time_ms:
            newest[type(event)] = event
    return newest


def _holding(
    position: Position, mark: Any | None, quote: Any | None, names: Mapping[str, str]
) -> Holding:
    return Holding(
        ticket=position.ticket, identifier=position.identifier, symbol=position.symbol,
        side="sell" if position.side else "buy", lots=position.volume_lots,
        price_open=position.price_open,
        price_now=float(mark["price_current"]) if mark is not None else None,
        bid=quote.bid if quote is not None else None, ask=quote.ask if quote is not None else None,
        profit=float(mark["profit"]) if mark is not None else None,
        swap=float(mark["swap"]) if mark is not None else None,
        stop_loss=position.stop_loss or None, take_profit=position.take_profit or None,
        magic=position.magic, comment=position.comment,
        strategy=strategy_of(position.magic, position.comment, names), opened_ms=position.time_ms,
    )  # fmt: skip
