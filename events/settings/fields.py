"""The kinds of fields that settings are made of, and what their texts may look like."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from events.settings.terminals import Symbols

REDIS_SCHEMES = (
    "redis", "rediss", "unix",
    "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster",
)  # fmt: skip
POSTGRES_SCHEMES = ("postgresql", "postgres")
_HOST = re.compile(r"[^\s/@?#,;:\[\]]+|/[^\s@]*")
"""A name or an IPv4 address; or the folder of a Unix socket."""
_CLASS_PATH = re.compile(r"(?:[a-z0-9][a-z0-9_.-]*=)?[^\W\d][\w.]*:[^\W\d]\w*")
TIMEFRAMES = (
    "M1", "M2", "M3", "M4", "M5", "M6", "M10", "M12", "M15", "M20", "M30", "H1", "H2", "H3",
    "H4", "H6", "H8", "H12", "D1", "W1", "MN1",
)  # fmt: skip


def blank_is_none(value: Any) -> Any:
    """`NAME=` in a .env file means "not set"."""
    return None if isinstance(value, str) and not value.strip() else value


def upper(value: Any) -> Any:
    return value.strip().upper() if isinstance(value, str) else value


def timeframes(value: Any) -> Any:
    if isinstance(value, str):
        value = [part.strip().upper() for part in value.split(",") if part.strip()]
    return tuple(value)


def known_timeframes(value: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := [name for name in value if name not in TIMEFRAMES]:
        raise ValueError(f"unknown timeframes {unknown}")
    return value


def class_paths(value: Any) -> Any:
    """`module:Class` or `NAME=module:Class`, with commas between."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    for part in value:
        if not _CLASS_PATH.fullmatch(part):
            raise ValueError(f"{part!r} is not written as module:Class")
    return tuple(value)


def with_scheme(*schemes: str) -> AfterValidator:
    """A URL of one of these schemes whose every port is one."""

    def check(value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        parts = urlsplit(value.get_secret_value())  # raises ValueError for half a bracket
        if parts.scheme not in schemes:
            raise ValueError("unknown scheme")
        for host in parts.netloc.rpartition("@")[2].split(","):
            _ = urlsplit(f"//{host}").port  # raises ValueError for what is no port
        database = parts.path.strip("/")
        if parts.scheme in ("redis", "rediss") and database and not database.isdecimal():
            raise ValueError("a database of Redis is a number")
        return value

    return AfterValidator(check)


def host_name(value: str | None) -> str | None:
    """A host's name or address alone: no scheme, no port, no path."""
    if value is None or _HOST.fullmatch(value):
        return value
    ip_address(value.removeprefix("[").removesuffix("]"))  # raises ValueError
    return value


def setting(default: Any, description: str, allowed: str, **constraints: Any) -> Any:
    """A field with what the docs and the error messages say about it."""
    return Field(
        default, description=description, json_schema_extra={"allowed": allowed}, **constraints
    )


SECONDS = "seconds, 0.01 to 3600"
OptionalText = Annotated[str | None, BeforeValidator(blank_is_none)]
HostName = Annotated[str | None, AfterValidator(host_name), BeforeValidator(blank_is_none)]
OptionalInt = Annotated[int | None, BeforeValidator(blank_is_none)]
OptionalFloat = Annotated[float | None, BeforeValidator(blank_is_none)]
OptionalSecret = Annotated[SecretStr | None, BeforeValidator(blank_is_none)]
OptionalPath = Annotated[Path | None, BeforeValidator(blank_is_none)]
CommaList = Annotated[Symbols, NoDecode]
ClassPaths = Annotated[tuple[str, ...], NoDecode, BeforeValidator(class_paths)]
