"""Rule files: TOML, YAML, packs, calendars, settings; each problem with file, line, reason."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import SecretStr

import bridgectl
from events.rules import (
    FIGURES,
    Account,
    BadRules,
    GuardRules,
    Limit,
    Rules,
    Window,
    load_rules,
    pack_names,
    rules_of_settings,
    windows_at,
)
from events.rules.files import rules_of_text
from events.rules.files.packs import pack_text
from events.settings import TerminalSettings
from events.settings.model import Settings
from tests.rules_story import ms

WHOLE = """\
extends = "ftmo-2-step"
without = ["minimum trading days"]
currency = "USD"

[account]
initial_balance = 100000
high_water = 104000

[[limits]]
name = "maximum daily loss"   # the pack's, but earlier
warn = 2
act = 3

[[limits]]
name = "leverage"
figure = "leverage_used"
warn = 10
act = 20
action = "reduce"
reduce = { which = "largest_exposure", percent = 50 }

[[limits]]
name = "gold"
figure = "symbol_loss"
symbol = "XAUUSD"
limit = 500
action = "flatten"
scope = "symbol"
lock = "until_reset"

[[windows]]
name = "weekend"
days = ["fri"]
begin = "16:30"
until = "17:00"
until_day = "sun"
zone = "America/New_York"
flatten_before_minutes = 10

[guard]
confirm_s = 2
suspect_s = 4
others_after_latch = "alert"

[costs]
slippage_points = 3
"""

AS_YAML = """\
extends: ftmo-2-step
without: [minimum trading days]
currency: USD
account:
  initial_balance: 100000
  high_water: 104000
limits:
  - name: maximum daily loss
    warn: 2
    act: 3
  - name: leverage
    figure: leverage_used
    warn: 10
    act: 20
    action: reduce
    reduce: {which: largest_exposure, percent: 50}
  - name: gold
    figure: symbol_loss
    symbol: XAUUSD
    limit: 500
    action: flatten
    scope: symbol
    lock: until_reset
windows:
  - name: weekend
    days: [fri]
    begin: 16:30
    until: 17:00
    until_day: sun
    zone: America/New_York
    flatten_before_minutes: 10
guard:
  confirm_s: 2
  suspect_s: 4
  others_after_latch: alert
