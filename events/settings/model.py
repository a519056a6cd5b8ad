"""The settings by name. Each field's description and `allowed` make the table in the docs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote, urlsplit

import platformdirs
from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    PrivateAttr,
)
from pydantic_settings import NoDecode, SettingsConfigDict

from events.log import PARTITIONS_DEFAULT
from events.settings.addresses import (
    EMBEDDED_POSTGRES,
    EMBEDDED_REDIS,
    credentials,
    embedded_address,
    host_in_url,
)
from events.settings.alerting import AlertSettings
from events.settings.fields import (
    POSTGRES_SCHEMES,
    REDIS_SCHEMES,
    SECONDS,
    TIMEFRAMES,
    ClassPaths,
    CommaList,
    HostName,
    OptionalFloat,
    OptionalInt,
    OptionalPath,
    OptionalSecret,
    OptionalText,
    blank_is_none,
    known_timeframes,
    setting,
    timeframes,
    upper,
    with_scheme,
)
from events.settings.problems import BadSettings
from events.settings.terminals import (
    Aliases,
    Execution,
    Name,
    TerminalKind,
    TerminalSettings,
    TradeMode,
)

SIMULATED_CLOCK = "America/New_York+7h"
SIMULATED_EXTRA = ("BTCUSD",)
"""A simulated terminal gets a 24/7 symbol too, so that something moves on a Saturday."""


class Settings(AlertSettings):
    """Everything a user may set. Frozen; made by `events.settings.load`."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",  # loading.py reports unknown names with the one that was meant
        case_sensitive=False,
        populate_by_name=True,
        hide_input_in_errors=True,
        env_ignore_empty=False,
    )

    # --- terminal
    mt5_name: Name = setting(
        "mt5", "Name of the terminal: its namespace in the log.", "1-48 of a-z 0-9 _ . -"
    )
    mt5_kind: Annotated[TerminalKind | None, BeforeValidator(blank_is_none)] = setting(
        None,
        "How the terminal is reached. Empty: remote with MT5_HOST, native with MT5_ACCOUNT or "
        "MT5_PATH, else simulated.",
        ", ".join(TerminalKind),
    )
    mt5_account: OptionalInt = setting(
        None, "Account number (login).", "a whole number above 0", ge=1
    )
    mt5_password: OptionalSecret = setting(
        None, "Password; needed only where the terminal is not logged in already.", "text"
    )
    mt5_server: str = setting("", "Server name of the broker, as the terminal shows it.", "text")
    mt5_path: str = setting(
        "", "Path of terminal64.exe; needed where several terminals are installed.", "a path"
    )
    mt5_portable: bool = setting(False, "Terminal was started with /portable.", "true or false")
    mt5_trade_mode: Annotated[TradeMode | None, BeforeValidator(blank_is_none)] = setting(
        None, "Kind of account that must be found; anything else is an incident.",
        ", ".join(TradeMode),
    )  # fmt: skip
    execution: Annotated[Execution, BeforeValidator(str.lower)] = setting(
        Execution.AUTO,
        "Which orders the bridge may send. auto: paper where the terminal is simulated, none where "
        "it is real; live needs MT5_ACCOUNT, MT5_SERVER and MT5_TRADE_MODE. off holds for every "
        "terminal of terminals.toml too, which otherwise says `execution` itself.",
        ", ".join(Execution),
    )
    mt5_host: HostName = setting(
        None, "Machine on which `bridgectl terminal serve` runs.", "a host name or address"
    )
    mt5_port: int = setting(18813, "Port of that server.", "1 to 65535", ge=1, le=65535)
    mt5_token: OptionalSecret = setting(None, "Token that server printed when it started.", "text")
    mt5_tls_ca: str = setting("", "File with the certificate of that server.", "a path")
    mt5_tls_fingerprint: str = setting(
        "", "SHA-256 of that certificate, where the server signed it itself.", "64 hex digits"
    )
    mt5_clock: str = setting(
        "",
        "Rule of the broker's clock. Empty: found out from history and live ticks.",
        "a rule such as America/New_York+7h, Europe/Athens, fixed+3h, UTC",
    )
    mt5_aliases: Annotated[Aliases, NoDecode] = setting(
        {}, "The broker's names of symbols.", "pairs such as EURUSD=EURUSD.x,XAUUSD=GOLD"
    )
    forex_pairs: CommaList = setting(
        ("EURUSD", "GBPUSD", "USDJPY"), "Symbols to follow.", "names with commas between"
    )
    crypto_pairs: CommaList = setting(
        (), "Further symbols to follow (24/7).", "names with commas between"
    )
    symbols_more: CommaList = setting(
        (), "Further symbols to follow (metals, indices).", "names with commas between"
    )

    # --- servers
    redis_link: Annotated[OptionalSecret, with_scheme(*REDIS_SCHEMES)] = setting(
        None,
        "Redis or Valkey as one address (may carry user and password). Empty, and no REDIS_HOST: "
        "the embedded server.",
        "an address beginning with "
        + ", ".join(f"{scheme}://" for scheme in REDIS_SCHEMES)
        + ", such as redis://HOST:6379/0",
        validation_alias="REDIS_URL",
    )
    redis_host: HostName = setting(None, "Redis or Valkey server.", "a host name or address")
    redis_port: int = setting(6379, "Its port.", "1 to 65535", ge=1, le=65535)
    redis_user: OptionalText = setting(None, "Its ACL user.", "text")
    redis_password: OptionalSecret = setting(None, "Its password.", "text")
    redis_tls: bool = setting(False, "Speak TLS to REDIS_HOST.", "true or false")
    postgres_link: Annotated[OptionalSecret, with_scheme(*POSTGRES_SCHEMES)] = setting(
        None,
        "PostgreSQL or TimescaleDB as one address. Empty, and no POSTGRES_HOST: the embedded "
        "server.",
        "an address beginning with postgresql://, such as postgresql://HOST:5432/bridge",
        validation_alias="POSTGRES_URL",
    )
    postgres_host: HostName = setting(None, "PostgreSQL server.", "a host name or address")
    postgres_port: int = setting(5432, "Its port.", "1 to 65535", ge=1, le=65535)
    postgres_db: str = setting("bridge", "Its database.", "a name", min_length=1)
    postgres_user: str = setting("postgres", "Its user.", "a name", min_length=1)
    postgres_password: OptionalSecret = setting(None, "Its password.", "text")

    # --- work
    max_workers: int = setting(
        4, "Jobs that may wait for a terminal at once.", "1 to 64", ge=1, le=64
    )
    worker_timeout: float = setting(
        30.0, "Deadline of one terminal call; a hung terminal host is restarted then.",
        "seconds, 0.1 to 600", ge=0.1, le=600,
    )  # fmt: skip
    price_interval_s: float = setting(
        0.1, "Pause between two looks at prices.", SECONDS, ge=0.01, le=3600
    )
    account_interval_s: float = setting(
        0.25, "Pause between two looks at the account while positions are open.",
        "seconds, 0.01 to 60", ge=0.01, le=60,
    )  # fmt: skip
    account_idle_interval_s: float = setting(
        1.0, "The same while none are.", SECONDS, ge=0.01, le=3600
    )
    instrument_interval_s: float = setting(
        300.0, "Pause between two looks at the facts of symbols.", "seconds, 1 to 86400",
        ge=1, le=86_400,
    )  # fmt: skip
    history_host: Annotated[Literal["auto", "on", "off"], BeforeValidator(str.lower)] = setting(
        "auto", "Deep history through a second process at the terminal, so that it delays nothing: "
        "native and classic ones by themselves, simulated ones with on.", "auto, on or off",
    )  # fmt: skip
    history_interval_s: float = setting(
        60.0, "Pause between two looks at closed candles.", "seconds, 1 to 86400", ge=1, le=86_400
    )
    backfill_s: int = setting(
        0, "History of ticks taken when a symbol is seen for the first time.",
        "seconds, 0 to 31536000", ge=0, le=31_536_000,
    )  # fmt: skip
    candle_timeframes: Annotated[
        tuple[str, ...],
        NoDecode,
        BeforeValidator(timeframes),
        AfterValidator(known_timeframes),
    ] = setting(("M1", "H1"), "Candles to keep.", "some of " + ",".join(TIMEFRAMES))

    # --- retention: how long the log keeps entries; see OPERATIONS.md
    retention_hours: float = setting(
        24.0, "Age at which entries that every group has read leave the log.",
        "hours, 0.02 to 87600", ge=0.02, le=87_600,
    )  # fmt: skip
    retention_memory_mb: OptionalInt = setting(
        None, "Memory of the Redis server from which on entries leave earlier: read ones are "
        "trimmed, others go to disk first. Empty: 60 % of its maxmemory, or 1024 where it has "
        "none.", "MiB, 16 to 1048576", ge=16, le=1_048_576,
    )  # fmt: skip
    retention_disk_mb: int = setting(
        20_480, "Disk for entries that some group has not read and memory has no room for "
        "(segments in the state folder). When that is full too, appends are refused.",
        "MiB, 1 to 104857600", ge=1, le=104_857_600,
    )  # fmt: skip

    archive_dir: OptionalPath = setting(
        None, "Folder of the archive (Parquet). Empty: archive/ in the state folder.", "a path"
    )

    # --- groups
    strategies: ClassPaths = setting(
        (), "Strategies that group `strategy` runs, each as a group of its own.",
        "module:Class or NAME=module:Class, with commas between",
    )  # fmt: skip

    # --- limits (share of balance in percent unless the name says otherwise)
    risk_rules: OptionalPath = setting(
        None, "Rule file of the terminals that name none of their own (`rules_file`); see RISK.md.",
        "a path of a TOML or YAML file",
    )  # fmt: skip
    risk_max_daily_loss_percent: OptionalFloat = setting(
        None, "Loss of one server day.", "above 0 to 100", gt=0, le=100,
        validation_alias=AliasChoices("RISK_MAX_DAILY_LOSS_PERCENT", "MAX_DAILY_LOSS"),
    )  # fmt: skip
    risk_max_drawdown_percent: OptionalFloat = setting(
        None, "Loss from the highest equity.", "above 0 to 100", gt=0, le=100,
        validation_alias=AliasChoices("RISK_MAX_DRAWDOWN_PERCENT", "MAX_DRAWDOWN"),
    )  # fmt: skip
    risk_max_position_lots: OptionalFloat = setting(
        None, "Volume of one position.", "lots above 0", gt=0,
        validation_alias=AliasChoices("RISK_MAX_POSITION_LOTS", "MAX_POSITION_SIZE"),
    )  # fmt: skip
    risk_max_leverage: OptionalFloat = setting(
        None, "Exposure as a multiple of equity.", "a number above 0", gt=0,
        validation_alias=AliasChoices("RISK_MAX_LEVERAGE", "MAX_LEVERAGE"),
    )  # fmt: skip
    risk_min_margin_level_percent: OptionalFloat = setting(
        None, "Lowest margin level.", "percent above 0", gt=0
    )

    # --- this program
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(upper)] = (
        setting("INFO", "How much the program log tells.", "DEBUG, INFO, WARNING, ERROR")
    )
    log_file: OptionalPath = setting(
        None, "File of the program log; each process puts its role into the name. Empty: "
        "logs/ in the state folder.", "a path",
    )  # fmt: skip
    log_json: bool = setting(False, "Program log as one JSON object per line.", "true or false")
    bridge_state_dir: Path = setting(
        platformdirs.user_state_path("mt5-stream-bridge", appauthor=False),
        "Folder for spools, logs and the embedded servers' data.", "a path",
    )  # fmt: skip
    bridge_partitions: int = setting(
        PARTITIONS_DEFAULT, "Partitions of each namespace; cannot change later.", "1 to 64",
        ge=1, le=64,
    )  # fmt: skip
    bridge_terminals: OptionalPath = setting(
        None, "File that describes several terminals. Empty: terminals.toml in the working folder, "
        "where there is one.", "a path",
    )  # fmt: skip

    _terminals: tuple[TerminalSettings, ...] | None = PrivateAttr(default=None)

    def redis_url(self) -> str | None:
        """Address of Redis with its credentials: the configured one, else that of the embedded
        server while it runs for this state folder; None: there is none."""
        if self.redis_link is not None:
            return self.redis_link.get_secret_value()
        if self.redis_host is None:
            return embedded_address(self.state_dir, EMBEDDED_REDIS)
        scheme = "rediss" if self.redis_tls else "redis"
        login = credentials(self.redis_user or "", self.redis_password)
        return f"{scheme}://{login}{host_in_url(self.redis_host)}:{self.redis_port}/0"

    def postgres_url(self) -> str | None:
        """Address of the database with its credentials: the configured one, else that of the
        embedded server while it runs for this state folder; None: there is none."""
        if self.postgres_link is not None:
            return self.postgres_link.get_secret_value()
        if self.postgres_host is None:
            return embedded_address(self.state_dir, EMBEDDED_POSTGRES)
        login = credentials(self.postgres_user, self.postgres_password)
        host = host_in_url(self.postgres_host)
        return f"postgresql://{login}{host}:{self.postgres_port}/{quote(self.postgres_db, '')}"

    @property
    def redis_configured(self) -> bool:
        """Whether the user named a Redis of their own."""
        return self.redis_link is not None or self.redis_host is not None

    @property
    def postgres_configured(self) -> bool:
        """Whether the user named a database of their own."""
        return self.postgres_link is not None or self.postgres_host is not None

    @property
    def symbols(self) -> tuple[str, ...]:
        """Every symbol to follow, in the order given, each once."""
        return tuple(dict.fromkeys(self.forex_pairs + self.crypto_pairs + self.symbols_more))

    @property
    def state_dir(self) -> Path:
        return self.bridge_state_dir.expanduser().absolute()

    @property
    def mt5_configured(self) -> bool:
        """Whether the user named a terminal of their own."""
        return self._terminals is not None or self._kind() is not TerminalKind.SIMULATED

    def terminals(self) -> tuple[TerminalSettings, ...]:
        """Every terminal to run: those of `terminals.toml`, or the one of MT5_*."""
        return self._terminals if self._terminals is not None else (self._own_terminal(),)

    def terminal(self, name: str) -> TerminalSettings:
        """The terminal called `name`; `simulated` is always there. Raises BadSettings."""
        for terminal in self.terminals():
            if terminal.name == name:
                return terminal
        if name == TerminalKind.SIMULATED:
            return self.built_in(TerminalKind.SIMULATED)
        names = dict.fromkeys([*(terminal.name for terminal in self.terminals()), "simulated"])
        raise BadSettings([f"no terminal is called {name!r}: allowed is {', '.join(names)}"])

    def built_in(self, kind: TerminalKind) -> TerminalSettings:
        """A simulated or recorded terminal that needs nobody's account."""
        extra = () if self.crypto_pairs else SIMULATED_EXTRA
        return TerminalSettings(
            name=kind.value,
            kind=kind,
            clock=self.mt5_clock or SIMULATED_CLOCK,
            symbols=tuple(dict.fromkeys(self.symbols + extra)),
        )

    def _kind(self) -> TerminalKind:
        if self.mt5_kind is not None:
            return self.mt5_kind
        if self.mt5_host is not None:
            return TerminalKind.REMOTE
        if self.mt5_account is not None or self.mt5_path:
            return TerminalKind.NATIVE
        return TerminalKind.SIMULATED

    def _own_terminal(self) -> TerminalSettings:
        kind = self._kind()
        if kind is TerminalKind.SIMULATED:
            name = self.mt5_name if "mt5_name" in self.model_fields_set else kind.value
            return self.built_in(kind).model_copy(update={"name": name})
        return TerminalSettings(
            name=self.mt5_name,
            kind=kind,
            login=self.mt5_account,
            password=self.mt5_password,
            server=self.mt5_server,
            path=self.mt5_path,
            portable=self.mt5_portable,
            trade_mode=self.mt5_trade_mode,
            execution=self.execution,
            clock=self.mt5_clock,
            symbols=self.symbols,
            aliases=self.mt5_aliases,
            host=self.mt5_host or "127.0.0.1",
            port=self.mt5_port,
            token=self.mt5_token,
            tls_ca=self.mt5_tls_ca,
            tls_fingerprint=self.mt5_tls_fingerprint,
        )

    def secrets(self) -> tuple[str, ...]:
        """Every secret text, for the program log's mask."""
        own = (self.mt5_password, self.mt5_token, self.redis_password, self.postgres_password)
        of_terminals = [
            secret
            for terminal in self._terminals or ()
            for secret in (terminal.password, terminal.token)
        ]
        texts = [secret.get_secret_value() for secret in (*own, *of_terminals) if secret]
        for link in (self.redis_link, self.postgres_link):
            if link is not None and (password := urlsplit(link.get_secret_value()).password):
                texts.append(password)
        texts += self.alert_secrets()
        return tuple(dict.fromkeys(texts))
