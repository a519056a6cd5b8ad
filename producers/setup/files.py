"""The settings files that `init` writes: a merged .env, further tables in terminals.toml."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from events.settings import BadSettings

_ASSIGNED = re.compile(r"^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=")
_PLAIN = re.compile(r"[A-Za-z0-9_.:/,+@=-]*")
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Draft:
    """A file as it would be written. `replaces` names settings whose values it changes."""

    path: Path
    text: str
    replaces: tuple[str, ...] = ()

    @property
    def exists(self) -> bool:
        return self.path.exists()


def env_draft(path: Path, values: Mapping[str, str]) -> Draft:
    """`.env` with these values; every other line of an existing file stays as it is."""
    lines = path.read_text(encoding="utf-8-sig").splitlines() if path.exists() else []
    left = dict(values)
    kept: list[str] = []
    replaced: list[str] = []
    for line in lines:
        found = _ASSIGNED.match(line)
        name = found[1].upper() if found else ""
        if name not in values:
            kept.append(line)
        elif name in left:
            new = f"{name}={env_value(left.pop(name))}"
            kept.append(new)
            if new != line.strip():
                replaced.append(name)
    kept += [f"{name}={env_value(value)}" for name, value in left.items()]
    return Draft(path, "\n".join(kept) + "\n", tuple(replaced))


def env_value(value: str) -> str:
    """A value as a .env file takes it: quoted where it holds more than plain characters."""
    if _PLAIN.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def terminals_draft(path: Path, tables: Mapping[str, Mapping[str, Any]]) -> Draft:
    """`terminals.toml` with further tables. Raises BadSettings where a name stands there already
    or the file cannot be read: such a file is a person's to change."""
    text = path.read_text(encoding="utf-8-sig") if path.exists() else ""
    try:
        present = tomllib.loads(text).get("terminals", {})
    except tomllib.TOMLDecodeError as error:
        raise BadSettings([f"{path} cannot be read: {error}"]) from error
    if taken := sorted(set(present) & set(tables)):
        raise BadSettings(
            [f"{path} has a terminal called {name} already: give another --name" for name in taken]
        )
    parts = [text.rstrip() + "\n" if text.strip() else ""]
    parts += [_table(name, fields) for name, fields in tables.items()]
    return Draft(path, "\n".join(part for part in parts if part))


def write(draft: Draft) -> None:
    """Replace the file, all or nothing; the former one stays beside it as `NAME.bak`."""
    draft.path.parent.mkdir(parents=True, exist_ok=True)
    if draft.exists:
        backup = draft.path.with_name(draft.path.name + ".bak")
        backup.write_bytes(draft.path.read_bytes())
        backup.chmod(0o600)
    fresh = draft.path.with_name(draft.path.name + ".new")
    fresh.write_text(draft.text, encoding="utf-8")
    fresh.chmod(0o600)
    fresh.replace(draft.path)


def _table(name: str, fields: Mapping[str, Any]) -> str:
    key = name if BARE_KEY.fullmatch(name) else json.dumps(name)
    lines = [f"[terminals.{key}]"]
    lines += [
        f"{field} = {_toml(value)}" for field, value in fields.items() if value not in ("", {})
    ]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """Strings, numbers, lists and tables of them; JSON's escapes are TOML's."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items())
        return f"{{{inner}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return json.dumps(value, ensure_ascii=False)