costs: {slippage_points: 3}
"""


def write(folder: Path, text: str, name: str = "rules.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def problems(folder: Path, text: str, name: str = "rules.toml") -> list[str]:
    with pytest.raises(BadRules) as refused:
        load_rules(write(folder, text, name))
    return [line.replace(f"{folder}/", "") for line in refused.value.problems]


def test_a_file_stands_on_its_pack(tmp_path: Path) -> None:
    rules = load_rules(write(tmp_path, WHOLE))
    assert rules.extends == "ftmo-2-step"
    assert rules.account.reset_zone == "Europe/Prague"  # the pack's
    assert rules.account.initial_balance == 100_000
    daily = rules.limit("maximum daily loss")
    assert (daily.warn, daily.act, daily.limit, daily.hard) == (2, 3, 5, True)
    assert [one.name for one in rules.goals] == ["profit target"]
    assert [one.name for one in rules.limits] == [
        "maximum daily loss", "maximum loss", "leverage", "gold",
    ]  # fmt: skip
    leverage = rules.limit("leverage")
    assert leverage.reduce is not None
    assert leverage.reduce.percent == 50
    assert rules.limit("gold").key == "symbol_loss:XAUUSD"
    assert rules.guard.others_after_latch == "alert"
    assert Rules.model_validate(json.loads(json.dumps(rules.model_dump(mode="json")))) == rules


def test_yaml_says_the_same_and_reads_times_as_text(tmp_path: Path) -> None:
    toml = load_rules(write(tmp_path, WHOLE))
    assert load_rules(write(tmp_path, AS_YAML, "rules.yaml")) == toml
    assert load_rules(write(tmp_path, AS_YAML, "rules.yml")).checksum == toml.checksum


REFUSED: list[tuple[str, str, int, str]] = [
    ("warn beyond act", '[[limits]]\nname = "a"\nfigure = "leverage_used"\nwarn = 30\nact = 20', 4,
     "30 is above act 20: it would never warn before"),
    ("warn below act of a level that falls",
     '[[limits]]\nname = "a"\nfigure = "margin_level_percent"\nwarn = 100\nact = 150', 4,
     "100 is below act 150: it would never warn before"),
    ("act on the wrong side of the limit",
     '[[limits]]\nname = "a"\nfigure = "daily_loss"\nlimit = 5\nact = 6', 5,
     "6 is above limit 5: it would act too late"),
    ("act on the wrong side of a level that falls",
     '[[limits]]\nname = "a"\nfigure = "margin_free"\nlimit = 500\nact = 400', 5,
     "400 is below limit 500: it would act too late"),
    ("a zone nobody knows", '[account]\nreset_zone = "Europe/Praha"', 2, "is no time zone"),
    ("two limits of one name",
     '[[limits]]\nname = "a"\nfigure = "equity"\nact = 5\n\n'
     '[[limits]]\nname = "a"\nfigure = "balance"\nact = 5', 7, "'a' is there twice"),
    ("a negative buffer",
     '[[limits]]\nname = "a"\nfigure = "daily_loss"\nlimit = 5\nbuffer = -1', 5, "is -1"),
    ("a buffer and act",
     '[[limits]]\nname = "a"\nfigure = "daily_loss"\nlimit = 5\nact = 4\nbuffer = 10', 6,
     "contradicts act"),
    ("a buffer of a figure without a floor",
     '[[limits]]\nname = "a"\nfigure = "leverage_used"\nact = 4\nbuffer = 1', 5, "has no floor"),
    ("a buffer as large as the budget",
     '[[limits]]\nname = "a"\nfigure = "daily_loss"\nof = "money"\nlimit = 500\nbuffer = 500', 6,
     "leaves nothing"),
    ("an unknown figure", '[[limits]]\nname = "a"\nfigure = "dayly_loss"\nlimit = 5', 3,
     "did you mean daily_loss?"),
    ("an unknown key",
     '[[limits]]\nname = "a"\nfigure = "daily_loss"\nlimit = 5\nactoin = "flatten"', 5,
     "did you mean action?"),
    ("an unknown table", '[acount]\ninitial_balance = 5', 1, "did you mean account?"),
    ("an unknown action", '[[limits]]\nname = "a"\nfigure = "equity"\nact = 5\naction = "stop"', 5,
     "allowed is 'alert', 'block', 'reduce' or 'flatten'"),
    ("no level", '[[limits]]\nname = "a"\nfigure = "equity"', 2, "has no level"),
    ("a name is missing", '[[limits]]\nfigure = "equity"\nact = 5', 1, "is missing"),
    ("more than everything", '[[limits]]\nname = "a"\nfigure = "daily_loss"\nlimit = 500', 4,
     "more than everything"),
    ("a loss of nothing", '[[limits]]\nname = "a"\nfigure = "daily_loss"\nlimit = 5\nact = 0', 5,
     "acts without a loss"),
    ("text for a number", '[[limits]]\nname = "a"\nfigure = "equity"\nact = "much"', 4, "'much'"),
    ("infinity", '[[limits]]\nname = "a"\nfigure = "equity"\nact = inf', 4, "finite"),
    ("an alert that locks",
     '[[limits]]\nname = "a"\nfigure = "equity"\nact = 5\nlock = "manual"', 5, "locks nothing"),
    ("hard, and no flatten",
     '[[limits]]\nname = "a"\nfigure = "daily_loss"\nlimit = 5\naction = "block"\nhard = true', 6,
     "a hard limit flattens"),
    ("hard, and the guard cannot know",
     '[[limits]]\nname = "a"\nfigure = "var_99"\nact = 5\naction = "flatten"\nhard = true', 6,
     "the guard cannot know var_99"),
    ("hard with a confirmation window",
     '[[limits]]\nname = "a"\nfigure = "daily_loss"\nlimit = 5\naction = "flatten"\n'
     "hard = true\nconfirm_s = 2", 7, "waits for nothing"),
    ("how to reduce, and it does not",
     '[[limits]]\nname = "a"\nfigure = "equity"\nact = 5\naction = "flatten"\n'
     "reduce = { percent = 5 }", 6, "contradicts action"),
    ("a symbol's figure without symbol",
     '[[limits]]\nname = "a"\nfigure = "symbol_lots"\nact = 5', 3, "give symbol"),
    ("a symbol of an account's figure",
     '[[limits]]\nname = "a"\nfigure = "equity"\nact = 5\nsymbol = "EURUSD"', 5,
     "not about a symbol"),
    ("a scope that names nothing",
     '[[limits]]\nname = "a"\nfigure = "equity"\nact = 5\naction = "flatten"\nscope = "magic"', 6,
     "names no magic number"),
    ("a percentage of what is no money",
     '[[limits]]\nname = "a"\nfigure = "lots_open"\nact = 5\nof = "equity"', 5, "not money"),
    ("a high water below the start", "[account]\ninitial_balance = 100\nhigh_water = 90", 3,
     "is below initial_balance"),
    ("flatten ahead longer than the session",
     '[[windows]]\nname = "w"\nbegin = "16:00"\nuntil = "18:00"\nflatten_before_minutes = 1500', 5,
     "longer than the 1320 minutes"),
    ("a window that overlaps itself",
     '[[windows]]\nname = "w"\nbegin = "16:00"\nuntil = "15:00"\nuntil_day = "mon"', 4,
     "begins again before it ends"),
    ("a window without an end", '[[windows]]\nname = "w"\nbegin = "16:00"', 3, "needs until too"),
    ("a window that does nothing",
     '[[windows]]\nname = "w"\nbegin = "16:00"\nuntil = "17:00"\nblock = false', 5, "does nothing"),
    ("a window of no kind", '[[windows]]\nname = "w"', 2, "is weekly"),
    ("a window in no zone",
     '[[windows]]\nname = "w"\nbegin = "16:00"\nuntil = "17:00"\nzone = "Mars/Base"', 5,
     "no time zone"),
    ("a time that is none", '[[windows]]\nname = "w"\nbegin = "25:00"\nuntil = "17:00"', 3,
     "'25:00'"),
    ("a calendar that is not there",
     '[[windows]]\nname = "w"\nfile = "none.csv"\nafter_minutes = 5', 3, "cannot be read"),
    ("a dead man with nothing to set it off", "[guard]\ndead_man_flattens = true", 2,
     "nothing sets it off"),
    ("a window for suspect readings below the other", "[guard]\nconfirm_s = 5\nsuspect_s = 1", 3,
     "is below confirm_s"),
    ("an unknown pack", 'extends = "ftmo-2step"', 1, "did you mean ftmo-2-step?"),
    ("leaving out what the pack has not", 'extends = "ftmo-2-step"\nwithout = ["x"]', 2,
     "the pack has no 'x'"),
    ("a goal that demands nothing", '[[goals]]\nname = "g"\nfigure = "profit"', 2, "has no level"),
    ("no TOML", "[account\ninitial_balance = 5", 1, "Expected"),
    ("deeply nested", "account = " + "[" * 3_000 + "]" * 3_000, 1, "nested"),
    ("a key twice", "[account]\ninitial_balance = 5\ninitial_balance = 6", 3, "overwrite"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "reason"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_a_file_that_contradicts_itself_is_refused_with_line_and_reason(
    tmp_path: Path, text: str, line: int, reason: str
) -> None:
    told = problems(tmp_path, text)
    matching = [one for one in told if reason in one]
    assert matching, told
    assert matching[0].startswith(f"rules.toml:{line}: "), told


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    text = WHOLE.replace('"leverage_used"', '"leverage_usd"').replace(
        "suspect_s = 4", "suspect_s = 1"
    )
    told = problems(tmp_path, text)
    assert [one.split(": ")[0] for one in told] == ["rules.toml:16", "rules.toml:42"]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("account:\n  initial_balance: 5\n  initial_balance: 6\n", 3, "is there twice"),
        ("account:\n  reset_zone: Europe/Praha\n", 2, "is no time zone"),
        ("limits:\n  - name: a\n    figure: daily_loss\n    limit: 5\n    act: 6\n", 5, "too late"),
        ("account: [1, 2\n", 2, "expected"),
        ("account: &a {initial_balance: 5}\nguard: *a\n", 1, "referred to twice"),
        ("account: " + "[" * 3_000 + "\n", 1, "too deeply nested"),
        ("- a\n- b\n", 1, "is no table"),
        ("account: !!python/object/apply:os.system [echo]\n", 1, "account"),
    ],
    ids=["a key twice", "zone", "act beyond the limit", "no YAML", "an anchor", "deep", "a list",
         "no code is run"],
)  # fmt: skip
def test_yaml_problems_have_their_line_too(
    tmp_path: Path, text: str, line: int, reason: str
) -> None:
    told = problems(tmp_path, text, "rules.yaml")
    assert told[0].startswith(f"rules.yaml:{line}: "), told
    assert reason in told[0]


def test_without_pyyaml_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "yaml", None)
    assert "mt5-stream-bridge[yaml]" in problems(tmp_path, "a: 1\n", "rules.yaml")[0]


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRules, match="cannot be read"):
        load_rules(tmp_path / "missing.toml")
    with pytest.raises(BadRules, match="ends in"):
        load_rules(write(tmp_path, "", "rules.txt"))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadRules, match="cannot be read"):
        load_rules(tmp_path / "bytes.toml")
    with pytest.raises(BadRules, match="larger than"):
        load_rules(write(tmp_path, "#" * 1_048_577))


def test_what_a_pack_brings_is_told_at_the_line_that_names_it(tmp_path: Path) -> None:
    """The file's own `act` is beyond the pack's limit: its line is named, not the pack's."""
    text = '# mine\nextends = "ftmo-2-step"\n[[limits]]\nname = "maximum loss"\nact = 11\n'
    assert problems(tmp_path, text)[0].startswith("rules.toml:5: limits.act")
    text = '# mine\nextends = "ftmo-2-step"\nlimits = "none"\n'
    assert problems(tmp_path, text)[0].startswith("rules.toml:3: limits")


