"""The recorded terminal: every row of its files once, in order, at the right time."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from events.clock_rules import ClockRule
from events.tick_files import TickFileError, load_ticks
from events.ticks import TickArray
from producers.terminals import constants as mt5
from producers.terminals.recorded import Outage, RecordedOptions, RecordedTerminal
from producers.terminals.recorded.terminal import digits_of
from producers.ticks.cursor import TickCursor

SAMPLES = Path(__file__).parents[1] / "data"
EURUSD = SAMPLES / "EURUSD_20140504-20140507.csv.gz"
NZDUSD = SAMPLES / "NZDUSD_20140504-20140507.csv.gz"
BTCUSD = SAMPLES / "BTCUSD_20230220T12.csv.gz"
PULLS_MAX = 5_000
SWITCH_UTC_S = 1_793_512_800  # 1 November 2026, 06:00 UTC: New York leaves summer time


class SteppingTime:
    """A monotonic clock that goes on by a step at each look."""

    def __init__(self, step_s: float = 0.002) -> None:
        self.now_s, self.step_s = 0.0, step_s

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


def playing(*files: Path | str, **options: Any) -> RecordedTerminal:
    chosen = {"speed": "max", "clock": "UTC", **options}
    texts = tuple(str(file) for file in files)
    terminal = RecordedTerminal(
        RecordedOptions(files=texts, **chosen), monotonic=SteppingTime(), sleep=lambda _: None
    )
    assert terminal.initialize()
    return terminal


class Reader:
    """Pulls one symbol as a producer does: multiset cursor, rewind after a lost link."""

    def __init__(self, terminal: RecordedTerminal, symbol: str) -> None:
        self.terminal, self.symbol, self.cursor = terminal, symbol, TickCursor(0)
        self.parts: list[TickArray] = []
        self.connected = True
        self.outages = 0
        self.down_at_s = 0

    def pull(self) -> bool:
        """One page. Returns whether it brought nothing."""
        self._watch_the_link()
        begin_s, count = self.cursor.request()
        rows = self.terminal.copy_ticks_from(self.symbol, begin_s, count, mt5.COPY_TICKS_ALL)
        taken = self.cursor.take(rows)
        self.parts.append(taken.new)
        self.cursor.commit()
        return not (len(taken.new) or taken.more or taken.warming)

    def _watch_the_link(self) -> None:
        info = self.terminal.terminal_info()
        if self.connected and not info.connected:
            self.outages += 1
            self.down_at_s = (self.cursor.hi_msc or 0) // 1000
        if info.connected and self.outages:
            self.cursor.rewind(self.down_at_s - 120)
        self.connected = info.connected

    @property
    def ticks(self) -> TickArray:
        return np.concatenate(self.parts)


def read_all(*readers: Reader) -> None:
    """Pull in turn until every reader has nothing left and the terminal agrees."""
    for _ in range(PULLS_MAX):
        idle = [reader.pull() for reader in readers]
        if all(idle) and readers[0].terminal.finished():
            return
    raise AssertionError(f"not played to the end in {PULLS_MAX} pulls")


def written(folder: Path, utc_s: np.ndarray[Any, Any], name: str = "BTCUSD.csv") -> Path:
    lines = (f"{second},{place % 977 + 1},{place % 977 + 2}" for place, second in
             enumerate(utc_s.tolist()))  # fmt: skip
    path = folder / name
    path.write_text("time,bid,ask\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("file", [EURUSD, NZDUSD, BTCUSD], ids=lambda file: file.name[:6])
def test_at_full_speed_every_row_arrives_once_in_order(file: Path) -> None:
    reader = Reader(playing(file), file.name[:6])
    read_all(reader)
    assert reader.ticks.tobytes() == load_ticks(file).tobytes()


def test_a_utc_file_is_shown_in_the_servers_clock() -> None:
    reader = Reader(playing(EURUSD, file_clock="UTC", clock="ny-close"), "EURUSD")
    read_all(reader)
    file = load_ticks(EURUSD)
    assert (reader.ticks["time_msc"] - file["time_msc"] == 3 * 3_600_000).all()
    assert (reader.ticks["time"] == reader.ticks["time_msc"] // 1000).all()
    assert all((reader.ticks[name] == file[name]).all() for name in ("bid", "ask", "flags"))


def test_server_times_of_a_file_stay_as_they_are_on_any_clock() -> None:
    reader = Reader(playing(BTCUSD, clock="Europe/Athens"), "BTCUSD")
    read_all(reader)
    assert reader.ticks.tobytes() == load_ticks(BTCUSD).tobytes()
    assert reader.terminal.utc_now_ms() == int(reader.ticks["time_msc"][-1]) - 2 * 3_600_000


@pytest.mark.parametrize("looks_at_quotes", [False, True])
def test_both_showings_of_the_repeated_hour_arrive(tmp_path: Path, looks_at_quotes: bool) -> None:
    utc_s = np.arange(SWITCH_UTC_S - 3 * 3600, SWITCH_UTC_S + 4 * 3600, 3)
    terminal = playing(written(tmp_path, utc_s), file_clock="UTC", clock="ny-close")
    reader = Reader(terminal, "BTCUSD")
    for _ in range(PULLS_MAX):
        if looks_at_quotes:
            reader.cursor.quote_seen(terminal.symbol_info_tick("BTCUSD").time_msc)
        if reader.pull() and terminal.finished():
            break
    server_ms = (utc_s + ClockRule.parse("ny-close").offsets_s(utc_s * 1000)) * 1000
    assert len(np.unique(server_ms)) == len(utc_s) - 1200
    assert sorted(reader.ticks["time_msc"].tolist()) == sorted(server_ms.tolist())


def test_the_skipped_hour_is_skipped(tmp_path: Path) -> None:
    utc_s = np.arange(1_772_953_200 - 7200, 1_772_953_200 + 7200, 3)  # 8 March 2026, 07:00 UTC
    terminal = playing(written(tmp_path, utc_s), file_clock="UTC", clock="ny-close")
    reader = Reader(terminal, "BTCUSD")
    read_all(reader)
    server_ms = (utc_s + ClockRule.parse("ny-close").offsets_s(utc_s * 1000)) * 1000
    assert reader.ticks["time_msc"].tolist() == server_ms.tolist()


def test_a_file_in_server_time_tells_both_showings_by_their_order(tmp_path: Path) -> None:
    utc_s = np.arange(SWITCH_UTC_S - 7200, SWITCH_UTC_S + 7200, 30)
    rule = ClockRule.parse("ny-close")
    terminal = playing(written(tmp_path, utc_s + rule.offsets_s(utc_s * 1000)), clock="ny-close")
    played = terminal.market.ticks("BTCUSD", 0, 2**60)
    assert (played["time_msc"] == utc_s * 1000).all()


@pytest.mark.parametrize("back_fill_after_s", [0.0, 1.0, 90.0])
def test_ticks_of_an_outage_are_filled_in_behind(back_fill_after_s: float) -> None:
    begin_ms = 1_399_291_200_000  # Monday 5 May 2014, 12:00 UTC
    outage = Outage(
        from_utc_ms=begin_ms,
        until_utc_ms=begin_ms + 3_600_000,
        back_fill_after_s=back_fill_after_s,
    )
    reader = Reader(playing(EURUSD, outages=(outage,)), "EURUSD")
    read_all(reader)
    file = load_ticks(EURUSD)
    missed = (file["time_msc"] >= begin_ms) & (file["time_msc"] < begin_ms + 3_600_000)
    assert missed.sum() > 500
    assert reader.outages == 1
    assert len(reader.ticks) == len(file)
    order = np.argsort(reader.ticks["time_msc"], kind="stable")
    assert reader.ticks[order].tobytes() == file.tobytes()
    late = (np.diff(reader.ticks["time_msc"]) < 0).any()
    assert late == (back_fill_after_s > 60)


def test_an_outage_at_the_end_of_the_file_is_healed_before_it_is_finished() -> None:
    last_ms = int(load_ticks(BTCUSD)["time_msc"][-1])
    outage = Outage(
        from_utc_ms=last_ms - 600_000, until_utc_ms=last_ms + 600_000, back_fill_after_s=60
    )
    reader = Reader(playing(BTCUSD, outages=(outage,)), "BTCUSD")
    read_all(reader)
    assert reader.outages == 1
    assert len(reader.ticks) == 8_523


def test_several_symbols_are_finished_when_the_last_reader_is() -> None:
    terminal = playing(EURUSD, f"GBPUSD={NZDUSD}")
    euro, other = Reader(terminal, "EURUSD"), Reader(terminal, "GBPUSD")
    while not euro.pull():
        assert not terminal.finished() or len(euro.ticks) == 112_572
    other.pull()
    assert not terminal.finished()
    read_all(euro, other)
    assert euro.ticks.tobytes() == load_ticks(EURUSD).tobytes()
    assert other.ticks.tobytes() == load_ticks(NZDUSD).tobytes()


def test_small_pages_reveal_no_more_than_was_asked_for() -> None:
    terminal = playing(BTCUSD)
    first = terminal.copy_ticks_from("BTCUSD", 0, 10, mt5.COPY_TICKS_ALL)
    assert len(first) == 10
    shown = terminal.feed.ticks_from("BTCUSD", 0, 10**6, now_utc_ms=terminal.clock.utc_ms())
    same_ms = (load_ticks(BTCUSD)["time_msc"] == first["time_msc"][-1]).sum()
    assert 10 <= len(shown) <= 10 + same_ms
    assert len(terminal.copy_ticks_from("BTCUSD", 0, 10, mt5.COPY_TICKS_ALL)) == 10


def test_a_range_at_full_speed_is_shown_whole() -> None:
    terminal = playing(EURUSD, clock="ny-close")
    file = load_ticks(EURUSD)
    first_s, last_s = int(file["time"][0]), int(file["time"][-1]) + 1
    assert terminal.copy_ticks_range("EURUSD", first_s, last_s, -1).tobytes() == file.tobytes()


def test_time_stands_until_somebody_looks_and_then_runs() -> None:
    moment = SteppingTime(step_s=0.0)
    options = RecordedOptions(files=(str(BTCUSD),), speed="60x", clock="UTC")
    terminal = RecordedTerminal(options, monotonic=moment)
    terminal.initialize()
    begin_ms = terminal.utc_now_ms()
    moment.now_s += 100
    assert terminal.utc_now_ms() == begin_ms
    assert terminal.symbol_info_tick("BTCUSD").time_msc == begin_ms
    moment.now_s += 10
    assert terminal.utc_now_ms() == begin_ms + 600_000
    rows = terminal.copy_ticks_from("BTCUSD", begin_ms // 1000, 10**6, mt5.COPY_TICKS_ALL)
    file = load_ticks(BTCUSD)
    assert rows.tobytes() == file[file["time_msc"] <= begin_ms + 600_000].tobytes()
    assert not terminal.finished()
    moment.now_s += 60
    assert terminal.finished()


def test_playing_can_begin_in_the_middle() -> None:
    file = load_ticks(BTCUSD)
    middle_ms = int(file["time_msc"][4000])
    terminal = playing(BTCUSD, speed=0, start_utc_ms=middle_ms)
    rows = terminal.copy_ticks_from("BTCUSD", 0, 10**6, mt5.COPY_TICKS_ALL)
    assert rows.tobytes() == file[file["time_msc"] <= middle_ms].tobytes()


def test_bars_are_made_of_the_files_ticks() -> None:
    terminal = playing(BTCUSD)
    Reader(terminal, "BTCUSD")
    terminal.copy_ticks_range("BTCUSD", 0, 2_000_000_000, -1)
    bars = terminal.copy_rates_from_pos("BTCUSD", mt5.TIMEFRAME_M1, 0, 1000)
    file = load_ticks(BTCUSD)
    assert len(bars) == 60
    assert bars["tick_volume"].sum() == len(file)
    assert bars["high"].max() == file["bid"].max()
    hour = terminal.copy_rates_from_pos("BTCUSD", mt5.TIMEFRAME_H1, 0, 10)
    assert (hour["open"][0], hour["close"][0]) == (file["bid"][0], file["bid"][-1])


def test_the_account_trades_at_the_files_prices() -> None:
    terminal = playing(EURUSD, speed=0, start_utc_ms=1_399_291_200_000)
    tick = terminal.symbol_info_tick("EURUSD")
    request = {
        "action": mt5.TRADE_ACTION_DEAL, "symbol": "EURUSD", "volume": 0.1, "type": 0,
        "price": tick.ask, "type_filling": mt5.ORDER_FILLING_IOC,
    }  # fmt: skip
    result = terminal.order_send(request)
    assert result.retcode == mt5.TRADE_RETCODE_DONE
    (position,) = terminal.positions_get()
    assert position.price_open == tick.ask
    terminal.advance(600_000)
    later = terminal.symbol_info_tick("EURUSD")
    (position,) = terminal.positions_get()
    assert position.profit == pytest.approx((later.bid - tick.ask) * 10_000, abs=0.01)
    info = terminal.account_info()
    assert info.equity == pytest.approx(info.balance + info.profit)


def test_instruments_are_guessed_from_names_and_prices(tmp_path: Path) -> None:
    odd = written(tmp_path, np.arange(1_700_000_000, 1_700_000_100), "WIDGET.csv")
    terminal = playing(f"EURUSD.raw={EURUSD}", odd)
    euro, widget = terminal.symbol_info("EURUSD.raw"), terminal.symbol_info("WIDGET")
    assert (euro.digits, euro.currency_profit, euro.trade_contract_size) == (5, "USD", 100_000)
    assert widget.digits == 0
    assert {info.name for info in terminal.symbols_get()} == {"EURUSD.raw", "WIDGET"}
    assert all(info.select for info in terminal.symbols_get())
    assert digits_of(np.array([1.5, 1.25, 3.0])) == 2
    assert digits_of(np.array([0.1 + 0.2])) == 8


def test_files_of_one_symbol_are_joined_and_must_not_overlap(tmp_path: Path) -> None:
    first = written(tmp_path, np.arange(1_700_000_000, 1_700_000_100), "BTCUSD_1.csv")
    second = written(tmp_path, np.arange(1_700_000_100, 1_700_000_200), "BTCUSD_2.csv")
    names = [f"BTCUSD={file}" for file in (second, first)]
    reader = Reader(playing(*names), "BTCUSD")
    read_all(reader)
    assert reader.ticks["time"].tolist() == list(range(1_700_000_000, 1_700_000_200))
    third = written(tmp_path, np.arange(1_700_000_150, 1_700_000_300), "BTCUSD_3.csv")
    with pytest.raises(TickFileError, match="do not overlap"):
        playing(*names, f"BTCUSD={third}")


def test_ticks_out_of_order_are_played_by_time_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seconds = np.array([1_700_000_000, 1_700_000_009, 1_700_000_003])
    reader = Reader(playing(written(tmp_path, seconds)), "BTCUSD")
    read_all(reader)
    assert reader.ticks["time"].tolist() == sorted(seconds.tolist())
    assert "not in the order of time" in caplog.text


def bad_file(folder: Path) -> str:
    path = folder / "EURUSD.csv"
    path.write_text("time,bid,ask\n1700000000,1,2\n1700000001,x,2\n", encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (bad_file, "line 3: bid is no number"),
        (lambda folder: str(folder / "nowhere" / "EURUSD.csv"), "cannot be opened"),
        (lambda folder: str(written(folder, np.arange(0), "EURUSD.csv")), "no ticks of EURUSD"),
    ],
)
def test_a_file_that_cannot_be_played_is_refused(
    tmp_path: Path, make: Callable[[Path], str], reason: str
) -> None:
    with pytest.raises(TickFileError, match=reason):
        playing(make(tmp_path))


def test_the_rows_before_a_fault_can_be_kept(tmp_path: Path) -> None:
    reader = Reader(playing(bad_file(tmp_path), on_error="keep"), "EURUSD")
    read_all(reader)
    assert len(reader.ticks) == 1


@pytest.mark.parametrize(
    ("text", "speed"), [("max", "max"), ("10x", 10), ("2.5", 2.5), (1, 1), ("MAX", "max")]
)
def test_speeds_as_people_write_them(text: object, speed: object) -> None:
    options = RecordedOptions.model_validate({"files": ["EURUSD.csv"], "speed": text})
    assert options.speed == speed
    assert RecordedOptions.model_validate_json(options.model_dump_json()) == options


@pytest.mark.parametrize(
    "wrong",
    [
        {"files": []},
        {"files": ["a.csv"], "speed": "fast"},
        {"files": ["a.csv"], "speed": -1},
        {"files": ["a.csv"], "clock": "Mars/Olympus"},
        {"files": ["a.csv"], "file_clock": "Mars/Olympus"},
        {"files": ["a.csv"], "outages": [{"from_utc_ms": 2, "until_utc_ms": 1}]},
        {"files": ["a.csv"], "color": "red"},
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RecordedOptions.model_validate(wrong)


def test_the_same_options_play_the_same_answers() -> None:
    runs = []
    for _ in range(2):
        terminal = playing(BTCUSD, trader={"every_s": 60.0})
        pages = list(itertools.islice(iter(Reader(terminal, "BTCUSD").pull, True), 50))
        assert pages
        runs.append((terminal.account_info(), terminal.history_deals_total(0, 2**32)))
    assert runs[0] == runs[1]
    assert runs[0][1] > 10
