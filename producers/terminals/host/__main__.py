"""The host process: `python -m producers.terminals.host`, started by a client, never by hand.

Frames come in over stdin and go out over stdout; the first one is the spec of the terminal, with
its secrets, which are in no argument and no environment. Whatever a terminal's module prints
goes to stderr.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import signal
import sys
from threading import Event, Timer
from typing import BinaryIO

from pydantic import ValidationError

from producers.terminals.build import build_terminal
from producers.terminals.host.worker import Worker
from producers.terminals.interface import Terminal
from producers.terminals.spec import SpecError, TerminalSpec
from producers.terminals.wire import (
    HELLO_BYTES_MAX,
    PROTOCOL_VERSION,
    Kind,
    WireError,
    pack,
    read_frame,
    unpack,
    write_frame,
)

END_GRACE_S = 2.0
"""How long the running call may go on after the client is gone."""


def main() -> int:
    """Serve until stdin ends. Returns 0, or 2 when there is nothing to serve."""
    parser = argparse.ArgumentParser(description="terminal host, started by its client")
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(name)s: %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # our client decides when we end
    source, sink = _private_pipes()
    _end_with_parent(arguments.parent)
    try:
        spec, terminal = _open(source)
    except (WireError, SpecError, ImportError, OSError, ValidationError, ValueError) as error:
        for_good = not isinstance(error, (WireError, OSError))
        write_frame(sink, pack((int(Kind.REFUSED), _one_line(error), for_good)))
        return 2
    return _serve(spec, terminal, source, sink)


def _open(source: BinaryIO) -> tuple[TerminalSpec, Terminal]:
    body = read_frame(source, bytes_max=HELLO_BYTES_MAX)
    if body is None:
        raise WireError("no spec came")
    kind, version, *rest = unpack(body)
    if kind != Kind.HELLO or version != PROTOCOL_VERSION or len(rest) != 1:
        raise WireError(f"the client speaks another version ({version}) than {PROTOCOL_VERSION}")
    spec = TerminalSpec.from_wire(rest[0])
    return spec, build_terminal(spec)


def _serve(spec: TerminalSpec, terminal: Terminal, source: BinaryIO, sink: BinaryIO) -> int:
    finished = Event()

    def end_soon() -> None:
        """The client is gone; a call that hangs must not keep us."""
        if not finished.wait(END_GRACE_S):
            os._exit(0)

    worker = Worker(
        terminal,
        source,
        sink,
        kind=spec.kind,
        link_latency_s=spec.link_latency_ms / 1000.0,
        on_end=end_soon,
    )
    write_frame(sink, pack((int(Kind.READY), PROTOCOL_VERSION, worker.facts())))
    try:
        worker.run()
    except OSError:
        return 0  # nobody reads our answers any more
    # The terminal's side of the connection is freed at once, if it does not hang.
    Timer(END_GRACE_S, os._exit, (0,)).start()
    getattr(terminal, "shutdown", lambda: None)()
    finished.set()
    sys.stderr.flush()
    os._exit(0)


def _end_with_parent(parent_pid: int) -> None:
    """Have the kernel kill us when our parent goes, where it can (Linux).

    prctl(2): the signal comes when the *thread* that started us ends. A parent that was gone
    before the call is noticed by its id.
    """
    if not sys.platform.startswith("linux"):
        return
    pr_set_pdeathsig = 1
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(pr_set_pdeathsig, int(signal.SIGKILL), 0, 0, 0) != 0:
        logging.warning("prctl(PR_SET_PDEATHSIG): errno %s", ctypes.get_errno())
    if os.getppid() != parent_pid:
        os._exit(0)


def _private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Our pipes under numbers nobody else knows; stdin becomes empty, stdout becomes stderr."""
    taken, given = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(taken, os.O_BINARY)
        msvcrt.setmode(given, os.O_BINARY)
    return open(taken, "rb"), open(given, "wb", buffering=0)


def _one_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        # Never the input: it holds secrets.
        problems = (
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()
        )
        return "; ".join(problems)
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