# --- calendars

NEWS_CSV = """\
# times in New York
time, currency, event
2026-12-04T08:30, USD, Payrolls
2026-12-10T08:15, EUR, Rates
2026-12-16T14:00-05:00, USD/JPY, Decision
"""
NEWS_WINDOW = """\
[[windows]]
name = "news"
file = "{file}"
zone = "America/New_York"
before_minutes = 2
after_minutes = 2
defer = true
"""


def test_a_calendar_becomes_part_of_the_rules(tmp_path: Path) -> None:
    write(tmp_path, NEWS_CSV, "news.csv")
    rules = load_rules(write(tmp_path, NEWS_WINDOW.format(file="news.csv")))
    window = rules.windows[0]
    assert [one.at_ms for one in window.times] == [
        ms("2026-12-04 13:30:00"), ms("2026-12-10 13:15:00"), ms("2026-12-16 19:00:00"),
    ]  # fmt: skip
    assert window.times[2].concerns == ("USD", "JPY")
    now = windows_at(rules, ms("2026-12-04 13:28:00"))[0]
    assert (now.window, now.name, now.block, now.defer) == ("news", "Payrolls", True, True)
    assert now.about("EURUSD", "EUR", "USD")
    assert not now.about("EURGBP", "EUR", "GBP")
    assert windows_at(rules, ms("2026-12-04 13:32:00")) == ()


