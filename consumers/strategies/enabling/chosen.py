"""Which terminal, strategy or symbol an operator means."""

from __future__ import annotations

import difflib

from consumers.strategies.enabling.sets import Enabled, strategy_sets
from events.codec import BadEvent, UnknownEvent, decode_data
from events.executing import TargetState
from events.log import ACCOUNT_PARTITION, SOURCE, Log, LogError, Slot
from events.settings import Settings

EXECUTE = "execute"
"""The group that tells what a strategy holds."""


class UnknownStrategy(LogError):
    """No strategy is called so, or several are. The message names those there are."""


def namespace_of(log: Log, terminal: str | None, settings: Settings) -> str:
    """A terminal by the name in the settings or in the log; without one the only one there is.

    Raises LogError.
    """
    known = sorted(log.namespaces())
    if terminal is None:
        if len(known) == 1:
            return known[0]
        there = ", ".join(known) or "none yet: start `bridgectl up`"
        raise LogError(f"which terminal? Name it with --terminal; there is: {there}")
    configured = {one.name: one.namespace for one in settings.terminals()}
    namespace = configured.get(terminal, terminal)
    if namespace not in known:
        there = ", ".join(known) or "none yet: start `bridgectl up`"
        raise LogError(f"the log holds no terminal {terminal!r}; there is: {there}")
    return namespace


def chosen_set(
    log: Log, name: str, terminal: str | None, settings: Settings, *, enabled: bool = True
) -> Enabled:
    """The strategy of that name; with `enabled` only one that is. Raises LogError."""
    namespaces = [] if terminal is None else [namespace_of(log, terminal, settings)]
    every = [o for o in strategy_sets(log, namespaces) if o.told.enabled or not enabled]
    found = [one for one in every if one.told.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        there = ", ".join(one.namespace for one in found)
        raise UnknownStrategy(f"{name} is enabled for {there}: say which with --terminal")
    names = sorted({one.told.name for one in every})
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UnknownStrategy(
        f"no strategy {name!r} is enabled: {hint}There is: {', '.join(names) or 'none'}"
    )


def symbol_warning(log: Log, namespace: str, symbol: str) -> str:
    """Where a terminal does not show a symbol; empty when it does, or shows nothing yet."""
    partitions = log.namespaces()[namespace]
    shown: set[str] = set()
    for number in range(partitions):
        states = log.last_states(Slot(namespace, SOURCE, number))
        shown |= {key for type_, key in states if type_.startswith("instrument.")}
    if not shown or symbol in shown:
        return ""
    close = difflib.get_close_matches(symbol, shown, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{namespace} shows no {symbol}: {hint}It shows {', '.join(sorted(shown)[:20])}"


def held_targets(log: Log, namespace: str, name: str) -> list[TargetState]:
    """What a strategy holds, as group execute told last."""
    found = []
    states = log.last_states(Slot(namespace, EXECUTE, ACCOUNT_PARTITION))
    for (type_, key), data in sorted(states.items()):
        if type_.rpartition(".")[0] != TargetState.TYPE:
            continue
        try:
            told = decode_data(type_, key, data)
        except (BadEvent, UnknownEvent):
            continue  # a newer program's
        if isinstance(told, TargetState) and told.strategy == name and told.held_lots:
            found.append(told)
    return found
