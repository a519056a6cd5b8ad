"""The roof: the command line. Commands are loaded when they are used, each from its room."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from events.durations import duration_option
from events.lazy_commands import LazyGroup
from events.processes import hold_lifeline
from events.settings import (
    Settings,
    TerminalChoice,
    TerminalKind,
    TerminalSettings,
    chosen_terminals,
    load,
    terminal_options,
)

if TYPE_CHECKING:  # loaded by the commands that need them
    from collections.abc import Mapping

    from consumers.captured import Spans
    from consumers.verify import Verification
    from events.embedded import Servers
    from events.running import Appended, RunOptions, Verify

EXIT_FAILED, EXIT_USAGE, EXIT_DIFFERS, EXIT_INTERRUPTED = 1, 2, 3, 130
OUR_ROOMS = ("events", "producers", "consumers", "bridgectl", "__main__")

log = logging.getLogger("bridgectl")

LAZY: dict[str, tuple[str, str]] = {
    "produce": ("producers.cli:produce", "Follow one terminal and append what it shows."),
    "consume": ("consumers.cli:consume", "Run a consumer group, such as persist."),
    "down": ("events.running.down:down", "End the programs. Positions stay as they are."),
    "status": ("events.cli:status", "Terminals, clock, lanes, groups, lag, last error."),
    "tail": ("events.cli:tail", "Show the events of the log, decoded."),
    "doctor": ("events.cli:doctor", "Check what the bridge needs: ok, or cause and cure."),
    "init": ("producers.setup.cli:init", "Find terminal, account and clock; write settings."),
    "probe": ("producers.setup.cli:probe", "Measure a terminal (read only); write calibration."),
    "autostart": ("producers.setup.cli:autostart", "Start the bridge when you log on."),
    "import": ("producers.import_cli:import_command", "Append tick files to the log."),
    "sandbox": (
        "producers.terminals.stand_in.cli:run_on_simulator",
        "Run an MT5 script on the simulated terminal.",
    ),
    "repair": ("consumers.repair.cli:repair", "Mend what a log that lost its tail left behind."),
    "backup": ("events.backup.cli:backup", "Copy log and database into one file."),
    "restore": ("events.backup.cli:restore_command", "Write a backup into empty servers."),
    "replay": ("consumers.replay.cli:replay", "Derive again what a group derived; compare it."),
    "history fetch": ("producers.history.cli:history_fetch", "A terminal's past as Parquet."),
    "archive export": ("events.archive.cli:archive_export", "New entries of the log as Parquet."),
    "archive import": ("events.archive.cli:archive_import", "Archived entries back into a log."),
    "archive list": ("events.archive.cli:archive_list", "What the archive holds."),
    "archive verify": ("events.archive.cli:archive_verify", "Compare every file with its sum."),
    "backtest": ("consumers.backtest.cli:backtest", "Run a strategy over recorded ticks or files."),
    "parity": ("consumers.parity.cli:parity", "Live signals and fills against a backtest."),
    "positions": ("consumers.trades.cli:positions", "Open positions: price, profit, stops."),
    "trades": ("consumers.trades.cli:trades", "Closed trades with their net result."),
    "analytics": ("consumers.analytics.cli:analytics", "What trading brought and cost."),
    "why": ("consumers.replay.why.cli:why_command", "What led to an entry, and what followed."),
    "risk check": ("events.rules.files.cli:check", "Check a rule file: ok, or line and reason."),
    "risk status": ("consumers.risk.cli:status", "Figures, headroom, locks, guard and latch."),
    "risk headroom": ("consumers.risk.cli:headroom", "How far limits are; the largest lot now."),
    "risk reference": ("consumers.risk.cli:reference", "State what losses are measured from."),
    "risk what-if": ("consumers.risk.what_if_cli:what_if", "Run other rules over the log."),
    "risk packs": ("events.rules.files.cli:packs", "Rule packs of prop-firm styles."),
    "strategies list": ("consumers.strategies.cli:list_strategies", "Enabled ones; bundled ones."),
    "strategies enable": ("consumers.strategies.enabling.cli:enable", "Have a strategy run."),
    "strategies disable": ("consumers.strategies.enabling.cli:disable", "Have it run no more."),
    "strategies show": ("consumers.strategies.enabling.cli:show", "One of them: how it stands."),
    "strategies new": ("consumers.strategies.cli:new", "Write a strategy of ten lines."),
    "strategies check": ("consumers.strategies.cli:check", "Load one and try it on made-up ticks."),
    "execution on": ("consumers.execute.desk.cli:switch_on", "Act on signals: paper, or live."),
    "execution off": ("consumers.execute.desk.cli:switch_off", "Act on no signals any more."),
    "execution status": (
        "consumers.execute.desk.cli:status",
        "Switch, targets, intents, refusals.",
    ),
    "migrate": ("consumers.cli:migrate", "Bring the database to this program's schema."),
    "groups list": ("events.groups.cli:list_groups", "Who reads the log, how far, and who lives."),
    "groups remove": ("events.groups.cli:remove_group", "Remove a group for good."),
    "dlq list": ("consumers.failures.cli:dlq_list", "Entries that a group could not bear."),
    "dlq show": ("consumers.failures.cli:dlq_show", "One of them: the error and the entry."),
    "dlq retry": ("consumers.failures.cli:dlq_retry", "Have entries handled now."),
    "dlq drop": ("consumers.failures.cli:dlq_drop", "Give entries up."),
    "alerts list": ("consumers.alerts.cli:alerts_list", "What a human should know of."),
    "alerts test": ("consumers.alerts.cli:alerts_test", "Send a test alert to every target."),
    "halt": ("producers.guard.desk.cli:halt", "No new trades; what is open stays."),
    "flatten": ("producers.guard.desk.cli:flatten", "Halt, cancel orders, close positions."),
    "resume": ("producers.guard.desk.cli:resume", "Allow trades again: a human's act."),
    "drill": ("producers.guard.desk.drill_cli:drill", "Rehearse a breach on a simulated account."),
    "terminal serve": ("producers.serving.cli:serve", "Serve this terminal to a bridge elsewhere."),
}
"""Command -> (where it lies, what it is in a line)."""


FAMILIES = {
    "groups": "Consumer groups: who reads the log, and who holds back trimming.",
    "alerts": "Alerts: what a human should know of, and who is told.",
    "dlq": "Dead letters: entries that a group could not bear.",
    "history": "What a terminal still has of times before it was followed.",
    "archive": "The archive: the log as Parquet files, read back into a log, a replay or a "
    "backtest.",
    "risk": "Risk: limits, what losses are measured from, what other rules would have done.",
    "strategies": "Strategies: write one, try it, see which there are.",
    "execution": "Acting on signals: switched on per terminal, and what became of each target.",
    "terminal": "Serve a terminal of this machine.",
}
"""First word of commands with two -> what they are about."""

LazyGroup.lazy = LAZY


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
    Try it:      bridgectl up
    Look at it:  bridgectl status
    Settings:    .env (see .env.example), environment, terminals.toml
    Completion:  eval "$(_BRIDGECTL_COMPLETE=bash_source bridgectl)"   (zsh_source, fish_source)""",
)
@click.option("-v", "--verbose", is_flag=True, help="Show the traceback of an error.")
@click.option(
    "--env-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Settings file to use in place of .env.",
)
@click.version_option(package_name="mt5-stream-bridge", prog_name="bridgectl")
@click.pass_context
def cli(ctx: click.Context, verbose: bool, env_file: Path | None) -> None:
    """A bridge between MetaTrader 5 and everything a trader wants to do with its data."""
    ctx.meta["verbose"] = verbose
    if env_file is not None:  # children read the same file
        os.environ["BRIDGE_ENV_FILE"] = str(env_file.absolute())


