"""Tables of what was captured, and views for people (0001_initial.sql)."""

from events.postgres.schema import run_sql_file

revision = "0001"
down_revision = None


def upgrade() -> None:
    run_sql_file("0001_initial.sql")
