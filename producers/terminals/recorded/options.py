"""Options of a recorded terminal. They are frozen and JSON-able: they cross to its host."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from events.clock_rules import ClockRule
from producers.terminals.simulated.faults import Fault
from producers.terminals.simulated.options import AccountOptions, TraderOptions
from producers.terminals.simulated.symbols import SymbolSpec

MAX = "max"
SPEED_MAX = 1_000_000.0


class Outage(BaseModel):
    """The link to the broker is down in [from, until), UTC ms. What was missed appears
    `back_fill_after_s` (virtual) after the link is back, behind ticks that came meanwhile."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    from_utc_ms: int
    until_utc_ms: int
    back_fill_after_s: float = Field(1.0, ge=0)

    @model_validator(mode="after")
    def _forward(self) -> Self:
        if self.until_utc_ms <= self.from_utc_ms:
            raise ValueError("an outage ends after it begins: until_utc_ms > from_utc_ms")
        return self

    @property
    def healed_utc_ms(self) -> int:
        """When everything that was missed has appeared."""
        return self.until_utc_ms + int(self.back_fill_after_s * 1000)


class RecordedOptions(BaseModel):
    """A terminal that plays tick files: account, trading and faults as in the simulated one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: tuple[str, ...] = Field(min_length=1)
    """`FILE` or `SYMBOL=FILE`; several files of one symbol are played one after the other."""
    file_clock: str = "server"
    """What the times in the files are: `server` (as MT5 exports them), or a clock rule (`UTC`)."""
    clock: str = "America/New_York+7h"
    """The broker's clock, in which the terminal reports times."""
    speed: float | Literal["max"] = 1.0
    """Times real time (0: stands, stepped by hand), or `max`: as fast as a reader pulls."""
    on_error: Literal["stop", "keep"] = "stop"
    """Whether a damaged file stops the start, or plays up to the fault."""
    specs: tuple[SymbolSpec, ...] = ()
    """Instruments of the files' symbols; what is missing is guessed from name and prices."""
    outages: tuple[Outage, ...] = ()
    start_utc_ms: int | None = None
    """Where playing begins; earlier ticks are history. None: at the first tick."""
    seed: int = 1
    """Of the background trader."""
    account: AccountOptions = AccountOptions(server="Recorded-Demo", company="Recorded ticks")
    latency: Literal["none", "native"] = "none"
    latency_ms: float = Field(0.0, ge=0)
    trader: TraderOptions | None = None
    faults: tuple[Fault, ...] = ()

    @field_validator("speed", mode="before")
    @classmethod
    def _speed_as_people_write_it(cls, value: object) -> object:
        """`max`, `10`, `10x`."""
        if not isinstance(value, str):
            return value
        text = value.strip().lower()
        if text == MAX:
            return MAX
        try:
            return float(text.removesuffix("x"))
        except ValueError:
            raise ValueError(f"{value!r} is no speed: use 1, 10x or max") from None

    @field_validator("speed")
    @classmethod
    def _speed_in_range(cls, value: float | str) -> float | str:
        if isinstance(value, float) and not 0 <= value <= SPEED_MAX:
            raise ValueError(f"speed {value:g} is outside 0..{SPEED_MAX:g}")
        return value

    @field_validator("clock")
    @classmethod
    def _known_clock(cls, value: str) -> str:
        return str(ClockRule.parse(value))

    @field_validator("file_clock")
    @classmethod
    def _known_file_clock(cls, value: str) -> str:
        name = value.strip().lower()
        return name if name == "server" else str(ClockRule.parse(value))

    def file_rule(self) -> ClockRule:
        """The clock of the files."""
        return ClockRule.parse(self.clock if self.file_clock == "server" else self.file_clock)
