"""Groups by name: handlers users write, their parameters, strategies; what people see of them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from consumers.cli import PERSIST_LEASE_S, THREADS_MAX, consume
from consumers.groups import UnknownGroup, UnknownHandler, group_specs, load_handler
from consumers.groups.loading import group_name, parameters_of, with_parameters
from consumers.groups.running import RunChoice
from consumers.persist.group import WORKERS_MAX as PERSIST_THREADS_MAX
from consumers.risk import RiskHandler
from consumers.runtime.group import Group
from consumers.runtime.handler import Handler
from consumers.sinks import SinkGroup
from consumers.workers.beginning import Begin
from consumers.workers.process import Report
from consumers.workers.screen import WindowScreen, status_line
from consumers.workers.status import TaskStatus
from consumers.workers.supervise import CrewState, Totals
from events.log import Lane, Slot
from events.postgres.offsets import LEASE_S as PERSIST_LEASE_KEPT_S

MODULE = """
from consumers.runtime.handler import Handler
from consumers.sinks import Sink


class EmaCross(Handler):
    fast = 12
    width = 0.5
    careful = False
    label = "x"
    rows = ()

    def handle(self, event):
        return ()


class Rows(Sink):
    path = "rows.db"

    def write(self, batch):
        pass


class Neither:
    pass


class Idle(Handler):
    width = 1


class Deaf(EmaCross):
    types = frozenset({"tick"})


class Spelled(EmaCross):
    types = "ticks"


class Unmade(EmaCross):
    def __init__(self):
        raise OSError("no model file")


class NotSetUp(EmaCross):
    def setup(self):
        raise RuntimeError("in two\\nlines")
"""
SLOT = Slot("demo", "ema-cross", 0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a module of the user's."""
    import sys

    (tmp_path / "my_own.py").write_text(MODULE)
    (tmp_path / "broken_one.py").write_text("import no_such_package_here")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("my_own", "broken_one"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("EmaCross", "ema-cross"),
        ("RSI2Cross", "rsi2-cross"),
        ("Chain", "chain"),
        ("MyEMA", "my-ema"),
    ],
)
def test_a_group_is_called_as_its_class(name: str, group: str) -> None:
    assert group_name(type(name, (Handler,), {})) == group


@pytest.mark.usefixtures("folder")
def test_a_handler_of_the_working_folder_becomes_a_group() -> None:
    [spec] = group_specs(None, handler="my_own:EmaCross", parameters={"fast": "9"})
    made = spec.group(["demo"])
    assert isinstance(made, Group)
    assert (made.name, made.handler.__name__, made.namespaces) == (
        "ema-cross",
        "EmaCross",
        ("demo",),
    )
    assert made.handler.fast == 9  # type: ignore[attr-defined]  # the user's own
    assert load_handler("my_own:EmaCross").fast == 12  # type: ignore[union-attr]  # as above
    [named] = group_specs("other", handler="my_own:Rows")
    sink = named.group()
    assert isinstance(sink, SinkGroup)
    assert (sink.name, sink.sink.__name__) == ("other", "Rows")


@pytest.mark.usefixtures("folder")
def test_parameters_are_read_as_the_type_they_have() -> None:
    handler = load_handler("my_own:EmaCross")
    assert parameters_of(handler) == {"fast": 12, "width": 0.5, "careful": False, "label": "x"}
    texts = {"fast": "3", "width": "1e-3", "careful": "yes", "label": "7"}
    made: Any = with_parameters(handler, texts)
    assert (made.fast, made.width, made.careful, made.label) == (3, 0.001, True, "7")
    assert (made.__name__, made.__module__) == ("EmaCross", "my_own")
    assert made.version == "1+careful=True,fast=3,label=7,width=0.001", "its state is another's"
    assert with_parameters(handler, {"fast": "12"}).version == "1", "as it is anyway"
    assert len(with_parameters(handler, {"label": "x" * 200}).version) < 30


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("path", "texts", "told"),
    [
        ("my_own", {}, "write it as module:Class"),
        ("no_such:Thing", {}, "is the file in this folder"),
        ("broken_one:Thing", {}, "No module named 'no_such_package_here'"),
        ("my_own:Missing", {}, "my_own has no Missing; handlers in it: EmaCross, Rows"),
        ("my_own:Idle", {}, "give it a method handle"),
        ("my_own:Deaf", {}, "did you mean ticks?"),
        ("my_own:Spelled", {}, "write it as {'ticks'}"),
        ("my_own:EmaCross", {"width": "nan"}, "width='nan' is no float"),
        ("my_own:Neither", {}, "is no handler"),
        ("my_own:EmaCross", {"slow": "3"}, "has no parameter 'slow'; it has: careful=False"),
        ("my_own:EmaCross", {"tasks": "3"}, "has no parameter 'tasks'"),
        ("my_own:EmaCross", {"fast": "x"}, "fast='x' is no int (it is 12 now)"),
        ("my_own:EmaCross", {"careful": "perhaps"}, "careful='perhaps' is no bool"),
    ],
)
def test_what_leads_to_no_handler_is_told_with_its_cure(
    path: str, texts: dict[str, str], told: str
) -> None:
    with pytest.raises(UnknownHandler) as error:
        with_parameters(load_handler(path), texts)
    assert told in str(error.value)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("name", "told"),
    [("Unmade", "(OSError: no model file): correct it"),
     ("NotSetUp", "(RuntimeError: in two lines): correct it")],
)  # fmt: skip
def test_code_that_cannot_begin_is_told_before_anything_runs(name: str, told: str) -> None:
    [spec] = group_specs("mine", handler=f"my_own:{name}")
    with pytest.raises(UnknownHandler) as error:
        spec.try_out()
    assert told in str(error.value)
    [good] = group_specs("mine", handler="my_own:EmaCross")
    good.try_out()


