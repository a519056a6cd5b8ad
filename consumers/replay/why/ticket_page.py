"""The story of a ticket as a tree for people and as JSON: orders with their deals and trades, and
a breach with the command, the latch and the steps that followed from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.text import Text
from rich.tree import Tree

from consumers.replay.why.ticket import Evidence, Seen
from events.decisions import Command, LimitBreach
from events.event import Event
from events.guarding import FlattenEnded, FlattenStep, LatchChanged
from events.trading import Book, Deal, OrderDone, Orders, TradeUpdate
from events.views import lines
from events.views.moments import utc_text
from events.views.tables import BAD, DIM

ORDER_TYPES = (
    "buy", "sell", "buy limit", "sell limit", "buy stop", "sell stop", "buy stop limit",
    "sell stop limit", "close by",
)  # fmt: skip
ORDER_STATES = (
    "started", "placed", "cancelled", "partly filled", "filled", "rejected", "expired",
)  # fmt: skip
ENTRIES = ("in", "out", "in/out", "out by")


@dataclass(slots=True)
class Node:
    """One entry, when it happened, and what belongs to it."""

    seen: Seen
    children: list[Node] = field(default_factory=list)

    @property
    def at_ms(self) -> int:
        """Of an order: when it was set up, so that its deals come after it."""
        event = self.seen.event
        return event.order.time_setup_ms if isinstance(event, OrderDone) else event.event_time_ms

    def as_json(self) -> dict[str, Any]:
        return {
            **lines.as_json(self.seen.entry),
            "at_ms": self.at_ms,
            "children": [child.as_json() for child in self.children],
        }


def nodes(found: Evidence) -> list[Node]:
    """The story in its order in time: deals hang on their order, trades on the deal they follow
    from, and what a guard did on what set it off."""
    top: list[Node] = []
    orders: dict[int, Node] = {}
    deals: dict[str, Node] = {}
    chain = _chain(found.causes, top)
    for seen in found.of(OrderDone):
        assert isinstance(seen.event, OrderDone)
        orders[seen.event.order.ticket] = node = Node(seen)
        top.append(node)
    for seen in found.of(Deal):
        assert isinstance(seen.event, Deal)
        deals[seen.entry.place] = node = Node(seen)
        order = orders.get(seen.event.order)
        (order.children if order is not None else top).append(node)
    for seen in found.entries:
        if isinstance(seen.event, TradeUpdate):
            deal = deals.get(seen.entry.cause)
            (deal.children if deal is not None else top).append(Node(seen))
        elif isinstance(seen.event, FlattenStep | FlattenEnded):
            (chain.children if chain is not None else top).append(Node(seen))
        elif not isinstance(seen.event, OrderDone | Deal):
            top.append(Node(seen))
    _sort(top)
    return top


def as_json(found: Iterable[Evidence]) -> list[dict[str, Any]]:
    """Plain values; tickets as text."""
    return [
        {
            "terminal": one.terminal,
            "ticket": str(one.ticket),
            "positions": [str(position) for position in sorted(one.positions)],
            "entries": len(one.entries),
            "archived": one.archived,
            "cut": one.cut,
            "story": [node.as_json() for node in nodes(one)],
        }
        for one in found
    ]


def tree(found: Evidence) -> Tree:
    """Each line: what, when, and how long after what it belongs to (or what came before)."""
    named = ", ".join(str(position) for position in sorted(found.positions)) or "none"
    root = Tree(Text.assemble(
        (f"ticket {found.ticket}", "bold"), f" in {found.terminal}: position {named}"
    ))  # fmt: skip
    before: int | None = None
    for node in nodes(found):
        _hang(root, node, before)
        before = node.at_ms
    if found.archived:
        root.add(Text(f"{found.archived} entries from the database", style=DIM))
    if found.cut:
        root.add(Text(found.cut, style=BAD))
    return root


def _chain(causes: list[Seen], top: list[Node]) -> Node | None:
    """Breach, command and latch, each on the one before it. Returns the last."""
    last: Node | None = None
    for seen in causes:
        node = Node(seen)
        (last.children if last is not None else top).append(node)
        last = node
    return last


def _sort(these: list[Node]) -> None:
    these.sort(key=lambda node: (node.at_ms, node.seen.entry.id))
    for node in these:
        _sort(node.children)


def _hang(parent: Tree, node: Node, before_ms: int | None) -> None:
    delay = f" ({node.at_ms - before_ms:+d} ms)" if before_ms is not None else ""
    branch = parent.add(
        Text.assemble(
            (utc_text(node.at_ms), DIM), delay, "  ", *_told(node.seen.event), "  ",
            (node.seen.entry.place, DIM),
        )
    )  # fmt: skip
    for child in node.children:
        _hang(branch, child, node.at_ms)


def _told(event: Event) -> Iterator[tuple[str, str]]:
    """What happened, in words."""
    if isinstance(event, OrderDone | Deal | Book | Orders):
        yield _told_by_terminal(event)
    elif isinstance(event, TradeUpdate):
        trade = event.trade
        yield f"trade {event.state.replace('_', ' ')}", "bold"
        yield f" {trade.volume_lots:g} lots, net {trade.net_profit:+,.2f}", ""
        if trade.closed_by:
            yield f", by {trade.closed_by.replace('_', ' ')}", ""
        if event.doubt:
            yield f", {event.doubt}", BAD
    elif isinstance(event, FlattenStep):
        retcode = "" if event.retcode is None else f" ({event.retcode})"
        yield f"guard: {event.step} {event.volume_lots:g} lots: {event.outcome}{retcode}", ""
        yield f" {event.detail}, took {event.took_ms:.0f} ms", DIM
    elif isinstance(event, FlattenEnded):
        yield f"guard: {event.state}", "bold"
        yield f", {event.scope}, {event.requests} requests", ""
    else:
        yield _told_by_decider(event)


def _told_by_terminal(event: OrderDone | Deal | Book | Orders) -> tuple[str, str]:
    if isinstance(event, OrderDone):
        order = event.order
        kind, state = _named(ORDER_TYPES, order.type), _named(ORDER_STATES, order.state)
        price = f" at {order.price_open:.10g}" if order.price_open else ""
        after = order.time_done_ms - order.time_setup_ms
        done = f" after {after} ms" if order.time_done_ms else ""
        text = f"order {order.ticket} {kind} {order.volume_initial_lots:g} {order.symbol}{price}"
        return f"{text}: {state}{done}", "bold"
    if isinstance(event, Deal):
        side = "sell" if event.type else "buy"
        money = event.profit + event.commission + event.swap + event.fee
        return (
            f"deal {event.ticket} {_named(ENTRIES, event.entry)} {side} {event.volume_lots:g} "
            f"{event.symbol} at {event.price:.10g}, {money:+,.2f}", ""
        )  # fmt: skip
    if isinstance(event, Book):
        return "the book shows it so from here on", DIM
    return "active orders show it so from here on", DIM


def _told_by_decider(event: Event) -> tuple[str, str]:
    if isinstance(event, LimitBreach):
        value = "unknown" if event.value is None else f"{event.value:g}"
        text = f"limit {event.limit}: {value} against {event.threshold:g}, {event.action}"
        return f"{text}, decided after {event.delay_ms} ms", BAD
    if isinstance(event, Command):
        return f"command {event.verb} by {event.issued_by}", "bold"
    if isinstance(event, LatchChanged):
        return f"latched by {event.by}: {event.reason}", BAD
    return event.TYPE, ""


def _named(names: tuple[str, ...], number: int) -> str:
    return names[number] if 0 <= number < len(names) else str(number)
