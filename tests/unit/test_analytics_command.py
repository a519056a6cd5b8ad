"""`bridgectl analytics`: levels of hours found, added up and shown."""

from __future__ import annotations

import io
import json
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner
from rich.console import Console

import bridgectl
from consumers.analytics.adding import BY, Row, added
from consumers.analytics.page import BAR_CHARS, ROWS_MAX, Bar, analytics_page
from consumers.analytics.recorded import ANALYTICS, Levels, Wanted, recorded
from events.analytics import Analytics, SpreadHour
from events.codec import AnyEvent, encode
from events.instants import parse_instant_ms
from events.log import Entry as LogEntry
from events.log import EntryId, Lane, Log, NewEntry, Slot
from events.memory_log import MemoryLog
from events.redis import RedisLog

UTC = ZoneInfo("UTC")
NEW_YORK = ZoneInfo("America/New_York")
EVERYTHING = Wanted(0, 2**62)
POINT = 1e-5


def at(text: str) -> int:
    return parse_instant_ms(text)


def level(hour: str, net: float, *, strategy: str = "ema", **more: Any) -> Analytics:
    """One trade that lost or won so much, of which 2 were paid."""
    fields: dict[str, Any] = {
        "login": 7, "symbol": "EURUSD", "trades": 1, "won": int(net > 0), "lots": 0.1,
        "profit": net + 2, "commission": -1.5, "swap": -0.5, "net_profit": net,
        "slippage": 0.4, "slippage_points": 4.0, "slippage_deals": 2, "spread_cost": 0.6,
        "spread_deals": 2,
    } | more  # fmt: skip
    return Analytics(event_time_ms=at(hour), strategy=strategy, hour_ms=at(hour), **fields)


def spread(hour: str, points: float, *, symbol: str = "EURUSD", seconds: float = 60) -> SpreadHour:
    return SpreadHour(
        event_time_ms=at(hour), symbol=symbol, hour_ms=at(hour), ticks=9, seconds=seconds,
        mean=points * POINT, smallest=POINT, largest=1.0, point=POINT,
    )  # fmt: skip


STORY: list[AnyEvent] = [
    level("2026-11-02T09:00", 10),  # a Monday
    level("2026-11-02T09:00", -4, strategy="grid", symbol="XAUUSD"),
    level("2026-11-03T09:00", 6),
    level("2026-11-03T23:00", -20, strategy="grid"),
    level("2026-12-01T09:00", 1.5),
    spread("2026-11-02T09:00", 10, seconds=60),
    spread("2026-11-03T09:00", 20, seconds=180),
    spread("2026-11-03T23:00", 30),
]


def put(log: Log, *events: AnyEvent, name: str = "demo") -> None:
    """Levels where group analytics leaves them, in its only slot."""
    log.open_namespace(name, 1)
    log.tasks.open_group(name, ANALYTICS, 1)
    claim = log.claim(Slot(name, ANALYTICS, 0), "test", alive_within_s=0)
    log.append(claim, [encode(event) for event in events])
    log.release(claim)


def levels_of(*events: AnyEvent) -> Levels:
    return Levels(
        "demo",
        tuple(one for one in events if isinstance(one, Analytics)),
        tuple(one for one in events if isinstance(one, SpreadHour)),
    )


def rows(by: str, *events: AnyEvent, zone: ZoneInfo = UTC) -> dict[str, Row]:
    [account] = added(levels_of(*events), by, zone)
    return {row.name: row for row in account.rows}


def nets(by: str, *, zone: ZoneInfo = UTC) -> dict[str, float]:
    return {name: row.sums["net_profit"] for name, row in rows(by, *STORY, zone=zone).items()}


def text_of(page: Any, **options: Any) -> str:
    console = Console(width=200, force_terminal=False, **options)
    with console.capture() as captured:
        console.print(page)
    return captured.get()


# Adding up --------------------------------------------------------------------------------------


def test_hours_are_added_up_by_what_is_asked_for() -> None:
    assert nets("hour") == {"09:00": 13.5, "23:00": -20}
    assert nets("weekday") == {"Monday": 6, "Tuesday": -12.5}
    assert nets("month") == {"2026-11": -8, "2026-12": 1.5}
    assert nets("strategy") == {"ema": 17.5, "grid": -24}
    assert nets("symbol") == {"XAUUSD": -4, "EURUSD": -2.5}


def test_times_stand_in_their_order_and_what_brought_most_stands_first() -> None:
    assert list(nets("symbol")) == ["EURUSD", "XAUUSD"]
    assert list(nets("strategy")) == ["ema", "grid"]
    backwards = [level("2026-12-01T23:00", 1), level("2025-12-02T09:00", 2)]
    for by, names in (
        ("hour", ["09:00", "23:00"]),
        ("weekday", ["Tuesday"]),
        ("month", ["2025-12", "2026-12"]),
    ):
        assert list(rows(by, *backwards)) == names


