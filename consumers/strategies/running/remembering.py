"""What a strategy's attributes hold, as plain values that can be stored, and back again.

Restoring goes into an object that `setup()` has just made: what lies under the same name and has
a memory of its own (an indicator) is restored where it is, so that two names of one object stay
two names of one object.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from consumers import indicators
from consumers.bars import Bar
from consumers.runtime.state import UnstorableState
from consumers.strategies.authoring.fill import Fill
from consumers.strategies.authoring.signal import Signal
from consumers.strategies.authoring.strategy import Strategy, Surroundings
from consumers.strategies.authoring.tick import Tick
from consumers.strategies.running.holdings import Holdings
from events.market import Instrument
from events.trading import Account

Prices = tuple[float, float]
"""Bid and ask."""
DEPTH_MAX = 40
"""Attributes nested deeper than this are refused."""
TAG = "\x00"
"""Key of a dict that stands for something else than a dict."""
_OWN = frozenset({"_surroundings", "_symbol"})
_PLAIN = (bool, int, float, str, bytes, type(None))


class NotStorable(UnstorableState):
    """An attribute cannot be stored. The message names it and what can."""


@runtime_checkable
class Remembers(Protocol):
    """Anything that tells its memory as plain values and takes it back: every indicator."""

    def state(self) -> Any: ...

    def restore(self, state: Any) -> None: ...


def remembered(strategy: Strategy) -> dict[str, Any]:
    """Everything reachable from its attributes. Raises NotStorable."""
    writer = _Writer(type(strategy).__name__)
    return {
        name: writer.plain(value, name)
        for name, value in sorted(vars(strategy).items())
        if name not in _OWN
    }


def restore(strategy: Strategy, stored: Mapping[str, Any]) -> None:
    """Give a strategy that was just set up what `remembered` told. Raises NotStorable."""
    reader = _Reader(type(strategy), strategy)
    for name in [name for name in vars(strategy) if name not in _OWN and name not in stored]:
        delattr(strategy, name)  # it was deleted after setup
    for name in stored:  # in the order in which they were written
        setattr(strategy, name, reader.value(stored[name], vars(strategy).get(name), name))


class _Writer:
    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._seen: dict[int, int] = {}
        self._alive: list[object] = []

    def plain(self, value: Any, path: str, depth: int = 0) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            if kind is int and not -(2**63) <= value < 2**64:
                return {TAG: "int", "v": str(value)}
            return value
        if depth > DEPTH_MAX:
            raise NotStorable(f"{self._owner}.{path} is nested deeper than {DEPTH_MAX} levels")
        if isinstance(value, np.generic):
            return {TAG: "scalar", "k": value.dtype.str, "v": value.tobytes()}
        if kind is tuple:
            return {TAG: "tuple", "v": self._each(value, path, depth)}
        if kind is _TUPLES.get(kind.__name__):
            return {TAG: "named", "k": kind.__name__, "v": self._each(value, path, depth)}
        if kind is Signal:
            fields = [getattr(value, one.name) for one in dataclasses.fields(value)]
            return {TAG: "signal", "v": self._each(fields, path, depth)}
        number = self._seen.get(id(value))
        if number is not None:
            return {TAG: "again", "v": number}
        self._seen[id(value)] = len(self._seen)
        self._alive.append(value)  # so that no other object gets its id meanwhile
        return self._object(value, path, depth)

    def _object(self, value: Any, path: str, depth: int) -> Any:
        kind = type(value)
        if kind is list:
            return self._each(value, path, depth)
        if kind is dict:
            return self._dict(value, path, depth)
        if kind is deque:
            return {TAG: "deque", "n": value.maxlen, "v": self._each(value, path, depth)}
        if kind in (set, frozenset):
            return {TAG: kind.__name__, "v": self._each(_in_order(value, path), path, depth)}
        if kind is np.ndarray and not value.dtype.hasobject:
            whole = np.ascontiguousarray(value)
            return {
                TAG: "array", "k": whole.dtype.str, "s": list(value.shape), "v": whole.tobytes(),
            }  # fmt: skip
        if isinstance(value, Remembers) and not isinstance(value, type):
            return {TAG: "memory", "k": kind.__name__, "v": _plain_state(value, self._owner, path)}
        if isinstance(value, Enum) or callable(value) or not _has_attributes(kind):
            raise self._refusal(value, path)
        return {TAG: "object", "k": kind.__qualname__, "v": self._attributes(value, path, depth)}

    def _attributes(self, value: Any, path: str, depth: int) -> dict[str, Any]:
        return {
            name: self.plain(held, f"{path}.{name}", depth + 1)
            for name, held in sorted(attributes_of(value).items())
        }

    def _each(self, values: Iterable[Any], path: str, depth: int) -> list[Any]:
        return [self.plain(one, f"{path}[{at}]", depth + 1) for at, one in enumerate(values)]

    def _dict(self, value: dict[Any, Any], path: str, depth: int) -> Any:
        if all(type(key) is str for key in value) and TAG not in value:
            return {
                key: self.plain(held, f"{path}[{key!r}]", depth + 1) for key, held in value.items()
            }
        pairs = [
            [
                self.plain(key, f"{path} key", depth + 1),
                self.plain(held, f"{path}[{key!r}]", depth + 1),
            ]
            for key, held in value.items()
        ]
        return {TAG: "dict", "v": pairs}

    def _refusal(self, value: object, path: str) -> NotStorable:
        return NotStorable(
            f"{self._owner}.{path} holds a {type(value).__name__}, which cannot be stored: keep "
            "numbers, text, lists, dicts, sets, deques, arrays, indicators, or plain objects of "
            "classes in the strategy's own file"
        )


class _Reader:
    def __init__(self, kind: type, strategy: Strategy) -> None:
        self._kind, self._strategy = kind, strategy
        self._seen: list[Any] = []

    def value(self, stored: Any, present: Any, path: str) -> Any:
        """What was stored; `present` lies in its place now."""
        if type(stored) is list:
            made: list[Any] = []
            self._seen.append(made)
            held = present if type(present) is list else []
            for at, one in enumerate(stored):
                made.append(self.value(one, _at(held, at), f"{path}[{at}]"))
            return made
        if type(stored) is not dict:
            return stored
        tag = stored.get(TAG)
        if tag is None:
            return self._dict(((key, held) for key, held in stored.items()), present, path)
        if tag not in self._BY_TAG:
            raise NotStorable(f"{self._kind.__name__}.{path}: stored by a newer program: {tag!r}")
        return self._BY_TAG[tag](self, stored, present, path)

    def _dict(self, pairs: Iterable[tuple[Any, Any]], present: Any, path: str) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        self._seen.append(made)
        held = present if type(present) is dict else {}
        for key, one in pairs:
            made[key] = self.value(one, held.get(key), f"{path}[{key!r}]")
        return made

    def _int(self, stored: Any, _present: Any, _path: str) -> Any:
        return int(stored["v"])

    def _scalar(self, stored: Any, _present: Any, _path: str) -> Any:
        return np.frombuffer(stored["v"], np.dtype(stored["k"]))[0]

    def _tuple(self, stored: Any, present: Any, path: str) -> Any:
        return tuple(self._values(stored["v"], present if type(present) is tuple else (), path))

    def _named(self, stored: Any, _present: Any, path: str) -> Any:
        return _TUPLES[stored["k"]](*self._values(stored["v"], (), path))

    def _signal(self, stored: Any, _present: Any, path: str) -> Any:
        names = [one.name for one in dataclasses.fields(Signal)]
        return Signal(**dict(zip(names, self._values(stored["v"], (), path), strict=True)))

    def _again(self, stored: Any, _present: Any, _path: str) -> Any:
        return self._seen[stored["v"]]

    def _pairs(self, stored: Any, present: Any, path: str) -> Any:
        # keys hold nothing that is shared, so they may be read apart from the values
        return self._dict(
            ((self.value(key, None, path), held) for key, held in stored["v"]), present, path
        )

    def _deque(self, stored: Any, present: Any, path: str) -> Any:
        made: deque[Any] = deque(maxlen=stored["n"])
        self._seen.append(made)
        held = present if type(present) is deque else ()
        for at, one in enumerate(stored["v"]):
            made.append(self.value(one, _at(held, at), f"{path}[{at}]"))
        return made

    def _set(self, stored: Any, _present: Any, path: str) -> Any:
        made: set[Any] = set()
        self._seen.append(made)
        made.update(self._values(stored["v"], (), path))
        return made

    def _frozenset(self, stored: Any, _present: Any, path: str) -> Any:
        place = len(self._seen)
        self._seen.append(None)
        made = frozenset(self._values(stored["v"], (), path))
        self._seen[place] = made
        return made

    def _array(self, stored: Any, _present: Any, _path: str) -> Any:
        made = np.frombuffer(stored["v"], np.dtype(stored["k"])).reshape(stored["s"]).copy()
        self._seen.append(made)
        return made

    def _memory(self, stored: Any, present: Any, path: str) -> Any:
        if type(present).__name__ == stored["k"] and isinstance(present, Remembers):
            made: Any = present
        else:
            made = _made_anew(stored["k"], stored["v"], f"{self._kind.__name__}.{path}")
        self._seen.append(made)
        made.restore(stored["v"])
        return made

    def _object(self, stored: Any, present: Any, path: str) -> Any:
        if type(present).__qualname__ == stored["k"]:
            made = present
        else:
            kind = self._own_class(stored["k"], path)
            made = object.__new__(kind)
        self._seen.append(made)
        held = attributes_of(made)
        for name, one in stored["v"].items():
            object.__setattr__(made, name, self.value(one, held.get(name), f"{path}.{name}"))
        return made

    def _own_class(self, qualname: str, path: str) -> type:
        """A class of the file in which the strategy is written; no other is ever looked up."""
        found: Any = sys.modules.get(self._kind.__module__)
        for part in qualname.split("."):
            found = getattr(found, part, None)
        if not isinstance(found, type) or found.__module__ != self._kind.__module__:
            raise NotStorable(
                f"{self._kind.__name__}.{path} was a {qualname}, which is not in the strategy's "
                "file: make it in setup(), or write its class there"
            )
        return found

    def _values(self, stored: list[Any], present: Any, path: str) -> list[Any]:
        return [self.value(one, _at(present, at), f"{path}[{at}]") for at, one in enumerate(stored)]

    _BY_TAG: ClassVar[Mapping[str, Callable[[Any, Any, Any, str], Any]]] = {
        "int": _int, "scalar": _scalar, "tuple": _tuple, "named": _named, "signal": _signal,
        "again": _again, "dict": _pairs, "deque": _deque, "set": _set, "frozenset": _frozenset,
        "array": _array, "memory": _memory, "object": _object,
    }  # fmt: skip


def attributes_of(value: object) -> dict[str, Any]:
    """What an object holds, in its dict and its slots."""
    found = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found[name] = getattr(value, name)
    return found


_TUPLES: Mapping[str, Any] = {
    kind.__name__: kind
    for kind in (Tick, Bar, Fill, *vars(indicators).values())
    if isinstance(kind, type) and issubclass(kind, tuple)
}
"""Tuples with names that are ours."""


def _has_attributes(kind: type) -> bool:
    return kind.__module__ != "builtins" and (
        hasattr(kind, "__slots__") or getattr(kind, "__dictoffset__", 0) != 0
    )


def _in_order(values: Iterable[Any], path: str) -> list[Any]:
    """Sets have no order that two processes share."""
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=repr)


def _at(values: Any, index: int) -> Any:
    return values[index] if index < len(values) else None


def _plain_state(value: Remembers, owner: str, path: str) -> Any:
    try:
        return value.state()
    except Exception as error:
        raise NotStorable(f"{owner}.{path}: state() failed: {error}") from error


def _made_anew(kind: str, state: Any, path: str) -> Any:
    """An indicator that was made after `setup()`: by its class and what was set once."""
    found = getattr(indicators, kind, None)
    facts = getattr(found, "FACTS", None)
    if isinstance(found, type) and facts is not None:
        try:
            return found(**{name: state[name] for name in facts})
        except (TypeError, ValueError, KeyError):
            pass
    raise NotStorable(
        f"{path} was a {kind} that setup() does not make: make it there, so that it can be restored"
    )


def remember_around(
    around: Surroundings,
    holdings: Holdings,
    prices: Mapping[str, Prices],
    *,
    facts: bool,
    account: bool,
) -> dict[str, Any]:
    """By name: what is known of prices and of what the strategy holds; where they are asked for,
    facts of symbols and the account."""
    told: dict[str, Any] = {
        "prices": {symbol: list(two) for symbol, two in sorted(prices.items())},
        "holdings": holdings.state(),
        "positions": [
            [symbol, leg, lots] for (symbol, leg), lots in sorted(around.positions.items())
        ],
    }
    if account:
        told["account"] = None if around.account is None else around.account.model_dump_json()
    if facts:
        known = sorted(around.instruments.items())
        told["instruments"] = {symbol: one.model_dump_json() for symbol, one in known}
    return told


def restore_around(
    stored: Mapping[str, Any], around: Surroundings, holdings: Holdings
) -> dict[str, Prices]:
    """Take it back; returns the prices."""
    if "holdings" not in stored:
        return {}
    holdings.restore(stored["holdings"])
    around.positions = {(symbol, leg): lots for symbol, leg, lots in stored["positions"]}
    account = stored["account"]
    around.account = None if account is None else Account.model_validate_json(account)
    around.instruments = {
        symbol: Instrument.model_validate_json(text)
        for symbol, text in stored["instruments"].items()
    }
    return {symbol: (bid, ask) for symbol, (bid, ask) in stored["prices"].items()}
