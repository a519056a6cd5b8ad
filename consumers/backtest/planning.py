"""From what was asked for on a command line to a plan that can be run: strategy, source, facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from consumers.backtest.broker import AccountSpec, Amount, BadOption, conversions_of
from consumers.backtest.broker.spec.facts import Spec, spec_of
from consumers.backtest.broker.spec.file import load_spec
from consumers.backtest.running import Plan
from consumers.backtest.sources.bars import ASSUMPTION, BarSource, RecordedBars
from consumers.backtest.sources.files import FileSource
from consumers.backtest.sources.recorded import RecordedSource
from consumers.backtest.sources.source import Source, SourceError, Span
from consumers.risk.what_if_cli import read_rules
from consumers.strategies.running.instances import Casting
from consumers.strategies.running.loading import Loaded, load_strategy
from events.archive.source import PLACES, EntrySource, opened_source
from events.clock_rules import ClockRule, ClockRuleError
from events.codec import AnyEvent
from events.rules import Rules
from events.settings import Settings
from events.tick_files import TickFileError, TickSource, parse_source
from events.tick_files.bars import is_bar_file

RECORDED: Mapping[str, tuple[str, ...]] = {
    "all": PLACES,
    "redis": ("log",),
    "log": ("log",),
    "archive": ("archive",),
    "database": ("database",),
}
"""Words for `--source` beside files: which places are read."""


class BadRequest(ValueError):
    """What was asked for cannot be run. The message names cause and cure."""


@dataclass(frozen=True, slots=True)
class BacktestRequest:
    """One backtest as plain values: the same in every process."""

    code: str
    symbols: tuple[str, ...] = ()
    from_ms: int | None = None
    to_ms: int | None = None
    sources: tuple[str, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    rules: str = ""
    spec: str = ""
    terminal: str = ""
    balance: float | None = None
    latency: str = ""
    slippage: str = ""
    clock: str = ""
    """The broker's clock, of files. Empty: the terminal's setting, else that of the files."""
    file_clock: str = ""
    bars: bool = False
    """M1 bars in place of recorded ticks."""
    seed: int = 1
    looks_s: float = 1.0

    @property
    def span(self) -> Span:
        return Span(self.from_ms, self.to_ms)

    def with_parameters(self, parameters: Mapping[str, str]) -> BacktestRequest:
        """The same with other values of some parameters."""
        return replace(self, parameters={**self.parameters, **parameters})


@contextmanager
def planned(request: BacktestRequest, settings: Settings) -> Iterator[Plan]:
    """The plan of a request; what it reads is open until the end.

    Raises BadRequest, SourceError, TickFileError, and what loading a strategy, a spec or rules
    raises: each a line with cause and cure.
    """
    if request.from_ms is not None and request.to_ms is not None \
            and request.from_ms >= request.to_ms:  # fmt: skip
        raise BadRequest("--from lies behind --to")
    loaded = load_strategy(request.code, request.parameters)
    words = [text for text in request.sources if text in RECORDED]
    if words and len(words) < len(request.sources):
        raise BadRequest(f"--source {words[0]} and files together: give one or the other")
    if request.sources and not words:
        yield _of_files(request, loaded, settings)
        return
    notes: list[str] = []
    places = tuple(dict.fromkeys(place for word in words or ["all"] for place in RECORDED[word]))
    with opened_source(settings, places=places, told=notes.append) as entries:
        yield _of_recorded(request, loaded, entries, ", ".join(places), notes)


def _of_files(request: BacktestRequest, loaded: Loaded, settings: Settings) -> Plan:
    """A plan on files of ticks or bars."""
    files = [parse_source(text) for text in request.sources]
    for file in files:
        if not file.path.is_file():
            raise BadRequest(
                f"{file.path}: there is no such file (a word instead of files is one of "
                f"{', '.join(RECORDED)})"
            )
    held = tuple(dict.fromkeys(file.symbol for file in files))
    traded = _traded(request, loaded, held)
    missing = [symbol for symbol in traded if symbol not in held]
    if missing:
        raise BadRequest(
            f"no file holds {', '.join(missing)} (the files hold {', '.join(held)}): give one as "
            "SYMBOL=FILE"
        )
    spec = _spec(request, [], "tick files")
    account = spec.require(traded)
    needed = _needed(traded, spec, account, held)
    chosen = [file for file in files if file.symbol in needed]
    clock = _rule(request.clock or _clock_of(settings))
    file_clock = _rule(request.file_clock)
    bars = {is_bar_file(file.path) for file in chosen}
    if len(bars) > 1:
        raise BadRequest("files of bars and of ticks together: give one kind")
    source: Source
    if bars == {True}:
        source = BarSource(chosen, request.span, spec.instruments, clock=clock or file_clock)
    else:
        source = FileSource(
            chosen, request.span, clock=clock, file_clock=file_clock, symbols=needed
        )
    warnings = [] if clock or file_clock else [
        "the clock of the files is not known: their times are taken for UTC, and midnights of "
        "the broker with them (say --clock)"
    ]  # fmt: skip
    return _plan(request, loaded, source, spec, account, traded, warnings, bars=bars == {True})


def _of_recorded(
    request: BacktestRequest,
    loaded: Loaded,
    entries: EntrySource,
    told: str,
    notes: Sequence[str],
) -> Plan:
    """A plan on what was recorded of a terminal."""
    namespace = request.terminal or _only(entries)
    traded = _traded(request, loaded, ())
    source: Source = RecordedSource(entries, namespace, traded, request.span, told=told)
    spec = _spec(request, source.facts(), source.name)
    account = spec.require(traded)
    needed = _needed(traded, spec, account, tuple(spec.instruments))
    if request.bars:
        source = RecordedBars(entries, namespace, needed, request.span, spec.instruments)
    elif needed != traded:
        source = RecordedSource(entries, namespace, needed, request.span, told=told)
    return _plan(request, loaded, source, spec, account, traded, notes, bars=request.bars)


def _plan(
    request: BacktestRequest,
    loaded: Loaded,
    source: Source,
    spec: Spec,
    account: AccountSpec,
    traded: tuple[str, ...],
    warnings: Sequence[str],
    *,
    bars: bool,
) -> Plan:
    if request.balance is not None:
        account = account.opened_with(request.balance)
    try:
        options = spec.options().merged(
            latency_ms=Amount.parse(request.latency, what="--latency") if request.latency else None,
            slippage_points=(
                Amount.parse(request.slippage, what="--slippage") if request.slippage else None
            ),
        )
    except BadOption as error:
        raise BadRequest(str(error)) from error
    instruments = {name: spec.instruments[name] for name in source.symbols}
    casting = Casting(
        loaded.strategy, request.name or loaded.name, traded, loaded.parameters, instruments
    )
    return Plan(
        casting, request.code, source, account, instruments, options, request.seed,
        _rules(request, account.balance), request.rules, round(request.looks_s * 1000),
        request.span, tuple(warnings), (ASSUMPTION,) if bars else (),
    )  # fmt: skip


def _rules(request: BacktestRequest, balance: float) -> Rules | None:
    if not request.rules:
        return None
    rules = read_rules(request.rules, None)
    if rules.account.initial_balance is not None:
        return rules
    known = {"initial_balance": balance, "high_water": rules.account.high_water or balance}
    return rules.model_copy(update={"account": rules.account.model_copy(update=known)})


def _traded(request: BacktestRequest, loaded: Loaded, held: Sequence[str]) -> tuple[str, ...]:
    """The symbols to trade: those asked for, the strategy's own, or those of the files."""
    named = request.symbols or _own_symbols(loaded) or tuple(held)
    if not named:
        raise BadRequest("which symbol? Name it with --symbol, or in the strategy as symbols = ...")
    return tuple(dict.fromkeys(named))


