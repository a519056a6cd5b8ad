"""What a terminal is, said so that it can cross a process boundary."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_core import to_jsonable_python

TerminalKind = Literal["native", "remote", "classic", "simulated", "recorded"]
TradeMode = Literal["demo", "contest", "real"]
TRADE_MODES: tuple[TradeMode, ...] = ("demo", "contest", "real")
"""Names of ACCOUNT_TRADE_MODE 0, 1, 2."""


class SpecError(ValueError):
    """A terminal cannot be built from its spec; the text says what to do."""


class TerminalSpec(BaseModel):
    """One terminal: its kind, and what that kind needs.

    `login`, `server` and `trade_mode` are what the account must be; what is None is not checked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(default="terminal", min_length=1, max_length=64)
    kind: TerminalKind
    login: int | None = Field(default=None, gt=0)
    password: SecretStr | None = None
    server: str | None = None
    trade_mode: TradeMode | None = None
    path: str | None = None
    """native: the terminal64.exe to attach to. Without it any running terminal may answer."""
    portable: bool = False
    initialize_timeout_ms: int = Field(default=60_000, ge=1_000, le=600_000)
    address: str | None = None
    """remote, classic: host:port."""
    token: SecretStr | None = None
    """remote: what the terminal server asks for."""
    observe: bool = False
    """remote: read beside the client that controls the terminal, after everything else."""
    tls: bool = False
    tls_ca_file: str | None = None
    """remote: certificate authority (PEM) that signed the server's certificate."""
    tls_fingerprint: str | None = None
    """remote: SHA-256 of the server's certificate (hex), for self-signed ones."""
    module: str = Field(default="MetaTrader5", pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")
    """classic: the module on the other side."""
    options: Mapping[str, Any] = Field(default_factory=dict)
    """simulated, recorded: SimulatedOptions, RecordedOptions as plain values."""
    link_latency_ms: float = Field(default=0.0, ge=0.0, le=10_000.0)
    """Holds back every answer of the host this long: a far-away terminal, for trials."""

    @field_validator("options", mode="before")
    @classmethod
    def _plain_options(cls, options: Any) -> Any:
        return _revealed(options) if isinstance(options, BaseModel) else options

    @field_validator("tls_fingerprint")
    @classmethod
    def _bare_fingerprint(cls, text: str | None) -> str | None:
        if text is None:
            return None
        bare = text.removeprefix("sha256:").replace(":", "").lower()
        if len(bare) != 64 or set(bare) - set("0123456789abcdef"):
            raise ValueError("tls_fingerprint must be the 64 hex digits of a SHA-256")
        return bare

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind in ("remote", "classic"):
            self.host_and_port()
        if self.kind == "remote" and self.token is None:
            raise ValueError("a remote terminal needs its token: set the one its server printed")
        if self.tls_fingerprint is not None and self.tls_ca_file is not None:
            raise ValueError("give tls_ca_file or tls_fingerprint, not both")
        return self

    @property
    def with_tls(self) -> bool:
        return self.tls or self.tls_ca_file is not None or self.tls_fingerprint is not None

    def host_and_port(self) -> tuple[str, int]:
        """Raises ValueError when `address` is not host:port ([::1]:port for IPv6)."""
        host, _, port = (self.address or "").rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(f"a {self.kind} terminal needs address=host:port, not {self.address}")
        return host.strip("[]"), int(port)

    def to_wire(self) -> str:
        """JSON with the secrets in it: for a pipe to our own child, never for a file or a log."""
        return json.dumps(_revealed(self))

    @classmethod
    def from_wire(cls, text: str) -> Self:
        """Raises pydantic.ValidationError (a ValueError)."""
        return cls.model_validate_json(text)


def _revealed(model: BaseModel) -> Any:
    """Plain JSON values of a model, secrets in clear."""

    def reveal(value: Any) -> Any:
        if isinstance(value, SecretStr):
            return value.get_secret_value()
        if isinstance(value, Mapping):
            return {key: reveal(item) for key, item in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [reveal(item) for item in value]
        return value

    return to_jsonable_python(reveal(model.model_dump(mode="python")))
