"""One look at an account: a reading for the rules, figures, decisions, and what is told of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from consumers.risk import deciding
from consumers.risk.deciding import Moment
from consumers.risk.figures import realised
from consumers.risk.figures.largest_lot import largest_lots
from consumers.risk.figures.whole import Figures, Named, View, figures_of, losses_of
from consumers.risk.memory import Memory
from consumers.risk.telling import metrics_of
from consumers.risk.times import ahead_of_windows
from events.alerts import Alert
from events.codec import AnyEvent
from events.decisions import ReferenceSet
from events.guarding import GuardState
from events.log import Entry
from events.operations import TerminalDown
from events.rules import (
    Look,
    Reading,
    References,
    Rules,
    advance,
    look,
    unknown_for,
    with_set,
)
from events.trading import Account

UNCHANGED_MS = 1_000
"""An account that does not change is told again so often while positions are open."""
REFERENCES = "references"
PAST_FIGURES = ("realised_week", "realised_month", "losses_in_a_row")
"""Known when every deal of the past is here; the newest day is told first."""


class Looking:
    """What follows from one entry."""

    def __init__(self, memory: Memory, login: int, entry: Entry) -> None:
        self._memory, self._login, self._place = memory, login, entry.place
        self._namespace = entry.stream.slot.namespace

    def account(self, seen: Account) -> Iterator[AnyEvent]:
        """The account was told."""
        memory = self._memory
        memory.told.pop("down", None)
        memory.told["account_ms"] = seen.event_time_ms
        yield from self._whole(seen, seen.event_time_ms)

    def unchanged(self, now_ms: int) -> Iterator[AnyEvent]:
        """Positions are marked at `now_ms`. Where the look before told no account, it was the one
        known already: limits that wait for confirmation need to know."""
        memory = self._memory
        marks_ms, told_ms = memory.marks_ms, memory.told.get("account_ms", 0)
        seen = memory.account
        if seen is None or not marks_ms or told_ms >= marks_ms:
            return
        memory.told["account_ms"] = marks_ms
        tell = marks_ms - memory.told.get("metrics_ms", 0) >= UNCHANGED_MS
        yield from self._whole(seen, marks_ms, tell=tell)

    def sign_of_life(self, event: GuardState | TerminalDown) -> Iterator[AnyEvent]:
        """Time passes while the account cannot be read."""
        memory = self._memory
        if isinstance(event, TerminalDown):
            memory.told["down"] = event.reason
        elif event.state != "blind" and "down" not in memory.told:
            return
        if memory.account is None:
            return
        reading = Reading(
            time_ms=event.event_time_ms, login=self._login, equity=None, balance=None,
            connected="down" not in memory.told,
        )  # fmt: skip
        rules = memory.rules
        found = look(
            memory.watched, rules, reading, login=self._login, now_ms=event.event_time_ms,
            entry=self._place,
        )  # fmt: skip
        memory.watched = found.watched
        yield from self._decided(found, rules, event.event_time_ms)

    def stated(self, event: ReferenceSet) -> Iterator[AnyEvent]:
        """A human told what cannot be known; before the first reading it waits."""
        memory = self._memory
        watched = memory.watched
        if not watched.references.since_ms:
            memory.told["stated"] = event.model_dump_json()
            return
        references = with_set(watched.references, event)
        memory.watched = watched.model_copy(update={"references": references})
        yield from self._references_known(references, memory.rules, event.event_time_ms)

    def _whole(self, seen: Account, now_ms: int, *, tell: bool = True) -> Iterator[AnyEvent]:
        memory, rules = self._memory, self._memory.rules
        figures, view = self._figures(seen, rules, now_ms)
        named = figures.named | memory.realised(now_ms)
        named["losses_in_a_row"] = float(memory.counts["losses_in_a_row"])
        if seen.deals_pending:  # part of a sum is another sum
            for name in PAST_FIGURES:
                named.pop(name, None)
        reading = self._reading(seen, view, figures, rules)
        self._begin(reading, rules)
        found = look(
            memory.watched, rules, reading, login=self._login, now_ms=now_ms, figures=named,
            entry=self._place,
        )  # fmt: skip
        memory.watched = found.watched
        if not found.check.usable:  # it says nothing, so nothing is told of it
            yield from self._decided(found, rules, now_ms)
            return
        memory.counts["waiting"] = realised.new_counts()["waiting"]
        references = found.watched.references
        known = {**named, **found.figures}
        named = known | losses_of(known, references, rules)
        yield from self._references_known(references, rules, now_ms)
        yield from self._decided(found, rules, now_ms)
        yield from self._steps(found, rules, now_ms, named)
        at = Moment(now_ms, self._login, self._place)
        yield from ahead_of_windows(memory.told, rules, view, at)
        if tell:
            memory.told["metrics_ms"] = now_ms
            lots = self._largest_lots(view, rules, references, named)
            yield metrics_of(seen, found, figures, named, rules, now_ms=now_ms, lots=lots)

    def _largest_lots(
        self, view: View, rules: Rules, references: References, named: Named
    ) -> dict[str, float]:
        """Computed once a second: there is one for every symbol. A trial needs none."""
        told = self._memory.told
        if self._memory.trial:
            return {}
        if view.now_ms - told.get("lots_ms", 0) >= UNCHANGED_MS:
            symbols = set(view.market.instruments)
            held = {one.symbol: 0.0 for one in view.holdings}
            for one in view.holdings:
                held[one.symbol] += one.volume_lots
            told["lots_ms"] = view.now_ms
            told["lots"] = largest_lots(
                view.account, view.market, held_lots=held,
                daily_deviations=self._memory.daily_deviations(symbols),
                rules=rules, references=references, named=named,
            )  # fmt: skip
        lots: dict[str, float] = told.get("lots", {})
        return dict(lots)

    def _figures(self, seen: Account, rules: Rules, now_ms: int) -> tuple[Figures, View]:
        memory = self._memory
        holdings = memory.holdings
        held = {one.symbol for one in holdings or ()}
        charged = memory.ledger["charged"] if held else {}
        fixed = rules.costs.commission_per_lot

        def commission(symbol: str) -> float:
            return fixed if fixed is not None else realised.commission_per_lot(charged, symbol)

        view = View(
            now_ms=now_ms,
            account=seen,
            market=memory.market(seen.currency),
            holdings=holdings or (),
            positions_known=holdings is not None,
            orders_open=memory.told.get("orders_open"),
            returns=memory.returns(held) if held else None,
            daily_deviations=memory.daily_deviations(held),
            commission_per_lot=commission,
            slippage_points=rules.costs.slippage_points,
        )
        return figures_of(view), view

    def _reading(self, seen: Account, view: View, figures: Figures, rules: Rules) -> Reading:
        counts = self._memory.counts
        waiting, start_ms = counts["waiting"], realised.day_of(rules, view.now_ms).start_ms
        since_ms = self._memory.watched.references.since_ms
        operations = [row for row in waiting["operations"] if row[1] >= since_ms or not since_ms]
        reset_balance = None
        if realised.knows_all_since(counts, start_ms, seen.balance):
            reset_balance = seen.balance - self._memory.realised(view.now_ms)["realised_day"]
        return Reading(
            time_ms=view.now_ms,
            login=seen.login,
            equity=seen.equity,
            balance=seen.balance,
            credit=seen.credit,
            floating=seen.profit,
            margin=seen.margin,
            positions=len(view.holdings) if view.positions_known else None,
            cost_of_closing=figures.cost.total,
            operations=realised.operations_of(operations),
            realised=waiting["realised"] if since_ms else 0.0,
            opened=waiting["opened"],
            reset_balance=reset_balance,
            deals_pending=seen.deals_pending,
            connected="down" not in self._memory.told,
        )

    def _begin(self, reading: Reading, rules: Rules) -> None:
        """What was stated before the first reading holds from the first reading on."""
        text = self._memory.told.get("stated")
        if text is None or not reading.usable:
            return
        del self._memory.told["stated"]
        watched = self._memory.watched
        references = advance(watched.references, reading, rules)
        references = with_set(references, ReferenceSet.model_validate_json(text))
        self._memory.watched = watched.model_copy(update={"references": references})

    def _references_known(
        self, references: References, rules: Rules, now_ms: int
    ) -> Iterator[AnyEvent]:
        """Nothing is opened while a limit rests on something nobody knows."""
        told = self._memory.told
        unknown = list(unknown_for(rules, references)) if references.since_ms else []
        if unknown == told.get("unknown", []):
            return
        told["unknown"] = unknown
        at = Moment(now_ms, self._login, self._place)
        names = ", ".join(unknown)
        if unknown:
            yield deciding.block(REFERENCES, f"unknown: {names}", at)
        else:
            yield deciding.unblock(REFERENCES, "references are known", at)
        yield Alert(
            event_time_ms=now_ms,
            severity="critical" if unknown else "info",
            topic=REFERENCES,
            subject=str(self._login),
            text=f"unknown, so a worst case holds and nothing is opened: {names}"
            if unknown
            else "every reference is known",
            cure=_set_command(self._namespace, unknown) if unknown else "",
            resolved=not unknown,
            entries=(self._place,),
        )

    def _decided(self, found: Look, rules: Rules, now_ms: int) -> Iterator[AnyEvent]:
        at = Moment(now_ms, self._login, self._place)
        for decision in found.decisions:
            yield from deciding.events_of(decision, rules, at)

    def _steps(self, found: Look, rules: Rules, now_ms: int, named: Named) -> Iterator[AnyEvent]:
        """A reduction without a share closes one position after the other, until its figure is
        back within warn: the next one when the last one is gone."""
        steps: dict[str, Any] = self._memory.told.setdefault("reducing", {})
        lots = named.get("lots_open")
        reached = {f"{one.limit}|{one.key}" for one in found.verdicts}
        for name in [name for name in steps if name not in reached]:
            del steps[name]
        begun = {
            f"{one.limit}|{one.key}"
            for one in found.decisions
            if one.kind == "act" and one.action == "reduce"
        }
        at = Moment(now_ms, self._login, self._place)
        for name in sorted(begun | steps.keys()):
            limit = rules.limit(name.partition("|")[0])
            if limit.reduce is not None and limit.reduce.percent is not None:
                continue
            if name in steps and lots is not None and steps[name] is not None:
                if lots >= steps[name]:
                    continue
                yield deciding.reduce_again(limit, name.partition("|")[2], at)
            steps[name] = lots


def _set_command(namespace: str, unknown: list[str]) -> str:
    day = " --day ..." if any(name.startswith("day_") for name in unknown) else ""
    rest = " --initial ... --high-water ..." if any(
        not name.startswith("day_") for name in unknown
    ) else ""  # fmt: skip
    return f"bridgectl risk reference set --terminal {namespace}{rest}{day} --reason ..."
