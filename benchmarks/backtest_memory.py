"""Memory of a backtest over a month of ten symbols, from files, in a process of its own.

    python -m benchmarks.backtest_memory [--days 31] [--symbols 10] [--set fast=4000] [--json]

Ticks are made up from a seed at realistic rates and written as one Parquet file per symbol (with
the disk space that takes, some 400 MB); the strategy sees each of them in Python. Peak memory is
what the process that runs `backtest` ever held (RSS), its interpreter and libraries included; for
comparison also what it held before the first tick.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from benchmarks.parts.realistic import write_days

STRATEGY = "ema_cross:EmaCross"
SIZES = ("fast=4000", "slow=16000", "stop_percent=0.3")
LIMIT_MB = 500


@dataclass(frozen=True, slots=True)
class Measured:
    """One run."""

    days: int
    symbols: int
    ticks: int
    trades: int
    seconds: float
    begin_mb: float
    """RSS before the first tick."""
    peak_mb: float


def measured(
    files: list[str], spec: Path, *, days: int, sets: tuple[str, ...], code: str = STRATEGY
) -> Measured:
    """A backtest in this process, which did nothing else before."""
    from consumers.backtest.planning import BacktestRequest, planned
    from consumers.backtest.running import run_backtest
    from events.settings import load

    request = BacktestRequest(
        code, sources=tuple(files), spec=str(spec), clock="ny-close",
        parameters=dict(text.partition("=")[::2] for text in sets),
    )  # fmt: skip
    with planned(request, load()) as plan:
        begin_mb = peak_mb()
        begun = time.perf_counter()
        result = run_backtest(plan)
    return Measured(
        days, len(files), result.ticks, len(result.trades), time.perf_counter() - begun, begin_mb,
        peak_mb(),
    )  # fmt: skip


def peak_mb() -> float:
    """The most this process ever held. POSIX only."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(folder: Path, *, days: int, symbols: int, seed: int, sets: tuple[str, ...]) -> Measured:
    """Write files into a folder and measure a backtest over them in a fresh process."""
    from consumers.backtest.broker.spec.writing import example_spec, spec_text

    files, _ = write_days(folder, symbols=symbols, days=days, seed=seed)
    spec = folder / "spec.toml"
    named = [text.partition("=")[0] for text in files]
    spec.write_text(spec_text(example_spec(named)), encoding="utf-8")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measured, files, spec, days=days, sets=sets).result()


@click.command()
@click.option("--days", default=31, show_default=True)
@click.option("--symbols", default=10, show_default=True, type=click.IntRange(1, 10))
@click.option("--seed", default=1, show_default=True)
@click.option("--set", "sets", multiple=True, help="A parameter of the strategy.")
@click.option("--json", "as_json", is_flag=True)
def main(days: int, symbols: int, seed: int, sets: tuple[str, ...], as_json: bool) -> None:
    """Print peak memory, ticks and time."""
    with tempfile.TemporaryDirectory() as folder:
        found = run(Path(folder), days=days, symbols=symbols, seed=seed, sets=(*SIZES, *sets))
    if as_json:
        click.echo(json.dumps(asdict(found)))
        return
    click.echo(
        f"{found.ticks:,} ticks of {found.symbols} symbols over {found.days} days in "
        f"{found.seconds:.0f} s, {found.trades:,} trades: at most {found.peak_mb:.0f} MB "
        f"(limit {LIMIT_MB}), {found.begin_mb:.0f} MB before the first tick"
    )


if __name__ == "__main__":
    main()
