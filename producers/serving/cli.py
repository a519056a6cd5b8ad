"""`bridgectl terminal serve`: lend the terminal of this machine to a bridge on another one."""

from __future__ import annotations

import json
import logging
import signal
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType

import click

from events.program_log import start_program_log, stop_program_log
from events.settings import (
    Settings,
    TerminalChoice,
    TerminalSettings,
    chosen_terminals,
    load,
    terminal_options,
)
from producers.guard.assembly import GUARDED, served_keeper
from producers.guard.ways.serving import serve_call
from producers.terminals.attach import Attachment
from producers.terminals.client import HostClient, HostLimits, HostState, open_client
from producers.terminals.configured import terminal_spec
from producers.terminals.history_host import open_two_hosts, wants_history_host
from producers.terminals.remote import identity
from producers.terminals.remote.server import TerminalServer
from producers.terminals.remote.session import GuardCall
from producers.terminals.spec import TerminalSpec

logger = logging.getLogger(__name__)

FOLDER = "terminal-server"
PORT = 18813
LOOK_S = 0.5


class ServeError(click.UsageError):
    """The server cannot be started as asked."""


@click.command("serve")
@click.option(
    "--listen",
    default=f"127.0.0.1:{PORT}",
    show_default=True,
    metavar="HOST:PORT",
    help="Where to listen. Beyond this machine only with TLS. Port 0 takes a free one.",
)
@click.option("--cert", type=click.Path(path_type=Path), help="Certificate chain (PEM) for TLS.")
@click.option("--key", type=click.Path(path_type=Path), help="Its private key (PEM).")
@click.option(
    "--self-signed",
    is_flag=True,
    help="TLS with a certificate made here; the bridge pins the fingerprint shown.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="File with the token; made if it is not there. MT5_TOKEN in the settings wins over it.",
)
@click.option("--read-only", is_flag=True, help="Refuse orders and changes of account.")
@click.option("--json", "as_json", is_flag=True, help="Say where it listens as one JSON object.")
@terminal_options
def serve(
    listen: str,
    cert: Path | None,
    key: Path | None,
    self_signed: bool,
    token_file: Path | None,
    read_only: bool,
    as_json: bool,
    **choice: object,
) -> None:
    """Serve this machine's terminal to a bridge elsewhere, until interrupted.

    Run it where the terminal runs: on Windows, or under Wine. One bridge may use it at a time.

    \b
    bridgectl terminal serve                                  (this machine, or an SSH tunnel)
    bridgectl terminal serve --listen 0.0.0.0:18813 --self-signed
    bridgectl terminal serve --terminal simulated --read-only
    """
    settings = load()
    host, port = _address(listen)
    folder = settings.state_dir / FOLDER
    tls, certificate = _tls(cert, key, folder if self_signed else None)
    terminal = _chosen(settings, TerminalChoice(**choice))  # type: ignore[arg-type]  # click's
    spec = terminal_spec(terminal, state_dir=settings.state_dir)
    token, created = _token(settings, token_file or folder / "token")
    start_program_log(
        "terminal-serve",
        folder=settings.state_dir,
        level=settings.log_level,
        file=settings.log_file,
        as_json=settings.log_json,
        secrets=(*settings.secrets(), token),
    )
    try:
        limits = HostLimits(call_s=settings.worker_timeout)
        client = open_client(spec, limits=limits, attach=Attachment(spec), on_state=_say_state)
        two_hosts = open_two_hosts(
            spec, client, limits=limits, wanted=wants_history_host(settings, spec)
        )
        guarding = _guarding(settings, terminal, spec, client, off=read_only)
        with client, two_hosts or nullcontext(), guarding as guard:
            server = TerminalServer(
                two_hosts or client, host=host, port=port, token=token, tls=tls,
                read_only=read_only, guard=guard,
            )  # fmt: skip
            facts = {
                "terminal": spec.name,
                "kind": spec.kind,
                "listen": f"{host}:{server.port}",
                "tls": tls is not None,
                "fingerprint": identity.fingerprint(certificate) if certificate else None,
                "read_only": read_only,
                "guard": guard is not None,
            }
            _introduce(facts, token if created else None, as_json=as_json)
            _serve_until_stopped(server)
    finally:
        stop_program_log()


def _serve_until_stopped(server: TerminalServer) -> None:
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    names = ("SIGINT", "SIGTERM", "SIGBREAK")  # the last one is Windows' Ctrl-Break
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        server.start()
        while not stopped.wait(LOOK_S):
            pass
    finally:
        server.close()
        for number, handler in before.items():
            signal.signal(number, handler)


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ServeError(f"--listen {listen}: expected HOST:PORT such as 127.0.0.1:{PORT}")
    return host.strip("[]"), int(port)


def _tls(
    cert: Path | None, key: Path | None, self_signed_in: Path | None
) -> tuple[ssl.SSLContext | None, Path | None]:
    if (cert is None) != (key is None):
        raise ServeError("--cert and --key belong together")
    if cert is not None and self_signed_in is not None:
        raise ServeError("give --self-signed, or --cert and --key, not both")
    if self_signed_in is not None:
        cert, key = identity.self_signed(self_signed_in)
    if cert is None or key is None:
        return None, None
    return identity.server_context(cert, key), cert


def _token(settings: Settings, path: Path) -> tuple[str, bool]:
    """The token, and whether it was made just now."""
    if settings.mt5_token is not None:
        return identity.checked_token(settings.mt5_token.get_secret_value(), "MT5_TOKEN"), False
    return identity.load_or_create_token(path)


def _chosen(settings: Settings, choice: TerminalChoice) -> TerminalSettings:
    terminals = chosen_terminals(settings, choice)
    if len(terminals) != 1:
        names = ", ".join(terminal.name for terminal in terminals)
        raise ServeError(f"several terminals are configured: --terminal NAME, one of {names}")
    if terminals[0].kind.value == "remote":
        raise ServeError(f"{terminals[0].name} is a remote terminal: serve it where it runs")
    return terminals[0]


@contextmanager
def _guarding(
    settings: Settings,
    terminal: TerminalSettings,
    spec: TerminalSpec,
    client: HostClient,
    *,
    off: bool,
) -> Iterator[GuardCall | None]:
    """The guard beside the terminal: a lost link does not cut it. None where nobody can trade.

    Raises GuardHeld.
    """
    if off or spec.kind not in GUARDED:
        yield None
        return
    keeper = served_keeper(settings, terminal, spec, client)
    try:
        keeper.start()
        yield lambda method, args: serve_call(keeper, method, args, via="link")
    finally:
        keeper.close()


def _introduce(facts: dict[str, object], new_token: str | None, *, as_json: bool) -> None:
    """Say on stdout what a bridge elsewhere must be told; a token only when it is new."""
    if as_json:
        click.echo(json.dumps({**facts, "token": new_token}))
        return
    click.echo(f"serving {facts['terminal']} ({facts['kind']}) on {facts['listen']}")
    if facts["fingerprint"]:
        click.echo(f"MT5_TLS_FINGERPRINT={facts['fingerprint']}")
    if new_token is not None:
        click.echo(f"MT5_TOKEN={new_token}   (shown this once; kept in the token file)")


def _say_state(state: HostState) -> None:
    detail = f": {state.last_error}" if state.state == "down" else ""
    logger.info("terminal %s is %s%s", state.name, state.state, detail)
