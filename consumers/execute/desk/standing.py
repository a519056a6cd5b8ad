"""How acting on signals stands, out of the log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from events.codec import BadEvent, UnknownEvent, decode, decode_data
from events.event import Event
from events.executing import ExecutionSet, OrderAnswer, OrderIntent, TargetState
from events.guarding import GuardState, LatchChanged
from events.log import (
    ACCOUNT_PARTITION,
    OPERATOR,
    SOURCE,
    Lane,
    Log,
    LogError,
    Slot,
    Stream,
)
from events.trading import Account

EXECUTE = "execute"
NEWEST_MAX = 5_000
"""Entries of a lane that are looked through for intents and answers."""
SHOWN_MAX = 20
_FINAL = frozenset({"done", "partial", "refused", "expired"})


@dataclass(frozen=True, slots=True)
class Standing:
    """Of one terminal's account. None: never told."""

    terminal: str
    login: int | None = None
    running: bool = False
    """Whether group execute ever ran here."""
    switch: ExecutionSet | None = None
    guard: GuardState | None = None
    latch: LatchChanged | None = None
    targets: tuple[TargetState, ...] = ()
    under_way: tuple[OrderIntent, ...] = ()
    answers: tuple[OrderAnswer, ...] = ()
    """The newest first."""

    def as_json(self) -> dict[str, Any]:
        one: dict[str, Any] = {
            "terminal": self.terminal, "login": self.login, "running": self.running,
        }  # fmt: skip
        for name in ("switch", "guard", "latch"):
            event: Event | None = getattr(self, name)
            one[name] = None if event is None else event.model_dump(mode="json")
        for name in ("targets", "under_way", "answers"):
            one[name] = [event.model_dump(mode="json") for event in getattr(self, name)]
        return one


def standings(log: Log, names: tuple[str, ...] = ()) -> list[Standing]:
    """Of every terminal, or of those named. Raises LogUnavailable; LogError for an unknown one."""
    known = log.namespaces()
    for name in names:
        if name not in known:
            there = ", ".join(sorted(known)) or "none yet"
            raise LogError(f"the log holds no terminal {name!r}; there is: {there}")
    return [_of(log, name) for name in sorted(set(names) or known)]


def login_of(log: Log, namespace: str) -> int | None:
    """The account that a terminal showed last."""
    seen = _states(log, namespace, SOURCE, Account)
    newest = max(seen, key=lambda one: one.event_time_ms, default=None)
    return newest.login if isinstance(newest, Account) else None


def _of(log: Log, namespace: str) -> Standing:
    login = login_of(log, namespace)
    if login is None:
        return Standing(namespace)

    def newest(writer: str, kind: type[Event]) -> Any:
        found = [one for one in _states(log, namespace, writer, kind) if _login(one) == login]
        return max(found, key=lambda one: one.event_time_ms, default=None)

    targets = [one for one in _states(log, namespace, EXECUTE, TargetState) if _login(one) == login]
    answers = list(_newest(log, _high(namespace, SOURCE), OrderAnswer))
    ended = {one.intent_id for one in answers if one.state in _FINAL or one.state == "placed"}
    under_way = [
        one for one in _newest(log, _high(namespace, EXECUTE), OrderIntent)
        if one.intent_id not in ended and one.login == login
    ]  # fmt: skip
    return Standing(
        terminal=namespace,
        login=login,
        running=EXECUTE in log.tasks.writers(namespace),
        switch=newest(OPERATOR, ExecutionSet),
        guard=newest(SOURCE, GuardState),
        latch=newest(SOURCE, LatchChanged),
        targets=tuple(sorted(targets, key=lambda one: one.key)),
        under_way=tuple(under_way[:SHOWN_MAX]),
        answers=tuple(one for one in answers if one.state != "sent")[:SHOWN_MAX],
    )


def _login(event: Event) -> int:
    return int(getattr(event, "login", 0))


def _high(namespace: str, writer: str) -> Stream:
    return Slot(namespace, writer, ACCOUNT_PARTITION).stream(Lane.HIGH)


def _states(log: Log, namespace: str, writer: str, kind: type[Event]) -> list[Any]:
    """The last state of each key of one type."""
    found = []
    for (type_, key), data in log.last_states(Slot(namespace, writer, ACCOUNT_PARTITION)).items():
        if type_.rpartition(".")[0] == kind.TYPE:
            try:
                found.append(decode_data(type_, key, data))
            except (BadEvent, UnknownEvent):
                continue  # a newer program's
    return found


def _newest(log: Log, stream: Stream, kind: type[Any]) -> Iterator[Any]:
    for entry in log.newest(stream, count_max=NEWEST_MAX):
        if entry.type.rpartition(".")[0] == kind.TYPE:
            try:
                yield decode(entry)
            except (BadEvent, UnknownEvent):
                continue
