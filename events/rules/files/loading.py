"""From a rule file to rules: read, put on its pack, checked, every problem with its line."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from events.rules.files.calendars import read_calendar
from events.rules.files.checks import contradictions
from events.rules.files.lines import Located, Unreadable, located_toml, located_yaml
from events.rules.files.lines import Path as KeyPath
from events.rules.files.packs import NAMED, Origins, merged, pack_text
from events.rules.model import Rules

BYTES_MAX = 1_048_576
SUFFIXES = (".toml", ".yaml", ".yml")
GIVEN_CHARS_MAX = 60


class BadRules(ValueError):
    """Rules that cannot be used. `problems`: one line each, `file:line: key: reason, cure`."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(self.problems))


def load_rules(path: Path | str) -> Rules:
    """Read and check a rule file (TOML; YAML with the extra `yaml`). Raises BadRules."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise BadRules([f"{path}:1: a rule file ends in {', '.join(SUFFIXES)}"])
    try:
        if path.stat().st_size > BYTES_MAX:
            raise BadRules([f"{path}:1: larger than {BYTES_MAX} bytes: that is no rule file"])
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRules([f"{path}:1: cannot be read: {error}"]) from error
    return rules_of_text(text, where=str(path), folder=path.parent)


def rules_of_text(text: str, *, where: str, folder: Path) -> Rules:
    """Rules of the text of a file called `where`; calendars lie in `folder`. Raises BadRules."""
    yaml = where.lower().endswith((".yaml", ".yml"))
    try:
        located = located_yaml(text) if yaml else located_toml(text)
    except Unreadable as error:
        raise BadRules([f"{where}:{error.line or 1}: {error}"]) from error
    return _Loading(located, where=where, folder=folder).rules()


class _Loading:
    """One file on its way."""

    def __init__(self, located: Located, *, where: str, folder: Path) -> None:
        self.located = located
        self.where = where
        self.folder = folder
        self.origins: Origins = {}
        self.problems: list[str] = []

    def rules(self) -> Rules:
        content = self._on_its_pack(self.located.content)
        self._read_calendars(content)
        try:
            rules = Rules.model_validate(content)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                self._say(*_described(detail))
            raise BadRules(dict.fromkeys(self.problems)) from error
        for path, reason in contradictions(rules):
            self._say(path, reason)
        if self.problems:
            raise BadRules(self.problems)
        return rules

    def _on_its_pack(self, own: dict[str, Any]) -> dict[str, Any]:
        without = own.get("without", [])
        if not isinstance(without, list):
            self._say(("without",), 'is no list: write without = ["name of a limit"]')
            without = []
        base: dict[str, Any] = {}
        if "extends" in own:
            try:
                base = located_toml(pack_text(str(own["extends"]))).content
            except KeyError as error:
                self._say(("extends",), str(error.args[0]))
        known = {row["name"] for name in NAMED for row in base.get(name, [])}
        for name in without:
            if name not in known:
                self._say(("without",), f"the pack has no {name!r}: it has {', '.join(known)}")
        content, self.origins = merged(base, own)
        return content

    def _read_calendars(self, content: dict[str, Any]) -> None:
        windows = content.get("windows", [])
        for index, window in enumerate(windows if isinstance(windows, list) else []):
            if not isinstance(window, dict) or not window.get("file"):
                continue
            path, zone = self.folder / str(window["file"]), str(window.get("zone", "UTC"))
            try:
                moments = read_calendar(path, zone=zone)
            except Unreadable as error:
                place = f"{path}:{error.line}" if error.line else str(path)
                self._say(("windows", index, "file"), f"{place}: {error}")
            except OSError as error:
                self._say(("windows", index, "file"), f"{path} cannot be read: {error.strerror}")
            else:
                windows[index] = {**window, "times": [*window.get("times", []), *moments]}

    def _say(self, path: KeyPath, reason: str) -> None:
        line = self.located.line(self._own(path))
        key = ".".join(str(part) for part in path if not isinstance(part, int))
        self.problems.append(f"{self.where}:{line}: {key}: {reason}")

    def _own(self, path: KeyPath) -> KeyPath:
        """A path of the merged rules in the file: what the pack brought stands at `extends`."""
        if len(path) < 2 or not isinstance(path[1], int):
            return path
        place = self.origins.get((str(path[0]), path[1]))
        return ("extends",) if place is None else (path[0], place, *path[2:])


def _described(detail: Any) -> tuple[KeyPath, str]:
    """Path and line of one pydantic error."""
    path: KeyPath = tuple(detail["loc"])
    key, given = str(path[-1]), detail.get("input")
    if detail["type"] == "extra_forbidden":
        near = get_close_matches(key, list(_known_keys(path)), n=1)
        return path, "is no key here: " + (f"did you mean {near[0]}?" if near else "remove it")
    if detail["type"] == "missing":
        return path, "is missing: write it"
    shown = repr(given)
    shown = shown if len(shown) <= GIVEN_CHARS_MAX else shown[: GIVEN_CHARS_MAX - 1] + "…"
    expected = (detail.get("ctx") or {}).get("expected")
    if expected:
        return path, f"is {shown}: allowed is {expected}"
    message = detail["msg"][0].lower() + detail["msg"][1:]
    return path, f"is {shown}: {message}"


def _known_keys(path: KeyPath) -> Iterator[str]:
    """Names of the keys beside the one a path leads to."""
    model: Any = Rules
    for part in path[:-1]:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        model = _model_in(field.annotation) if field else None
        if model is None:
            return
    yield from model.model_fields
    if model is Rules:
        yield "without"


def _model_in(annotation: Any) -> Any:
    """The model an annotation such as `tuple[Limit, ...] | None` is about."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    for one in get_args(annotation) if get_origin(annotation) else ():
        if (found := _model_in(one)) is not None:
            return found
    return None