for _name, _about in FAMILIES.items():
    cli.add_command(LazyGroup(name=_name, help=_about, prefix=f"{_name} "))


@cli.command()
@terminal_options
@click.option("--for", "for_s", callback=duration_option, metavar="30s", help="End after so long.")
@click.option("--state-dir", type=click.Path(path_type=Path), help="Folder for data and logs.")
@click.option("--volatile-log", is_flag=True, help="Allow a real terminal on a log that forgets.")
@click.option("--plain", is_flag=True, help="Log lines in place of the live view.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object as the last line of stdout.")
def up(
    for_s: float | None,
    state_dir: Path | None,
    volatile_log: bool,
    plain: bool,
    as_json: bool,
    **choice: Any,
) -> None:
    """Run everything: terminal, Redis, database and what moves between them.

    Servers that are not configured are started from their wheels, with data in the state folder.
    Without an MT5 of yours the simulated terminal runs. A recorded terminal at full speed ends
    by itself when its files are played and stored.

    Leaves with 3 when ticks are missing, doubled or altered.

    \b
    bridgectl up
    bridgectl up --for 30s --json
    bridgectl up --terminal recorded --ticks EURUSD.csv.gz --speed max --json
    """
    from events.embedded import servers
    from events.notify import can_deliver
    from events.program_log import program_log_of
    from events.running import RunOptions, run

    settings = load(bridge_state_dir=state_dir)
    chosen = TerminalChoice(**choice)
    options = RunOptions(
        terminals=chosen_terminals(settings, chosen),
        choice=chosen,
        for_s=for_s,
        window=sys.stdout.isatty() and not (plain or as_json),
        volatile_allowed=volatile_log,
        alerts_wanted=settings.alerts_configured and can_deliver(settings, tell=log.error),
        result_wanted=as_json,
        environment={"BRIDGE_STATE_DIR": str(settings.state_dir)},
    )
    with program_log_of("up", settings, console=not options.window):
        _say_what_runs(options, settings)
        with servers(settings) as found:
            log.info("redis: %s, database: %s", found.redis_kind, found.postgres_kind)
            result = run(options, found, verify=_verifier(found, settings.state_dir))
    if options.counted:
        click.echo(json.dumps(result.to_json()) if as_json else result.told())
        click.get_current_context().exit(0 if result.good else EXIT_DIFFERS)
    if options.window:  # the live view is gone from the screen by now
        click.echo(result.ended())


