"""A terminal behind a classic RPyC server, as mt5linux and its Docker images run it.

Classic RPyC is remote code execution by design: whoever reaches the port runs any Python there,
without a password. Reach it over loopback or an SSH tunnel only; `bridgectl terminal serve` is
the safe way. Here it is used so that nothing but plain values crosses: one fixed helper is sent
over, arguments go and answers come as tuples, numbers, text and bytes. No remote object is read,
nothing is pickled, no code is put together from what a caller gave, and the other side is
offered no service of ours (RPyC's FakeSlaveService).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import numpy as np

from events.ticks import RATE_DTYPE, TICK_DTYPE
from producers.terminals.interface import CALLS, CALLS_STATE
from producers.terminals.spec import SpecError
from producers.terminals.structs import STRUCTS

logger = logging.getLogger(__name__)

PLAIN, STRUCT, ITEMS, ARRAY, MAP, TIME = "p", "s", "t", "a", "m", "d"
NOT_CONNECTED = -10004
RECEIVE_FAILED = -10002
FAILED = -1
PARAMS = -2
_PLAIN_TYPES = (type(None), bool, int, float, str, bytes)

# Runs on the other side, on any Python from 3.7 on. Tags as above.
HELPER = """
def bridge_call(module_name, method, args, kwargs):
    import importlib
    from datetime import datetime

    def given(item):
        tag, value = item
        if tag == "t":
            return tuple(given(part) for part in value)
        if tag == "m":
            return {key: given(part) for key, part in value}
        return datetime.fromisoformat(value) if tag == "d" else value

    def plain(value):
        if isinstance(value, tuple) and type(value) is not tuple:
            name = type(value).__name__.rpartition(".")[2]
            return ("s", name, tuple(plain(part) for part in value))
        if isinstance(value, (tuple, list)):
            return ("t", tuple(plain(part) for part in value))
        if hasattr(value, "dtype") and hasattr(value, "tobytes") and value.shape:
            return ("a", tuple(value.dtype.names or ()), value.tobytes())
        if hasattr(value, "item"):
            value = value.item()
        for kind in (bool, int, float, str, bytes):
            if isinstance(value, kind):
                return ("p", kind(value))
        return ("p", None if value is None else repr(value))

    module = importlib.import_module(module_name)
    try:
        positional = [given(part) for part in args]
        named = {key: given(part) for key, part in kwargs}
        answer = plain(getattr(module, method)(*positional, **named))
        failure = None
    except Exception as error:
        answer = ("p", None)
        failure = (type(error).__name__, str(error))
    code, text = module.last_error()
    return (answer, failure, int(code), str(text))
"""


class ClassicTerminal:
    """A `Terminal` over one RPyC connection, opened by `initialize`; for use inside a host.

    A call that the other side never answers blocks for ever: the host's client judges that.
    """

    def __init__(self, host: str, port: int, *, module: str = "MetaTrader5") -> None:
        """Raises SpecError when the rpyc package is missing."""
        try:
            import rpyc
            from rpyc.core.service import FakeSlaveService
        except ImportError as error:
            raise SpecError(
                f'a classic server needs rpyc: pip install "mt5-stream-bridge[remote]" ({error})'
            ) from error
        self._rpyc, self._service = rpyc, FakeSlaveService
        self._host = host
        self._port = port
        self._module = module
        self._connection: Any = None
        self._bridge_call: Callable[..., Any] | None = None
        self._error = (NOT_CONNECTED, "No IPC connection")

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in CALLS:
            raise AttributeError(name)
        return lambda *args, **kwargs: self._call(name, args, kwargs)

    def last_error(self) -> tuple[int, str]:
        return self._error

    def initialize(self, *args: Any, **kwargs: Any) -> bool:
        """Connect to the server, then the module there to its terminal."""
        if self._connection is None and not self._connect():
            return False
        return self._call("initialize", args, kwargs) is True

    def shutdown(self) -> None:
        """Let go of the server; its module stays attached for its other users."""
        connection, self._connection, self._bridge_call = self._connection, None, None
        if connection is not None:
            connection.close()
        self._error = (NOT_CONNECTED, "No IPC connection")

    def _connect(self) -> bool:
        where = f"the classic server at {self._host}:{self._port}"
        try:
            self._connection = self._rpyc.connect(
                self._host,
                self._port,
                service=self._service,
                config={"sync_request_timeout": None, "allow_pickle": False},
                keepalive=True,
            )
            self._connection.root.execute(HELPER)
            self._bridge_call = self._connection.root.namespace["bridge_call"]
        except Exception as error:  # RPyC raises what it likes, also the other side's errors
            self.shutdown()
            hint = ": RPyC 5 and 6 do not understand each other" if "message" in str(error) else ""
            self._error = (NOT_CONNECTED, f"{where}: {type(error).__name__}: {error}{hint}")
            return False
        return True

    def _call(self, method: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if self._bridge_call is None:
            self._error = (NOT_CONNECTED, "No IPC connection")
            return _nothing(method)
        try:
            positional = tuple(_given(value) for value in args)
            named = tuple((key, _given(value)) for key, value in kwargs.items())
        except TypeError as error:
            self._error = (PARAMS, str(error))
            return None
        try:
            answer, failure, code, text = self._bridge_call(self._module, method, positional, named)
            value = _taken(answer)
        except Exception as error:
            self.shutdown()
            self._error = (RECEIVE_FAILED, f"{type(error).__name__}: {error}")
            return _nothing(method)
        if failure is not None:
            kind, message = failure
            if code == 1:
                code = PARAMS if kind in ("TypeError", "ValueError") else FAILED
            text = f"{kind}: {message}"
        self._error = (int(code), str(text))
        return value


def _nothing(method: str) -> bool | None:
    """What the module answers when there is no connection."""
    return False if method in CALLS_STATE and method != "shutdown" else None


def _given(value: Any) -> tuple[str, Any]:
    """An argument as tagged plain values. Raises TypeError for what may not cross."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, datetime):
        return (TIME, value.isoformat())
    if isinstance(value, Mapping):
        return (MAP, tuple((str(key), _given(part)) for key, part in value.items()))
    if isinstance(value, (tuple, list)):
        return (ITEMS, tuple(_given(part) for part in value))
    if value is None or isinstance(value, bool):
        return (PLAIN, value)
    if isinstance(value, int):  # enums and other heirs too
        return (PLAIN, int(value))
    if isinstance(value, float):
        return (PLAIN, float(value))
    if isinstance(value, str):
        return (PLAIN, str.__str__(value))
    raise TypeError(f"a {type(value).__name__} cannot be an argument of a terminal")


def _taken(answer: tuple[Any, ...]) -> Any:
    """An answer from tagged plain values. Raises TypeError, ValueError, KeyError for others."""
    if type(answer) is not tuple:  # a remote object: reading it would ask the other side
        raise TypeError("the answer is not a plain value")
    tag = answer[0]
    if tag == PLAIN and type(answer[1]) in _PLAIN_TYPES:
        return answer[1]
    if tag == ITEMS:
        return tuple(_taken(part) for part in answer[1])
    if tag == STRUCT:
        return STRUCTS[answer[1]](_taken(part) for part in answer[2])
    if tag == ARRAY:
        for dtype in (TICK_DTYPE, RATE_DTYPE):
            if dtype.names == answer[1]:
                return np.frombuffer(answer[2], dtype)
    raise TypeError(f"unknown answer {tag!r}")
