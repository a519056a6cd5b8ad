"""The page of a backtest: complete, closed to the network, and safe whatever strategies write."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from consumers.backtest.report import charts, tables
from consumers.backtest.report.figures import figures
from consumers.backtest.report.labels import GROUPS, label_of, shown
from consumers.backtest.report.output import BadOutput, Output, result_json
from consumers.backtest.report.page import SweepSection, WalkSection, report_html, write_report
from consumers.backtest.report.tables import Cell
from consumers.backtest.report.thinning import fewer_bars, rows_kept, trades_kept
from consumers.backtest.result import BacktestResult, PriceBars
from events.executing import TargetState
from tests.unit.test_backtest_figures import HOUR_MS, MONDAY_MS, result, trade, walk

EVIL = '</script><img src="http://127.0.0.1/x" onerror="alert(1)">'


class Elements(HTMLParser):
    """Every element with its attributes, and the text inside scripts by id."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str]]] = []
        self.scripts: list[tuple[dict[str, str], str]] = []
        self._in_script: dict[str, str] | None = None
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        self.found.append((tag, told))
        self._in_script = told if tag == "script" else None

    def handle_endtag(self, tag: str) -> None:
        self._in_script = None

    def handle_data(self, data: str) -> None:
        if self._in_script is not None:
            self.scripts.append((self._in_script, data))
        else:
            self.text += data


def full() -> BacktestResult:
    times, equity = walk(3, 24 * 30)
    trades = [
        trade(hour, hour + 3, 10.0 - hour % 25, side=hour % 2,
              closed_by=EVIL if not hour else "expert")
        for hour in range(0, 120, 2)
    ]  # fmt: skip
    prices = 1.1 + np.arange(1_500) * 1e-5
    bars = PriceBars(
        1_800,
        MONDAY_MS + np.arange(1_500) * 1_800_000,
        prices,
        prices + 2e-4,
        prices - 2e-4,
        prices,
    )
    target = TargetState(
        event_time_ms=MONDAY_MS, login=1, strategy="made", symbol="EURUSD", state="refused",
        target="long", reason=EVIL,
    )  # fmt: skip
    return replace(
        result(times, equity, trades), bars={"EURUSD": bars}, strategy=EVIL, warnings=(EVIL,),
        parameters={"fast": 3, "note": EVIL}, targets=(target,), stopped=EVIL,
    )  # fmt: skip


@pytest.fixture(scope="module")
def page() -> str:
    rows = [[Cell(EVIL), Cell("1.5", 1.5)]]
    map_ = charts.heat_map(
        ("fast", "slow"), ("1", "2"), ("3", EVIL), [[1.0, 2.0], [None, 3.0]], "net"
    )
    return report_html(
        full(), sweep=SweepSection(("fast", "net"), rows, map_, (EVIL,)),
        walk=WalkSection(("window",), [[EVIL]], turns_ms=(MONDAY_MS + HOUR_MS,)), made=EVIL,
    )  # fmt: skip


def test_a_page_asks_for_nothing_from_outside_and_allows_itself_nothing(page: str) -> None:
    elements = Elements(page)
    for tag, attributes in elements.found:
        assert not {"src", "href", "action", "data", "poster", "srcset"} & attributes.keys(), tag
        assert not [name for name in attributes if name.startswith("on")], tag
    tags = {tag for tag, _ in elements.found}
    assert not tags & {"link", "img", "iframe", "object", "embed", "base", "form", "a"}
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    policy = next(
        told["content"]
        for _, told in elements.found
        if told.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    runs = [text for told, text in elements.scripts if told.get("type") != "application/json"]
    assert len(runs) == 2
    for text in runs:
        told = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{told}'" in policy


def test_what_a_strategy_writes_stays_text(page: str) -> None:
    elements = Elements(page)
    assert elements.text.count(EVIL) >= 6
    assert EVIL not in page
    specs = [json.loads(text) for told, text in elements.scripts if told.get("type")]
    assert len(specs) == 5
    for spec in specs:  # plotly reads tags in the labels of charts
        assert "<img" not in json.dumps(spec)


def test_a_page_holds_every_figure_and_every_section(page: str) -> None:
    text = Elements(page).text
    found = figures(full())
    for group in GROUPS.values():
        for name in group:
            assert label_of(name) in text
            assert shown(name, found[name]) in text
    for title in ("Months", "Costs by kind", "Assumptions", "Parameters", "Walk-forward",
                  "Targets that were not carried out", "All 60 trades"):  # fmt: skip
        assert title in text


def test_a_run_without_any_trade_has_a_page_too() -> None:
    empty = replace(result([MONDAY_MS, MONDAY_MS + HOUR_MS], [10_000.0] * 2), bars={})
    text = Elements(report_html(empty)).text
    assert "There was no trade." in text
    nothing = result([], [])
    assert "There was no trade." in Elements(report_html(nothing)).text


def test_what_is_drawn_is_bounded_and_keeps_the_extremes() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(0, 1, 50_000).cumsum()
    kept = rows_kept(values, 1_000)
    assert len(kept) <= 1_000
    assert {0, len(values) - 1, int(values.argmin()), int(values.argmax())} <= set(kept.tolist())
    assert rows_kept(values[:10], 1_000).tolist() == list(range(10))
    bars = PriceBars(60, np.arange(1_001) * 60_000, *(values[:1_001] for _ in range(4)))
    fewer = fewer_bars(bars, 100)
    assert len(fewer) <= 100
    assert fewer.high.max() == bars.high.max()
    assert fewer.low.min() == bars.low.min()
    assert fewer.close[-1] == bars.close[-1]
    trades = [trade(hour, hour + 1, 1.0) for hour in range(300)]
    chosen = trades_kept(trades, 100)
    assert len(chosen) == 100
    assert (chosen[0], chosen[-1]) == (trades[0], trades[-1])


def test_a_long_list_of_trades_is_cut_and_says_so() -> None:
    trades = [trade(0, 1, 1.0)] * (tables.TRADES_MAX + 5)
    assert len(tables.trade_rows(trades)) == tables.TRADES_MAX
    assert re.search(r"first 2,000 of 2,005", tables.trades_note(len(trades)))


def test_a_file_that_cannot_be_written_is_told_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(BadOutput, match="there is no folder"):
        Output(report=tmp_path / "none" / "page.html").check()
    with pytest.raises(BadOutput, match="is a folder"):
        Output(save=tmp_path).check()
    Output(tmp_path / "a.json", tmp_path / "a.html").check()


def test_figures_stand_in_the_json_and_it_is_read_back() -> None:
    made = full()
    told = json.loads(result_json(made))
    assert told["figures"] == figures(made)
    assert BacktestResult.from_json(result_json(made)).to_json() == made.to_json()


def test_a_result_that_was_saved_before_values_and_offsets_is_read() -> None:
    told = json.loads(full().to_json())
    del told["deal_values"], told["offsets"]
    read = BacktestResult.from_json(json.dumps(told))
    assert (read.deal_values, read.offsets) == ((), ())
    assert figures(read)["exposure_gross_percent"] is None


def test_a_report_is_whole_or_not_there(tmp_path: Path) -> None:
    place = tmp_path / "page.html"
    write_report(place, full())
    assert place.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [one.name for one in tmp_path.iterdir()] == ["page.html"]
