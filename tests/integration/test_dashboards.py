"""Every query of every dashboard runs as a reader of the views alone, and finds something.

A dashboard is any JSON file under grafana/ with panels. What Grafana puts in place of macros and
variables is put there as its PostgreSQL data source does.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import psycopg
import pytest

from events.analytics import Analytics, SpreadHour
from events.codec import AnyEvent, encode
from events.log import SOURCE, Slot
from events.memory_log import MemoryLog
from events.postgres import connect
from tests.integration.persisting import drain
from tests.integration.test_database_page import BASE_MS, NAMESPACE, some_of_everything
from tests.postgres_server import TEMPLATE

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "grafana"
FILES = sorted(FOLDER.rglob("*.json"))
DASHBOARDS = {
    path.relative_to(FOLDER).as_posix(): read
    for path in FILES
    if "panels" in (read := json.loads(path.read_text(encoding="utf-8")))
}
POSTGRES = "grafana-postgresql-datasource"
COLUMNS = 24
"""How wide Grafana's grid is."""
SCHEMA_VERSION_MIN = 39
READER = "test_dashboard_reader"
BASE = datetime.fromtimestamp(BASE_MS / 1000, UTC)
FROM, TO = BASE - timedelta(days=30), BASE + timedelta(days=1)
HOUR_MS = 3_600_000


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Panels, those of closed rows included."""
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", ())


def queries() -> dict[str, tuple[str, dict[str, Any], dict[str, Any]]]:
    """Name -> dashboard, panel and target of everything that asks the database."""
    return {
        f"{name}-{panel['id']}{target['refId']}": (name, panel, target)
        for name, dashboard in DASHBOARDS.items()
        for panel in panels(dashboard)
        for target in panel.get("targets", ())
        if "rawSql" in target
    }


QUERIES = queries()


# What Grafana does with a query -----------------------------------------------------------------


def macro(found: re.Match[str]) -> str:
    name, arguments = found[1], [one.strip() for one in found[2].split(",")]
    begin, end = (f"'{one.isoformat().replace('+00:00', 'Z')}'" for one in (FROM, TO))
    if name == "__timeFilter":
        return f"{arguments[0]} BETWEEN {begin} AND {end}"
    if name in ("__timeFrom", "__timeTo"):
        return begin if name == "__timeFrom" else end
    if name in ("__timeGroup", "__timeGroupAlias"):
        number, unit = re.fullmatch(r"'(\d+)([smhd])'", arguments[1]).groups()  # type: ignore[union-attr]  # fails the test
        seconds = int(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
        alias = ' AS "time"' if name.endswith("Alias") else ""
        return f"floor(extract(epoch from {arguments[0]})/{seconds})*{seconds}{alias}"
    raise AssertionError(f"macro ${name} is not known here: add what Grafana makes of it")


def interpolated(text: str, values: dict[str, list[str]]) -> str:
    """The text with variables and macros as Grafana sends it."""

    def variable(found: re.Match[str]) -> str:
        name, form = found[1] or found[3], found[2] or ""
        assert name in values, f"${name} is no variable of the dashboard"
        if form == "sqlstring":
            return ",".join("'" + one.replace("'", "''") + "'" for one in values[name])
        assert not form, f"format {form!r} is not known here"
        assert len(values[name]) == 1, f"${{{name}:sqlstring}} lists what a person chose"
        return values[name][0]

    text = re.sub(r"\$\{(\w+)(?::(\w+))?\}|\$(?!__)(\w+)", variable, text)
    text = re.sub(r"\$(\w+)\(([^)]*)\)", macro, text)
    assert "$" not in text, text
    return text


def variables(dashboard: dict[str, Any], connection: psycopg.Connection) -> dict[str, list[str]]:
    """Every variable with all of its values, as with All chosen; others with their first one."""
    values: dict[str, list[str]] = {}
    for one in dashboard["templating"]["list"]:
        if one["type"] == "query" and one["datasource"]["type"] == POSTGRES:
            rows = connection.execute(interpolated(one["query"], values)).fetchall()  # type: ignore[call-overload]  # from the file
            assert rows, f"variable {one['name']} has no values"
            assert all(len(row) == 1 and isinstance(row[0], str) for row in rows), one["name"]
            values[one["name"]] = [row[0] for row in rows]
        elif one["type"] in ("custom", "textbox", "constant", "interval"):
            values[one["name"]] = [one["current"]["value"]]
    return values


# The database they are asked of -----------------------------------------------------------------


def more() -> list[AnyEvent]:
    """Trades and spreads with every figure, in several hours, symbols and strategies."""
    begin_ms = BASE_MS // HOUR_MS * HOUR_MS
    found: list[AnyEvent] = []
    for number in range(12):
        hour_ms, symbol = begin_ms - number * 7 * HOUR_MS, ("EURUSD", "XAUUSD")[number % 2]
        found += [
            Analytics(
                event_time_ms=BASE_MS, login=7 + number % 3, symbol=symbol,
                strategy=("ema", "it's")[number % 2], hour_ms=hour_ms, trades=2, won=1, lots=0.2,
                profit=9.5 - number, commission=-1.0, swap=-0.25, fee=-0.25,
                net_profit=8.0 - number, slippage=0.5, slippage_points=5.0, slippage_deals=4,
                spread_cost=0.75, spread_deals=4,
            ),
            SpreadHour(
                event_time_ms=BASE_MS, symbol=symbol, hour_ms=hour_ms, ticks=10,
                seconds=60.0 + number, mean=(1 + number % 2) * 1e-4, smallest=1e-5,
                largest=1e-3, point=1e-5,
            ),
        ]  # fmt: skip
    return found


@pytest.fixture(scope="module")
def reader(postgres_server: Any) -> Iterator[psycopg.Connection]:
    """Who may read the views and nothing behind them, as a dashboard's user should be."""
    name = "test_dashboards"
    url = postgres_server.create_database(name, template=TEMPLATE)
    log = MemoryLog()
    log.open_namespace(NAMESPACE, 1)
    claim = log.claim(Slot(NAMESPACE, SOURCE, 0), "test", alive_within_s=0.1)
    log.append(claim, [encode(event) for event in (*some_of_everything(), *more())])
    drain(log, url)
    with connect(url, application="test") as connection:
        connection.execute(f"CREATE ROLE {READER}")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER}")
        connection.execute(f"SET ROLE {READER}")
        yield connection
        connection.execute("RESET ROLE")
        connection.execute(f"DROP OWNED BY {READER}")
        connection.execute(f"DROP ROLE {READER}")
    postgres_server.drop_database(name)


