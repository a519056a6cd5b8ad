"""The commands `strategies enable`, `strategies disable` and `strategies show`."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence

import click

from consumers.failures.request import operator_name
from consumers.strategies.enabling.chosen import (
    chosen_set,
    held_targets,
    namespace_of,
    symbol_warning,
)
from consumers.strategies.enabling.page import detail
from consumers.strategies.enabling.sets import told_parameters
from consumers.strategies.enabling.standing import standings
from consumers.strategies.running.loading import BadStrategy, Loaded, load_strategy
from consumers.strategies.warming import rehearsed
from events.cli import opened_log
from events.codec import encode
from events.executing import StrategySet
from events.groups.removal import NoSuchGroup, StillRunning, remove
from events.log import ACCOUNT_PARTITION, OPERATOR, Log, Slot, checked_name
from events.retention import segment_folder
from events.settings import Settings, load
from events.views.tables import page

LEAVE_S = 20.0
"""How long its workers may take to end."""
_terminal_option = click.option(
    "--terminal", metavar="NAME", help="Which terminal  [default: the only one]."
)
_json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")


@click.command()
@click.argument("code", metavar="FILE:CLASS")
@_terminal_option
@click.option("--symbol", "symbols", multiple=True, metavar="NAME", help="Only these; repeat.")
@click.option("--set", "sets", multiple=True, metavar="NAME=VALUE", help="A parameter of it.")
@click.option("--as", "name", metavar="NAME", help="What it is called  [default: by its class].")
@_json_option
def enable(
    code: str,
    terminal: str | None,
    symbols: tuple[str, ...],
    sets: tuple[str, ...],
    name: str | None,
    as_json: bool,
) -> None:
    """Have a strategy run, from now on and after every restart.

    A running `bridgectl up` or `bridgectl consume --group strategy` begins with it within a
    second. It reads back what its indicators need, and signals nothing of that. Enabled again it
    goes on with other parameters, or with its file as it is now: a file that is edited meanwhile
    is not run before that. Signals become orders only where `bridgectl execution on` says so.

    \b
    bridgectl strategies enable ema_cross:EmaCross --terminal demo --symbol EURUSD
    bridgectl strategies enable my_strategy.py --set fast=10 --set slow=30 --as quick
    """
    loaded = checked_strategy(code, texts_of(sets), symbols)
    name = name or loaded.name
    try:
        checked_name(f"strategy.{name}")
    except ValueError as error:
        raise click.UsageError(f"--as {name}: {error}") from error
    settings = load()
    if name in {_name_of(text) for text in settings.strategies}:
        raise click.UsageError(
            f"STRATEGIES runs a strategy {name} already: give this one another name with --as"
        )
    with opened_log(settings) as log:
        namespace = namespace_of(log, terminal, settings)
        told = StrategySet(
            event_time_ms=int(time.time() * 1000), name=name, code=loaded.place, enabled=True,
            symbols=symbols or loaded.symbols,
            parameters={k: v for k, v in loaded.parameters.items() if k != "symbols"},
            set_by=operator_name(), set_id=uuid.uuid4().hex, checksum=loaded.checksum,
        )  # fmt: skip
        for symbol in told.symbols:
            if warning := symbol_warning(log, namespace, symbol):
                click.echo(f"bridgectl: {warning}", err=True)
        _post(log, namespace, told)
    if as_json:
        click.echo(json.dumps({"terminal": namespace, **told.model_dump(mode="json")}))
        return
    what = ", ".join(told.symbols) or "every symbol that has ticks"
    click.echo(f"{name} is enabled for {namespace}: {what} {told_parameters(told.parameters)}")
    click.echo(
        f"it begins where `bridgectl up` or `bridgectl consume --group strategy` runs; "
        f"look at it: bridgectl strategies show {name}"
    )


@click.command()
@click.argument("name")
@_terminal_option
@_json_option
def disable(name: str, terminal: str | None, as_json: bool) -> None:
    """Have a strategy run no more. Positions and pending orders stay as they are.

    Waits until its workers ended, and takes its state and its places in the log away, so that it
    holds back nothing; its signals stay. Enabled again it begins anew.

    \b
    bridgectl strategies disable quick
    bridgectl halt --terminal demo      (stops everything, not only one strategy)
    """
    settings = load()
    with opened_log(settings) as log:
        chosen = chosen_set(log, name, terminal, settings)
        told = chosen.told.model_copy(
            update={
                "event_time_ms": int(time.time() * 1000), "enabled": False,
                "set_by": operator_name(), "set_id": uuid.uuid4().hex,
            }
        )  # fmt: skip
        _post(log, chosen.namespace, told)
        ended = _taken_away(log, chosen.namespace, chosen.group, settings)
        held = held_targets(log, chosen.namespace, name)
    if as_json:
        left = [one.model_dump(mode="json") for one in held]
        told_json = told.model_dump(mode="json")
        click.echo(
            json.dumps({"terminal": chosen.namespace, **told_json, "ended": ended, "held": left})
        )
        return
    click.echo(f"{name} is disabled for {chosen.namespace}")
    for one in held:
        click.echo(f"it still holds {one.held_lots:g} lots of {one.symbol}: close them yourself")
    if not ended:
        click.echo(
            f"its workers did not end within {LEAVE_S:g} s: they stop as soon as they see it; then "
            f"`bridgectl groups remove {chosen.group} --namespace {chosen.namespace}`"
        )


@click.command()
@click.argument("name")
@_terminal_option
@_json_option
def show(name: str, terminal: str | None, as_json: bool) -> None:
    """Show one strategy: parameters, where it began, how it stands, its last signals.

    \b
    bridgectl strategies show quick
    bridgectl strategies show quick --json | jq .state
    """
    settings = load()
    with opened_log(settings) as log:
        chosen = chosen_set(log, name, terminal, settings, enabled=False)
        [one] = standings(log, [chosen])
    if as_json:
        click.echo(json.dumps(one.as_json()))
        return
    page().print(detail(one, now_ms=int(time.time() * 1000)))


def checked_strategy(code: str, texts: dict[str, str], symbols: Sequence[str]) -> Loaded:
    """A strategy that can be loaded and set up. Raises BadStrategy, with the place and the cure."""
    loaded = load_strategy(code, texts)
    try:
        rehearsed(loaded.strategy, loaded.parameters, tuple(symbols))
    except (Exception, SystemExit) as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise BadStrategy(f"{loaded.where}: setup failed: {what}") from error
    return loaded


def texts_of(sets: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` as it was typed. Raises click.UsageError."""
    texts = {}
    for text in sets:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"--set {text!r}: write it as NAME=VALUE")
        texts[name] = value
    return texts


def _name_of(text: str) -> str:
    """What an entry of STRATEGIES is called."""
    given, equals, code = text.rpartition("=")
    if equals:
        return given
    try:
        return load_strategy(code).name
    except BadStrategy:
        return ""


def _post(log: Log, namespace: str, told: StrategySet) -> None:
    log.post(Slot(namespace, OPERATOR, ACCOUNT_PARTITION), encode(told), once=told.set_id)


def _taken_away(log: Log, namespace: str, group: str, settings: Settings) -> bool:
    """Remove its group when its workers are gone. False when they did not end in time."""
    deadline = time.monotonic() + LEAVE_S
    while True:
        try:
            remove(log, group, namespaces=[namespace], folder=segment_folder(settings))
        except NoSuchGroup:
            return True
        except StillRunning:
            if time.monotonic() >= deadline:
                return False
            continue  # looking takes a while by itself
        return True
