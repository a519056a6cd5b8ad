"""The schema on a real server: applied once, by one of several, and never guessed."""

from __future__ import annotations

import subprocess
import sys
import threading

import psycopg
import pytest
from alembic.script import ScriptDirectory

from events.postgres import (
    DatabaseRefused,
    DatabaseUnavailable,
    check,
    connect,
    current,
    migrate,
    wait_until_ready,
)
from events.postgres.schema import FOLDER, VERSION_TABLE, newest, revisions
from events.postgres.tables import CANDLES, MARKS, ROW_TABLES, TICKS
from tests.postgres_server import PostgresServer
from tests.servers import free_port

_MIGRATE = "import sys; from events.postgres import migrate; print(migrate(sys.argv[1]).current)"


def test_an_empty_database_gets_the_schema_and_twice_is_fine(empty_postgres_url: str) -> None:
    with pytest.raises(DatabaseRefused, match="no tables yet: run `bridgectl migrate`"):
        check(empty_postgres_url)
    assert current(empty_postgres_url).current is None
    assert migrate(empty_postgres_url).ready
    assert migrate(empty_postgres_url) == check(empty_postgres_url)


def test_three_starters_at_once_do_not_collide(empty_postgres_url: str) -> None:
    command = [sys.executable, "-W", "error", "-c", _MIGRATE, empty_postgres_url]
    children = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    answers = [child.communicate(timeout=60) for child in children]
    assert [(out.strip(), err) for out, err in answers] == [(newest(), "")] * 3


def test_an_older_and_a_newer_schema_are_refused_with_the_cure(postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
        for refused in (check, migrate):
            with pytest.raises(DatabaseRefused, match=r"9999, newer than .* upgrade the program"):
                refused(postgres_url)


def test_a_failed_migration_leaves_nothing_behind(empty_postgres_url: str) -> None:
    with psycopg.connect(empty_postgres_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE trades (mine integer)")
        with pytest.raises(DatabaseRefused, match='"trades" already exists'):
            migrate(empty_postgres_url)
        left = connection.execute("SELECT to_regnamespace('raw')").fetchone()
        assert left == (None,)
        assert current(empty_postgres_url).current is None


def test_a_database_that_is_not_utf8_is_refused(postgres_server: PostgresServer) -> None:
    with psycopg.connect(postgres_server.url(), autocommit=True) as connection:
        connection.execute(
            "CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'"
        )
    try:
        with pytest.raises(DatabaseRefused, match="SQL_ASCII: create one with --encoding=UTF8"):
            migrate(postgres_server.url("ascii"))
    finally:
        postgres_server.drop_database("ascii")


def test_the_code_knows_the_columns_of_every_table(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        for table in (TICKS, CANDLES, MARKS):
            rows = connection.execute(
                "SELECT column_name, udt_name, is_nullable FROM information_schema.columns"
                " WHERE table_schema || '.' || table_name = %s",
                (table.name,),
            ).fetchall()
            assert {name for name, _, _ in rows} == set(table.columns)
            for name, kind, nullable in rows:
                width = {"int2": 2, "int4": 4}.get(kind, 8)
                assert table.row_dtype[name].itemsize == width, (table.name, name)
                assert (table.row_dtype[name].kind == "f") == (kind == "float8")
                assert nullable == "NO"
        for name, columns in ROW_TABLES.items():
            found = dict(
                connection.execute(
                    "SELECT column_name, udt_name FROM information_schema.columns"
                    " WHERE table_schema || '.' || table_name = %s",
                    (name,),
                ).fetchall()
            )
            if name == "raw.dead_entries":
                assert found.pop("time") == "timestamptz"
            wanted = {
                column: "json" if column == "body" else kind for column, kind in columns.items()
            }
            assert found == wanted, name


def test_every_view_can_be_read_when_nothing_is_stored(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        views = [
            name
            for (name,) in connection.execute(
                "SELECT table_name FROM information_schema.views WHERE table_schema = 'public'"
            )
        ]
        assert {"ticks", "candles", "accounts", "positions", "positions_open", "orders", "deals",
                "instruments", "events", "marks", "trades", "price_data", "account_metrics",
                "dead_entries", "risk_metrics", "exposure_by_currency", "limit_breaches",
                "risk_by_symbol", "guard_events", "trades_open", "analytics", "spreads",
                "alerts"} <= set(views)  # fmt: skip
        for view in views:
            assert connection.execute(f"SELECT * FROM {view}").fetchall() == []


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"password": "wrong"}, DatabaseRefused, "POSTGRES_PASSWORD"),
        ({"database": "nowhere"}, DatabaseRefused, "createdb --encoding=UTF8 nowhere"),
    ],
)
def test_a_refused_connection_names_the_cure_and_no_secret(
    postgres_server: PostgresServer,
    change: dict[str, str],
    error: type[Exception],
    text: str,
) -> None:
    with pytest.raises(error, match=text) as caught:
        connect(postgres_server.url(**change), application="test")
    assert change.get("password", postgres_server.password) not in str(caught.value)


@pytest.mark.parametrize(
    ("dsn", "text"),
    [
        ("postgresql://localhost/x?nonsense=1", "cannot be read"),
        ("postgresql://localhost:port/x", "port 'port': give a number"),
    ],
)
def test_an_address_that_cannot_be_read_is_refused(dsn: str, text: str) -> None:
    with pytest.raises(DatabaseRefused, match=text):
        connect(dsn, application="test")


def test_a_database_that_is_down_is_waited_for_and_told_of_once() -> None:
    dsn = f"postgresql://postgres:secret@127.0.0.1:{free_port()}/bridge"
    with pytest.raises(DatabaseUnavailable, match="refused"):
        connect(dsn, application="test")
    told: list[str] = []
    waits: list[float] = []
    stop = threading.Event()

    def wait(wait_s: float) -> None:
        waits.append(wait_s)
        if len(waits) == 4:
            stop.set()

    assert not wait_until_ready(dsn, tell=told.append, stopped=stop.is_set, sleep=wait)
    assert len(told) == 1
    assert "waiting for it" in told[0]
    assert "secret" not in told[0]
    assert waits == sorted(waits)


def test_a_database_that_answers_is_not_waited_for(postgres_url: str) -> None:
    assert wait_until_ready(postgres_url, tell=pytest.fail, sleep=pytest.fail)


def test_file_names_give_the_revisions_that_alembic_sees() -> None:
    scripts = ScriptDirectory(str(FOLDER), version_locations=[str(FOLDER / "versions")])
    seen = [script.revision for script in scripts.walk_revisions()]
    assert seen[::-1] == revisions()
    assert scripts.get_heads() == [newest()]
