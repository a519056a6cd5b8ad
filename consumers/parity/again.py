"""The strategy's own code once more: from where its tasks can be followed, and over everything that
they read at the time, account and deals included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from consumers.parity.live import Live
from consumers.runtime.deriving import Deriving
from consumers.runtime.rederive.again import Again
from consumers.runtime.rederive.feed import Feeds, ReplayImpossible, retried
from consumers.runtime.state import State
from consumers.strategies.running.handler import LEVELS, OWN
from consumers.strategies.running.instances import Casting, Instances
from events.codec import decode_data
from events.decisions import TradeSignal
from events.log import EntryId
from events.tasks import Output


@dataclass(slots=True)
class DerivedAgain:
    """Signals that follow from what was read at the time."""

    signals: list[TradeSignal] = field(default_factory=list)
    problem: str = ""
    """Why not everything could be derived again."""

    def derived(self, outputs: Sequence[Output]) -> None:
        """Keep the signals among some outputs."""
        for _, new in outputs:
            if new.type.rpartition(".")[0] == TradeSignal.TYPE:
                event = decode_data(new.type, new.key, new.data)
                if isinstance(event, TradeSignal):
                    self.signals.append(event)

    def given(self, newest: EntryId, *, failure_of: str = "") -> EntryId:
        """Ids of outputs are not compared here."""
        return newest


def derived_again(live: Live) -> DerivedAgain:
    """What `replay --verify` derives, as signals. Raises LogUnavailable."""
    found = DerivedAgain()
    for task in live.tasks:
        spec, start, record = task.spec, task.start.record, task.record
        again = Again(
            live.log, Deriving(live.group, start), found,
            retried=retried(live.log, spec.slot, start, record),
        )  # fmt: skip
        try:
            for turn in Feeds(live.log, spec, live.group.handler.order, start, record).turns():
                again.take(turn)
        except ReplayImpossible as error:
            found.problem = str(error)
    return found


def instances_of(live: Live, casting: Casting) -> Instances:
    """The strategy's objects as they were where its tasks can be followed from."""
    made = Instances(casting)
    made.mute = True
    states = [State(task.start.record.state) for task in live.tasks]
    for state in states:
        for type_, key, packed in state.get(LEVELS, ()):
            made.deliver(decode_data(type_, key, packed))
    own = [{name: state[name] for name in state if name not in OWN} for state in states]
    if any(own):
        made.restore(joined([state for state in own if state]))
    return made


def joined(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What several tasks remembered, as one: each of them had symbols of its own."""
    found: dict[str, Any] = {}
    for state in states:
        for name, value in state.items():
            found[name] = _joined(found[name], value) if name in found else value
    return found


def _joined(first: Any, second: Any) -> Any:
    """Two memories of one name: of dicts the union, of lists both, else the newer one told."""
    if isinstance(first, dict) and isinstance(second, dict):
        both = {name: _joined(first[name], second[name]) for name in first if name in second}
        return {**first, **second, **both}
    if isinstance(first, list) and isinstance(second, list):
        return [*first, *(one for one in second if one not in first)]
    if isinstance(first, bool) and isinstance(second, bool):
        return first or second
    return first if second is None else second
