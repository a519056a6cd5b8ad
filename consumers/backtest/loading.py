"""From `module:Class` or `path/to/file.py:Class` to a strategy with its parameters."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from consumers.groups.loading import group_name
from consumers.strategies.authoring.parameters import BadParameter, read
from consumers.strategies.authoring.strategy import Strategy

BUNDLED = "consumers.strategies"


class BadStrategy(ValueError):
    """A strategy that cannot be loaded. The message names file, line and cure."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A strategy class, the name its signals are known by, its symbols and parameters."""

    strategy: type[Strategy]
    name: str
    symbols: tuple[str, ...]
    parameters: Mapping[str, Any]


def load_strategy(code: str, texts: Mapping[str, str]) -> Loaded:
    """`ema_cross:EmaCross` (bundled ones need no path), `module:Class`, `FILE.py:Class`, or
    `FILE.py` with one strategy in it. Raises BadStrategy."""
    module, name = _module(code)
    strategy = _class(code, module, name)
    parameters = {}
    for parameter, text in texts.items():
        try:
            parameters[parameter] = read(strategy, Strategy, parameter, text)
        except BadParameter as error:
            raise BadStrategy(str(error)) from error
    symbols = tuple(parameters.get("symbols", strategy.symbols))
    return Loaded(strategy, group_name(strategy), symbols, parameters)


def _module(code: str) -> tuple[ModuleType, str]:
    before, colon, name = code.rpartition(":")
    if code.endswith(".py") or not colon:
        before, name = code, ""
    path = Path(before)
    if before.endswith(".py"):
        if not path.is_file():
            raise BadStrategy(f"there is no file {before}")
        return _guarded(before, lambda: _from_file(path)), name
    if not name:
        raise BadStrategy(f"{code!r} names no strategy: write module:Class or FILE.py:Class")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    bundled = f"{BUNDLED}.{before}"
    known = before.isidentifier() and importlib.util.find_spec(bundled) is not None
    own = Path(f"{before}.py").is_file()
    wanted = bundled if known and not own else before
    return _guarded(wanted, lambda: importlib.import_module(wanted)), name


def _from_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise BadStrategy(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _guarded(what: str, load: Any) -> ModuleType:
    try:
        module: ModuleType = load()
    except BadStrategy:
        raise
    except SyntaxError as error:
        raise BadStrategy(f"{error.filename}, line {error.lineno}: {error.msg}") from error
    except Exception as error:
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise BadStrategy(f"{what} cannot be imported ({told}): correct it") from error
    return module


def _class(code: str, module: ModuleType, name: str) -> type[Strategy]:
    held = {
        key: one
        for key, one in vars(module).items()
        if isinstance(one, type) and issubclass(one, Strategy) and one.__module__ == module.__name__
    }
    if not name and len(held) == 1:
        return next(iter(held.values()))
    if name in held:
        return held[name]
    listed = ", ".join(sorted(held)) or "none"
    raise BadStrategy(f"{code}: no strategy {name or 'is named'}; strategies in it: {listed}")