def test_a_calendar_may_be_toml(tmp_path: Path) -> None:
    text = 'zone = "Europe/London"\n[[times]]\nat = 2026-07-01T12:00:00\nname = "a"\n'
    write(tmp_path, text + '[[times]]\nat = "2026-07-02T12:00"\nconcerns = ["GBP"]\n', "news.toml")
    rules = load_rules(write(tmp_path, NEWS_WINDOW.format(file="news.toml")))
    assert rules.windows[0].times[0].at_ms == ms("2026-07-01 11:00:00")
    assert rules.windows[0].times[1].concerns == ("GBP",)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("news.csv", "when,what\n1,2\n", "no column `time`"),
        ("news.csv", "time,event\nsoon,Payrolls\n", "'soon' is no time"),
        ("news.csv", "time,event\n", "names no moments"),
        ("news.toml", "[[times]]\nname = 'a'\n", "needs `at`"),
        ("news.toml", "[[times]\n", "Expected"),
    ],
)
def test_a_calendar_that_cannot_be_used_is_named(
    tmp_path: Path, name: str, text: str, reason: str
) -> None:
    write(tmp_path, text, name)
    told = problems(tmp_path, NEWS_WINDOW.format(file=name))
    assert told[0].startswith("rules.toml:3: windows.file: ")
    assert reason in told[0]


