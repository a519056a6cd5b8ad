"""The commands `strategies list`, `strategies new` and `strategies check`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from consumers.strategies.authoring.parameters import parameters_of
from consumers.strategies.authoring.strategy import Strategy
from consumers.strategies.checking import Trial, made_up, of_files, recorded, tried
from consumers.strategies.enabling.chosen import namespace_of
from consumers.strategies.enabling.cli import checked_strategy, texts_of
from consumers.strategies.enabling.page import reasons, table
from consumers.strategies.enabling.sets import strategy_sets
from consumers.strategies.enabling.standing import Standing, standings
from consumers.strategies.running.instances import Casting
from consumers.strategies.running.loading import BUNDLED, BadStrategy, Loaded, load_strategy
from consumers.strategies.warming import made_up_facts
from events.archive.source import EntrySource, opened_source
from events.cli import NoServer, opened_log
from events.clock_rules import ClockRule
from events.instants import instant_option
from events.log import LogUnavailable
from events.settings import Settings, load
from events.tick_files import parse_source
from events.views.moments import utc_text
from events.views.tables import page

EXIT_DIFFERS = 3
SIGNALS_SHOWN = 5
_NEW = '''"""Long while the fast average lies above the slow one, else short."""

from consumers.strategies import Crossover, Ema, Strategy


class {name}(Strategy):
    fast: int = 12
    slow: int = 48

    def setup(self):
        self.cross = Crossover(Ema(self.fast), Ema(self.slow))

    def on_tick(self, tick):
        if side := self.cross.update(tick.mid):
            yield self.target(side, stop_loss=tick.mid * (1 - side * 0.005), reason="crossed")
'''


@click.command("list")
@click.option("--terminal", metavar="NAME", help="Only what is enabled for this terminal.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def list_strategies(terminal: str | None, as_json: bool) -> None:
    """Enabled strategies and how they stand; bundled ones, and those that STRATEGIES names.

    With a log that answers it takes about two seconds: signs of life are watched.

    \b
    bridgectl strategies list
    bridgectl strategies list --json | jq '.enabled[] | select(.state != "running")'
    """
    settings = load()
    known = [*((name, name) for name in BUNDLED),
             *((text, text.rpartition("=")[2]) for text in settings.strategies)]  # fmt: skip
    told = [_known(text, code) for text, code in known]
    found, problem = _standing(settings, terminal)
    if as_json:
        enabled = [one.as_json() for one in found]
        click.echo(json.dumps({"enabled": enabled, "problem": problem, "strategies": told}))
        return
    if found:
        page().print(table(found, now_ms=int(time.time() * 1000)))
        page().print(reasons(found))
    click.echo(problem or ("" if found else "none is enabled: bridgectl strategies enable CODE"))
    for one in told:
        click.echo(f"{one['code']}  ({one['name']})  {one['about']}{one['problem']}")


def _known(text: str, code: str) -> dict[str, Any]:
    try:
        one = load_strategy(code)
    except BadStrategy as error:
        return {"code": text, "name": "?", "about": "", "parameters": {}, "problem": str(error)}
    about = (one.strategy.__doc__ or "").strip().partition("\n")[0]
    parameters = parameters_of(one.strategy, Strategy)
    return {
        "code": text, "name": one.name, "about": about, "parameters": parameters, "problem": "",
    }  # fmt: skip


def _standing(settings: Settings, terminal: str | None) -> tuple[list[Standing], str]:
    """Those that are enabled; or why that is not known."""
    try:
        with opened_log(settings) as log:
            only = [] if terminal is None else [namespace_of(log, terminal, settings)]
            sets = [one for one in strategy_sets(log, only) if one.told.enabled]
            return standings(log, sets), ""
    except (NoServer, LogUnavailable) as error:
        return [], f"what is enabled is not known: {error}"


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def new(file: Path) -> None:
    """Write a strategy of ten lines to begin with.

    \b
    bridgectl strategies new my_strategy.py
    """
    if file.suffix != ".py" or not file.stem.isidentifier():
        raise click.UsageError(f"{file}: name a Python file, such as my_strategy.py")
    if file.exists():
        raise click.UsageError(f"{file} exists: choose another name")
    name = "".join(word.capitalize() for word in file.stem.split("_")) or "Mine"
    file.write_text(_NEW.format(name=name), encoding="utf-8")
    click.echo(f"{file}: try it with `bridgectl strategies check {file}`")


@click.command()
@click.argument("code", metavar="FILE:CLASS")
@click.option("--set", "sets", multiple=True, metavar="NAME=VALUE", help="A parameter of it.")
@click.option("--symbol", "symbols", multiple=True, metavar="NAME", help="Only these; repeat.")
@click.option("--file", "files", multiple=True, metavar="[SYMBOL=]FILE",
              help="On ticks of this file: MT5's export, CSV or Parquet; repeat.")  # fmt: skip
@click.option("--clock", metavar="RULE", help="Of files: the broker's clock, as MT5_CLOCK.")
@click.option("--terminal", metavar="NAME", help="On what was recorded of this terminal.")
@click.option("--from", "from_ms", callback=instant_option, metavar="TIME",
              help="Ticks from this UTC time on.")  # fmt: skip
@click.option("--to", "to_ms", callback=instant_option, metavar="TIME",
              help="Ticks before this UTC time.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def check(
    code: str,
    sets: tuple[str, ...],
    symbols: tuple[str, ...],
    files: tuple[str, ...],
    clock: str | None,
    terminal: str | None,
    from_ms: int | None,
    to_ms: int | None,
    as_json: bool,
) -> None:
    """Load a strategy, run it over ticks, and hold it to what live runs ask of it.

    The ticks are made up; those of files with --file, recorded ones with --terminal, --from or
    --to. They are given whole, and in pieces with restarts between them: signals that differ show
    a look ahead, or something that is not remembered. Leaves with 3 then.

    \b
    bridgectl strategies check my_strategy.py
    bridgectl strategies check ema_cross:EmaCross --set fast=20 --terminal demo --from 2024-05-06
    bridgectl strategies check breakout --file EURUSD_ticks.csv.gz
    """
    loaded = checked_strategy(code, texts_of(sets), symbols)
    settings = load()
    if files:
        if terminal is not None:
            raise click.UsageError("--file and --terminal together: give one or the other")
        sources = [parse_source(text) for text in files]
        held = tuple(dict.fromkeys(source.symbol for source in sources))
        casting = _casting(loaded, symbols or loaded.symbols or held)
        chosen = [source for source in sources if source.symbol in casting.wanted]
        rule = ClockRule.parse(clock) if clock else None
        trial, where = tried(casting, of_files(chosen, rule, from_ms, to_ms)), ", ".join(files)
    elif terminal is not None or from_ms is not None or to_ms is not None:
        with opened_source(settings, told=lambda line: click.echo(line, err=True)) as entries:
            where = _terminal(entries, terminal, settings)
            casting = Casting(loaded.strategy, loaded.name, symbols, loaded.parameters)
            trial = tried(casting, recorded(entries, where, casting, from_ms, to_ms))
    else:
        made = symbols or loaded.symbols or ("EURUSD",)
        trial, where = tried(_casting(loaded, made), made_up(made)), "made-up ticks"
    _tell(trial, code, where, no_stop=bool(loaded.no_stop), as_json=as_json)
    click.get_current_context().exit(0 if trial.same else EXIT_DIFFERS)


def _casting(loaded: Loaded, symbols: tuple[str, ...]) -> Casting:
    """With made-up facts of the symbols: nothing tells them here."""
    facts = {symbol: made_up_facts(symbol) for symbol in symbols}
    return Casting(loaded.strategy, loaded.name, symbols, loaded.parameters, facts)


def _terminal(entries: EntrySource, terminal: str | None, settings: Settings) -> str:
    if entries.log is not None:
        return namespace_of(entries.log, terminal, settings)
    if terminal is None:
        raise click.UsageError("which terminal? Name it with --terminal")
    return terminal


def _tell(trial: Trial, code: str, where: str, *, no_stop: bool, as_json: bool) -> None:
    warnings = trial.warnings(no_stop=no_stop)
    if as_json:
        click.echo(json.dumps({"code": code, "on": where, **trial.as_json(), "warnings": warnings}))
        return
    speed = trial.ticks / trial.seconds if trial.seconds else 0.0
    click.echo(
        f"{code}: {len(trial.signals)} signals on {trial.ticks} ticks ({where}; "
        f"{utc_text(trial.first_ms)} to {utc_text(trial.last_ms)} UTC), {speed:,.0f} ticks/s"
    )
    for one in trial.signals[:SIGNALS_SHOWN]:
        click.echo(f"  {utc_text(one.event_time_ms)} {one.symbol} {one.target}  {one.reason}")
    if trial.same:
        click.echo("the same in pieces, with restarts between them")
    for line in warnings:
        click.echo(line)
