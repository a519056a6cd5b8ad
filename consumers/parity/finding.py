"""From the name of a strategy to the code and the parameters with which it ran live."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from consumers.parity.live import NoParity
from consumers.runtime.group import Group
from consumers.strategies.running.handler import handler_of
from consumers.strategies.running.loading import BUNDLED, BadStrategy, load_strategy
from events.codec import BadEvent, UnknownEvent, decode_data
from events.log import ACCOUNT_PARTITION, OPERATOR, Log, Slot

FAMILY = "strategy"


class Ran(NamedTuple):
    """How a strategy may have been run."""

    code: str
    symbols: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = {}


def terminal_of(log: Log, name: str, terminal: str) -> str:
    """The terminal on which a strategy ran. Raises NoParity."""
    known = log.namespaces()
    if terminal:
        if terminal not in known:
            raise NoParity(f"there is no terminal {terminal!r}; there is: {_listed(known)}")
        return terminal
    group = group_name_of(name)
    ran = [one for one in sorted(known) if group in log.tasks.writers(one)]
    if len(ran) == 1:
        return ran[0]
    if ran:
        raise NoParity(f"{group} ran on {', '.join(ran)}: name one with --terminal")
    others = {
        writer.removeprefix(f"{FAMILY}.")
        for one in known
        for writer in log.tasks.writers(one)
        if writer.startswith(f"{FAMILY}.")
    }
    raise NoParity(f"{group} never ran; strategies that did: {_listed(others)}")


def group_name_of(name: str) -> str:
    """`strategy.NAME`, however it was written."""
    return name if name.startswith(f"{FAMILY}.") else f"{FAMILY}.{name}"


def group_of(
    log: Log,
    namespace: str,
    name: str,
    *,
    code: str = "",
    parameters: Mapping[str, str] | None = None,
    configured: tuple[str, ...] = (),
) -> tuple[Group, str]:
    """The group as it ran, and its code as it was named; with `code`, that one. `configured` are
    the strategies of the settings. Raises NoParity, BadStrategy."""
    full = group_name_of(name)
    short = full.removeprefix(f"{FAMILY}.")
    if code:
        ran = [_given(Ran(code), parameters)]
    else:
        ran = [
            _given(one, parameters)
            for one in (*_told(log, namespace, full), *_by_name(short, configured))
        ]
    versions = _versions(log, namespace, full)
    found: list[tuple[Group, str]] = []
    problems: list[str] = []
    for one in ran:
        try:
            loaded = load_strategy(one.code, one.parameters)
        except BadStrategy as error:
            problems.append(str(error))
            continue
        handler = handler_of(loaded, name=short, symbols=one.symbols)
        found.append((Group(full, handler, namespaces=(namespace,)), one.code))
        if handler.version in versions:
            return found[-1]
    if found:
        return found[0]
    if problems:
        raise BadStrategy(problems[0])
    raise NoParity(f"which code ran as {full}? Name it with --code FILE.py:Class")


def _given(ran: Ran, texts: Mapping[str, str] | None) -> Ran:
    """With parameters of the command line; `symbols` are those it ran for."""
    own = {name: text for name, text in (texts or {}).items() if name != "symbols"}
    named = (texts or {}).get("symbols")
    symbols = ran.symbols if named is None else tuple(filter(None, named.split(",")))
    return Ran(ran.code, symbols, {**ran.parameters, **own})


def _told(log: Log, namespace: str, group: str) -> Iterator[Ran]:
    """What operators and the group itself wrote down."""
    slots = [Slot(namespace, OPERATOR, ACCOUNT_PARTITION)]
    slots += [
        Slot(namespace, group, number)
        for number in range(log.tasks.writers(namespace).get(group, 0))
    ]
    for slot in slots:
        for (type_, key), packed in sorted(log.last_states(slot).items()):
            kind = type_.rpartition(".")[0]
            of_operator = kind == "strategy_set" and key == group.removeprefix(f"{FAMILY}.")
            if of_operator or kind == "strategy_began":
                try:
                    event: Any = decode_data(type_, key, packed)
                except (BadEvent, UnknownEvent):
                    continue
                yield Ran(event.code, tuple(event.symbols), dict(event.parameters))


def _by_name(name: str, configured: tuple[str, ...]) -> Iterator[Ran]:
    """Strategies of the settings, and bundled ones."""
    for text in configured:
        given, _, code = text.rpartition("=")
        try:
            if (given or load_strategy(code).name) == name:
                yield Ran(code)
        except BadStrategy:
            continue  # another one may be meant
    if (bundled := name.replace("-", "_")) in BUNDLED:
        yield Ran(bundled)


def _versions(log: Log, namespace: str, group: str) -> frozenset[str]:
    """Of the code that left the state of each task."""
    slots = [
        Slot(namespace, group, number)
        for number in range(log.tasks.writers(namespace).get(group, 0))
    ]
    return frozenset(log.tasks.peek(slot).version for slot in slots) - {""}


def _listed(names: object) -> str:
    return ", ".join(sorted(names)) if isinstance(names, set | dict) and names else "none"