# --- weekly windows

WEEKEND = """\
[[windows]]
name = "weekend"
days = ["fri"]
begin = "16:30"
until = "17:00"
until_day = "sun"
zone = "America/New_York"
flatten_before_minutes = 15
[[windows]]
name = "rollover"
begin = "16:55"
until = "17:10"
zone = "America/New_York"
block = true
"""


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("2026-06-19 16:14:59", []),
        ("2026-06-19 16:15:00", [("weekend", "before", True, True)]),
        ("2026-06-19 16:30:00", [("weekend", "during", True, True)]),
        ("2026-06-20 12:00:00", [("weekend", "during", True, True)]),
        ("2026-06-21 16:59:59", [("weekend", "during", True, True),
                                 ("rollover", "during", True, False)]),
        ("2026-06-21 17:05:00", [("rollover", "during", True, False)]),
        ("2026-06-17 17:09:59", [("rollover", "during", True, False)]),
        ("2026-06-17 17:10:00", []),
        ("2026-03-06 16:15:00", [("weekend", "before", True, True)]),
        ("2026-03-13 16:14:00", []),
    ],
)  # fmt: skip
def test_a_weekly_window_follows_the_clock_of_its_zone(
    when: str, expected: list[tuple[Any, ...]]
) -> None:
    rules = rules_of_text(WEEKEND, where="rules.toml", folder=Path())
    now = windows_at(rules, ms(when, "America/New_York"))
    told = [(one.window, one.phase, one.block, one.flatten) for one in now]
    assert told == expected


# --- settings


def terminal(**changed: Any) -> TerminalSettings:
    return TerminalSettings.model_validate({"name": "a", "kind": "simulated"} | changed)


def settings_with(**given: Any) -> Settings:
    return Settings(_env_file=None, **given)  # type: ignore[call-arg]


def test_settings_become_rules_of_the_servers_day() -> None:
    settings = settings_with(
        risk_max_daily_loss_percent=4.0, risk_max_drawdown_percent=8.0, risk_max_position_lots=2.0,
        risk_max_leverage=20.0, risk_min_margin_level_percent=200.0,
    )  # fmt: skip
    rules = rules_of_settings(settings, terminal(clock="America/New_York+7h"))
    assert rules is not None
    assert (rules.account.reset_time, rules.account.reset_zone) == ("17:00", "America/New_York")
    assert [one.name for one in rules.limits] == [
        "daily loss", "drawdown", "position lots", "leverage", "margin level",
    ]  # fmt: skip
    assert [one.hard for one in rules.limits] == [True, True, False, False, False]
    text = rules.model_dump_json()
    assert Rules.model_validate_json(text) == rules


def test_a_terminals_own_rules_replace_the_general_ones() -> None:
    settings = settings_with(risk_max_daily_loss_percent=4.0)
    own = {"max_daily_loss_percent": 2.0, "risk_max_leverage": 5.0, "initial_balance": 50_000.0}
    rules = rules_of_settings(settings, terminal(rules=own, clock="Europe/Athens"))
    assert rules is not None
    assert rules.limit("daily loss").limit == 2.0
    assert rules.limit("leverage").act == 5.0
    assert rules.account.initial_balance == 50_000
    assert rules.account.reset_time == "00:00"


