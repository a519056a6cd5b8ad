"""One terminal as a user describes it, and the file `terminals.toml` that describes several."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from events.log import checked_name
from events.settings.problems import BadSettings, bad_value, unknown_name

TERMINALS_MAX = 64
SYMBOLS_MAX = 2_000
_SECRETS = {"password": "password_env", "token": "token_env"}


class TerminalKind(StrEnum):
    """How a terminal is reached."""

    NATIVE = "native"
    """The MetaTrader5 module on this Windows machine."""
    REMOTE = "remote"
    """`bridgectl terminal serve` on another machine."""
    CLASSIC = "classic"
    """A classic mt5linux / RPyC server (remote code execution by design: loopback or SSH)."""
    SIMULATED = "simulated"
    """The built-in simulated terminal."""
    RECORDED = "recorded"
    """Tick files played through the simulated terminal."""


class Execution(StrEnum):
    """Which orders the bridge itself may send to a terminal, whatever is switched on in the log."""

    AUTO = "auto"
    """paper where the account is made up (simulated, recorded), off where it is real."""
    OFF = "off"
    PAPER = "paper"
    """Simulated and recorded terminals alone."""
    LIVE = "live"
    """To the account named by login, server and trade_mode."""


class TradeMode(StrEnum):
    """The kind of account that must be found behind a terminal."""

    DEMO = "demo"
    CONTEST = "contest"
    REAL = "real"


def _symbols(value: Any) -> Any:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    return tuple(dict.fromkeys(value)) if isinstance(value, list | tuple) else value


def _aliases(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if not all(equals and name.strip() and broker.strip() for name, equals, broker in pairs):
        raise ValueError("expected NAME=BROKER_NAME pairs")
    return {name.strip(): broker.strip() for name, _, broker in pairs}


SymbolName = Annotated[str, Field(pattern=r"^[^\s,;|\"']{1,31}$")]
"""A symbol as MT5 allows it (at most 31 characters); no separators, no spaces."""
Symbols = Annotated[
    tuple[SymbolName, ...], BeforeValidator(_symbols), Field(max_length=SYMBOLS_MAX)
]
Aliases = Annotated[dict[str, str], BeforeValidator(_aliases)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,47}$")]


class TerminalSettings(BaseModel):
    """One terminal: one account at one broker, one namespace of the log. Times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Name
    kind: TerminalKind
    login: Annotated[int | None, Field(ge=1)] = None
    password: SecretStr | None = None
    server: str = ""
    path: str = ""
    portable: bool = False
    trade_mode: TradeMode | None = None
    execution: Execution = Execution.AUTO
    clock: str = ""
    """Rule of the server's clock, such as `America/New_York+7h`; empty: found out."""
    symbols: Symbols = ()
    aliases: Aliases = Field(default_factory=dict)
    """Canonical name -> the broker's name."""
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 18813
    token: SecretStr | None = None
    tls: bool = False
    """Speak TLS; a certificate or fingerprint below means so too. Plain: loopback only."""
    tls_ca: str = ""
    """File with the certificate (or authority) to trust."""
    tls_fingerprint: str = ""
    """SHA-256 of the server's certificate, for one that it signed itself."""
    options: dict[str, Any] = Field(default_factory=dict)
    """What only this kind knows: a simulated terminal's seed, a recorded one's files and speed."""
    rules_file: str = ""
    """File with the risk rules of this terminal; empty: the general one (RISK_RULES)."""
    rules: dict[str, float] = Field(default_factory=dict)
    """Risk limits of this terminal that replace the general ones, by name."""

    @property
    def namespace(self) -> str:
        return checked_name(self.name)


def read_terminals(
    path: Path, *, environment: Mapping[str, str], symbols: tuple[str, ...]
) -> tuple[tuple[TerminalSettings, ...], frozenset[str]]:
    """Terminals of a `terminals.toml`, and the names of environment values it refers to.

    Secrets are given as `password_env = "NAME"` (or plainly as `password`); a terminal without
    `symbols` takes the general ones (a recorded one those of its files). Raises BadSettings.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadSettings([f"{path} cannot be read: {error}"]) from error
    problems = [unknown_name(name, ["terminals"], where=str(path)) for name in content if
                name != "terminals"]  # fmt: skip
    tables = content.get("terminals", {})
    if not isinstance(tables, dict) or not tables or len(tables) > TERMINALS_MAX:
        problems.append(
            f"{path} names no terminals: allowed are 1 to {TERMINALS_MAX} tables such as "
            "[terminals.ftmo]"
        )
        raise BadSettings(problems)
    terminals: list[TerminalSettings] = []
    referred: set[str] = set()
    for name, table in tables.items():
        where = f"{path} [terminals.{name}]"
        if not isinstance(table, dict):
            problems.append(bad_value(name, table, allowed="a table", where=where, secret=False))
            continue
        fields = dict(table)
        if fields.get("kind") != TerminalKind.RECORDED:  # its files name its symbols
            fields.setdefault("symbols", list(symbols))
        try:
            referred |= _resolve_secrets(fields, environment, where)
            terminals.append(TerminalSettings.model_validate({**fields, "name": name}))
        except ValidationError as error:
            problems += _lines(error, {**fields, "name": name}, where)
        except BadSettings as error:
            problems += error.problems
    if problems:
        raise BadSettings(problems)
    return tuple(terminals), frozenset(referred)


def _resolve_secrets(
    fields: dict[str, Any], environment: Mapping[str, str], where: str
) -> frozenset[str]:
    """Replace `password_env` by the password it names. Raises BadSettings."""
    referred = set()
    for field, pointer in _SECRETS.items():
        name = fields.pop(pointer, None)
        if name is None:
            continue
        if not isinstance(name, str) or name not in environment:
            raise BadSettings(
                [f"{pointer} in {where} names {name!r}, which is not set: put it into .env"]
            )
        fields[field] = environment[name]
        referred.add(name.upper())
    return frozenset(referred)


_ALLOWED = {
    "name": "1-48 of a-z 0-9 _ . - beginning with a letter or digit",
    "kind": ", ".join(TerminalKind),
    "login": "the account number, a whole number above 0",
    "trade_mode": ", ".join(TradeMode),
    "execution": ", ".join(Execution),
    "port": "1 to 65535",
    "symbols": 'a list such as ["EURUSD", "XAUUSD"]',
    "aliases": 'a table such as {EURUSD = "EURUSD.x"}',
    "rules": "a table of numbers by name",
    "portable": "true or false",
}


def _lines(error: ValidationError, fields: Mapping[str, Any], where: str) -> list[str]:
    known = [*TerminalSettings.model_fields, *_SECRETS.values()]
    lines = []
    for detail in error.errors(include_url=False, include_input=False, include_context=False):
        name = str(detail["loc"][0])
        if detail["type"] == "extra_forbidden":
            lines.append(unknown_name(name, known, where=where))
        elif detail["type"] == "missing":
            lines.append(f"{name} is missing in {where}: allowed is {_ALLOWED.get(name, 'text')}")
        else:
            lines.append(
                bad_value(
                    name,
                    fields.get(name),
                    allowed=_ALLOWED.get(name, "text"),
                    where=where,
                    secret=name in _SECRETS,
                )
            )
    return list(dict.fromkeys(lines))
