"""What `execution status` shows of one terminal."""

from __future__ import annotations

from rich.console import Group as Together
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from consumers.execute.desk.standing import Standing
from events.views.moments import ago_text
from events.views.tables import BAD, GOOD


def page_of(one: Standing, *, now_ms: int) -> RenderableType:
    """Everything of one terminal."""
    parts: list[RenderableType] = [_head(one)]
    if one.targets:
        parts.append(_targets(one, now_ms))
    if one.under_way:
        parts.append(_intents(one, now_ms))
    if one.answers:
        parts.append(_answers(one, now_ms))
    return Together(*parts)


def _head(one: Standing) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    table.add_row(one.terminal, f"account {one.login}" if one.login else "no look at it yet")
    table.add_row("execution", _switch(one))
    latched = one.latch is not None and one.latch.latched
    reason = one.latch.reason if one.latch is not None else ""
    table.add_row("latch", Text(f"SET: {reason}", style=BAD) if latched else Text("not set", GOOD))
    if one.guard is not None and one.guard.state not in ("watching", "stopped"):
        table.add_row("guard", Text(f"{one.guard.state}: {one.guard.reason}", style=BAD))
    if not one.running:
        table.add_row("group", Text("run `bridgectl consume --group execute`", style=BAD))
    return table


def _switch(one: Standing) -> Text:
    switch = one.switch
    if switch is None or switch.mode == "off":
        return Text(f"off: bridgectl execution on --terminal {one.terminal}")
    parts = [switch.mode, f"set by {switch.set_by}"]
    parts += [f"only {', '.join(switch.strategies)}"] if switch.strategies else []
    most = switch.volume_lots_max
    parts += [] if most is None else [f"at most {most:g} lots an order"]
    parts.append(f"at most {switch.orders_per_minute_max} orders a minute")
    return Text("; ".join(parts), style=BAD if switch.mode == "live" else GOOD)


def _targets(one: Standing, now_ms: int) -> Table:
    table = Table(title="Targets", title_justify="left")
    for name in ("strategy", "symbol", "leg", "target", "wanted", "held", "state", "why", "since"):
        table.add_column(name, justify="right" if name in ("wanted", "held") else "left")
    for state in one.targets:
        style = GOOD if state.state == "reached" else BAD if state.state != "wanted" else ""
        table.add_row(
            state.strategy, state.symbol, state.leg, state.target, f"{state.volume_lots:g}",
            f"{state.held_lots:g}", Text(state.state, style=style), state.reason,
            ago_text(state.event_time_ms, now_ms),
        )  # fmt: skip
    return table


def _intents(one: Standing, now_ms: int) -> Table:
    table = Table(title="Under way", title_justify="left")
    for name in ("intent", "strategy", "symbol", "verb", "side", "lots", "since"):
        table.add_column(name)
    for intent in one.under_way:
        table.add_row(
            str(intent.intent_id), intent.strategy, intent.symbol, intent.verb,
            "sell" if intent.side else "buy", f"{intent.volume_lots:g}",
            ago_text(intent.event_time_ms, now_ms),
        )  # fmt: skip
    return table


def _answers(one: Standing, now_ms: int) -> Table:
    table = Table(title="Last answers", title_justify="left")
    for name in ("intent", "strategy", "symbol", "answer", "lots", "price", "code", "why", "when"):
        table.add_column(name)
    for answer in one.answers:
        good = answer.state in ("done", "placed")
        table.add_row(
            str(answer.intent_id), answer.strategy, answer.symbol,
            Text(answer.state, style=GOOD if good else BAD), f"{answer.volume_lots:g}",
            f"{answer.price:g}", str(answer.retcode or ""), answer.detail,
            ago_text(answer.event_time_ms, now_ms),
        )  # fmt: skip
    return table
