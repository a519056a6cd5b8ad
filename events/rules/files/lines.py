"""Content of a TOML or YAML text, and the line on which each of its keys stands."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

Path = tuple[str | int, ...]

_TABLE = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*[A-Za-z0-9_"'-]+)*)\s*=""")
_TOML_WHERE = re.compile(r"\(at line (\d+), column \d+\)")
DEPTH_MAX = 16


class Unreadable(ValueError):
    """Text that is no TOML or YAML. `line` counts from 1; 0: unknown."""

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(reason)
        self.line = line


class Located:
    """A table with the lines of its keys."""

    def __init__(self, content: dict[str, Any], lines: Mapping[Path, int]) -> None:
        self.content = content
        self._lines = lines

    def line(self, path: Path) -> int:
        """The line of a key, else of the nearest table around it; 1 where nothing is known."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._lines:
                return self._lines[path[:length]]
        return 1


def located_toml(text: str) -> Located:
    """Raises Unreadable."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = _TOML_WHERE.search(str(error))
        line = int(where[1]) if where else len(text.splitlines())
        raise Unreadable(_TOML_WHERE.sub("", str(error)).strip(), line) from error
    except RecursionError as error:
        raise Unreadable("too deeply nested") from error
    return Located(content, _toml_lines(text))


def _toml_lines(text: str) -> dict[Path, int]:
    """Lines of keys and tables of a text that tomllib has accepted."""
    lines: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    open_until = ""
    depth = 0
    for number, line in enumerate(text.splitlines(), 1):
        if not open_until and depth == 0:
            if header := _TABLE.match(line):
                table = _table(header, counts)
                lines.setdefault(table, number)
            elif key := _KEY.match(line):
                lines.setdefault((*table, *_parts(key[1])), number)
        open_until, depth = _after(line, open_until, depth)
    return lines


def _table(header: re.Match[str], counts: dict[Path, int]) -> Path:
    """The path of a table header; elements of arrays are counted."""
    path: Path = ()
    parts = _parts(header[2])
    for index, part in enumerate(parts):
        path = (*path, part)
        if header[1] == "[[" and index == len(parts) - 1:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path


def _parts(dotted: str) -> tuple[str, ...]:
    found = re.findall(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""", dotted)
    return tuple(part.strip("\"'") for part in found)


def _after(line: str, open_until: str, depth: int) -> tuple[str, int]:
    """Whether a long string or an array stays open after a line."""
    position = 0
    while position < len(line):
        if open_until:
            end = line.find(open_until, position)
            if end < 0:
                break
            position, open_until = end + len(open_until), ""
            continue
        character = line[position]
        if character == "#":
            break
        if character in "\"'":
            long = line[position : position + 3] == character * 3
            open_until = character * 3 if long else character
            position += len(open_until)
            continue
        depth += (character in "[{") - (character in "]}")
        position += 1
    return (open_until if len(open_until) == 3 else ""), max(0, depth)


def located_yaml(text: str) -> Located:
    """YAML 1.2's plain values: `22:00` and `off` are text. Raises Unreadable; ImportError names
    the extra where PyYAML is not installed."""
    try:
        import yaml
    except ImportError as error:
        raise Unreadable(
            "YAML needs PyYAML: pip install 'mt5-stream-bridge[yaml]', or write TOML"
        ) from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise Unreadable(str(error.problem or error.context or "no YAML"), line) from error
    except yaml.YAMLError as error:
        raise Unreadable(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise Unreadable("too deeply nested") from error
    lines: dict[Path, int] = {}
    content = {} if root is None else _value(root, (), lines, set())
    if not isinstance(content, dict):
        raise Unreadable("the file is no table of keys", 1)
    return Located(content, lines)


_PLAIN: tuple[tuple[re.Pattern[str], Any], ...] = (
    (re.compile(r"~|null|Null|NULL|"), lambda _: None),
    (re.compile(r"true|True|TRUE"), lambda _: True),
    (re.compile(r"false|False|FALSE"), lambda _: False),
    (re.compile(r"[-+]?[0-9]+"), int),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
)
"""The core schema of YAML 1.2.2, without octals and infinities."""


def _value(node: Any, path: Path, lines: dict[Path, int], seen: set[int]) -> Any:
    """The content of a node. Anchors are refused: a few lines of them can mean gigabytes."""
    line = node.start_mark.line + 1
    if len(path) > DEPTH_MAX:
        raise Unreadable("too deeply nested", line)
    if id(node) in seen:
        raise Unreadable("is referred to twice (*): write it out in each place", line)
    seen.add(id(node))
    lines.setdefault(path, line)
    if node.id == "mapping":
        table: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, key_line = str(key_node.value), key_node.start_mark.line + 1
            if key in table:
                raise Unreadable(f"{key} is there twice", key_line)
            lines[(*path, key)] = key_line
            table[key] = _value(value_node, (*path, key), lines, seen)
        return table
    if node.id == "sequence":
        rows = enumerate(node.value)
        return [_value(one, (*path, index), lines, seen) for index, one in rows]
    if node.style is None:
        for pattern, convert in _PLAIN:
            if pattern.fullmatch(node.value):
                return convert(node.value)
    return node.value
