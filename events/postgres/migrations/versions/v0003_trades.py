"""Trades and analytics as views of what groups derive (0003_trades.sql)."""

from events.postgres.schema import run_sql_file

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    run_sql_file("0003_trades.sql")
