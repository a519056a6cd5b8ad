"""The rules of the house, checked: sizes, names, drivers, time. Each failure names its cure."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import consumers
import events
import producers

ROOT = Path(__file__).parents[2]
ROOMS = ("events", "producers", "consumers")
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
FILES_PER_FOLDER_MAX = 12
TOP_LEVEL = {
    "producers", "consumers", "events", "bridgectl.py", "grafana", "tests", "pyproject.toml",
    "docker-compose.yml", "README.md", "docs", "benchmarks", "justfile", "CHANGELOG.md", "LICENSE",
    "CONTRIBUTING.md",
}  # fmt: skip
WORDS = {
    r"\b(TODO|FIXME|XXX)\b": "do it, or leave it out",
    r"\bqty\b": "volume_lots",
    r"\bexactly-once delivery\b": "exactly-once effect",
}


def sources() -> list[Path]:
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    return sorted([*files, ROOT / "bridgectl.py"])


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_the_packages_are_ours_and_not_others_of_the_same_name() -> None:
    for room in (events, producers, consumers):
        assert room.__file__ is not None
        assert Path(room.__file__).parent.parent == ROOT


def test_nothing_unexpected_stands_at_the_top() -> None:
    import subprocess

    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("no checkout")
    tops = {line.split("/")[0] for line in listed.stdout.splitlines()}
    assert {top for top in tops if not top.startswith(".")} <= TOP_LEVEL


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_a_file_is_one_concept() -> None:
    sizes = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    too_long = {file: lines for file, lines in sizes.items() if lines > FILE_LINES_MAX}
    assert not too_long, f"split by concept, at most {FILE_LINES_MAX} lines"


def test_functions_are_short() -> None:
    too_long = {
        f"{name(path)}: {node.name}": lines
        for path in sources()
        for node in functions(path)
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAX
    }
    assert not too_long, f"at most {FUNCTION_LINES_MAX} lines each"


def test_folders_stay_small() -> None:
    folders = Counter(path.parent for path in sources() if path.name != "__init__.py")
    del folders[ROOT]
    too_many = {
        name(folder): files for folder, files in folders.items() if files > FILES_PER_FOLDER_MAX
    }
    too_many.pop("events", None)  # the ground floor lies open: one file per concept
    assert not too_many, "make a room of the files that belong together"


def test_words_have_one_meaning() -> None:
    found = [
        f"{name(path)}:{number}: {match.group()!r}: {cure}"
        for path in sources()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for word, cure in WORDS.items()
        if (match := re.search(word, line, re.IGNORECASE))
    ]
    assert found == []


def test_no_file_is_a_drawer() -> None:
    drawers = re.compile(r"(utils?|helpers?|manager|misc|common|tools)(\.py)?")
    found = [name(p) for p in sources() if any(drawers.fullmatch(part) for part in p.parts[-2:])]
    assert found == [], "say what the file holds"


def test_nothing_on_a_wire_is_pickled_or_evaluated() -> None:
    found = []
    for path in sources():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = getattr(node, "module", None) or ""
                names = {module, *(alias.name for alias in node.names)}
                if names & {"pickle", "marshal", "shelve"}:
                    found.append(f"{name(path)}: imports {names}")
            called = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
            if called in {"eval", "exec"}:
                found.append(f"{name(path)}:{node.lineno}: {called}")
    assert found == []


def test_files_and_public_classes_are_documented() -> None:
    found = []
    for path in sources():
        module = tree(path)
        if module.body and not ast.get_docstring(module):
            found.append(f"{name(path)}: say what the file is for")
        found += [
            f"{name(path)}: {node.name} has no docstring"
            for node in module.body
            if isinstance(node, ast.ClassDef)
            and not node.name.startswith("_")
            and not ast.get_docstring(node)
        ]
    assert found == []


def test_the_roof_is_imported_by_nobody() -> None:
    for path in sources():
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(import|from) bridgectl", text, re.MULTILINE), name(path)


def test_no_machine_path_is_named() -> None:
    for path in sources():
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(?<![\w.])/(work|root|home)/", text), name(path)
