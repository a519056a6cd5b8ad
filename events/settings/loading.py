"""From environment, .env and terminals.toml to frozen settings, with every problem named."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from dotenv.parser import Binding, parse_stream
from pydantic import AliasChoices, ValidationError
from pydantic.fields import FieldInfo

from events.settings.model import Settings
from events.settings.problems import BadSettings, bad_value, unknown_name
from events.settings.terminals import TerminalSettings, read_terminals

ENV_FILE = ".env"
TERMINALS_FILE = "terminals.toml"
OWN_PREFIXES = ("BRIDGE_", "MT5_", "RISK_", "ALERT_")
"""Names in the environment that can only be meant for us: a typing error there is reported."""
_PROGRAM = frozenset({"BRIDGE_ENV_FILE"})


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting for the docs and `.env.example`."""

    name: str
    default: str
    allowed: str
    description: str
    secret: bool


def load(*, env_file: Path | None = None, **overrides: Any) -> Settings:
    """Read and check every setting.

    `overrides` (by field name, None = not given) win over the environment, which wins over the
    .env file (`env_file`, else BRIDGE_ENV_FILE, else `.env` in the working folder). Raises
    BadSettings with one line per problem.
    """
    path = env_file or Path(os.environ.get("BRIDGE_ENV_FILE", ENV_FILE))
    in_file = _read_env_file(path, required=env_file is not None)
    in_environment = {name.upper(): value for name, value in os.environ.items()}
    values = in_file | in_environment
    given = {name: value for name, value in overrides.items() if value is not None}
    problems: list[str] = []
    referred: frozenset[str] = frozenset()
    settings: Settings | None = None
    try:
        settings = Settings(_env_file=path, **given)
        settings._terminals, referred = _terminals(settings, values)
    except ValidationError as error:
        problems += _lines(error, values, given, path=path, in_environment=in_environment)
    except BadSettings as error:
        problems += error.problems
    problems += _unknown(in_file, in_environment, referred, path)
    if problems or settings is None:
        raise BadSettings(problems)
    return settings


def setting_rows() -> tuple[SettingRow, ...]:
    """Every setting by its name in `.env`, in the order of the model."""
    return tuple(
        SettingRow(
            name=_names(name, field)[0],
            default=_default_text(field),
            allowed=_allowed(field),
            description=field.description or "",
            secret="SecretStr" in str(field.annotation),
        )
        for name, field in Settings.model_fields.items()
    )


def _read_env_file(path: Path, *, required: bool) -> dict[str, str]:
    if not path.is_file():
        if required:
            raise BadSettings([f"{path} is not there: name a file with NAME=value lines"])
        return {}
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = dotenv_values(stream=StringIO(text), interpolate=False)
        unread = [_line_number(one) for one in parse_stream(StringIO(text)) if one.error]
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings([f"{path} cannot be read: {error}"]) from error
    if unread:  # never the text: it may hold a secret
        raise BadSettings(
            f"line {line} of {path} cannot be read: write NAME=value, or # before a remark"
            for line in unread
        )
    if bare := [name for name, value in content.items() if value is None]:
        raise BadSettings([f"{name} in {path} has no value: write {name}=value" for name in bare])
    return {name.upper(): value for name, value in content.items() if value is not None}


def _line_number(binding: Binding) -> int:
    """Where it stands: dotenv counts the empty lines before it as its own."""
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")


def _lines(
    error: ValidationError,
    values: Mapping[str, str],
    given: Mapping[str, Any],
    *,
    path: Path,
    in_environment: Mapping[str, str],
) -> list[str]:
    """One line per field that is wrong, naming where its value came from."""
    lines = []
    for detail in error.errors(include_url=False, include_input=False, include_context=False):
        field_name = _field_name(str(detail["loc"][0]))
        field = Settings.model_fields[field_name]
        names = _names(field_name, field)
        name = next((name for name in names if name in values), names[0])
        if field_name in given:
            value, where = given[field_name], "the command line"
        else:
            value = values.get(name)
            where = "the environment" if name in in_environment else str(path)
        lines.append(
            bad_value(
                name,
                value,
                allowed=_allowed(field),
                where=where,
                secret="SecretStr" in str(field.annotation),
            )
        )
    return list(dict.fromkeys(lines))


def _terminals(
    settings: Settings, values: Mapping[str, str]
) -> tuple[tuple[TerminalSettings, ...] | None, frozenset[str]]:
    path = settings.bridge_terminals
    if path is None:
        path = Path(TERMINALS_FILE)
        if not path.is_file():
            return None, frozenset()
    return read_terminals(path, environment=values, symbols=settings.symbols)


def _unknown(
    in_file: Mapping[str, str],
    in_environment: Mapping[str, str],
    referred: frozenset[str],
    path: Path,
) -> list[str]:
    known = [name for field, info in Settings.model_fields.items() for name in _names(field, info)]
    accepted = frozenset(known) | referred | _PROGRAM
    lines = [unknown_name(name, known, where=str(path)) for name in in_file if name not in accepted]
    lines += [
        unknown_name(name, known, where="the environment")
        for name in in_environment
        if name.startswith(OWN_PREFIXES) and name not in accepted
    ]
    return lines


def _names(field_name: str, field: FieldInfo) -> list[str]:
    """Names of a field in `.env`, the one we document first."""
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        return [str(choice).upper() for choice in alias.choices]
    return [str(alias).upper()] if alias is not None else [field_name.upper()]


def _field_name(location: str) -> str:
    """The field an error is about: pydantic names aliases as they were given."""
    for field_name, field in Settings.model_fields.items():
        if location == field_name or location.upper() in _names(field_name, field):
            return field_name
    raise AssertionError(f"{location} is no setting")


def _allowed(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    return str(extra["allowed"]) if isinstance(extra, dict) and "allowed" in extra else "text"


def _default_text(field: FieldInfo) -> str:
    default = field.default
    if default is None or default == {}:
        return ""
    if isinstance(default, tuple):
        return ",".join(default)
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, Path):
        return "the user's state folder" if sys.platform else str(default)
    return f"{default:g}" if isinstance(default, float) else str(default)