def test_without_a_limit_there_are_no_rules() -> None:
    assert rules_of_settings(settings_with(), terminal()) is None
    assert rules_of_settings(settings_with(mt5_password=SecretStr("x")), terminal()) is None


@pytest.mark.parametrize(
    ("rules", "word"), [({"max_los": 2.0}, "is none of"), ({"max_leverage": -1.0}, "above 0")]
)
def test_a_terminals_rules_that_make_no_sense_are_refused(
    rules: dict[str, float], word: str
) -> None:
    with pytest.raises(BadRules, match=word):
        rules_of_settings(settings_with(), terminal(rules=rules))


# --- commands


def test_risk_check_tells_what_a_file_comes_to(tmp_path: Path) -> None:
    path = write(tmp_path, WHOLE)
    done = CliRunner().invoke(bridgectl.cli, ["risk", "check", str(path)])
    assert done.exit_code == 0
    assert "ok: FTMO 2-step from pack ftmo-2-step" in done.output
    assert "day begins 00:00 Europe/Prague" in done.output
    assert (
        "maximum loss: drawdown_absolute warn 8, act 9, limit 10 % of initial balance"
        in done.output
    )
    told = CliRunner().invoke(bridgectl.cli, ["risk", "check", str(path), "--json"])
    content = json.loads(told.output)
    assert content["ok"]
    assert Rules.model_validate(content["rules"]).checksum == content["checksum"]


def test_risk_check_leaves_with_two_and_names_the_line(tmp_path: Path) -> None:
    path = write(tmp_path, WHOLE.replace("act = 3", "act = 6"))
    done = CliRunner().invoke(bridgectl.cli, ["risk", "check", str(path), "--json"])
    assert done.exit_code == 2
    content = json.loads(done.output)
    assert not content["ok"]
    assert content["problems"] == [
        f"{path}:12: limits.act: 6 is above limit 5: it would act too late (maximum daily loss)"
    ]


def test_risk_packs_lists_and_prints(tmp_path: Path) -> None:
    done = CliRunner().invoke(bridgectl.cli, ["risk", "packs"])
    assert tuple(done.output.split()) == pack_names()
    done = CliRunner().invoke(bridgectl.cli, ["risk", "packs", "hyrotrader"])
    assert done.output.rstrip("\n") == pack_text("hyrotrader").rstrip("\n")
    done = CliRunner().invoke(bridgectl.cli, ["risk", "packs", "hyro"])
    assert done.exit_code != 0


# --- the page


def test_the_page_of_rules_shows_files_that_can_be_used_and_every_figure() -> None:
    text = (Path(__file__).parents[2] / "docs" / "RULES.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        assert rules_of_text(block, where="rules.toml", folder=Path()).limits
    table = text[text.index("| figure | unit |") :]
    row = r"^\| `(\w+)`[^|]*\| (\w+) \| (\w+) \| (yes)? *\| (.*) \|$"
    told = re.findall(row, table, re.MULTILINE)
    known = [
        (one.name, one.unit, one.direction, "yes" if one.guard else "", one.doc)
        for one in FIGURES.values()
    ]
    assert told == known
    for name in pack_names():
        assert f"`{name}`" in text
    for model in (Account, Limit, GuardRules, Window):
        for field in model.model_fields:
            assert field in text or field == "times", field


def test_a_calendar_in_any_order_is_found_at_every_moment() -> None:
    """What a search among ordered moments finds is what looking at each of them finds."""
    begin = ms("2026-06-15 00:00:00")
    times = [{"at_ms": begin + 3_600_000 * (n * 7 % 100)} for n in range(100)]
    window = Window.model_validate(
        {"name": "w", "times": times, "before_minutes": 10, "after_minutes": 5}
    )
    rules = Rules(windows=(window,))
    for minute in range(-20, 100 * 60 + 20):
        at = begin + minute * 60_000
        near = [
            one.at_ms for one in window.times if one.at_ms - 600_000 <= at < one.at_ms + 300_000
        ]
        assert [one.begin_ms + 600_000 for one in windows_at(rules, at)] == near
