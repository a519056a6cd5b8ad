"""`bridgectl sandbox`: run an MT5 script on a simulated or recorded terminal, unchanged."""

from __future__ import annotations

import runpy
import sys
import traceback
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from producers.terminals.interface import Terminal


@click.command(
    "sandbox",
    context_settings={"allow_interspersed_args": False, "help_option_names": ["-h", "--help"]},
)
@click.option("-m", "--module", "as_module", is_flag=True, help="SCRIPT is a module's name.")
@click.option("--ticks", multiple=True, metavar="[SYMBOL=]FILE", help="Play tick files.")
@click.option("--file-clock", default="server", show_default=True, help="Clock of the files.")
@click.option("--clock", default="ny-close", show_default=True, help="The broker's clock.")
@click.option("--speed", default="1", show_default=True, help="1, 10x, or max (files only).")
@click.option("--start", metavar="UTC", help="Virtual time at the start (simulated only).")
@click.option("--symbols", help="Comma list of the catalogue's names (simulated only).")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--login", type=int, default=5_000_001, show_default=True)
@click.option("--password", default="simulated", show_default=True)
@click.option("--server", default="Simulated-Demo", show_default=True)
@click.option("--balance", type=float, default=10_000.0, show_default=True)
@click.option("--currency", default="USD", show_default=True)
@click.option("--leverage", type=int, default=100, show_default=True)
@click.option("--netting", is_flag=True, help="A netting account (default: hedging).")
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run_on_simulator(
    script: str, arguments: tuple[str, ...], as_module: bool, **given: Any
) -> None:
    """Run a script that imports MetaTrader5 on a terminal that needs no MetaTrader 5.

    \b
    Examples:
      bridgectl sandbox my_bot.py --lots 0.1
      bridgectl sandbox --ticks EURUSD_2024.csv.gz --speed max my_bot.py
    """
    from producers.terminals.stand_in.module import installed

    terminal = _terminal(given)
    with installed(terminal):
        run_script(script, arguments, as_module=as_module)


def run_script(script: str, arguments: tuple[str, ...], *, as_module: bool = False) -> None:
    """Run a script or module as `__main__`, as Python itself would.

    Raises click.UsageError when there is no such script, SystemExit with the script's own code,
    or with 1 after an error of the script, whose traceback is shown.
    """
    if not as_module and not Path(script).is_file():
        raise click.UsageError(f"no script {script}: give the path of a Python file")
    argv, path = sys.argv, list(sys.path)
    sys.path.insert(0, "" if as_module else str(Path(script).resolve().parent))
    sys.argv = [script, *arguments]
    try:
        if as_module:
            runpy.run_module(script, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(script, run_name="__main__")
    except Exception as error:
        _show(error)
        raise SystemExit(1) from error
    finally:
        sys.argv, sys.path[:] = argv, path


def _show(error: Exception) -> None:
    """The traceback from the script's own first line on."""
    frames = error.__traceback__
    ours = {__file__, runpy.__file__}
    while frames is not None and (
        frames.tb_frame.f_code.co_filename in ours or "runpy" in frames.tb_frame.f_code.co_filename
    ):
        frames = frames.tb_next
    traceback.print_exception(error.with_traceback(frames))


def _terminal(given: dict[str, Any]) -> Terminal:
    """Raises click.UsageError naming the option that is wrong."""
    from events.clock_rules import ClockRuleError
    from events.tick_files import TickFileError

    try:
        return _recorded(given) if given["ticks"] else _simulated(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "options"
        raise click.UsageError(f"{place}: {first['msg']}") from error
    except (TickFileError, ClockRuleError, ValueError) as error:
        raise click.UsageError(str(error)) from error


def _account(given: dict[str, Any]) -> dict[str, Any]:
    names = ("login", "password", "server", "balance", "currency", "leverage")
    modes = {"margin_mode": 0} if given["netting"] else {}
    return {name: given[name] for name in names} | modes


def _recorded(given: dict[str, Any]) -> Terminal:
    from producers.terminals.recorded import RecordedOptions, RecordedTerminal

    if given["symbols"] or given["start"]:
        raise click.UsageError("--symbols and --start belong to the simulated market, not --ticks")
    return RecordedTerminal(
        RecordedOptions.model_validate(
            {
                "files": given["ticks"], "file_clock": given["file_clock"],
                "clock": given["clock"], "speed": given["speed"], "seed": given["seed"],
                "account": _account(given),
            }
        )
    )  # fmt: skip


def _simulated(given: dict[str, Any]) -> Terminal:
    from events.clock_rules import ClockRule
    from producers.terminals.simulated import SimulatedOptions, SimulatedTerminal

    speed = given["speed"].lower()
    if speed == "max":
        raise click.UsageError("--speed max plays tick files (--ticks): a simulation has no end")
    fields: dict[str, Any] = {
        "seed": given["seed"], "clock": str(ClockRule.parse(given["clock"])),
        "speed": speed.removesuffix("x"),
        "account": _account(given),
    }  # fmt: skip
    if given["symbols"]:
        names = tuple(name.strip() for name in given["symbols"].split(",") if name.strip())
        fields |= {"symbols": names, "selected": names}
    if given["start"]:
        fields["start_utc_ms"] = _utc_ms(given["start"])
    return SimulatedTerminal(SimulatedOptions.model_validate(fields))


def _utc_ms(text: str) -> int:
    from datetime import UTC, datetime

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(
            f"--start {text!r}: give a UTC time such as 2024-03-08T14:30"
        ) from None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(aware.timestamp() * 1000)
