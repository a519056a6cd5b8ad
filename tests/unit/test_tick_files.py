"""Tick files: exact prices and times, every row, and clear errors for damaged files."""

from __future__ import annotations

import codecs
import gzip
import math
import random
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.tick_files import (
    TickFileError,
    check_ticks,
    guess_symbol,
    load_ticks,
    parse_source,
    read_ticks,
)
from events.tick_files.fields import Column, Text, decimals, whole_numbers
from events.ticks import TICK_DTYPE, TickArray

SAMPLES = Path(__file__).parents[1] / "data"
HEADER = "<DATE>\t<TIME>\t<BID>\t<ASK>\t<LAST>\t<VOLUME>\t<FLAGS>\r\n"
LINE = "2014.05.04\t21:00:00.462\t1.38817\t1.38884\t\t\t6\r\n"


def written(folder: Path, content: str | bytes, name: str = "EURUSD.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows_by_python(text: str) -> list[tuple[int, float, float, int]]:
    """The slow, plain reading that the fast one must equal: (time_msc, bid, ask, flags)."""
    rows, days = [], {}
    for line in text.splitlines()[1:]:
        date, time, bid, ask, _, _, flags = line.split("\t")
        if date not in days:
            days[date] = int(datetime.strptime(date, "%Y.%m.%d").replace(tzinfo=UTC).timestamp())
        second_of_day = int(time[:2]) * 3600 + int(time[3:5]) * 60 + int(time[6:8])
        time_msc = (days[date] + second_of_day) * 1000 + int(time[9:])
        rows.append((time_msc, float(bid), float(ask), int(flags)))
    return rows


def as_rows(ticks: TickArray) -> list[tuple[int, float, float, int]]:
    columns = (ticks[name].tolist() for name in ("time_msc", "bid", "ask", "flags"))
    return list(zip(*columns, strict=True))


@pytest.mark.parametrize(
    ("name", "count", "block_bytes"),
    [
        ("EURUSD_20140504-20140507.csv.gz", 112_572, 1 << 20),
        ("NZDUSD_20140504-20140507.csv.gz", 121_658, 100_003),
        ("BTCUSD_20230220T12.csv.gz", 8_523, 1_009),
    ],
)
def test_every_row_of_a_real_export_equals_a_plain_reading(
    name: str, count: int, block_bytes: int
) -> None:
    plain = rows_by_python(gzip.decompress((SAMPLES / name).read_bytes()).decode())
    chunks = list(read_ticks(SAMPLES / name, on_error="keep", block_bytes=block_bytes))
    ticks = np.concatenate(chunks)
    assert ticks.dtype == TICK_DTYPE
    assert len(ticks) == count == check_ticks(SAMPLES / name)
    assert as_rows(ticks) == plain
    assert (ticks["time"] == ticks["time_msc"] // 1000).all()


def test_identical_rows_are_kept(tmp_path: Path) -> None:
    ticks = load_ticks(written(tmp_path, HEADER + LINE * 3))
    assert len(ticks) == 3
    assert len(np.unique(ticks)) == 1


def column_of(texts: list[str]) -> Column:
    body = "\n".join(texts) + "\n"
    ends = np.flatnonzero(np.frombuffer(body.encode(), np.uint8) == ord("\n")) + 32
    starts = np.concatenate([[32], ends[:-1] + 1])
    return Column(Text.of(body.encode()), starts, ends)


PLAIN_NUMBERS = st.from_regex(r"-?([0-9]{1,20}\.?[0-9]{0,20}|\.[0-9]{1,15})", fullmatch=True)
FLOATS = st.floats(allow_nan=False, allow_infinity=False).map(repr)


@given(st.lists(PLAIN_NUMBERS | FLOATS, min_size=1, max_size=50))
@settings(max_examples=150, deadline=None)
def test_any_decimal_text_becomes_the_nearest_float(texts: list[str]) -> None:
    values, bad = decimals(column_of(texts))
    for text, value, wrong in zip(texts, values.tolist(), bad.tolist(), strict=True):
        if len(text) <= 32 and math.isfinite(float(text)):
            assert not wrong, text
            assert value == float(text), text
        else:
            assert wrong, text


@given(st.lists(st.text("0123456789.-+eE x\0\u00e9", min_size=1, max_size=20), min_size=1))
@settings(max_examples=150, deadline=None)
def test_what_python_reads_as_no_plain_number_is_bad(texts: list[str]) -> None:
    _, bad = decimals(column_of(texts))
    for text, wrong in zip(texts, bad.tolist(), strict=True):
        try:
            number = text.strip() == text and math.isfinite(float(text))
        except ValueError:
            number = False
        assert bool(wrong) == (not number or "\0" in text), repr(text)


def test_whole_numbers_refuse_signs_and_dots() -> None:
    values, bad = whole_numbers(column_of(["6", "1030", "", "-1", "1.5", "x", "9" * 16]))
    assert bad.tolist() == [False, False, False, True, True, True, False]
    assert values[[0, 1, 2, 6]].tolist() == [6, 1030, 0, 9999999999999999]


def test_empty_prices_carry_the_value_before_across_blocks(tmp_path: Path) -> None:
    lines = [
        "2014.05.04\t21:00:00.100\t1.1\t1.2\t\t\t6\r\n",
        "2014.05.04\t21:00:00.200\t\t1.3\t\t\t4\r\n",
        "2014.05.04\t21:00:00.300\t1.15\t\t1.25\t3\t26\r\n",
        "2014.05.04\t21:00:00.400\t\t\t\t\t2\r\n",
    ]
    for block_bytes in (40, 1 << 20):
        path = written(tmp_path, HEADER + "".join(lines))
        ticks = np.concatenate(list(read_ticks(path, block_bytes=block_bytes)))
        assert ticks["bid"].tolist() == [1.1, 1.1, 1.15, 1.15]
        assert ticks["ask"].tolist() == [1.2, 1.3, 1.3, 1.3]
        assert ticks["last"].tolist() == [0, 0, 1.25, 1.25]
        assert ticks["volume"].tolist() == [0, 0, 3, 3]
        assert ticks["volume_real"].tolist() == [0, 0, 3, 3]
        assert ticks["flags"].tolist() == [6, 4, 26, 2]


@pytest.mark.parametrize(
    "packed",
    [
        lambda text: text.encode(),
        lambda text: codecs.BOM_UTF8 + text.encode(),
        lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
        lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
        lambda text: gzip.compress(text.encode()),
        lambda text: gzip.compress(text[:90].encode()) + gzip.compress(text[90:].encode()),
        lambda text: gzip.compress(text.encode("utf-16")),
        lambda text: text.replace("\r\n", "\n").encode(),
        lambda text: text.removesuffix("\r\n").encode(),
        lambda text: text.encode() + b"\r\n\r\n",
    ],
    ids=[
        "plain",
        "bom",
        "utf16le",
        "utf16be",
        "gzip",
        "gzip2",
        "gzip16",
        "lf",
        "no-last-end",
        "blank-tail",
    ],
)
def test_packing_and_encoding_are_told_by_content(tmp_path: Path, packed: object) -> None:
    assert callable(packed)
    path = written(tmp_path, packed(HEADER + LINE + LINE), "EURUSD.csv.gz")
    assert as_rows(load_ticks(path)) == [(1399237200462, 1.38817, 1.38884, 6)] * 2


@pytest.mark.parametrize(
    ("times", "msc"),
    [
        (["2014-05-04T21:00:00.462", "2014-05-04T21:00:01"], [462, 1000]),
        (["2014-05-04 21:00:00.462000", "2014-05-04 21:00:01.001999"], [462, 1001]),
        (["2014-05-04 21:00:00.4", "2014-05-04 21:00:01.99"], [400, 1990]),
        (["2014-05-04T21:00:00.462Z", "2014-05-04T21:00:01Z"], [462, 1000]),
        (["2014-05-04 21:00:00.462+00:00", "2014-05-04 21:00:01+00:00"], [462, 1000]),
        (["1399237200462", "1399237201000"], [462, 1000]),
        (["1399237200", "1399237201"], [0, 1000]),
        (["1399237200.462", "1399237201.5"], [462, 1500]),
        (["1399237200.4629998", "1399237201.5"], [462, 1500]),
        (["1399237200.462", "1399237201.0019996"], [462, 1001]),
        (["1399237200462999", "1399237201000000"], [462, 1000]),
        (["1399237200462999999", "1399237201000000000"], [462, 1000]),
    ],
)
@pytest.mark.parametrize("name", ["time", "timestamp"])
def test_named_columns_in_any_order_and_time_form(
    tmp_path: Path, times: list[str], msc: list[int], name: str
) -> None:
    lines = [f"{ask},x,{time},{bid}" for time, bid, ask in zip(times, "12", "23", strict=True)]
    ticks = load_ticks(written(tmp_path, f"Ask,other,{name},BID\n" + "\n".join(lines) + "\n"))
    assert (ticks["time_msc"] - 1399237200000).tolist() == msc
    assert ticks["bid"].tolist() == [1, 2]
    assert ticks["ask"].tolist() == [2, 3]


def test_flags_that_a_file_lacks_tell_what_changed(tmp_path: Path) -> None:
    lines = ["1,1.1,1.2", "2,1.1,1.3", "3,1.15,1.3", "4,1.15,1.3", "5,1.2,1.4"]
    text = "time,bid,ask\n" + "".join(f"139923720{line}\n" for line in lines)
    for block_bytes in (30, 1 << 20):
        chunks = list(read_ticks(written(tmp_path, text), block_bytes=block_bytes))
        assert np.concatenate(chunks)["flags"].tolist() == [6, 4, 2, 6, 6]


def test_quoted_fields_semicolons_and_a_symbol_column(tmp_path: Path) -> None:
    text = '"symbol";"time";"bid";"ask"\n' + "".join(
        f'"{symbol}";"2014-05-04 21:00:0{second}";"1.{second}";"2"\n'
        for second, symbol in enumerate(["EURUSD", "EURUSD.x", "EURUSD", "GBPUSD"])
    )
    path = written(tmp_path, text)
    assert load_ticks(path, symbol="EURUSD")["bid"].tolist() == [1.0, 1.2]
    assert load_ticks(path, symbol="GBPUSD")["bid"].tolist() == [1.3]
    assert len(load_ticks(path)) == 4
    assert guess_symbol(written(tmp_path, text, "2014.csv")) == "EURUSD"


BAD_FILES = [
    ("", 1, "empty"),
    ("\r\n", 1, "first line is empty"),
    ("a\tb\tc\r\n1\t2\t3\r\n", 1, "no column time, bid, ask"),
    ("<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\r\n", 1, "file of bars"),
    (HEADER + LINE + "2014.05.04\t21:00\r\n" + LINE, 3, "2 columns instead of 7"),
    (HEADER + LINE + "\r\n" + LINE, 3, "empty line"),
    (HEADER + LINE * 2 + LINE[:40], 4, "5 columns instead of 7"),
    (HEADER + LINE + LINE.replace("1.38817", "1.3x817"), 3, "bid is no number: '1.3x817'"),
    (HEADER + LINE + LINE.replace("1.38884", "1.3.884"), 3, "ask is no number: '1.3.884'"),
    (HEADER + LINE + LINE.replace("1.38884", "nan"), 3, "ask is no number: 'nan'"),
    (HEADER + LINE + LINE.replace("2014.05", "2014.13"), 3, "date is not YYYY.MM.DD"),
    (HEADER + LINE + LINE.replace("05.04", "02.30"), 3, "date is not YYYY.MM.DD"),
    (HEADER + LINE + LINE.replace("21:00", "25:00"), 3, "time is not HH:MM:SS"),
    (HEADER + LINE + LINE.replace("00.462", "00,462"), 3, "time is not HH:MM:SS"),
    (HEADER + LINE + LINE.replace("\t6\r", "\t-6\r"), 3, "flags: '-6'"),
    (HEADER + LINE + LINE.replace("\t6\r", "\t\r"), 3, "flags: ''"),
    (HEADER + LINE + "x" * 10_000, 3, "longer than"),
    ("time,bid,ask\n1399237200000,1,2\n99999999999999,1,2\n", 3, "no epoch milliseconds"),
    ("time,bid,ask\n1399237200.4,1,2\n1399237200.46212xx,1,2\n", 3, "no epoch seconds"),
    ("time,bid,ask\nyesterday,1,2\n", 2, "neither ISO 8601 nor an epoch"),
    ("time,bid,ask\n2014-05-04T21:00:00Z,1,2\n2014-05-04T21:00:00,1,2\n", 3, "time is not"),
    (
        gzip.compress((HEADER + LINE * 5000).encode(), mtime=0)[:-30],
        None,
        "gzip data end too early",
    ),
    (
        gzip.compress((HEADER + LINE * 50).encode(), mtime=0)[:40] + b"\xff" * 60,
        None,
        "damaged content",
    ),
    (b"PK\x03\x04 whatever", 1, "unpack it first"),
    (b"\x00\x01\x02\x03" * 50, 1, "no column"),
]


@pytest.mark.parametrize(("content", "line", "reason"), BAD_FILES)
def test_damaged_files_name_line_and_reason_and_keep_or_drop_the_rows_before(
    tmp_path: Path, content: str | bytes, line: int | None, reason: str
) -> None:
    path = written(tmp_path, content)
    with pytest.raises(TickFileError, match=r"EURUSD\.csv, line ") as failure:
        list(read_ticks(path))
    assert reason in failure.value.reason
    assert line is None or failure.value.line == line
    kept: list[TickArray] = []
    with pytest.raises(TickFileError) as kept_failure:
        kept.extend(read_ticks(path, on_error="keep"))
    sound = sum(map(len, kept))
    assert sound == kept_failure.value.rows
    assert sound == max(0, kept_failure.value.line - 2)


def test_stop_gives_nothing_and_keep_gives_all_rows_before_the_fault(tmp_path: Path) -> None:
    good = HEADER + LINE * 20_000
    path = written(tmp_path, good + "broken\r\n" + LINE)
    chunks = read_ticks(path, block_bytes=4096)
    with pytest.raises(TickFileError, match="line 20002: 1 columns"):
        next(chunks)
    assert len(load_ticks(path, on_error="keep")) == 20_000


def test_a_cut_gzip_file_keeps_what_could_be_unpacked(tmp_path: Path) -> None:
    random_rows = random.Random(7)
    lines = [LINE.replace("1.38817", f"1.{random_rows.randrange(10**5):05}") for _ in range(30_000)]
    packed = gzip.compress((HEADER + "".join(lines)).encode())
    path = written(tmp_path, packed[: len(packed) // 2])
    kept = load_ticks(path, on_error="keep")
    assert 10_000 < len(kept) < 20_000
    assert kept["bid"].tolist() == [float(line.split("\t")[2]) for line in lines[: len(kept)]]


def test_a_header_alone_holds_no_ticks(tmp_path: Path) -> None:
    assert list(read_ticks(written(tmp_path, HEADER))) == []
    assert len(load_ticks(written(tmp_path, HEADER.removesuffix("\r\n")))) == 0


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TickFileError, match=r"nowhere\.csv.*cannot be opened: No such file"):
        load_ticks(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("EURUSD_20140504-20140507.csv.gz", "EURUSD"),
        ("EURUSD_202401020005_202401062356.csv", "EURUSD"),
        ("EURUSD.csv", "EURUSD"),
        ("EURUSD.x_202401020005.csv", "EURUSD.x"),
        ("EURUSDm.txt", "EURUSDm"),
        ("XAUUSD_ticks_2024-01.parquet", "XAUUSD"),
        ("ticks_BTCUSD.parquet", "BTCUSD"),
        ("US30.cash-20240101.csv", "US30.cash"),
        ("#AAPL_20240101.csv", "#AAPL"),
        ("EURUSD_i_20240101.csv", "EURUSD_i"),
        ("BTCUSD_20230220T12.csv.gz", "BTCUSD"),
    ],
)
def test_the_symbol_is_guessed_from_the_name(name: str, symbol: str) -> None:
    assert guess_symbol(name) == symbol
    assert parse_source(f"GOLD={name}") == ("GOLD", Path(name))


def test_a_name_without_a_symbol_is_refused() -> None:
    with pytest.raises(TickFileError, match="SYMBOL=FILE"):
        guess_symbol("my quotes of the last year.csv")


def test_parquet_gives_the_same_ticks_as_the_text(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    ticks = load_ticks(SAMPLES / "BTCUSD_20230220T12.csv.gz")
    msc = ticks["time_msc"].astype(np.int64)
    columns = {name: ticks[name].copy() for name in ("bid", "ask", "flags")}
    for name, times in {
        "timestamp": msc.astype("datetime64[ms]"),
        "time": msc.astype("datetime64[ms]").astype("datetime64[ns]"),
        "time_msc": msc,
    }.items():
        path = tmp_path / "BTCUSD.parquet"
        parquet.write_table(arrow.table({name: times, **columns}), path)
        assert load_ticks(path).tobytes() == ticks.tobytes()
    parquet.write_table(
        arrow.table({"time": msc, "bid": [1.5] + [None] * 8522, "ask": columns["ask"]}), path
    )
    assert set(load_ticks(path)["bid"].tolist()) == {1.5}
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(TickFileError, match="damaged or unsuitable"):
        load_ticks(path)
