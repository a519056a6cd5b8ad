"""The commands `strategies list`, `strategies new` and `strategies check`."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from consumers.strategies.authoring.parameters import parameters_of
from consumers.strategies.authoring.strategy import Strategy
from consumers.strategies.enabling.chosen import namespace_of
from consumers.strategies.enabling.cli import checked_strategy, texts_of
from consumers.strategies.enabling.page import reasons, table
from consumers.strategies.enabling.sets import strategy_sets
from consumers.strategies.enabling.standing import Standing, standings
from consumers.strategies.running.instances import Casting, Instances
from consumers.strategies.running.loading import BUNDLED, BadStrategy, Loaded, load_strategy
from consumers.strategies.running.tick_run import TickRun
from events.cli import NoServer, opened_log
from events.log import LogUnavailable
from events.settings import Settings, load
from events.ticks import TICK_DTYPE, OffsetSource, TickBatch
from events.views.tables import page

TICKS = 100_000
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
@click.option("--symbol", "symbols", multiple=True, help="Symbols of the made-up ticks; repeat.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def check(code: str, sets: tuple[str, ...], symbols: tuple[str, ...], as_json: bool) -> None:
    """Load a strategy, run it over made-up ticks, and hold it to what live runs ask of it.

    The same ticks are given whole and in pieces with a restart between them: signals that differ
    show a look ahead, or something that is not remembered. Leaves with 3 then.

    \b
    bridgectl strategies check my_strategy.py
    bridgectl strategies check ema_cross:EmaCross --set fast=20
    """
    loaded = checked_strategy(code, texts_of(sets), symbols)
    chosen = symbols or loaded.symbols or ("EURUSD",)
    batches = _made_up(chosen)
    begun = time.perf_counter()
    whole = [s for run in _pieces(batches, 1) for s in _fresh(loaded, chosen).run_all(run)]
    seconds = time.perf_counter() - begun
    instances, kept, cut = _fresh(loaded, chosen), dict[str, object](), []
    for run in _pieces(batches, 7):
        cut += instances.run_all(run)
        kept |= instances.remember()
        instances = _fresh(loaded, chosen)
        instances.restore(kept)
    same, speed = whole == cut, TICKS / seconds
    if as_json:
        told = {"code": code, "signals": len(whole), "ticks_per_s": speed, "same_in_pieces": same}
        click.echo(json.dumps(told))
    else:
        click.echo(f"{code}: {len(whole)} signals on {TICKS} made-up ticks, {speed:,.0f} ticks/s")
        for one in whole[:5]:
            click.echo(f"  {one.event_time_ms} {one.symbol} {one.target}  {one.reason}")
        click.echo(
            "the same in pieces, with restarts between them"
            if same
            else "OTHER signals in pieces: it looks ahead, or something is not remembered"
        )
    click.get_current_context().exit(0 if same else 3)


def _fresh(loaded: Loaded, symbols: tuple[str, ...]) -> Instances:
    return Instances(Casting(loaded.strategy, loaded.name, symbols, loaded.parameters))


def _made_up(symbols: tuple[str, ...]) -> TickRun:
    """A seeded random walk per symbol, by time."""
    batches = []
    for seed, symbol in enumerate(symbols):
        chance, count = np.random.default_rng(seed), TICKS // len(symbols)
        ticks = np.zeros(count, TICK_DTYPE)
        ticks["time_msc"] = 1_700_000_000_000 + np.cumsum(chance.integers(1, 20_000, count))
        ticks["bid"] = np.round(1.1 * np.exp(np.cumsum(chance.normal(0, 1e-4, count))), 5)
        ticks["ask"] = ticks["bid"] + 1e-4
        ticks["flags"] = 6
        batches.append(TickBatch(symbol, ticks, 0, OffsetSource.ASSUMED, 0, 0))
    return TickRun.merged(batches)


def _pieces(run: TickRun, count: int) -> list[TickRun]:
    edges = [len(run) * at // count for at in range(count + 1)]
    return [run.part(begin, stop) for begin, stop in itertools.pairwise(edges)]