@pytest.mark.usefixtures("folder")
def test_every_strategy_is_a_group_of_its_own() -> None:
    enabled = ["my_own:EmaCross", "quick=my_own:EmaCross"]
    specs = group_specs("strategy", strategies=enabled)
    assert [spec.name for spec in specs] == ["strategy.ema-cross", "strategy.quick"]
    assert [spec.name for spec in group_specs("strategy.quick", strategies=enabled)] == [
        "strategy.quick"
    ]
    with pytest.raises(UnknownHandler, match="twice"):
        group_specs("strategy", strategies=["my_own:EmaCross", "my_own:EmaCross"])
    with pytest.raises(UnknownGroup, match="STRATEGIES"):
        group_specs("strategy")


def test_risk_is_known_and_an_unknown_name_lists_what_there_is() -> None:
    [risk] = group_specs("risk")
    made = risk.group()
    assert isinstance(made, Group)
    assert made.handler is RiskHandler
    with pytest.raises(UnknownGroup) as error:
        group_specs("rsik")
    for name in ("persist", "risk", "strategy", "--handler"):
        assert name in str(error.value)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("taken", ["source", "operator", "persist", "strategy", "No Name"])
def test_some_names_cannot_be_given_to_a_group(taken: str) -> None:
    with pytest.raises(UnknownGroup):
        group_specs(taken, handler="my_own:EmaCross")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--group", "nonsense"], "there is no group 'nonsense'"),
        (["--handler", "my_own:EmaCross", "--set", "fast"], "write it as NAME=VALUE"),
        (["--handler", "my_own:Nothing"], "has no Nothing"),
        (["--group", "persist", "--workers", "17"], "at most 16"),
        (["--set", "fast=3"], "group persist has no parameters"),
        (["--group", "strategy", "--set", "fast=3"], "use it with --handler"),
    ],
)
def test_a_wrong_command_is_refused_in_a_line(arguments: list[str], told: str) -> None:
    done = CliRunner().invoke(consume, arguments)
    assert done.exit_code == 2
    assert told in done.output


def test_the_figures_of_group_persist_are_those_it_has() -> None:
    assert (PERSIST_LEASE_S, THREADS_MAX) == (PERSIST_LEASE_KEPT_S, PERSIST_THREADS_MAX)


@pytest.mark.usefixtures("folder")
def test_a_worker_is_given_everything_that_its_command_was() -> None:
    [spec] = group_specs("mine", handler="my_own:EmaCross", parameters={"fast": "3"})
    choice = RunChoice(3, ("a", "b"), 2.5, 77, Begin.NEWEST, until_idle=True)
    words = " ".join(choice.arguments(spec, 2))
    for part in (
        "consume --as-worker 2", "--group mine", "--handler my_own:EmaCross", "--set fast=3",
        "--terminal a", "--terminal b", "--lease 2.5", "--batch 77", "--from newest",
        "--until-idle",
    ):  # fmt: skip
        assert part in words


def test_a_report_comes_back_from_its_line_and_others_lines_are_none() -> None:
    report = Report("h:1/ab", 1, ("x",), {"x": {"entries": 3}}, 0, {}, "")
    assert Report.parse(report.line()) == report
    for line in ("", "a handler printed this", "{}", "[1]", "7", '{"worker": "x"}'):
        assert Report.parse(line) is None


def state(**more: Any) -> CrewState:
    task = TaskStatus(
        SLOT, "host:12/ab", more.pop("halted", ""), {Lane.HIGH: 0, Lane.NORMAL: 5}, False
    )
    free = TaskStatus(Slot("demo", "ema-cross", 1), "", "", {Lane.NORMAL: None}, False)
    done = {str(SLOT): Totals(1000, 12, 2, 9)}
    return CrewState("ema-cross", [task, free], done, workers=2, **more)


def test_a_line_tells_how_a_group_fares() -> None:
    assert status_line(state(), 1234.5) == (
        "ema-cross: 1000 entries (1234/s), 12 derived, 1 of 2 tasks held, 5+ behind, 2 dead letters"
    )
    ended = status_line(state(fenced=1, restarts=3, halted="cut"), None)
    assert ended == (
        "ema-cross: 1000 entries, 12 derived, 2 dead letters, 1 times fenced, 3 restarts, "
        "1 tasks HALTED"
    )


def test_a_window_shows_every_task_with_holder_lag_and_halt() -> None:
    out = io.StringIO()
    screen = WindowScreen("title", console=Console(file=out, width=160, force_terminal=True))
    try:
        screen.line("ema-cross-0", "a line of a worker")
        screen.refresh(lambda: [state(halted="the log was cut", waiting="no answer")])
    finally:
        screen.close()
    shown = out.getvalue()
    for part in (
        "title", "{demo:ema-cross:0}", "host:12", "nobody", "normal behind", "HALTED: the log was",
        "waiting: no answer", "a line of a worker", "dead letters",
    ):  # fmt: skip
        assert part in shown, part
