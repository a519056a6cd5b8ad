"""Handlers that the tests of `replay` run by `--handler`: one pure, one of its next version, one
that is not pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from consumers.runtime.handler import Handler, Inputs, Order
from events.codec import AnyEvent
from events.decisions import TradeSignal
from events.log import Lane
from events.operations import ClockTick


class Chained(Handler):
    """Every output of a partition depends on every entry before it, and on a set of texts."""

    inputs: ClassVar[Inputs] = Inputs(lanes=(Lane.CRITICAL, Lane.HIGH, Lane.NORMAL))

    def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
        moment = event.event_time_ms
        if isinstance(event, ClockTick) and moment % 97 == 13:
            raise ValueError(f"cannot bear {moment}")
        chain = (self.state.get("chain", 0) * 1_000_003 + moment) % 2**61
        self.state["chain"] = chain
        words = {f"word {chain % n}" for n in range(3, 12)}
        yield TradeSignal(
            event_time_ms=moment, strategy="chained", symbol="X", target="flat",
            reason=f"{chain} {'|'.join(self.ordered(words))}",
        )  # fmt: skip

    def ordered(self, words: set[str]) -> list[str]:
        return sorted(words)


class ByPriority(Chained):
    """The same by priority."""

    order: ClassVar[Order] = Order.PRIORITY


class Unordered(Chained):
    """Not pure: the order of a set depends on the process."""

    def ordered(self, words: set[str]) -> list[str]:
        return list(words)


class Later(Chained):
    """The next version of `Chained`."""

    version: ClassVar[str] = "2"

    def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
        self.state["count"] = self.state.get("count", 0) + 1
        yield from super().handle(event)
