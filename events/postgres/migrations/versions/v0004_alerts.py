"""The view of alerts (0004_alerts.sql)."""

from events.postgres.schema import run_sql_file

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run_sql_file("0004_alerts.sql")
