"""Findings about this machine: Python, state folder, disk, clock, terminals."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from events.embedded.server import EmbeddedError, make_private
from events.health.finding import Finding, bad, ok, warn
from events.rules import Rules
from events.rules.files import BadRules, load_rules, rules_of_settings
from events.settings import Settings, TerminalKind, TerminalSettings

PYTHON_MIN = (3, 11)
DAYS_LEFT_WARN = 14.0
DAYS_LEFT_BAD = 2.0
FREE_BYTES_MIN = 1 << 30
AGE_S_MIN = 3_600.0
"""A younger state folder tells nothing about growth."""
FILES_COUNTED_MAX = 200_000
TOOL_WAIT_S = 10.0
CONNECT_WAIT_S = 3.0
PROBLEMS_TOLD_MAX = 3
SECONDS_PER_DAY = 86_400.0


def machine_findings(settings: Settings) -> Iterator[Finding]:
    """Everything but the servers, cheapest first."""
    yield python_finding(sys.version_info[:3])
    yield state_folder_finding(settings.state_dir)
    yield disk_finding(settings.state_dir, now_s=time.time())
    yield clock_finding(sys.platform)
    yield from (terminal_finding(terminal, sys.platform) for terminal in settings.terminals())
    yield from limit_findings(settings)


def python_finding(version: tuple[int, ...]) -> Finding:
    text = "Python " + ".".join(map(str, version))
    if version[:2] < PYTHON_MIN:
        return bad("python", text, "install Python 3.11 or newer")
    return ok("python", text)


def state_folder_finding(folder: Path) -> Finding:
    try:
        make_private(folder)
    except EmbeddedError as error:
        return bad("state folder", str(folder), str(error))
    return ok("state folder", f"{folder} can be written")


def disk_finding(folder: Path, *, now_s: float) -> Finding:
    """Days left at the pace at which the state folder grew so far."""
    free = shutil.disk_usage(folder if folder.exists() else folder.anchor).free
    fact = f"{free / (1 << 30):.1f} GiB free"
    if free < FREE_BYTES_MIN:
        return bad("disk", fact, f"free some space on the disk of {folder}")
    used, age_s = folder_growth(folder, now_s=now_s)
    if age_s < AGE_S_MIN or used == 0:
        return ok("disk", f"{fact}, too early to tell for how long")
    days = free / used * age_s / SECONDS_PER_DAY
    fact += f", enough for {days:,.0f} days at {used / age_s * SECONDS_PER_DAY / 1e6:,.1f} MB/day"
    cure = f"free some space on the disk of {folder}, or set a retention"
    if days < DAYS_LEFT_BAD:
        return bad("disk", fact, cure)
    return warn("disk", fact, cure) if days < DAYS_LEFT_WARN else ok("disk", fact)


def folder_growth(folder: Path, *, now_s: float) -> tuple[int, float]:
    """(bytes in the folder, seconds since its oldest file was written)."""
    used, oldest = 0, now_s
    for counted, path in enumerate(folder.rglob("*")):
        if counted >= FILES_COUNTED_MAX:
            break
        try:
            facts = path.stat()
        except OSError:  # gone meanwhile, or not ours to see
            continue
        if path.is_file():
            used += facts.st_size
            oldest = min(oldest, facts.st_mtime)
    return used, now_s - oldest


def clock_finding(platform: str) -> Finding:
    """Whether somebody keeps this machine's clock right."""
    cure = "turn on time synchronisation: latencies and clock evidence depend on it"
    if platform == "win32":
        said = said_by("w32tm", "/query", "/status")
        if said is None:
            return warn("clock", "the Windows time service does not run", cure)
        return ok("clock", "kept by the Windows time service")
    said = said_by("timedatectl", "show", "--property=NTPSynchronized", "--value")
    if said is None:
        return warn("clock", "nobody here tells whether the clock is kept right", cure)
    if said.strip() == "yes":
        return ok("clock", "synchronised")
    return warn("clock", "not synchronised", cure)


def terminal_finding(terminal: TerminalSettings, platform: str) -> Finding:
    """Whether the terminal's kind can work here (its account is checked when it starts)."""
    subject = f"terminal {terminal.name}"
    kind = terminal.kind
    if kind is TerminalKind.NATIVE:
        return _native_finding(subject, terminal, platform)
    if kind in (TerminalKind.REMOTE, TerminalKind.CLASSIC):
        return _link_finding(subject, terminal)
    return ok(subject, f"{kind}: no MT5 is needed")


def _native_finding(subject: str, terminal: TerminalSettings, platform: str) -> Finding:
    if platform != "win32":
        return bad(
            subject,
            "native, but the MetaTrader5 module exists only on Windows",
            "run `bridgectl terminal serve` on the Windows machine and set MT5_HOST here",
        )
    if find_spec("MetaTrader5") is None:
        return bad(
            subject,
            "the MetaTrader5 module is not installed",
            'pip install "mt5-stream-bridge[mt5]"',
        )
    if terminal.path and not Path(terminal.path).exists():
        return bad(subject, f"{terminal.path} is not there", "correct MT5_PATH")
    return ok(subject, f"native, {terminal.path or 'whichever terminal runs'}")


def _link_finding(subject: str, terminal: TerminalSettings) -> Finding:
    place = f"{terminal.host}:{terminal.port}"
    try:
        socket.create_connection((terminal.host, terminal.port), CONNECT_WAIT_S).close()
    except OSError as error:
        return bad(
            subject,
            f"{place} does not answer ({error.strerror or error})",
            "start `bridgectl terminal serve` there, and check MT5_HOST, MT5_PORT and the firewall",
        )
    return ok(subject, f"{terminal.kind}, {place} answers")


def limit_findings(settings: Settings) -> Iterator[Finding]:
    """Of each terminal with rules what they come to, or why nobody can act on them."""
    for terminal in settings.terminals():
        subject = f"limits {terminal.name}"
        named = terminal.rules_file or (str(settings.risk_rules) if settings.risk_rules else "")
        try:
            if named:
                rules: Rules | None = load_rules(Path(named).expanduser().absolute())
            else:
                rules = rules_of_settings(settings, terminal)
        except BadRules as error:
            fact = "; ".join(error.problems[:PROBLEMS_TOLD_MAX])
            yield bad(subject, fact, "correct the rules: `bridgectl risk check FILE` shows them")
            continue
        if rules is not None:
            hard = sum(limit.hard for limit in rules.limits)
            count = len(rules.limits)
            yield ok(subject, f"{count} limits, {hard} of them hard, of {named or 'RISK_*'}")


def said_by(*command: str) -> str | None:
    """What a tool prints; None when it is missing or fails."""
    tool = shutil.which(command[0])
    if tool is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - fixed commands of the operating system
            [tool, *command[1:]],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TOOL_WAIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
