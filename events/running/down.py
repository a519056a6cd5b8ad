"""`bridgectl down`: end the programs of this state folder. Nothing at the broker changes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import click

from events import presence
from events.cli import confirm
from events.durations import SecondsRange
from events.log import LogError
from events.presence import Program
from events.settings import Settings, load
from events.views.state import NamespaceState, collect

WAIT_S = 90.0
PRESS_AFTER = 0.5
"""After this share of the wait a signal follows, where the system has them."""
LOOK_S = 0.1
FLATTENING = "flattening"


@dataclass(slots=True)
class Done:
    """What became of a `down`."""

    ended: list[Program] = field(default_factory=list)
    left: list[Program] = field(default_factory=list)
    """Those that did not end in time."""
    servers: tuple[str, ...] = ()
    """Embedded servers that were stopped though their owner was dead."""
    warnings: tuple[str, ...] = ()
    positions: int | None = None
    """Open positions as last seen; None: nobody could tell."""

    def to_json(self) -> dict[str, object]:
        return {
            "ended": [presence.told(one) for one in self.ended],
            "left": [presence.told(one) for one in self.left],
            "servers": list(self.servers),
            "warnings": list(self.warnings),
            "positions_open": self.positions,
        }


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask, also where an account is halted.")
@click.option(
    "--wait",
    "wait_s",
    type=SecondsRange(1, 3_600),
    default=WAIT_S,
    show_default=True,
    help="Seconds that programs get to end.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def down(yes: bool, wait_s: float, as_json: bool) -> None:
    """End the programs of the bridge on this machine. Positions and orders stay as they are.

    Ends up, produce, consume and terminal serve of this state folder, and their embedded servers;
    nothing is lost. The guards end too: nobody watches limits then. Asks first where an account is
    halted or being flattened.

    Not to be confused: `bridgectl halt` lets no new trade out, `bridgectl flatten` closes
    everything. Both need the bridge, or a terminal, to run.

    Leaves with 1 when a program did not end.

    \b
    bridgectl down
    bridgectl down --yes --json
    """
    from events.embedded import stop_orphans

    settings = load()
    found = others(presence.programs(settings.state_dir))
    warnings, positions = at_stake(settings) if found else ((), None)
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    if warnings:
        confirm("End the programs all the same?", yes=yes)
    done = end(found, wait_s=wait_s)
    done.warnings, done.positions = warnings, positions
    if not done.left:
        done.servers = stop_orphans(settings)
    if as_json:
        click.echo(json.dumps(done.to_json()))
    else:
        for line in lines(done):
            click.echo(line)
    if done.left:
        raise click.exceptions.Exit(1)


def others(found: Sequence[Program]) -> list[Program]:
    """Without this process."""
    return [program for program in found if program.pid != os.getpid()]


def end(found: Sequence[Program], *, wait_s: float) -> Done:
    """Ask those that nobody else started, and wait until all are gone."""
    done = Done()
    asked = presence.roots(found)
    for program in asked:
        program.ask_to_end()
    begun = time.monotonic()
    waiting, pressed = list(found), False
    while waiting:
        for program in [one for one in waiting if not one.lives]:
            waiting.remove(program)
            done.ended.append(program)
        passed_s = time.monotonic() - begun
        if waiting and passed_s >= wait_s:
            done.left = waiting
            return done
        if not pressed and passed_s >= wait_s * PRESS_AFTER:
            pressed = True
            for program in waiting:
                program.terminate()
        time.sleep(LOOK_S if waiting else 0.0)
    return done


def at_stake(settings: Settings) -> tuple[tuple[str, ...], int | None]:
    """What a person should know before the guards end, and how many positions are open."""
    url = settings.redis_url()
    if url is None:
        return (), None
    from events.redis import open_log

    try:
        log = open_log(url)
        try:
            namespaces = collect(log)
        finally:
            log.close()
    except LogError:
        return (), None
    warnings = [text for one in namespaces for text in _warnings(one)]
    books = [one.book for one in namespaces if one.book is not None]
    return tuple(warnings), sum(len(book.positions) for book in books)


def _warnings(namespace: NamespaceState) -> list[str]:
    found: list[str] = []
    if not any(namespace.holders):
        return found
    if namespace.guard is not None and namespace.guard.state == FLATTENING:
        found.append(
            f"{namespace.name} is being flattened ({namespace.guard.reason}): without its guard "
            "what is still open stays open"
        )
    latch = namespace.latch
    if latch is not None and latch.latched:
        found.append(
            f"{namespace.name} is halted ({latch.reason}): nobody keeps it flat then, "
            "and the halt itself stays"
        )
    return found


def lines(done: Done) -> list[str]:
    """For people."""
    if not (done.ended or done.left or done.servers):
        return ["no program of this state folder runs"]
    told = [f"ended: {program.role} (pid {program.pid})" for program in done.ended]
    told += [f"stopped: embedded {name}, whose owner had died" for name in done.servers]
    told += [
        f"did not end: {program.role} (pid {program.pid}); end that process yourself"
        for program in done.left
    ]
    if done.positions:
        told.append(f"{done.positions} positions stay open, and nobody guards them now")
    return told