def asked(reader: psycopg.Connection, name: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Columns and rows of a query."""
    file, _, target = QUERIES[name]
    sql = interpolated(target["rawSql"], variables(DASHBOARDS[file], reader))
    with reader.transaction():
        answer = reader.execute(sql)  # type: ignore[call-overload]  # from the file
        assert answer.description is not None
        return [column.name for column in answer.description], answer.fetchall()


# Queries ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_runs_on_the_views_and_finds_what_its_panel_shows(
    name: str, reader: psycopg.Connection
) -> None:
    _, panel, target = QUERIES[name]
    columns, rows = asked(reader, name)
    assert rows, "nothing is shown"
    assert len(set(columns)) == len(columns), columns
    shown = [value for row in rows for value in row]
    assert any(isinstance(value, float) for value in shown), "figures as float8"
    if target["format"] == "time_series":
        assert columns[0] == "time"
        assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    assert names_used(panel) <= set(columns)


def names_used(panel: dict[str, Any]) -> set[str]:
    """Names of columns that a panel counts on."""
    options, overrides = panel.get("options", {}), panel["fieldConfig"]["overrides"]
    used = {options[key] for key in ("xField", "colorByField") if options.get(key)}
    used |= {one["displayName"] for one in options.get("sortBy", ())}
    return used | {
        one["matcher"]["options"] for one in overrides if one["matcher"]["id"] == "byName"
    }


def test_a_query_on_what_lies_behind_the_views_is_refused(reader: psycopg.Connection) -> None:
    for sql, why in (
        ("SELECT count(*) FROM raw.events", psycopg.errors.InsufficientPrivilege),
        ("SELECT net FROM analytics", psycopg.errors.UndefinedColumn),
        ("DELETE FROM analytics", psycopg.Error),
    ):
        with pytest.raises(why), reader.transaction():
            reader.execute(sql)  # type: ignore[call-overload]  # one of three


def test_text_that_grafana_would_not_understand_is_noticed() -> None:
    values = {"zone": ["UTC"], "symbol": ["A", "it's"]}
    assert interpolated("x IN (${symbol:sqlstring}) $zone", values) == "x IN ('A','it''s') UTC"
    assert "BETWEEN '2023-10-15T22:13:20Z' AND" in interpolated("$__timeFilter(hour)", {})
    for text in ("$__nothing(x)", "${other}", "$symbol", "${zone:csv}", "a $ b"):
        with pytest.raises(AssertionError):
            interpolated(text, values)


# The shape of a dashboard -----------------------------------------------------------------------


@pytest.mark.parametrize("file", DASHBOARDS)
def test_a_dashboard_fits_grafana(file: str) -> None:
    dashboard = DASHBOARDS[file]
    assert dashboard["schemaVersion"] >= SCHEMA_VERSION_MIN
    assert dashboard["id"] is None, "numbers are given by the server; uid is ours"
    assert max(Counter(panel["id"] for panel in panels(dashboard)).values()) == 1
    for panel in panels(dashboard):
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= COLUMNS, panel["title"]
        assert panel["title"], panel["id"]
        refs = [target["refId"] for target in panel.get("targets", ())]
        assert len(set(refs)) == len(refs), panel["title"]
    for one, other in combinations([panel["gridPos"] for panel in dashboard["panels"]], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)


@pytest.mark.parametrize("file", DASHBOARDS)
def test_a_dashboard_asks_the_data_source_that_a_person_chose(file: str) -> None:
    dashboard = DASHBOARDS[file]
    choices = {
        f"${{{one['name']}}}": one["query"]
        for one in dashboard["templating"]["list"]
        if one["type"] == "datasource"
    }
    sources = [one["datasource"] for one in dashboard["templating"]["list"] if "datasource" in one]
    for panel in panels(dashboard):
        sources += [panel["datasource"]] if "targets" in panel else []
        sources += [target["datasource"] for target in panel.get("targets", ())]
    assert sources
    for source in sources:
        assert choices[source["uid"]] == source["type"], source


def test_dashboards_are_told_apart() -> None:
    assert DASHBOARDS
    for key in ("uid", "title"):
        assert max(Counter(one[key] for one in DASHBOARDS.values()).values()) == 1


# Analytics --------------------------------------------------------------------------------------


def test_the_analytics_dashboard_shows_what_is_true(reader: psycopg.Connection) -> None:
    titles = {panel["title"]: name for name, (file, panel, _) in QUERIES.items()
              if file == "dashboards/analytics.json"}  # fmt: skip
    story = [e for e in (*some_of_everything(), *more()) if isinstance(e, Analytics)]
    net = sum(one.net_profit for one in story)

    def rows(title: str) -> list[tuple[Any, ...]]:
        return asked(reader, titles[title])[1]

    assert rows("Net result") == [(pytest.approx(net),)]
    assert rows("Trades") == [(sum(one.trades for one in story),)]
    for title in ("by hour of the day", "by weekday", "by symbol", "by strategy"):
        bars = rows(f"Net result {title}")
        assert sum(value for _, value in bars) == pytest.approx(net), title
        assert len(bars) > 1, title
    hours = {f"{one.hour_ms // HOUR_MS % 24:02d}:00" for one in story}
    assert [hour for hour, _ in rows("Net result by hour of the day")] == sorted(hours)
    costs = {row[0]: row[1:] for row in rows("Costs by kind and strategy")}
    assert costs["it's"] == pytest.approx((6.0, 1.5, 1.5, 3.0, 4.5))
    assert {row[1] for row in rows("Slippage by symbol")} == {1.25}
    assert all(value > 0 for _, value in rows("Spread by hour of the day"))
    added_up = {metric: value for _, metric, value in rows("Net result, added up")}
    assert sum(added_up.values()) == pytest.approx(net), "the last value of each account"
