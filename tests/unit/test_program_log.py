"""The program log: its lines, its files, and what it never tells."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from events import program_log
from events.program_log import SecretMask, log_path, start_program_log, stop_program_log


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    level = logging.getLogger().level
    yield
    stop_program_log()
    logging.getLogger().setLevel(level)


def test_a_line_has_time_module_level_and_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = start_program_log("Produce ftmo", folder=tmp_path)
    logging.getLogger("producers.spool").warning("%d Zeilen übrig", 3)
    assert path == tmp_path / "logs" / "produce-ftmo.log"
    written = path.read_text(encoding="utf-8")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z - producers\.spool - WARNING - 3 Zeilen übrig\n",
        written,
    )
    assert capsys.readouterr().err == written


def test_json_lines_carry_the_traceback(tmp_path: Path) -> None:
    path = start_program_log("up", folder=tmp_path, as_json=True, console=False)
    assert path is not None
    try:
        raise RuntimeError("boom with password=hunter2")
    except RuntimeError:
        logging.getLogger("x").exception("failed")
    line = json.loads(path.read_text(encoding="utf-8"))
    assert line["level"] == "ERROR"
    assert line["message"] == "failed"
    assert "RuntimeError: boom" in line["traceback"]
    assert "hunter2" not in line["traceback"]


def test_secrets_are_masked_wherever_they_stand(tmp_path: Path) -> None:
    path = start_program_log("up", folder=tmp_path, secrets=["s3same", "ab"], console=False)
    assert path is not None
    log = logging.getLogger("x")
    log.info("opening %s", "s3same-door")
    log.info("redis://user:geheim@host:6379/0 and postgresql://u:x%%2Fy@h/db")
    log.info("password: 'hunter2', token=abc123 fine, about ab")
    text = path.read_text(encoding="utf-8")
    for secret in ("s3same", "geheim", "x%2Fy", "hunter2", "abc123"):
        assert secret not in text
    assert "redis://user:***@host:6379/0" in text
    assert "about ab" in text, "very short secrets would mask ordinary words"


def test_longer_secrets_are_masked_before_shorter_ones_inside_them() -> None:
    assert SecretMask(["pass", "password1"]).mask("x password1 y") == "x *** y"


def test_a_message_whose_arguments_do_not_fit_is_still_told() -> None:
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "%d rows", ("many",), None)
    assert SecretMask().filter(record)
    assert record.getMessage().startswith("%d rows (arguments do not fit")


def test_files_rotate_and_only_five_old_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_log, "FILE_BYTES_MAX", 200)
    start_program_log("up", folder=tmp_path, console=False)
    for number in range(100):
        logging.getLogger("x").info("line %d", number)
    names = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert names == ["up.log", *(f"up.log.{number}" for number in range(1, 6))]


def test_each_role_has_a_file_of_its_own() -> None:
    own = Path("/var/log/bridge.txt")
    assert log_path("persist", folder=Path("s"), file=own) == Path("/var/log/bridge.persist.txt")
    assert log_path("a/b C", folder=Path("s")) == Path("s/logs/a-b-c.log")


def test_an_unwritable_folder_leaves_the_console(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    assert start_program_log("up", folder=blocked) is None
    assert "no log file" in capsys.readouterr().err