@cli.group()
def verify() -> None:
    """Compare what was captured with its source."""


@verify.command("ticks")
@terminal_options
@click.option("--last", "last_s", callback=duration_option, metavar="1h", help="Only the newest.")
@click.option("--state-dir", type=click.Path(path_type=Path), help="Folder for data and logs.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def verify_ticks(
    last_s: float | None, state_dir: Path | None, as_json: bool, **choice: Any
) -> None:
    """Pull ticks from the terminal again and compare them with the log and the database.

    Tells missing, doubled, altered and unexpected ticks by symbol and hour; leaves with 3 when
    there are any. Servers that are not configured and do not run are started for it.

    \b
    bridgectl verify ticks
    bridgectl verify ticks --last 1h --symbols EURUSD
    bridgectl verify ticks --terminal recorded --ticks EURUSD.csv.gz --json
    """
    from consumers.verify import Verification
    from events.embedded import servers
    from events.views.tables import page

    settings = load(bridge_state_dir=state_dir)
    chosen = TerminalChoice(**choice)
    with servers(settings) as found:
        folder, named = settings.state_dir, bool(chosen.symbols)
        done = [
            compared(one, found, folder, only=one.symbols if named else (), last_s=last_s)
            for one in chosen_terminals(settings, chosen)
        ]
    whole = Verification(
        tuple(check for one in done for check in one.checks),
        {symbol: why for one in done for symbol, why in one.not_checked.items()},
    )
    if as_json:
        click.echo(json.dumps(whole.as_json()))
    else:
        page().print(whole.table())
    click.get_current_context().exit(0 if whole.ok and not whole.not_checked else EXIT_DIFFERS)