def _own_symbols(loaded: Loaded) -> tuple[str, ...]:
    return tuple(loaded.parameters.get("symbols", loaded.strategy.symbols))


def _spec(request: BacktestRequest, facts: Sequence[AnyEvent], name: str) -> Spec:
    """Account and instruments as they were recorded; what a file says goes before that."""
    recorded = spec_of(facts, source=name)
    return load_spec(Path(request.spec)).over(recorded) if request.spec else recorded


def _needed(
    traded: tuple[str, ...], spec: Spec, account: AccountSpec, held: Sequence[str]
) -> tuple[str, ...]:
    """What is traded, and what turns its money into account currency, as far as it is there."""
    converts = conversions_of(account.currency, spec.instruments, traded)
    extra = [one for one in converts if one in held]
    if converts and not extra and not any(one in spec.rates for one in converts):
        raise BadRequest(
            f"no price of {' or '.join(converts)} turns profits into {account.currency}: add its "
            "ticks, or a fixed rate under [rates] in the spec"
        )
    return tuple(dict.fromkeys([*traded, *extra]))


def _only(entries: EntrySource) -> str:
    """The terminal, where there is one."""
    known = set(entries.log.namespaces()) if entries.log is not None else set()
    if entries.archive is not None:
        known |= set(entries.archive.namespaces())
    if len(known) != 1:
        listed = ", ".join(sorted(known)) or "none"
        raise BadRequest(f"which terminal? Name it with --terminal; there is: {listed}")
    return known.pop()


def _clock_of(settings: Settings) -> str:
    return settings.mt5_clock


def _rule(text: str) -> ClockRule | None:
    try:
        return ClockRule.parse(text) if text else None
    except ClockRuleError as error:
        raise BadRequest(f"clock {text!r}: {error}") from error


__all__ = [
    "BacktestRequest", "BadRequest", "SourceError", "TickFileError", "TickSource", "planned",
]  # fmt: skip
