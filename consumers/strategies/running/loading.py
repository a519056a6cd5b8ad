"""From `module:Class`, a bundled name or a file to a strategy class with its parameters."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import math
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from consumers.runtime.naming import group_name
from consumers.strategies.authoring.parameters import BadParameter, check_defaults, read
from consumers.strategies.authoring.strategy import Strategy
from events.candles import TIMEFRAME_SECONDS

BUNDLED = ("ema_cross", "breakout", "mean_reversion", "pair", "crypto_momentum")
"""Files of strategies that come along; found by name alone."""
SOURCE_BYTES_MAX = 4 * 1024 * 1024
FILE_MODULE = "strategy_file_"
"""How modules are called that were read from a file."""
_METHODS = ("on_tick", "on_bar", "on_ticks", "on_account", "on_trade", "on_timer")


class BadStrategy(ValueError):
    """No strategy can be made of what was named. One line: where, why, and the cure."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A strategy class, ready to be run."""

    strategy: type[Strategy]
    code: str
    """As it was named."""
    name: str
    """What it is called unless it is given another name: `EmaCross` is `ema-cross`."""
    parameters: Mapping[str, Any]
    """Those that were given, as values."""
    checksum: str
    """Of the file it is written in: other code leads to another one."""
    file: Path | None

    @property
    def place(self) -> str:
        """What leads to the class from any folder: its file, or its module."""
        if self.file is not None and self.strategy.__module__.startswith(FILE_MODULE):
            return f"{self.file.resolve()}:{self.strategy.__name__}"
        return self.code

    @property
    def no_stop(self) -> bool:
        """Whether it declares to trade without a stop-loss."""
        return bool(self.parameters.get("no_stop", self.strategy.no_stop))

    @property
    def where(self) -> str:
        """File and line of the class, for people."""
        return f"{self.file.name if self.file else self.code}:{_line_of(self.strategy)}"

    @property
    def symbols(self) -> tuple[str, ...]:
        """Those it names itself."""
        return tuple(self.parameters.get("symbols", self.strategy.symbols))


def load_strategy(code: str, parameters: Mapping[str, object] | None = None) -> Loaded:
    """The strategy at `module:Class`, `bundled:Class`, `path/to/file.py:Class`; without a class
    the only one there is. Values of parameters may be texts. Raises BadStrategy."""
    place, class_name = _parted(code)
    module, file = _module(place, code)
    strategy = _class_in(module, class_name, code)
    where = f"{file.name if file else place}:{_line_of(strategy)}"
    try:
        check_defaults(strategy, Strategy)
        values = {
            name: read(strategy, Strategy, name, value)
            for name, value in (parameters or {}).items()
        }
        _check(strategy, values)
    except (BadParameter, BadStrategy) as error:
        raise BadStrategy(f"{where}: {error}") from None
    return Loaded(strategy, code, group_name(strategy), values, _checksum(file), file)


def names_strategy(code: str) -> bool:
    """Whether `code` names a strategy, and not a handler of another kind: a file, a bundled one,
    or a class in a module that derives from Strategy. What is neither is none."""
    place, _, name = code.rpartition(":")
    place = place or code
    if place.endswith(".py") or place in BUNDLED:
        return True
    try:
        found = getattr(importlib.import_module(place), name, None)
    except Exception:
        return False  # whoever loads it tells why
    return isinstance(found, type) and issubclass(found, Strategy)


def _parted(code: str) -> tuple[str, str]:
    """What comes before the class, and the class; a drive letter's colon parts nothing."""
    place, colon, name = code.rpartition(":")
    if colon and name.isidentifier() and len(place) > 1:
        return place, name
    if colon and place and not name.isidentifier() and not code.endswith(".py"):
        raise BadStrategy(f"{code!r} names no strategy: write it as FILE.py:Class or module:Class")
    return code, ""


def _module(place: str, code: str) -> tuple[ModuleType, Path | None]:
    if place.endswith(".py") or "/" in place or "\\" in place:
        path = Path(place)
        if not path.is_file():
            raise BadStrategy(f"{place}: there is no such file (looked in {Path.cwd()})")
        return _of_file(path), path
    name = f"consumers.strategies.{place}" if place in BUNDLED else place
    if name == place and (path := Path(f"{place}.py")).is_file():
        return _of_file(path), path
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise _not_loaded(error, code) from error
    found = getattr(module, "__file__", None)
    return module, Path(found) if found else None


