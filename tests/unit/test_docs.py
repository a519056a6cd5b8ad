"""The pages for people say what the code does: links, paths, commands, settings, words."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from benchmarks import capture_loss
from events.codec import EVENT_TYPES, encode
from events.log import Lane
from events.running import RunResult
from events.settings import TerminalSettings, load, setting_rows
from events.settings.model import Settings
from tests import docs_generator, golden
from tests.markdown_pages import Page, anchor, read_page

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
ARCHITECTURE = ROOT / "docs" / "ARCHITECTURE.md"
MEASURED = ROOT / "docs" / "MEASURED.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
LINES_MAX = {"README.md": 200, "ARCHITECTURE.md": 250, "CONTRIBUTING.md": 100, "COMMANDS.md": 1_500}
OWN_FOLDERS = ("events", "producers", "consumers", "tests", "docs", "benchmarks", "grafana")
COMMANDS = {one.name: one for one in docs_generator.commands()}
ROOMS = ("events", "producers", "consumers")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(params=PAGES, ids=[path.name for path in PAGES])
def page(request: pytest.FixtureRequest) -> Page:
    return read_page(request.param)


@pytest.fixture
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings but the test's own, in an empty working folder."""
    for setting in [row.name for row in setting_rows()] + ["BRIDGE_ENV_FILE"]:
        monkeypatch.delenv(setting, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("made", docs_generator.PAGES)
def test_a_generated_page_is_what_the_code_says(made: str) -> None:
    text = (ROOT / made).read_text(encoding="utf-8")
    assert text == docs_generator.PAGES[made](), "run `python -m tests.docs_generator`"


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_command_tells_what_it_does_and_shows_examples_that_parse(
    command: docs_generator.Command, nothing_set: None
) -> None:
    texts = [text for verbatim, text in command.paragraphs() if not verbatim]
    assert texts, "the docstring of the command is its help"
    assert command.examples(), "show how to call it, behind a line with \\b"
    for line in command.examples():
        parse(line)


def test_an_option_says_what_it_means() -> None:
    silent = [
        f"{one.name} {option.opts[-1]}"
        for one in COMMANDS.values()
        for option in one.command.params
        if isinstance(option, click.Option) and not option.help and not _plain(option)
    ]
    assert silent == []


def _plain(option: click.Option) -> bool:
    """Options whose name and default say everything (`--leverage 100`)."""
    return bool(option.show_default) and option.default not in (None, "", False)


def parse(line: str) -> tuple[docs_generator.Command, click.Context]:
    """A line such as `bridgectl up --for 30s` as click understands it; raises on what it does
    not. Behind two spaces, `#` or `|` stands what is not ours."""
    words = shlex.split(re.split(r"\s{2,}|\s[#|]\s?", line)[0])
    if words[1] == "--env-file":
        del words[1:3]
    words = [word for word in words if word not in ("-v", "--verbose")]
    for length in (4, 3, 2):
        found = COMMANDS.get(" ".join(words[:length]))
        if found is not None:
            context = found.command.make_context(found.name, words[length:])
            return found, context
    raise AssertionError(f"{line!r}: there is no such command; there is {', '.join(COMMANDS)}")


def test_commands_shown_on_pages_exist_with_their_options(page: Page, nothing_set: None) -> None:
    for line in shown_commands(page):
        if line.endswith(("-h", "--help", "--version")) or line == "bridgectl":
            continue
        try:
            parse(line)
        except click.MissingParameter:
            assert line in COMMANDS, f"{name(page.path)}: `{line}` lacks something"
        except click.UsageError as error:
            pytest.fail(f"{name(page.path)}: `{line}`: {error.format_message()}")


def shown_commands(page: Page) -> Iterator[str]:
    """`bridgectl ...` in shell blocks, wherever it stands in the line, and between backticks."""
    for block in page.blocks:
        if block.language in ("sh", "powershell", "bat"):
            for line in block.commands():
                for part in re.split(r"&&|;", line):
                    found = re.search(r"\bbridgectl(\.exe)?(\s.*)?$", part.strip())
                    if found:
                        yield f"bridgectl{found.group(2) or ''}"
    for word in page.code_words():
        ours = word.startswith("bridgectl ") and not re.search(r"\.\.\.|COMMAND|ARGUMENTS", word)
        if ours and word not in ("bridgectl terminal", "bridgectl verify", "bridgectl up --"):
            yield word


def test_every_setting_says_what_it_is_and_what_is_allowed() -> None:
    for row in setting_rows():
        assert len(row.description) > 5, row.name
        assert row.allowed, row.name


def test_every_setting_does_something() -> None:
    """A setting that no code reads would be a promise nobody keeps."""
    read = {
        node.attr
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
    }
    by_prefix = {field for field in Settings.model_fields if field.startswith("risk_")}
    assert set(Settings.model_fields) - read - by_prefix == set()


def test_the_example_file_has_exactly_the_settings() -> None:
    shown = [one for names in docs_generator.sections().values() for one in names]
    assert sorted(shown) == sorted(row.name for row in setting_rows())
    assert len(shown) == len(set(shown))


def test_links_lead_somewhere(page: Page) -> None:
    broken = []
    for link in page.links():
        if re.match(r"[a-z]+:", link):
            continue
        target, _, place = link.partition("#")
        file = (page.path.parent / target).resolve() if target else page.path
        if not file.exists() or ROOT not in (file, *file.parents):
            broken.append(f"{link}: no such file")
        elif place and file.suffix == ".md" and place not in read_page(file).anchors():
            broken.append(f"{link}: no such heading")
    assert broken == [], name(page.path)


def test_links_into_tests_name_a_test_that_exists(page: Page) -> None:
    """`[words](tests/unit/test_x.py)` followed by `test_name` would rot silently otherwise."""
    for file, test in re.findall(r"\]\(([^)#]*test_\w+\.py)\)\s*`(test_\w+)`", page.text):
        text = (page.path.parent / file).read_text(encoding="utf-8")
        assert f"def {test}(" in text, f"{name(page.path)}: {file} has no {test}"


def test_paths_named_on_pages_exist(page: Page) -> None:
    if page.path.name == "CHANGELOG.md":
        return  # it also tells of what is gone
    missing = []
    for word in page.code_words():
        path = word.partition(":")[0].rstrip("/")
        ours = re.fullmatch(rf"({'|'.join(OWN_FOLDERS)})(/[\w.-]+)+", path)
        if ours and not (ROOT / path).exists():
            missing.append(word)
    assert missing == [], name(page.path)


def test_places_named_as_file_and_name_exist() -> None:
    """`producers/append.py:Writer.settle` names something that is there."""
    for word in read_page(ARCHITECTURE).code_words():
        found = re.fullmatch(r"([\w/]+\.py):([\w.]+)", word)
        if found:
            assert defines(ROOT / found.group(1), found.group(2)), word


def defines(path: Path, dotted: str) -> bool:
    nodes: list[Any] = [ast.parse(path.read_text(encoding="utf-8"))]
    for part in dotted.split("."):
        nodes = [child for node in nodes for child in node.body if part in _names(child)]
    return bool(nodes)


def _names(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else []
    if isinstance(node, ast.AnnAssign):
        targets = [node.target]
    return {sub.id for one in targets for sub in ast.walk(one) if isinstance(sub, ast.Name)}


def test_every_room_stands_in_the_architecture() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    rooms = [
        folder for floor in ROOMS for folder in (ROOT / floor).iterdir()
        if folder.is_dir() and (folder / "__init__.py").exists()
    ]  # fmt: skip
    assert [name(room) for room in rooms if f"{name(room)}/" not in text] == []


def test_the_table_of_lanes_is_that_of_the_code() -> None:
    lanes = {lane.label: set() for lane in Lane}  # type: dict[str, set[str]]
    for kind in EVENT_TYPES.values():
        lanes[kind.LANE.label].add(kind.TYPE)
    for event, history in golden.packed():
        entry = encode(event, history=history)
        lanes[entry.lane.label].add(entry.type.partition(".")[0])
    told = {
        label: set(re.findall(r"`(\w+)`", row))
        for label, row in re.findall(
            r"^\| (critical|high|normal|low) \| (.*) \|$", ARCHITECTURE.read_text(), re.MULTILINE
        )
    }
    assert told == lanes


def test_pages_are_short_enough_to_be_read(page: Page) -> None:
    lines_max = LINES_MAX.get(page.path.name, 1_000)
    assert len(page.text.splitlines()) <= lines_max


def test_pages_are_about_the_project_alone(page: Page) -> None:
    found = re.findall(r"(?<![\w.])/(?:work|root|tmp)/\S*|\bTODO\b|\bTBD\b", page.text)
    assert found == []


def test_words_of_the_glossary_name_things_in_the_code() -> None:
    page = read_page(ROOT / "docs" / "GLOSSARY.md")
    known = identifiers()
    unknown = []
    for row in re.findall(r"^\| ([^|]+) \| ", page.prose, re.MULTILINE):
        for word in row.split(", "):
            parts = re.split(r"[\s_-]+", word.strip("`").lower())
            if word not in ("word", "trade", "lag") and not all(
                any(form in known for form in (part, f"{part}s", part.rstrip("s")))
                for part in parts
            ):
                unknown.append(word)
    assert unknown == [], "the glossary names code: keep it true"


def sources() -> list[Path]:
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    return [*files, ROOT / "bridgectl.py"]


def identifiers() -> set[str]:
    """Words that names of files, classes, functions and variables are made of, in lower case."""
    names: set[str] = set()
    for path in sources():
        names |= set(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for field in ("name", "id", "attr", "arg"):
                found = getattr(node, field, None)
                if isinstance(found, str):
                    names.add(found)
    parts = [part for one in names for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", one)]
    return {part.lower() for part in parts} | {one.lower() for one in names}


def test_an_anchor_is_made_as_on_github() -> None:
    assert anchor("The life of a tick") == "the-life-of-a-tick"
    assert anchor("`bridgectl up`, in short") == "bridgectl-up-in-short"
    assert anchor("Read-only [open](x.md) questions?") == "read-only-open-questions"


def test_the_terminals_page_names_every_field_of_a_terminal() -> None:
    words = " ".join(read_page(ROOT / "docs" / "TERMINALS.md").code_words())
    fields = set(TerminalSettings.model_fields) - {"name"} | {"password_env", "token_env"}
    assert {field for field in fields if not re.search(rf"\b{field}\b", words)} == set()


def test_examples_of_terminals_toml_can_be_used(
    nothing_set: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    examples = [
        block.text for path in PAGES for block in read_page(path).blocks
        if block.language == "toml" and "[terminals." in block.text
    ]  # fmt: skip
    assert examples
    for text in examples:
        for secret in re.findall(r'_env\s*=\s*"(\w+)"', text):
            monkeypatch.setenv(secret, "a-secret-of-the-test")
        (tmp_path / "terminals.toml").write_text(text, encoding="utf-8")
        names = [terminal.name for terminal in load().terminals()]
        assert names == list(tomllib.loads(text)["terminals"])


def test_examples_of_env_files_can_be_used(nothing_set: None, tmp_path: Path) -> None:
    examples = [
        block.text for path in PAGES for block in read_page(path).blocks
        if block.language in ("ini", "dotenv")
    ]  # fmt: skip
    assert examples
    for text in examples:
        (tmp_path / ".env").write_text(text, encoding="utf-8")
        load()


def test_the_fields_of_a_run_are_told() -> None:
    page = read_page(ROOT / "docs" / "OPERATIONS.md")
    result = RunResult(
        ending="time", took_s=1.0, redis="", database="", drained=True, entries_by_lane={},
        restarts=0,
    )  # fmt: skip
    table = page.prose.partition("| field | is |")[2].partition("\n\n")[0]
    fields = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)))
    assert sorted(fields) == sorted(result.to_json())


def test_every_benchmark_is_told_and_exists() -> None:
    told = set(re.findall(r"`python -m benchmarks\.(\w+)[ `]", MEASURED.read_text("utf-8")))
    assert told == {path.stem for path in (ROOT / "benchmarks").glob("[a-z]*.py")}


def test_python_examples_compile(page: Page) -> None:
    for block in page.blocks:
        if block.language == "python":
            compile(block.text, f"{page.path}:{block.line}", "exec")


def test_the_sandbox_example_prints_an_account_and_a_tick(tmp_path: Path) -> None:
    page = read_page(ROOT / "docs" / "TERMINALS.md")
    [block] = [block for block in page.blocks if block.language == "python"]
    done = subprocess.run(
        [sys.executable, "-c", block.text],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert re.match(r"\d+\.\d+ Tick\(time=", done.stdout), done.stdout + done.stderr


def test_figures_of_the_readme_are_what_the_benchmark_prints() -> None:
    text = README.read_text(encoding="utf-8")
    files = sorted((ROOT / "tests" / "data").glob("*.csv.gz"))
    results = [capture_loss.measure(file) for file in files]
    assert f"| way of capturing | {' | '.join(kept.symbol for kept in results)} |" in text
    told = re.findall(r"^\| ([^|]+) \| (\d+\.\d\d % \| .*) \|$", text, re.MULTILINE)
    titles = {title: way for way, title in capture_loss.WAYS.items()}
    assert len(told) == 4
    for title, figures in told:
        shares = [f"{kept.percent(titles[title]):.2f} %" for kept in results]
        assert figures == " | ".join(shares)


# --- the two lines of the README, CI and packaging


def project() -> dict[str, Any]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found: dict[str, Any] = tomllib.loads(text)["project"]
    return found


def install_lines() -> list[str]:
    return [
        line for block in read_page(README).blocks if block.language in ("sh", "powershell")
        for line in block.commands() if "pip install" in line or line.startswith("uv ")
    ]  # fmt: skip


def test_the_readme_has_both_lines_for_unix_windows_and_uv() -> None:
    lines = install_lines()
    for extra, program in (("embedded", "bridgectl up"), ("dev", "pytest")):
        unix = f'python3 -m venv .venv && .venv/bin/pip install -e ".[{extra}]" && .venv/bin/'
        assert f"{unix}{program}" in lines
        assert f"uv run --extra {extra} {program}" in lines
        windows = rf'py -m venv .venv; .venv\Scripts\pip install -e ".[{extra}]"; .venv\Scripts'
        assert rf"{windows}\{program}" in lines


def test_what_the_readme_installs_exists() -> None:
    extras = set(project()["optional-dependencies"])
    asked = {extra for line in install_lines() for extra in re.findall(r"\[(\w+)\]", line)}
    asked |= {extra for line in install_lines() for extra in re.findall(r"--extra (\w+)", line)}
    assert asked == {"embedded", "dev"}
    assert asked <= extras
    assert "bridgectl" in project()["scripts"]
    assert any(one.startswith("pytest") for one in project()["optional-dependencies"]["dev"])


def test_ci_makes_the_environment_as_the_readme_does_and_calls_recipes_alone() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    lines = [line for line in script.splitlines() if line and not line.startswith("#")]
    recipes = set(re.findall(r"^(\w[\w-]*)[^:\n=]*:(?!=)", justfile(), re.MULTILINE))
    assert "python3 -m venv .venv" in lines
    installs = [line for line in lines if "pip install" in line]
    assert len(installs) == 1
    assert installs[0].endswith('-e ".[dev]"')
    others = set(lines) - set(installs) - {"python3 -m venv .venv"}
    for line in others:
        called = re.fullmatch(r"\.venv/bin/just ([\w-]+)", line)
        assert line.startswith(("set ", "cd ")) or (called and called.group(1) in recipes), line


def justfile() -> str:
    return (ROOT / "justfile").read_text(encoding="utf-8")


def test_the_recipes_run_what_the_readme_runs() -> None:
    assert 'bin := ".venv/bin"' in justfile()
    assert "{{bin}}/pytest" in justfile()
    assert "{{bin}}/bridgectl up" in justfile()
    assert 'pip install -q -e ".[dev]"' in justfile()


def test_the_wheel_holds_everything_the_program_reads() -> None:
    """Built by the project's own backend, file by file as it would be installed."""
    pytest.importorskip("hatchling", reason="the build backend is not installed")
    from hatchling.builders.wheel import WheelBuilder

    packed = {one.distribution_path for one in WheelBuilder(str(ROOT)).recurse_included_files()}
    wanted = {name(path) for room in ROOMS for path in (ROOT / room).rglob("*.*") if kept(path)}
    assert "bridgectl.py" in packed
    assert wanted - packed == set()
    assert any(path.endswith(".lua") for path in packed)
    assert any(path.endswith(".sql") for path in packed)
    assert not [path for path in packed if path.startswith(("tests", "docs", ".", "benchmarks"))]


def kept(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