def test_times_are_those_of_the_zone_with_its_summer() -> None:
    assert nets("weekday", zone=ZoneInfo("Asia/Tokyo")) == {
        "Monday": 6, "Tuesday": 7.5, "Wednesday": -20,
    }  # fmt: skip
    summer, winter = level("2026-10-30T13:00", 1), level("2026-11-02T14:00", 2)
    assert set(rows("hour", summer, winter, zone=NEW_YORK)) == {"09:00"}


def test_a_row_knows_shares_and_means() -> None:
    row = rows("strategy", *STORY)["ema"]
    assert (row.won_percent, row.points_per_deal) == (100, 2)
    assert row.charged == pytest.approx(-6)
    told = row.as_json()
    assert (told["trades"], told["commission"], told["spread_cost"]) == (3, -4.5, 1.8)
    assert json.loads(json.dumps(told)) == told
    nothing = Row("nothing")
    assert (nothing.won_percent, nothing.points_per_deal) == (None, None)


def test_spreads_are_weighted_by_time_and_kept_apart_by_symbol() -> None:
    gold = spread("2026-11-02T09:00", 50, symbol="XAUUSD")
    unknown = spread("2026-11-02T09:00", 1, symbol="X").model_copy(update={"point": 0.0})
    found = rows("hour", *STORY, gold, unknown)["09:00"].spreads()
    assert found == {"EURUSD": pytest.approx(17.5), "XAUUSD": pytest.approx(50)}
    assert rows("strategy", *STORY)["ema"].spreads() == {}


def test_accounts_are_not_mixed_and_none_is_made_up() -> None:
    other = level("2026-11-02T09:00", 100, login=8)
    found = added(levels_of(*STORY, other), "hour", UTC)
    assert [(one.login, one.total.sums["net_profit"]) for one in found] == [(7, -6.5), (8, 100)]
    [nobody] = added(levels_of(STORY[-1]), "hour", UTC)
    assert (nobody.login, [row.name for row in nobody.rows]) == (None, ["23:00"])
    assert added(levels_of(), "hour", UTC)[0].rows == ()


@pytest.mark.parametrize("by", BY)
def test_nothing_is_lost_by_adding_up(by: str) -> None:
    [account] = added(levels_of(*STORY), by, NEW_YORK)
    for name, value in account.total.sums.items():
        told = sum(getattr(one, name) for one in STORY if isinstance(one, Analytics))
        assert (
            value
            == pytest.approx(told)
            == pytest.approx(sum(row.sums[name] for row in account.rows))
        )


# Finding ----------------------------------------------------------------------------------------


def test_the_newest_level_of_each_key_counts_within_the_span() -> None:
    log = MemoryLog()
    put(log, *STORY, level("2026-11-02T09:00", 11, trades=2), level("2026-11-03T23:00", 0, trades=0,
        strategy="grid"))  # fmt: skip
    claim = log.claim(Slot("demo", ANALYTICS, 0), "test", alive_within_s=0)
    strange = [NewEntry(Lane.LOW, "analytics.99", "k", b"{}"), NewEntry(Lane.LOW, "x", "k", b"")]
    log.append(claim, [*strange, NewEntry(Lane.LOW, "spread.1", "k", b"broken")])
    found = recorded(log, "demo", EVERYTHING)
    assert sorted(one.net_profit for one in found.trading) == [-4, 1.5, 6, 11]
    assert len(found.spreads) == 3
    span = Wanted(at("2026-11-02T10:00"), at("2026-12-01T09:00"), frozenset({"EURUSD"}))
    found = recorded(log, "demo", span)
    assert [one.net_profit for one in found.trading] == [6]
    assert [one.mean for one in found.spreads] == [20 * POINT, 30 * POINT]


def test_what_left_the_log_comes_from_the_database_and_the_log_is_newer() -> None:
    log = MemoryLog()
    put(log, level("2026-11-02T09:00", 11))
    stream = Slot("demo", ANALYTICS, 0).stream(Lane.LOW)
    asked = []

    def stored(of: Any, since_ms: int) -> list[LogEntry]:
        asked.append((of, since_ms))
        old = [level("2026-11-02T09:00", 10), level("2026-11-01T09:00", 3)]
        return [
            LogEntry(of, EntryId(1, n), one.type, one.key, one.data, "")
            for n, one in enumerate(map(encode, old))
        ]

    found = recorded(log, "demo", Wanted(at("2026-11-01"), 2**62), stored=stored)
    assert [one.net_profit for one in found.trading] == [3, 11]
    assert asked == [(stream, at("2026-10-31"))]


