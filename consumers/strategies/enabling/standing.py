"""How enabled strategies stand: who runs them, how far behind, what they said, why they do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from consumers.failures.letters import letters
from consumers.strategies.enabling.sets import Enabled
from consumers.strategies.running.loading import (
    BadStrategy,
    checksum_of_file,
    file_of,
    load_strategy,
)
from events.codec import BadEvent, UnknownEvent, decode, decode_data
from events.decisions import TradeSignal
from events.executing import StrategyBegan
from events.groups.readers import WATCH_S, Reader, collect
from events.log import Lane, Log, Slot

SIGNALS_MAX = 5
NEWEST_MAX = 200
"""Outputs of a task that are looked through for signals."""
State = Literal["running", "waiting", "halted", "failed", "off"]


@dataclass(frozen=True, slots=True)
class Standing:
    """One strategy at one terminal."""

    enabled: Enabled
    state: State
    """waiting: nobody runs it. halted: it stands in front of an entry it failed at. failed: its
    file cannot be run as it is. off: it was disabled."""
    why: str = ""
    owners: tuple[str, ...] = ()
    """Processes that hold its tasks."""
    lag: int = 0
    """Entries it did not read yet."""
    failures: int = 0
    """Dead letters nobody decided about."""
    signals: tuple[TradeSignal, ...] = ()
    """The newest ones, newest first."""
    began: tuple[StrategyBegan, ...] = field(default=())

    @property
    def last(self) -> TradeSignal | None:
        return self.signals[0] if self.signals else None

    def as_json(self) -> dict[str, Any]:
        """Everything, for scripts."""
        told = self.enabled.told
        return {
            "name": told.name, "terminal": self.enabled.namespace, "state": self.state,
            "why": self.why, "owners": list(self.owners), "lag": self.lag,
            "failures": self.failures, "code": told.code, "symbols": list(told.symbols),
            "parameters": told.parameters, "checksum": told.checksum, "set_by": told.set_by,
            "set_ms": told.event_time_ms,
            "last_signal": None if self.last is None else self.last.model_dump(mode="json"),
            "signals": [one.model_dump(mode="json") for one in self.signals],
            "began": [one.model_dump(mode="json") for one in self.began],
        }  # fmt: skip


def standings(
    log: Log,
    chosen: Sequence[Enabled],
    *,
    watch_s: float = WATCH_S,
    collected: Callable[..., list[Reader]] = collect,
) -> list[Standing]:
    """How each stands; watches for signs of life that long. Raises LogError."""
    if not chosen:
        return []
    namespaces = sorted({one.namespace for one in chosen})
    readers = collected(log, namespaces=namespaces, watch_s=watch_s)
    return [_of(log, one, readers) for one in chosen]


def _of(log: Log, one: Enabled, everybody: Sequence[Reader]) -> Standing:
    mine = [r for r in everybody if (r.namespace, r.group) == (one.namespace, one.group)]
    tasks = log.tasks.writers(one.namespace).get(one.group, 0)
    slots = [Slot(one.namespace, one.group, number) for number in range(tasks)]
    owners = sorted({reader.holder for reader in mine if reader.holder and reader.alive})
    halted = "; ".join(sorted({reader.halted for reader in mine if reader.halted}))
    state, why = _state(one, running=bool(owners), halted=halted)
    signals = [signal for slot in slots for signal in _signals(log, slot)]
    signals.sort(key=lambda signal: signal.event_time_ms, reverse=True)
    return Standing(
        one,
        state,
        why,
        tuple(owners),
        sum(reader.lag for reader in mine),
        len(letters(log, slots)),
        tuple(signals[:SIGNALS_MAX]),
        tuple(event for slot in slots for event in _began(log, slot)),
    )


def _state(one: Enabled, *, running: bool, halted: str) -> tuple[State, str]:
    if not one.told.enabled:
        return "off", ""
    if halted:
        return "halted", halted
    wrong = why_not(one)
    if running:
        return "running", f"since then: {wrong}" if wrong else ""
    if wrong:
        return "failed", wrong
    return "waiting", "nobody runs it: `bridgectl up`, or `bridgectl consume --group strategy`"


def why_not(one: Enabled) -> str:
    """Why its code cannot be run on this machine as it is; empty when it can."""
    told, file = one.told, file_of(one.told.code)
    if file is not None and not file.is_file():
        return f"{file}: there is no such file"
    if file is not None and told.checksum and checksum_of_file(file) != told.checksum:
        return f"{file} was changed: enable it again, or put it back"
    try:
        load_strategy(told.code, told.parameters)
    except BadStrategy as error:
        return str(error)
    return ""


def _signals(log: Log, slot: Slot) -> list[TradeSignal]:
    found = []
    for entry in log.newest(slot.stream(Lane.NORMAL), count_max=NEWEST_MAX):
        try:
            event = decode(entry)
        except (BadEvent, UnknownEvent):
            continue  # a newer program's
        if isinstance(event, TradeSignal):
            found.append(event)
        if len(found) == SIGNALS_MAX:
            break
    return found


def _began(log: Log, slot: Slot) -> list[StrategyBegan]:
    found = []
    for (type_, key), data in sorted(log.last_states(slot).items()):
        if type_.rpartition(".")[0] == StrategyBegan.TYPE:
            try:
                event = decode_data(type_, key, data)
            except (BadEvent, UnknownEvent):
                continue
            if isinstance(event, StrategyBegan):
                found.append(event)
    return found
