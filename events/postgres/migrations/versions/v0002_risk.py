"""Views of risk figures, limits and the guard (0002_risk.sql)."""

from events.postgres.schema import run_sql_file

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    run_sql_file("0002_risk.sql")