class _AsItIsNow(SourceFileLoader):
    """Reads the file, never code compiled from an older one that was saved in the same second."""

    def get_code(self, fullname: str) -> CodeType:
        """See `SourceLoader.get_code`."""
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def _of_file(path: Path) -> ModuleType:
    """A file as a module of its own name, so that two files called alike stay two."""
    whole = path.resolve()
    if whole.stat().st_size > SOURCE_BYTES_MAX:
        raise BadStrategy(f"{path}: larger than {SOURCE_BYTES_MAX} bytes is no strategy")
    digest = hashlib.blake2s(str(whole).encode(), digest_size=4).hexdigest()
    name = f"{FILE_MODULE}{digest}_{whole.stem}"
    folder = str(whole.parent)
    if folder not in sys.path:  # it may import its neighbours
        sys.path.append(folder)
    try:
        loader = _AsItIsNow(name, str(whole))
        module = ModuleType(name)
        module.__file__ = str(whole)
        sys.modules[name] = module
        loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        raise _not_loaded(error, str(path)) from error
    return module


def _not_loaded(error: BaseException, code: str) -> BadStrategy:
    """File, line and reason of what went wrong while a file was read."""
    if isinstance(error, SyntaxError):
        return BadStrategy(f"{error.filename}:{error.lineno}: {error.msg}: correct it")
    if isinstance(error, ModuleNotFoundError) and code.partition(":")[0].startswith(
        error.name or "\0"
    ):
        return BadStrategy(
            f"there is no module {error.name!r}: name a file (my/file.py:Class), an installed "
            f"module, or one of the bundled {', '.join(BUNDLED)}"
        )
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}: " if frames else ""
    return BadStrategy(f"{where}{type(error).__name__}: {' '.join(str(error).split())}")


def _class_in(module: ModuleType, name: str, code: str) -> type[Strategy]:
    own = {
        one: found
        for one, found in vars(module).items()
        if isinstance(found, type)
        and issubclass(found, Strategy)
        and found.__module__ == module.__name__
    }
    if not name:
        if len(own) == 1:
            return next(iter(own.values()))
        has = ", ".join(own) or "none: derive a class from consumers.strategies.Strategy"
        raise BadStrategy(f"{code}: which class? Strategies in it: {has}")
    found = vars(module).get(name)
    if found is None:
        raise BadStrategy(f"{code}: it has no class {name}; strategies in it: "
                          f"{', '.join(own) or 'none'}")  # fmt: skip
    if not (isinstance(found, type) and issubclass(found, Strategy)) or found is Strategy:
        raise BadStrategy(f"{code} is no strategy: derive it from consumers.strategies.Strategy")
    return found


def _check(strategy: type[Strategy], values: Mapping[str, Any]) -> None:
    """What would go wrong with every tick is told before the first. Raises BadStrategy."""

    def value(name: str) -> Any:
        return values.get(name, getattr(strategy, name))

    name = strategy.__name__
    has = [m for m in _METHODS if getattr(strategy, m) is not getattr(Strategy, m)]
    if not has:
        raise BadStrategy(f"{name} does nothing: give it a method {', '.join(_METHODS[:2])} ...")
    if "on_ticks" in has and "on_bar" in has:
        raise BadStrategy(f"{name} has on_ticks and on_bar: arrays know no moment between ticks")
    if inspect.isabstract(strategy):
        missing = ", ".join(sorted(getattr(strategy, "__abstractmethods__", ())))
        raise BadStrategy(f"{name} is abstract: it lacks {missing}")
    _check_values(name, value, bars="on_bar" in has)


def _check_values(name: str, value: Callable[[str], Any], *, bars: bool) -> None:
    for one in value("timeframes"):
        if one not in TIMEFRAME_SECONDS:
            raise BadStrategy(
                f"{name}: there is no timeframe {one!r}: MT5 has {', '.join(TIMEFRAME_SECONDS)}"
            )
    if bars and not value("timeframes"):
        raise BadStrategy(f"{name} has on_bar and no timeframes: name at least one")
    if not (math.isfinite(value("timer_s")) and value("timer_s") >= 1):
        raise BadStrategy(f"{name}: timer_s = {value('timer_s')!r}: at least 1")
    if value("warm_up") < 0:
        raise BadStrategy(f"{name}: warm_up = {value('warm_up')!r}: 0 or more")
    sizes = [one for one in ("lots", "risk_percent", "notional") if value(one) is not None]
    if len(sizes) > 1:
        raise BadStrategy(f"{name} has {' and '.join(sizes)}: one of them sizes a target")


def _line_of(strategy: type) -> int:
    try:
        return inspect.getsourcelines(strategy)[1]
    except (OSError, TypeError):
        return 1


def _checksum(file: Path | None) -> str:
    return "" if file is None or not file.is_file() else checksum_of_file(file)


def checksum_of_file(file: Path) -> str:
    """Of what a strategy's file holds now."""
    return hashlib.blake2b(file.read_bytes(), digest_size=8).hexdigest()


def file_of(code: str) -> Path | None:
    """The file that `FILE.py:Class` names; None for a module."""
    place, _ = _parted(code)
    return Path(place) if place.endswith(".py") else None
