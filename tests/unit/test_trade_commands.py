"""`positions`, `trades` and `why --ticket`: what people see of trading."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

import bridgectl
from consumers.replay.why.ticket import evidence
from consumers.replay.why.ticket_page import as_json, nodes, tree
from consumers.runtime.group import Group
from consumers.runtime.task import TaskRun
from consumers.trades import TradesHandler
from consumers.trades.holdings import holdings
from consumers.trades.page import ROWS_MAX, holdings_page, trades_page
from consumers.trades.recorded import Wanted, recorded
from events.accounting import BUY, SELL, MarginMode
from events.codec import AnyEvent, encode
from events.decisions import Command, LimitBreach
from events.guarding import FlattenEnded, FlattenStep, GuardState, LatchChanged, TicketOutcome
from events.instants import parse_instant_ms
from events.log import OPERATOR, SOURCE, Entry, Log, LogError, Slot, Stream
from events.market import Quote, Quotes
from events.marks import MARK_DTYPE, Marks
from events.memory_log import MemoryLog
from events.redis import RedisLog
from events.trading import Order, OrderDone, TradeUpdate
from tests.unit.trading_stories import BEGIN_MS, DEPOSIT, LOGIN, Trading

ALL = Wanted(0, 2**62)


class World:
    """An account whose looks lie in a log, with group trades behind it."""

    def __init__(self, log: Log | None = None, name: str = "demo") -> None:
        self.log = log or MemoryLog()
        self.name = name
        self.log.open_namespace(name, 1)
        self.claim = self.log.claim(Slot(name, SOURCE, 0), "test", alive_within_s=0)
        self.account = Trading(MarginMode.HEDGING)
        self.group = Group("trades", TradesHandler, namespaces=(name,))

    def append(self, *events: AnyEvent) -> None:
        for event in events:
            self.log.append(self.claim, [encode(event)])

    def derive(self) -> None:
        self.log.tasks.open_group(self.name, "trades", 1)
        [spec] = self.group.specs(self.log)
        seen = self.log.tasks.look([spec.slot])[0].token
        taken = self.log.tasks.acquire(spec.slot, "me", seen=seen)
        assert taken is not None
        task = TaskRun(self.log, self.group, spec, *taken)
        while task.step().entries:
            pass

    def round_trip(self, lots: float = 0.1, **more: Any) -> list[Any]:
        opened = self.account.fill(BUY, lots, 1.1, **more)
        closed = self.account.fill(SELL, lots, 1.2, position=opened.position_id, reason=4)
        self.append(*self.account.look([opened, closed]))
        return [opened, closed]


def order_done(deal: Any, **more: Any) -> OrderDone:
    at_ms = BEGIN_MS + deal.time_ms
    order = Order(
        ticket=deal.order, symbol=deal.symbol, type=deal.type, state=4,
        position_id=deal.position_id, volume_initial_lots=deal.volume_lots,
        volume_current_lots=0, price_open=0.0, time_setup_ms=at_ms - 40,
        time_setup_server_ms=at_ms - 40, time_done_ms=at_ms, **more,
    )  # fmt: skip
    return OrderDone(event_time_ms=at_ms, recv_time_ms=at_ms, login=LOGIN, order=order)


def text_of(page: Any) -> str:
    console = Console(width=220, force_terminal=False)
    with console.capture() as captured:
        console.print(page)
    return captured.get()


# Positions --------------------------------------------------------------------------------------


def test_positions_come_from_the_newest_look() -> None:
    world = World()
    opened = world.account.fill(SELL, 0.3, 1.1, magic=2**64 - 1, comment="x")
    world.append(*world.account.look([opened]))
    [bare] = holdings(world.log)[0].holdings
    assert (bare.profit, bare.price_now) == (None, None), "no mark was told yet"
    rows = np.array([(opened.position_id, 1.09, 300.0, -1.5)], MARK_DTYPE)
    at_ms = BEGIN_MS + world.account.now_ms
    quote = Quote(symbol="EURUSD", bid=1.08, ask=1.09, time_ms=at_ms, time_server_ms=at_ms)
    world.append(
        Marks(LOGIN, rows, at_ms, at_ms),
        Quotes(event_time_ms=at_ms, recv_time_ms=at_ms, login=LOGIN, quotes=(quote,)),
    )
    [account] = holdings(world.log, ["demo"])
    [held] = account.holdings
    assert (held.side, held.lots, held.price_now, held.ask) == ("sell", 0.3, 1.09, 1.09)
    assert (held.profit, held.swap, held.stop_loss, account.floating) == (300.0, -1.5, None, 298.5)
    assert held.strategy == str(2**64 - 1)
    shown = account.as_json()
    assert json.loads(json.dumps(shown))["positions"][0]["magic"] == str(2**64 - 1)
    page = text_of(holdings_page([account], now_ms=at_ms + 5_000))
    for text in ("demo  account 7", "0.3", "+300.00", "marks 5.0 s ago", "floating +298.50"):
        assert text in page


def test_what_is_halted_is_said_where_positions_are_shown() -> None:
    world = World()
    world.append(world.account.book(), world.account.account())
    state = GuardState(
        event_time_ms=BEGIN_MS, login=LOGIN, terminal="demo", state="blocked", reason="news",
    )  # fmt: skip
    assert holdings(world.log)[0].halted == ""
    world.append(state)
    assert holdings(world.log)[0].halted == "blocked: news"
    latch = LatchChanged(
        event_time_ms=BEGIN_MS, login=LOGIN, terminal="demo", latched=True, latch_id="l",
        reason="daily loss", by="risk",
    )  # fmt: skip
    world.append(latch)
    found = holdings(world.log)
    assert "halted by risk: daily loss" in text_of(holdings_page(found, now_ms=BEGIN_MS))


def test_a_terminal_that_nobody_knows_is_refused_with_those_there_are() -> None:
    with pytest.raises(LogError, match="no terminal 'x'; there is: demo"):
        holdings(World().log, ["x"])


# Trades -----------------------------------------------------------------------------------------


def test_trades_of_a_span_are_those_closed_in_it_as_they_were_told_last() -> None:
    world = World()
    deals = [world.round_trip() for _ in range(3)]
    left = world.account.fill(BUY, 0.7, 1.1)
    world.append(*world.account.look([left]))
    world.derive()
    everything = recorded(world.log, "demo", ALL)
    assert [one.trade.position_id for one in everything.updates] == [
        opened.position_id for opened, _ in deals
    ]
    assert everything.net_profit == pytest.approx(
        world.account.ledger.balance - DEPOSIT - left.amount
    )
    closed_ms = BEGIN_MS + deals[1][1].time_ms
    [one] = recorded(world.log, "demo", Wanted(closed_ms, closed_ms + 1)).updates
    assert one.trade.position_id == deals[1][0].position_id
    with_open = recorded(world.log, "demo", Wanted(closed_ms, 2**62, open_too=True))
    assert [one.state for one in with_open.updates] == ["closed", "closed", "open"]
    assert recorded(world.log, "demo", Wanted(0, 2**62, frozenset({"XAUUSD"}))).updates == ()
    page = text_of(trades_page([with_open]))
    for text in ("2 closed, 2 won", "stop loss", "open, 0.7 lots"):
        assert text in page


def test_trades_that_left_the_log_come_from_the_database_and_the_log_knows_better() -> None:
    world = World()
    world.round_trip()
    world.derive()
    stream = Slot("demo", "trades", 0).stream(TradeUpdate.LANE)
    entries = world.log.between(stream, count_max=9)
    [update] = recorded(world.log, "demo", ALL).updates
    older = update.trade.model_copy(update={"position_id": 1})
    stale = update.trade.model_copy(update={"profit": 0.0})
    asked: list[tuple[Stream, int]] = []

    def stored(asked_stream: Stream, since_ms: int) -> list[Entry]:
        asked.append((asked_stream, since_ms))
        return [
            entries[-1]._replace(data=encode(update.model_copy(update={"trade": trade})).data)
            for trade in (older, stale)
        ]

    found = recorded(world.log, "demo", ALL, stored=stored)
    assert {one.trade.position_id: one.trade.profit for one in found.updates} == {
        1: update.trade.profit, update.trade.position_id: update.trade.profit,
    }  # fmt: skip
    assert [stream for stream, _ in asked] == [stream]
    late = Wanted(update.recv_time_ms + 3 * 24 * 3_600_000, 2**62)
    recorded(world.log, "demo", late, stored=stored)
    assert len(asked) == 1, "the log reaches back far enough"


def test_long_lists_are_cut_on_a_page_and_whole_in_json() -> None:
    world = World()
    for _ in range(ROWS_MAX + 3):
        world.round_trip()
    world.derive()
    found = recorded(world.log, "demo", ALL)
    assert "… 3 more" in text_of(trades_page([found]))
    assert len(found.as_json()["trades"]) == ROWS_MAX + 3


@pytest.mark.parametrize(
    ("text", "hour"),
    [("2026-11-23", 0), ("2026-11-23T14:00", 14), ("2026-11-23T14:00+02:00", 12),
     ("2026-11-23 06:00Z", 6)],
)  # fmt: skip
def test_moments_are_utc_unless_they_name_a_zone(text: str, hour: int) -> None:
    assert parse_instant_ms(text) == (1_795_392_000 + hour * 3_600) * 1_000


def test_no_moment_is_refused_with_what_would_be_one() -> None:
    with pytest.raises(ValueError, match="'yesterday' is no moment: write 2026-11-23"):
        parse_instant_ms("yesterday")


# Tickets ----------------------------------------------------------------------------------------


def types_of(these: list[Any]) -> list[Any]:
    """Names of events, each with those that hang on it."""
    return [
        (node.seen.event.TYPE, types_of(node.children)) if node.children else node.seen.event.TYPE
        for node in these
    ]


@pytest.mark.parametrize("asked", ["position", "order", "deal"])
def test_a_ticket_tells_its_orders_deals_and_trade(asked: str) -> None:
    world = World()
    world.round_trip()
    opened = world.account.fill(BUY, 0.4, 1.1)
    world.append(order_done(opened), *world.account.look([opened]))
    closed = world.account.fill(SELL, 0.4, 1.2, position=opened.position_id)
    world.append(order_done(closed), *world.account.look([closed]))
    world.round_trip()
    world.derive()
    ticket = {"position": closed.position_id, "order": closed.order, "deal": closed.ticket}[asked]
    found = evidence(world.log, "demo", ticket)
    assert found is not None
    assert found.positions == {opened.position_id}
    each = ("order_done", [("deal", ["trade"])])
    assert types_of(nodes(found)) == [each, "book", each]
    page = text_of(tree(found))
    for text in ("trade closed 0.4 lots", "deal", "buy 0.4 EURUSD: filled after 40 ms", "+40 ms"):
        assert text in page
    assert json.loads(json.dumps(as_json([found])))[0]["ticket"] == str(ticket)
    assert evidence(world.log, "demo", 424_242) is None


def test_a_cancelled_order_that_never_became_a_position_is_told() -> None:
    world = World()
    order = Order(
        ticket=55, symbol="EURUSD", type=2, state=2, volume_initial_lots=0.1,
        volume_current_lots=0.1, price_open=1.05, time_setup_ms=BEGIN_MS,
        time_setup_server_ms=BEGIN_MS, time_done_ms=BEGIN_MS + 9,
    )  # fmt: skip
    at = {"event_time_ms": BEGIN_MS + 9, "recv_time_ms": BEGIN_MS + 9, "login": LOGIN}
    world.append(OrderDone(**at, order=order))
    found = evidence(world.log, "demo", 55)
    assert found is not None
    assert "buy limit 0.1 EURUSD at 1.05: cancelled after 9 ms" in text_of(tree(found))


def test_what_a_guard_closed_leads_back_to_the_breach() -> None:
    world = World()
    opened = world.account.fill(BUY, 0.4, 1.1)
    world.append(*world.account.look([opened]))
    at_ms = BEGIN_MS + world.account.now_ms
    common: dict[str, Any] = {"login": LOGIN, "terminal": "demo"}
    breach = LimitBreach(
        event_time_ms=at_ms, login=LOGIN, limit="daily", level="act", action="flatten",
        figures={"equity": 9_400.0}, threshold=500.0, value=600.0,
    )  # fmt: skip
    other = breach.model_copy(update={"limit": "spread"})
    command = Command(
        event_time_ms=at_ms + 2, command_id="c-1", verb="flatten", issued_by="risk", login=LOGIN,
        arguments={"breach": "daily"},
    )  # fmt: skip
    foreign = command.model_copy(update={"command_id": "c-2", "issued_by": "somebody"})
    world.append(breach, other)
    for one in (command, foreign):
        world.log.post(Slot("demo", OPERATOR, 0), encode(one))
    step = FlattenStep(
        **common, event_time_ms=at_ms + 30, flatten_id="f", number=1, step="close",
        ticket=opened.position_id, symbol="EURUSD", volume_lots=0.4, retcode=10009, outcome="done",
    )  # fmt: skip
    latch = LatchChanged(
        **common, event_time_ms=at_ms + 5, latched=True, latch_id="l", reason="daily loss",
        by="risk", command_id="c-1",
    )  # fmt: skip
    ended = FlattenEnded(
        **common, event_time_ms=at_ms + 90, flatten_id="f", state="FLAT",
        outcomes=(TicketOutcome(ticket=opened.position_id, symbol="EURUSD", outcome="closed"),),
    )  # fmt: skip
    again = ended.model_copy(update={"event_time_ms": at_ms + 5_000, "requests": 2})
    world.append(latch, step, step.model_copy(update={"ticket": 99}), ended, again)
    world.derive()
    found = evidence(world.log, "demo", opened.position_id)
    assert found is not None
    assert [seen.event for seen in found.causes] == [breach, command, latch]
    story = types_of(nodes(found))
    chain = ("limit_breach", [("command", [("latch", ["flatten_step", "flatten_ended"])])])
    assert story == [("deal", ["trade"]), "book", chain]
    page = text_of(tree(found))
    for text in ("limit daily: 600 against 500", "(+25 ms)  guard: close 0.4 lots: done (10009)",
                 "guard: FLAT"):  # fmt: skip
        assert text in page
    assert page.count("guard: FLAT") == 1, "what others opened later is not this ticket's story"


def test_what_was_closed_long_after_the_latch_leads_back_to_it() -> None:
    """A position that somebody opened while the account was latched."""
    world = World()
    at_ms, hour_ms = BEGIN_MS + world.account.now_ms, 3_600_000
    common: dict[str, Any] = {"login": LOGIN, "terminal": "demo"}
    latch = LatchChanged(
        **common, event_time_ms=at_ms, latched=True, latch_id="l", reason="enough", by="me",
        command_id="c",
    )  # fmt: skip
    command = Command(
        event_time_ms=at_ms - 5, command_id="c", verb="flatten", issued_by="me", login=LOGIN
    )
    world.log.post(Slot("demo", OPERATOR, 0), encode(command))
    world.append(latch.model_copy(update={"event_time_ms": at_ms - hour_ms, "by": "x"}), latch)
    opened = world.account.fill(BUY, 0.4, 1.1)
    step = FlattenStep(
        **common, event_time_ms=at_ms + 8 * hour_ms, flatten_id="f", number=1, step="close",
        ticket=opened.position_id, outcome="done",
    )  # fmt: skip
    world.append(*world.account.look([opened]), step)
    found = evidence(world.log, "demo", opened.position_id)
    assert found is not None
    assert [seen.event for seen in found.causes] == [command, latch]
    world.append(latch.model_copy(update={"event_time_ms": at_ms + hour_ms, "latched": False}))
    found = evidence(world.log, "demo", opened.position_id)
    assert found is not None
    assert found.causes == [], "it was not set any more"


# Commands ---------------------------------------------------------------------------------------


def test_the_commands_show_a_log(
    redis_log: RedisLog, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("BRIDGE_STATE_DIR", str(tmp_path))
    for name in ("POSTGRES_URL", "POSTGRES_HOST"):
        monkeypatch.delenv(name, raising=False)
    run = CliRunner()

    def told(*words: str) -> Any:
        return json.loads(run.invoke(bridgectl.cli, [*words, "--json"]).stdout)

    nothing = run.invoke(bridgectl.cli, ["trades"])
    assert "no trades were derived yet: run `bridgectl consume --group trades`" in str(
        nothing.exception
    )
    world = World(redis_log)
    opened, closed = world.round_trip()
    held = world.account.fill(BUY, 0.4, 1.1)
    world.append(*world.account.look([held]))
    world.derive()
    [terminal] = told("positions")["terminals"]
    assert [one["ticket"] for one in terminal["positions"]] == [str(held.position_id)]
    assert "account 7" in run.invoke(bridgectl.cli, ["positions"]).stdout
    [terminal] = told("trades", "--from", "2020-01-01", "--open")["terminals"]
    assert [one["state"] for one in terminal["trades"]] == ["closed", "open"]
    assert terminal["net_profit"] == pytest.approx(opened.amount + closed.amount)
    assert told("trades", "--to", "2020-01-01")["terminals"][0]["trades"] == []
    refused = run.invoke(bridgectl.cli, ["trades", "--terminal", "x"])
    assert "no terminal 'x'; there is: demo" in str(refused.exception)
    [found] = told("why", "--ticket", str(closed.ticket))["found"]
    assert found["positions"] == [str(opened.position_id)]
    nothing = run.invoke(bridgectl.cli, ["why", "--ticket", "31"])
    assert (nothing.exit_code, "names ticket 31" in nothing.stderr) == (1, True)
    both = run.invoke(bridgectl.cli, ["why", "last:deal", "--ticket", "31"])
    assert both.exit_code == 2