def compared(
    terminal: TerminalSettings,
    found: Servers,
    folder: Path,
    *,
    only: tuple[str, ...] = (),
    spans: Spans | None = None,
    last_s: float | None = None,
) -> Verification:
    """What a terminal gives now, against log and database.

    `spans` default to all that each place holds of the symbols (or its newest `last_s` seconds);
    a recorded terminal is compared from its first tick to its last. `folder` is the state folder.
    """
    from consumers.captured import PLACES, Captured
    from consumers.verify import Verification
    from producers.truth import opened_truth

    recorded = terminal.kind is TerminalKind.RECORDED
    with Captured(found.redis_url, found.postgres_url, terminal.namespace) as captured:
        symbols = only or tuple(captured.symbols() if spans is None else spans)
        wanted: dict[str, Spans] = {
            place: captured.spans(place, symbols, ended=recorded)
            if spans is None
            else captured.still_held(place, spans)
            for place in PLACES
        }
        if last_s is not None:
            wanted = {place: newest_part(one, last_s) for place, one in wanted.items()}
        ends = [until for one in wanted.values() for _, until in one.values()]
        if not ends and not recorded:
            nothing = {terminal.name: "nothing was captured"} if spans is None else {}
            return Verification(not_checked=nothing)
        asked = () if recorded and not only else symbols
        end = max(ends, default=0)
        with opened_truth(terminal, asked, newest_server_ms=end, state_dir=folder) as truth:
            if recorded and last_s is None:
                wanted = dict.fromkeys(PLACES, truth.whole_spans())
            return captured.compared(truth, wanted)


def newest_part(spans: Spans, last_s: float) -> Spans:
    """The last so many seconds of each span."""
    last_ms = int(last_s * 1000)
    return {one: (max(begin, until - last_ms), until) for one, (begin, until) in spans.items()}


def _verifier(found: Servers, state_dir: Path) -> Verify:
    """How `up` compares a run at its end."""
    from consumers.captured import DATABASE, PLACES
    from events.running import Verified

    def verify_run(terminal: TerminalSettings, appended: Mapping[str, Appended]) -> Verified:
        spans = {one: seen.span for one, seen in appended.items() if seen.span is not None}
        done = compared(terminal, found, state_dir, spans=spans)

        def worst(count: str) -> int:
            return max(done.total(count, place) for place in PLACES)

        return Verified(
            missing=worst("missing"),
            duplicated=worst("doubled"),
            altered=worst("altered") + worst("unexpected"),
            checked=done.total("truth", DATABASE),
            not_checked=dict(done.not_checked),
        )

    return verify_run


def _say_what_runs(options: RunOptions, settings: Settings) -> None:
    from events.health import limit_findings

    for one in options.terminals:
        why = "" if settings.mt5_configured or options.choice.terminal else "no MT5 configured: "
        log.info("%s%s terminal, namespace %s", why, one.kind.value, one.namespace)
    for finding in limit_findings(settings):
        if finding.cure:
            log.warning("%s: %s: %s", finding.subject, finding.fact, finding.cure)
        else:
            log.info("%s: %s", finding.subject, finding.fact)


def main() -> None:
    """The entry point: run a command; tell an error in one line; leave with its exit code."""
    hold_lifeline()
    verbose = "-v" in sys.argv[1:] or "--verbose" in sys.argv[1:]
    try:
        code = cli.main(prog_name="bridgectl", standalone_mode=False)
    except click.exceptions.Exit as done:
        code = done.exit_code
    except click.ClickException as error:
        error.show()
        code = EXIT_USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = EXIT_INTERRUPTED
    except BrokenPipeError:  # whoever read our output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        code = _failed(error, verbose=verbose)
    sys.exit(code if isinstance(code, int) else 0)


def _failed(error: Exception, *, verbose: bool) -> int:
    """Say what went wrong in a line; our own errors name cause and cure already."""
    if verbose:
        traceback.print_exception(error)
    problems = getattr(error, "problems", None)
    if problems is not None:
        for line in problems:
            click.echo(f"bridgectl: {line}", err=True)
        return EXIT_USAGE
    own = type(error).__module__.partition(".")[0] in OUR_ROOMS
    name = "" if own else f"{type(error).__name__}: "
    hint = "" if own or verbose else " (bridgectl -v shows where)"
    click.echo(f"bridgectl: {name}{' '.join(str(error).split())}{hint}", err=True)
    return EXIT_FAILED


if __name__ == "__main__":
    main()
