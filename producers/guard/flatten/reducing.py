"""Making positions smaller without closing everything: which ones, and by how much.

Pending orders stay. The same rounds do it that a flatten has: nothing is sent twice, and what is
uncertain is reconciled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from producers.guard.flatten.account import Held, Look, Scope
from producers.guard.flatten.instruments import InstrumentBook
from producers.guard.flatten.items import held_of_item, item_of
from producers.guard.flatten.run import BLIND_WAITS_S, Run

Choice = Literal["largest_loss", "largest_exposure", "newest", "oldest", "all"]
PASSES_MAX = 10_000
PASS_S = 0.05


@dataclass(frozen=True, slots=True)
class Reduction:
    """Close `volume_lots` of a position (all of it when that is what it has)."""

    ticket: int
    volume_lots: float


@dataclass(frozen=True, slots=True)
class ReductionEnded:
    """How a reduction stands. `left`: tickets that are larger than asked for, and why."""

    flatten_id: str
    closed_lots: float
    requests: int
    left: tuple[tuple[int, str], ...]

    @property
    def complete(self) -> bool:
        return not self.left


def choose(
    look: Look,
    book: InstrumentBook,
    *,
    which: Choice = "largest_loss",
    percent: float | None = None,
    positions_max: int | None = None,
    scope: Scope | None = None,
) -> tuple[Reduction, ...]:
    """Which positions to make smaller, in their order.

    `percent` of the volume of each; None: the whole of the first, so that a caller who asks
    again and again closes one after the other. `positions_max`: how many are touched.
    """
    scope = scope or Scope()
    held = [p for p in look.positions if scope.holds(p.magic, p.symbol)]
    held.sort(key=lambda position: _rank(position, which, book))
    if positions_max is None:
        positions_max = len(held) if percent is not None or which == "all" else 1
    chosen = held[:positions_max]
    share = 1.0 if percent is None else percent / 100.0
    return tuple(Reduction(p.ticket, book.of(p.symbol).part(p.volume_lots, share)) for p in chosen)


def reduce_positions(
    run: Run,
    reductions: Sequence[Reduction],
    *,
    sleep: Callable[[float], Any],
    stopping: Callable[[], bool],
) -> ReductionEnded | None:
    """Send, settle and look until every position is as small as asked, or nothing moves. None
    when it was stopped before."""
    wanted = {one.ticket: one.volume_lots for one in reductions}
    rounds, clock = run.rounds, run.clock
    begun = progress_s = clock()
    seen = False
    for number in range(PASSES_MAX):
        if stopping():
            return None
        look = run.calls.look()
        if look.blind:
            if clock() >= begun + run.options.blind_s:
                break
            sleep(BLIND_WAITS_S[min(number, len(BLIND_WAITS_S) - 1)])
            continue
        if not seen:
            seen = True
            _take_in(run, look, wanted)
        if rounds.settle(look):
            progress_s = clock()
        left = [item for item in rounds.items.values() if not item.done]
        if not left or clock() >= progress_s + run.options.patience_s:
            break
        if not rounds.send(look, run.cause.scope):
            sleep(PASS_S)
    return _ended(run, wanted, seen=seen)


def _take_in(run: Run, look: Look, wanted: dict[int, float]) -> None:
    held = [p for p in look.positions if p.ticket in wanted]
    run.rounds.book.prime(run.calls, {p.symbol for p in held})
    run.rounds.close_singly({p.symbol for p in held})
    for position in held:
        item = item_of(position)
        item.keep_lots = max(0.0, round(position.volume_lots - wanted[position.ticket], 8))
        run.rounds.items[position.key] = item
    lots = sum(wanted[p.ticket] for p in held)
    text = f"{len(held)} positions are made smaller by {lots:g} lots: {run.cause.reason}"
    run.tell.step("reduce", outcome="remaining", detail=text)


def _ended(run: Run, wanted: dict[int, float], *, seen: bool) -> ReductionEnded:
    look = run.calls.look()
    left, closed = [], 0.0
    for item in run.rounds.items.values():
        held = None if look.blind else held_of_item(item, look)
        now_lots = held.volume_lots if held is not None else 0.0
        closed += max(0.0, item.volume_lots - now_lots)
        if look.blind or not item.done:
            left.append((item.ticket, look.blind or item.detail or item.status))
    if not seen:
        left = [(ticket, look.blind or "the account could not be read") for ticket in wanted]
    outcome = "remaining" if left else "done"
    run.tell.step("reduce", outcome=outcome, detail=f"{closed:g} lots closed, {len(left)} left")
    if left:
        run.tell.page(f"{len(left)} positions could not be made smaller: {left[0][1]}")
    return ReductionEnded(run.cause.flatten_id, closed, run.rounds.requests, tuple(left))


def _rank(held: Held, which: Choice, book: InstrumentBook) -> tuple[float, int]:
    if which == "largest_exposure":
        return (-abs(book.exposure(held)), held.ticket)
    if which == "newest":
        return (-float(held.time_ms), -held.ticket)
    if which == "oldest":
        return (float(held.time_ms), held.ticket)
    return (held.profit, held.ticket)
