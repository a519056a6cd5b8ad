"""From a terminal in the settings to the spec its host is started with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from events.settings import BadSettings, TerminalKind, TerminalSettings
from producers.terminals.calibration import read_simulated_options
from producers.terminals.spec import TerminalSpec

DEMO_TRADER: dict[str, Any] = {}
"""Default options of the background trader that gives a simulated account something to show."""


MEMORY_FOLDER = "simulated"


def terminal_spec(
    terminal: TerminalSettings, *, observe: bool = False, state_dir: Path | None = None
) -> TerminalSpec:
    """Raises BadSettings when the kind lacks something it needs.

    `observe`: only look, beside a bridge that may be using a served terminal at the same time.
    `state_dir`: a simulated account lives on there, and whoever gives the same folder (a second
    process, the next start) reaches the same account; without it every host opens a new one.
    """
    kind = terminal.kind
    fields: dict[str, Any] = {
        "name": terminal.name,
        "kind": kind.value,
        "login": terminal.login,
        "password": terminal.password,
        "server": terminal.server or None,
        "trade_mode": terminal.trade_mode.value if terminal.trade_mode else None,
        "path": terminal.path or None,
        "portable": terminal.portable,
        "observe": observe,
    }
    if kind in (TerminalKind.REMOTE, TerminalKind.CLASSIC):
        host = f"[{terminal.host}]" if ":" in terminal.host else terminal.host
        fields |= {"address": f"{host}:{terminal.port}", "token": terminal.token}
        fields |= {"tls_ca_file": terminal.tls_ca or None, "tls": terminal.tls}
        fields |= {"tls_fingerprint": terminal.tls_fingerprint or None}
        if kind is TerminalKind.CLASSIC and "module" in terminal.options:
            fields["module"] = terminal.options["module"]
    if kind in (TerminalKind.SIMULATED, TerminalKind.RECORDED):
        fields["options"] = _options(terminal)
        if kind is TerminalKind.SIMULATED and state_dir is not None:
            file = state_dir / MEMORY_FOLDER / f"{terminal.namespace}.jsonl"
            fields["options"].setdefault("memory", str(file))
    try:
        return TerminalSpec.model_validate(fields)
    except ValidationError as error:
        problems = [
            f"terminal {terminal.name}: {'.'.join(map(str, detail['loc']))} {detail['msg']}"
            for detail in error.errors(include_input=False, include_url=False)
        ]
        raise BadSettings(problems) from error


def _options(terminal: TerminalSettings) -> dict[str, Any]:
    options = dict(terminal.options)
    if (calibration := options.pop("calibration", None)) is not None:
        options = {**_calibrated(str(calibration)), **options}
    if terminal.clock:
        options.setdefault("clock", terminal.clock)
    if terminal.kind is TerminalKind.SIMULATED:
        options.setdefault("selected", list(terminal.symbols))
        options.setdefault("trader", DEMO_TRADER)
        options["speed"] = _simulated_speed(str(options.get("speed", 1.0)))
    return options


def _calibrated(path: str) -> dict[str, Any]:
    """What `bridgectl probe` found out about a real terminal."""
    try:
        return read_simulated_options(Path(path).expanduser())
    except (OSError, ValueError) as error:
        raise BadSettings([f"calibration: {error}"]) from error


def _simulated_speed(text: str) -> float:
    try:
        return float(text.strip().lower().removesuffix("x"))
    except ValueError:
        raise BadSettings([f"--speed {text}: a simulated terminal takes 1, 10x, ..."]) from None
