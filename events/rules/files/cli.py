"""`bridgectl risk check` and `bridgectl risk packs`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from events.rules.figures import FIGURES, Unit
from events.rules.files.loading import BadRules, load_rules
from events.rules.files.packs import pack_names, pack_text
from events.rules.judging import own_levels
from events.rules.model import Basis, Limit, Rules


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def check(file: Path, as_json: bool) -> None:
    """Check a rule file: what it comes to, or every problem with its line.

    Leaves with 2 when it cannot be used.

    \b
    bridgectl risk check rules.toml
    bridgectl risk check rules.yaml --json
    """

    try:
        rules = load_rules(file)
    except BadRules as error:
        if as_json:
            click.echo(json.dumps({"ok": False, "problems": error.problems}))
            raise click.exceptions.Exit(2) from error
        raise
    if as_json:
        content = rules.model_dump(mode="json")
        click.echo(json.dumps({"ok": True, "checksum": rules.checksum, "rules": content}))
        return
    for line in _described(rules):
        click.echo(line)


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def packs(name: str | None, as_json: bool) -> None:
    """List rule packs, or print one with its sources.

    Use one with `extends = "NAME"` in a rule file. Terms of firms change: check yours.

    \b
    bridgectl risk packs
    bridgectl risk packs ftmo-1-step
    """
    if name is None:
        click.echo(json.dumps({"packs": pack_names()}) if as_json else "\n".join(pack_names()))
        return
    try:
        text = pack_text(name)
    except KeyError as error:
        raise click.UsageError(str(error.args[0])) from error
    click.echo(json.dumps({"name": name, "text": text}) if as_json else text, nl=as_json)


def _described(rules: Rules) -> list[str]:
    account = rules.account
    lines = [
        f"ok: {rules.name or 'rules'}"
        + (f" from pack {rules.extends}" if rules.extends else "")
        + f", checksum {rules.checksum}",
        f"day begins {account.reset_time} {account.reset_zone}, its loss is measured from "
        + account.day_reference.replace("_", " "),
    ]
    missing = [name for name in ("initial_balance", "high_water") if getattr(account, name) is None]
    if missing:
        lines.append(f"asked for at the first start: {', '.join(missing)}")
    lines += [_limit_line(limit, rules) for limit in rules.limits]
    for goal in rules.goals:
        bounds = [("at least", goal.at_least), ("at most", goal.at_most)]
        told = ", ".join(f"{word} {value:g}" for word, value in bounds if value is not None)
        lines.append(f"goal {goal.name}: {goal.figure} {told}{_unit(goal.figure, goal.of)}")
    for window in rules.windows:
        kinds = ("block", "defer")
        does = [kind for kind in kinds if getattr(window, kind)]
        if window.flatten_before_minutes is not None:
            does.append(f"flatten {window.flatten_before_minutes:g} min before")
        when = f"{len(window.times)} moments"
        if window.begin is not None:
            when = f"{' '.join(window.days)} {window.begin}-{window.until} {window.zone}".strip()
        lines.append(f"window {window.name}: {when}: {', '.join(does)}")
    return lines


def _limit_line(limit: Limit, rules: Rules) -> str:
    """A limit with the levels that follow from what was left out."""
    factor = 1.0 if limit.basis == Basis.MONEY else (rules.account.initial_balance or 0.0) / 100
    own = own_levels(limit, factor=factor)
    named = [("warn", own.warn), ("act", own.act)]
    named += [("limit", own.limit)] if limit.limit is not None else []
    told = ", ".join(f"{word} {value:g}" for word, value in named)
    lock = "" if limit.lock == "none" else f", locked {limit.lock.replace('_', ' ')}"
    kind = "hard limit" if limit.hard else "limit"
    unit = _unit(limit.figure, limit.basis)
    return f"{kind} {limit.name}: {limit.key} {told}{unit}: {limit.action}{lock}"


def _unit(figure: str, of: Any) -> str:

    if of is not None and of != Basis.MONEY:
        return f" % of {Basis(of).replace('_', ' ')}"
    unit = FIGURES[figure].unit
    return "" if unit in (Unit.COUNT, Unit.MONEY) else f" {unit.value}"
