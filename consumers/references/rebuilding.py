"""What losses are measured from, taken up again out of the archive.

Where group risk had to begin anew (its state is lost with the log, the database is not), the last
figures it had told before are in the database. They hold again when the deals since then account
for the balance of now; what nobody saw in between stays unknown, with the old figure as a bound.
The statement goes into the operators' lane: the group stays a function of the log, and the guard
hears of it too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from threading import Event as Signal
from threading import Thread
from types import TracebackType
from typing import NamedTuple

from events.codec import AnyEvent, BadEvent, UnknownEvent, decode, decode_data, encode
from events.decisions import ReferenceSet, RiskMetrics
from events.log import ACCOUNT_PARTITION, OPERATOR, SOURCE, EntryId, Lane, Log, LogError, Slot
from events.postgres import DatabaseError, connect, read_last_before
from events.postgres.connection import translated
from events.rules.reading import EQUITY_TOLERANCE
from events.rules.references import (
    BEST_RESET,
    DAY_BALANCE,
    DAY_EQUITY,
    DAY_PEAK,
    HIGH_BALANCE,
    HIGH_WATER,
    INITIAL,
)
from events.settings import Settings
from events.trading import OPERATION_TYPES, Account, Deal
from events.views.moments import utc_text

logger = logging.getLogger(__name__)

RISK = "risk"
LOOK_S = 10.0
CREDIT = 3
PAGE_ENTRIES = 1_000
DEALS_LOOKED_AT_MAX = 200_000
"""Entries of the account's lane in which deals are searched."""
OF_DAY = (DAY_BALANCE, DAY_EQUITY, DAY_PEAK, "day_peak_balance")
OF_ALWAYS = ("operations", HIGH_WATER, HIGH_BALANCE, BEST_RESET)
SEQ_MAX = 2**64 - 1


class Rebuilt(NamedTuple):
    """A statement, or why there is none. `later`: it may be found at another look."""

    stated: ReferenceSet | None
    why: str
    later: bool = False


def rebuilt(before: RiskMetrics, now: RiskMetrics, deals: Iterable[Deal]) -> Rebuilt:
    """What the archive's last figures say of the references of now. `deals`: all in between."""
    old, new = before.references, now.references
    since_ms = int(_money(new, "since_ms") or 0)
    booked = {
        d.ticket: d for d in deals if before.event_time_ms < d.event_time_ms <= now.event_time_ms
    }
    if any(deal.type == CREDIT for deal in booked.values()):
        return Rebuilt(None, "a credit was given or taken since")
    moved = now.balance - before.balance
    unexplained = moved - sum(map(_amount, booked.values()))
    if abs(unexplained) > EQUITY_TOLERANCE:
        return Rebuilt(None, f"the balance moved by {unexplained:.2f} that no deal explains", True)
    operations = sum(_amount(d) for d in booked.values() if d.type in OPERATION_TYPES)
    shift = operations - (_money(new, "operations") or 0.0)
    gap_s = (since_ms - before.event_time_ms) / 1000
    traded = any(deal.type not in OPERATION_TYPES for deal in booked.values())
    blind = gap_s > (_money(new, "gap_s") or 0.0) and bool(before.positions_open or traded)
    unknown = {*str(old.get("unknown") or "").split(", ")} - {""}
    unknown |= {HIGH_WATER, HIGH_BALANCE, DAY_PEAK} if blind else set()
    same_day = (old.get("day"), old.get("reset")) == (new.get("day"), new.get("reset"))
    kept = {name: value + shift for name in OF_ALWAYS + (OF_DAY if same_day else ())
            if (value := _money(old, name)) is not None}  # fmt: skip
    if not same_day and BEST_RESET in kept:
        sure = DAY_BALANCE not in str(new.get("unknown") or "")
        unknown |= set() if sure else {BEST_RESET}
        since = _money(new, DAY_BALANCE if sure else BEST_RESET) or 0.0
        kept[BEST_RESET] = max(kept[BEST_RESET], since - (_money(new, "operations") or 0.0))
    for name in (INITIAL, "best_day", "days_traded"):
        if (value := _money(old, name)) is not None:
            kept[name] = value
    stated = ReferenceSet(
        event_time_ms=now.event_time_ms, login=now.login, set_by="archive",
        reason=f"rebuilt from figures of {utc_text(before.event_time_ms)} UTC in the database",
        kept=kept, kept_ms=before.event_time_ms,
        kept_unknown=tuple(sorted(unknown & kept.keys())),
        set_id=f"kept-{before.event_time_ms}-{since_ms}",
    )  # fmt: skip
    return Rebuilt(stated, stated.reason)


class Beginning(NamedTuple):
    """The newest figures of an account, and since when group risk knows its references."""

    namespace: str
    login: int
    now: RiskMetrics
    since_ms: int


