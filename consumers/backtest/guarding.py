"""What the guard of a terminal does with commands of risk rules, done in a backtest.

A flatten latches, cancels and closes; a block keeps trades from being opened until its cause
ends; a reduction makes positions smaller. Pure: what is to be closed is given back as intents,
and the engine carries them out at the broker model. What cannot be closed now (a closed market)
is asked for again at every look.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from events.codec import AnyEvent
from events.decisions import Command
from events.executing import OrderIntent
from events.guarding import LatchChanged
from events.market import Instrument
from events.trading import Order, Position

GUARD = "guard"
"""The strategy that closing intents of the guard name."""
INTENTS_FROM = 1 << 61
"""Ids of its intents begin here: no intent of a strategy has so large a number."""
WHOLE = 1e-9


@dataclass(frozen=True, slots=True)
class _Scope:
    """What a command is about: everything, a magic number, or a symbol."""

    magic: int | None = None
    symbol: str = ""

    def holds(self, magic: int, symbol: str) -> bool:
        if self.magic is not None:
            return magic == self.magic
        return not self.symbol or symbol == self.symbol


@dataclass(frozen=True, slots=True)
class _Block:
    reason: str
    until_ms: int | None
    symbol: str = ""


class Standing(NamedTuple):
    """What is open at a moment; `profits` by ticket, in account currency."""

    now_ms: int
    positions: tuple[Position, ...]
    orders: tuple[Order, ...]
    profits: Mapping[int, float]


@dataclass(slots=True)
class Obeyed:
    """What follows from commands: events to tell, and intents to carry out, in order."""

    events: list[AnyEvent] = field(default_factory=list)
    intents: list[OrderIntent] = field(default_factory=list)


class SimulatedGuard:
    """One account's latch and blocks over a run."""

    def __init__(self, login: int, terminal: str, instruments: dict[str, Instrument]) -> None:
        self._login, self._terminal, self._instruments = login, terminal, instruments
        self._blocks: dict[str, _Block] = {}
        self._latch: LatchChanged | None = None
        self._closing: list[_Scope] = []
        self._intents = 0
        self._latches = 0

    def refuses(self, symbol: str) -> str:
        """Why nothing may be opened in a symbol now; empty: it may."""
        if self._latch is not None:
            return f"latched: {self._latch.reason}"
        for block in self._blocks.values():
            if not block.symbol or block.symbol == symbol:
                return f"blocked: {block.reason}"
        return ""

    @property
    def holds(self) -> bool:
        """Whether anything is latched, blocked or being closed."""
        return bool(self._latch or self._blocks or self._closing)

    def obey(self, command: Command, standing: Standing) -> Obeyed:
        """Carry a command out on what is open now."""
        done = Obeyed()
        reason = str(command.arguments.get("reason") or command.verb)
        if command.verb == "block":
            self._block(command, reason)
        elif command.verb == "reduce":
            done.intents += self._reduced(command, standing)
        elif command.verb in ("flatten", "halt"):
            self._stop(command, reason, done)
            if command.verb == "flatten":
                scope = _scope(command)
                if scope not in self._closing:
                    self._closing.append(scope)
                done.intents += self._closed(scope, standing)
        return done

    def at(self, standing: Standing) -> Obeyed:
        """Time passes: ends of blocks and latches, and what is left of a flatten."""
        done, now_ms = Obeyed(), standing.now_ms
        for cause, block in list(self._blocks.items()):
            if block.until_ms is not None and block.until_ms <= now_ms:
                del self._blocks[cause]
        latch = self._latch
        if latch is not None and latch.until_ms is not None and latch.until_ms <= now_ms:
            self._latch = None
            done.events.append(
                latch.model_copy(update={"event_time_ms": now_ms, "latched": False, "by": GUARD})
            )
        for scope in list(self._closing):
            left = list(self._closed(scope, standing))
            if not left:
                self._closing.remove(scope)
            done.intents += left
        return done

    def _block(self, command: Command, reason: str) -> None:
        cause, until_ms = str(command.arguments.get("cause", "command")), _until(command)
        if until_ms is not None and until_ms <= command.event_time_ms:
            self._blocks.pop(cause, None)
            return
        self._blocks[cause] = _Block(reason, until_ms, str(command.arguments.get("symbol", "")))

    def _stop(self, command: Command, reason: str, done: Obeyed) -> None:
        """Latch, or keep a symbol alone from being traded where a window asks for that."""
        arguments, until_ms = command.arguments, _until(command)
        if arguments.get("hold") == "symbol" and arguments.get("symbol") and until_ms is not None:
            symbol = str(arguments["symbol"])
            self._blocks[f"{arguments.get('cause')}/{symbol}"] = _Block(reason, until_ms, symbol)
            return
        timed = arguments.get("lock") == "until_reset" and until_ms is not None
        held = self._latch
        if held is not None and (held.until_ms is None or _within(until_ms, timed, held.until_ms)):
            return  # a latch that lasts longer stays
        self._latches += 1
        self._latch = LatchChanged(
            event_time_ms=command.event_time_ms, login=self._login, terminal=self._terminal,
            latched=True, latch_id=f"backtest-{self._latches}", reason=reason,
            by=command.issued_by, command_id=command.command_id,
            lock="until_reset" if timed else "manual", until_ms=until_ms if timed else None,
        )  # fmt: skip
        done.events.append(self._latch)

    def _closed(self, scope: _Scope, standing: Standing) -> Iterator[OrderIntent]:
        now_ms = standing.now_ms
        for order in standing.orders:
            if scope.holds(order.magic, order.symbol):
                yield self._intent(now_ms, verb="cancel", symbol=order.symbol, order=order.ticket)
        for position in standing.positions:
            if scope.holds(position.magic, position.symbol):
                yield self._close(position, position.volume_lots, now_ms)

    def _reduced(self, command: Command, standing: Standing) -> Iterator[OrderIntent]:
        """The positions a limit wants smaller, in its order, each by its part."""
        asked: dict[str, Any] = command.arguments.get("reduce") or {}
        percent, which = asked.get("percent"), asked.get("which", "largest_loss")
        scope = _scope(command)
        held = [one for one in standing.positions if scope.holds(one.magic, one.symbol)]
        held.sort(key=lambda one: self._rank(one, which, standing.profits))
        count = asked.get("positions_max")
        if count is None:
            count = len(held) if percent is not None or which == "all" else 1
        for position in held[:count]:
            share = 1.0 if percent is None else float(percent) / 100
            yield self._close(position, self._part(position, share), standing.now_ms)

    def _rank(
        self, position: Position, which: str, profits: Mapping[int, float]
    ) -> tuple[float, int]:
        if which == "largest_exposure":
            facts = self._instruments.get(position.symbol)
            size = facts.contract_size if facts is not None else 1.0
            return (-abs(position.volume_lots * size * position.price_open), position.ticket)
        if which == "newest":
            return (-float(position.time_ms), -position.ticket)
        if which == "oldest":
            return (float(position.time_ms), position.ticket)
        return (profits.get(position.ticket, 0.0), position.ticket)

    def _part(self, position: Position, share: float) -> float:
        """A part of a volume, rounded up to the step; all of it where less would stay than may."""
        facts = self._instruments.get(position.symbol)
        if facts is None or share >= 1.0:
            return position.volume_lots
        step = facts.volume_step_lots or facts.volume_min_lots
        steps = -(-(position.volume_lots * share - WHOLE) // step)
        part = max(round(steps * step, 8), facts.volume_min_lots)
        left = round(position.volume_lots - part, 8)
        return position.volume_lots if left < facts.volume_min_lots else part

    def _close(self, position: Position, lots: float, now_ms: int) -> OrderIntent:
        return self._intent(
            now_ms, verb="close", symbol=position.symbol, side=1 - position.side, volume_lots=lots,
            position=position.ticket,
        )  # fmt: skip

    def _intent(self, now_ms: int, **what: Any) -> OrderIntent:
        self._intents += 1
        return OrderIntent(
            event_time_ms=now_ms, intent_id=INTENTS_FROM + self._intents, login=self._login,
            strategy=GUARD, comment=GUARD, **what,
        )  # fmt: skip


def _scope(command: Command) -> _Scope:
    magic = command.arguments.get("magic")
    return _Scope(None if magic is None else int(magic), str(command.arguments.get("symbol") or ""))


def _until(command: Command) -> int | None:
    until_ms = command.arguments.get("until_ms")
    return None if until_ms is None else int(until_ms)


def _within(until_ms: int | None, timed: bool, other_ms: int) -> bool:
    return timed and until_ms is not None and until_ms <= other_ms
