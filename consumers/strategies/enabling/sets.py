"""What operators enabled, as the log keeps it: the newest StrategySet of each name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from events.codec import BadEvent, UnknownEvent, decode_data
from events.executing import StrategySet
from events.log import ACCOUNT_PARTITION, OPERATOR, Log, Slot


@dataclass(frozen=True, slots=True)
class Enabled:
    """A strategy that was enabled for a terminal, or disabled again."""

    namespace: str
    told: StrategySet

    @property
    def group(self) -> str:
        return f"strategy.{self.told.name}"

    @property
    def texts(self) -> dict[str, str]:
        """Its parameters as `--set` takes them; its symbols among them."""
        texts = {name: text_of(value) for name, value in self.told.parameters.items()}
        return {**texts, "symbols": ",".join(self.told.symbols)} if self.told.symbols else texts


def strategy_sets(log: Log, namespaces: Collection[str] = ()) -> list[Enabled]:
    """The newest of each name and terminal, disabled ones too. Raises LogUnavailable."""
    found = []
    for namespace in sorted(log.namespaces()):
        if namespaces and namespace not in namespaces:
            continue
        states = log.last_states(Slot(namespace, OPERATOR, ACCOUNT_PARTITION))
        for (type_, key), data in sorted(states.items()):
            if type_.rpartition(".")[0] == StrategySet.TYPE and (told := _read(type_, key, data)):
                found.append(Enabled(namespace, told))
    return found


def _read(type_: str, key: str, data: bytes) -> StrategySet | None:
    try:
        told = decode_data(type_, key, data)
    except (BadEvent, UnknownEvent):
        return None  # a newer program's
    return told if isinstance(told, StrategySet) else None


def text_of(value: Any) -> str:
    """A parameter's value as a text that is read as the same value again."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(map(text_of, value))
    return str(value)


def told_parameters(parameters: Mapping[str, Any]) -> str:
    """`fast=10 slow=30`."""
    return " ".join(f"{name}={text_of(value)}" for name, value in sorted(parameters.items()))