def beginnings(log: Log, namespace: str) -> list[Beginning]:
    """Accounts whose deals are all there. Raises LogError."""
    found: list[Beginning] = []
    pending = {
        one.login for one in _states(log, namespace, SOURCE)
        if isinstance(one, Account) and one.deals_pending
    }  # fmt: skip
    for one in _states(log, namespace, RISK):
        if isinstance(one, RiskMetrics) and one.login not in pending:
            since_ms = int(_money(one.references, "since_ms") or 0)
            found += [Beginning(namespace, one.login, one, since_ms)] if since_ms else []
    return found


def rebuild(log: Log, dsn: str, account: Beginning) -> Rebuilt:
    """Post what the archive knows of an account from before its beginning.

    Raises LogError, DatabaseError.
    """
    namespace, now = account.namespace, account.now
    stream = Slot(namespace, RISK, ACCOUNT_PARTITION).stream(Lane.HIGH)
    with (
        connect(dsn, application="bridge risk reference") as connection,
        translated(dsn),
    ):
        entry = read_last_before(
            connection, stream, RiskMetrics.TYPE, now.key, before_ms=account.since_ms
        )
    before = None if entry is None else decode(entry)
    if not isinstance(before, RiskMetrics) or "since_ms" not in before.references:
        return Rebuilt(None, "the archive holds no earlier figures")
    found = rebuilt(before, now, _deals_since(log, namespace, before.event_time_ms))
    if found.stated is not None:
        log.post(Slot(namespace, OPERATOR, ACCOUNT_PARTITION), encode(found.stated))
    return found


def _states(log: Log, namespace: str, writer: str) -> Iterator[AnyEvent]:
    for (type_, key), data in log.last_states(Slot(namespace, writer, ACCOUNT_PARTITION)).items():
        if type_.partition(".")[0] in (Account.TYPE, RiskMetrics.TYPE):
            with suppress(BadEvent, UnknownEvent):
                yield decode_data(type_, key, data)


def _deals_since(log: Log, namespace: str, since_ms: int) -> list[Deal]:
    """Deals whose event time is not before a moment. They may be appended late, never early."""
    stream = Slot(namespace, SOURCE, ACCOUNT_PARTITION).stream(Lane.HIGH)
    found: list[Deal] = []
    before, looked = log.info(stream).last_id, 0
    while looked < DEALS_LOOKED_AT_MAX and (
        page := log.newest(stream, count_max=PAGE_ENTRIES, before=before)
    ):
        for entry in page:
            if entry.type.startswith(f"{Deal.TYPE}."):
                deal = decode(entry)
                if isinstance(deal, Deal) and deal.event_time_ms >= since_ms:
                    found.append(deal)
        looked += len(page)
        last = page[-1].id
        if (last.ms, last.seq) == (0, 0):
            break
        before = EntryId(last.ms, last.seq - 1) if last.seq else EntryId(last.ms - 1, SEQ_MAX)
    return found


def _amount(deal: Deal) -> float:
    return deal.profit + deal.commission + deal.swap + deal.fee


def _money(references: dict[str, float | str | None], name: str) -> float | None:
    value = references.get(name)
    return value if isinstance(value, int | float) else None


class Rebuilding:
    """A thread beside group risk that takes up again what was lost, once for each beginning. A
    context manager; what goes wrong is told and tried again."""

    def __init__(
        self, open_log: Callable[[], Log], settings: Settings, namespaces: Sequence[str] = ()
    ) -> None:
        self._open_log, self._settings = open_log, settings
        self._namespaces = tuple(namespaces)
        self._settled: dict[tuple[str, int], int] = {}
        """Since when the references are known that were looked up."""
        self._told: dict[tuple[str, int], str] = {}
        self._trouble = ""
        self._stopping = Signal()
        self._thread = Thread(target=self._run, name="risk-archive", daemon=True)

    def __enter__(self) -> Rebuilding:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_S):
            dsn = self._settings.postgres_url()
            if dsn is None:
                continue
            try:
                with closing(self._open_log()) as log:
                    for namespace in self._namespaces or sorted(log.namespaces()):
                        for account in beginnings(log, namespace):
                            self._look(log, dsn, account)
                self._trouble = ""
            except (LogError, DatabaseError) as error:
                self._tell(str(error))
            except Exception:  # a thread that dies rebuilds nothing
                logger.exception("looking references up in the archive failed")

    def _tell(self, trouble: str) -> None:
        """Once per trouble: what is unknown stays so meanwhile, and nothing waits for it."""
        if trouble != self._trouble:
            self._trouble = trouble
            logger.warning("references are not looked up in the archive yet: %s", trouble)

    def _look(self, log: Log, dsn: str, account: Beginning) -> None:
        """Raises LogError, DatabaseError."""
        of = (account.namespace, account.login)
        if self._settled.get(of) == account.since_ms:
            return
        found = rebuild(log, dsn, account)
        if not found.later:
            self._settled[of] = account.since_ms
        if self._told.get(of) != found.why:
            self._told[of] = found.why
            logger.info("references of %s, account %d: %s", *of, found.why)