def test_a_log_without_end_is_cut_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.analytics.recorded.LOOKED_AT_MAX", 2)
    log = MemoryLog()
    put(log, *STORY)
    found = recorded(log, "demo", EVERYTHING)
    assert found.cut == "looked at 2 entries; there is more"
    assert found.cut in text_of(analytics_page([(found, [])], title="hour", currencies={}))


# Showing ----------------------------------------------------------------------------------------


def test_bars_go_left_for_losses_and_right_for_gains() -> None:
    assert text_of(Bar(5, 10)).rstrip() == " " * BAR_CHARS + "█" * 3
    assert text_of(Bar(-10, 10)).rstrip() == "█" * BAR_CHARS
    assert text_of(Bar(0.001, 10)).strip() == "█", "something is there"
    assert text_of(Bar(0, 0)).strip() == ""
    old = Console(file=io.TextIOWrapper(io.BytesIO(), encoding="cp1252"), width=80)
    with old.capture() as captured:
        old.print(Bar(5, 10))
    assert captured.get().strip() == "###", "a pipe on Windows knows no blocks"


def test_the_page_says_what_it_knows_and_what_not() -> None:
    gold = spread("2026-11-02T09:00", 50, symbol="XAUUSD")
    levels = levels_of(*STORY, gold)
    page = analytics_page(
        [(levels, added(levels, "hour", UTC))], title="hour (UTC)", currencies={("demo", 7): "EUR"}
    )
    lines = text_of(page).splitlines()
    assert " ".join(lines[0].split()) == "demo account 7, 5 trades, 60.0 % won, net -6.50 EUR"
    assert lines[1].split()[:4] == ["hour", "(UTC)", "trades", "won"]
    middle = lines[2].index("█")
    assert lines[3].rindex("█") == middle - 1, "losses to the left of the middle"
    nine, night = lines[2].split(), lines[3].split()
    assert nine[:6] == ["09:00", "4", "75.0", "%", "0.4", "+13.50"]
    assert nine[-5:] == ["-8.00", "+1.60", "+2.0", "+2.40", "-"], "two symbols, no one spread"
    assert night[-1] == "30.0"
    assert lines[4].split()[0] == "total"
    assert "over several symbols" in lines[5]
    narrow = analytics_page(
        [(levels, added(levels, "weekday", UTC))], title="weekday", currencies={}, width=80
    )
    narrow_lines = text_of(narrow).splitlines()
    assert "half spreads" not in narrow_lines[1]
    assert max(len(line.rstrip()) for line in narrow_lines[:5]) <= 80
    nothing = levels_of()
    page = analytics_page([(nothing, added(nothing, "hour", UTC))], title="hour", currencies={})
    assert "no trade was closed in this span" in text_of(page)
    many = levels_of(*(level("2026-11-02T09:00", n, symbol=f"S{n}") for n in range(ROWS_MAX + 7)))
    page = analytics_page([(many, added(many, "symbol", UTC))], title="symbol", currencies={})
    assert "… 7 more" in text_of(page)


# The command ------------------------------------------------------------------------------------


def test_the_command_shows_a_log(
    redis_log: RedisLog, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("BRIDGE_STATE_DIR", str(tmp_path))
    for name in ("POSTGRES_URL", "POSTGRES_HOST"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: str) -> Any:
        return CliRunner().invoke(bridgectl.cli, ["analytics", *words])

    redis_log.open_namespace("demo", 1)
    never = str(run().exception)
    assert "no analytics were derived yet: run `bridgectl consume --group analytics`" in never
    put(redis_log, *STORY)
    [told] = json.loads(run("--by", "symbol", "--from", "2026-11-03", "--json").stdout)["terminals"]
    [account] = told["accounts"]
    assert (account["login"], account["total"]["net_profit"]) == (7, -12.5)
    [row] = account["rows"]
    assert row["spread_points"] == {"EURUSD": pytest.approx((20 * 180 + 30 * 60) / 240)}
    shown = run("--by", "weekday", "--zone", "Asia/Tokyo", "--symbol", "EURUSD").stdout
    assert "weekday (Asia/Tokyo)" in shown
    assert "Wednesday" in shown
    assert "no trade was closed in this span" in run("--to", "2026-11-01").stdout
    assert run("--today").exit_code == 0
    assert run("--today", "--to", "2026-11-01").exit_code == 2
    for zone in ("Mars", "../x", ""):
        refused = run("--zone", zone)
        assert (refused.exit_code, "is no time zone" in refused.output) == (2, True)
    assert "no terminal 'x'; there is: demo" in str(run("--terminal", "x").exception)
