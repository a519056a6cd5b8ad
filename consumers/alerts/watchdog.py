"""What no event can tell: that somebody says nothing any more. A clock beside group `watch`.

It looks once a second whether producers and groups give signs of life, and posts `Silence` to the
operators' slot where one does not: once, however many watch, since equal posts are taken once.
When the log itself does not answer, it tells the targets of alerts directly.
"""

from __future__ import annotations

import hashlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, NamedTuple, Self

from consumers.alerts.delivery import BATCH_S_MAX, WATCH
from events.alerts import Alert
from events.codec import BadEvent, UnknownEvent, decode, encode
from events.groups.readers import group_of
from events.log import OPERATOR, SOURCE, Lane, Log, LogError, Slot
from events.notify import BadTarget, Target, deliver, targets_of
from events.notify.services import PAUSE_S_MAX
from events.operations import Silence
from events.origin import LIVE
from events.settings import Settings

logger = logging.getLogger(__name__)

LOOK_S = 1.0
AGAIN_S = 300.0
"""A silence that lasts is posted again so often: time passes with it where nothing else comes."""
PAST_LOG_AGAIN_S = 3_600.0
DELIVERS = "alerts"
DELIVERING_S = BATCH_S_MAX + PAUSE_S_MAX
"""A batch of alerts takes so long, and the last delivery of it."""
POSTED_LOOKED_AT_MAX = 200
"""Of the operators' newest entries, how many are looked at for silences told earlier."""
Of = Literal["producer", "group"]


class Sign(NamedTuple):
    """What somebody showed at a look; `mark` changes while they live."""

    of: Of
    name: str
    namespace: str
    """Where a silence is posted."""
    mark: str
    holder: str
    busy_s: float = 0.0
    """So long they may be silent at work."""


@dataclass(slots=True)
class _Watched:
    mark: str
    moved_at: float
    told: bool = False
    told_again_at: float = 0.0
    told_mark: str = ""


class Silences:
    """From looks to what is to be posted. Pure; `now` is monotonic seconds, `wall_s` UTC."""

    def __init__(self, silent_s: float, *, seen_by: str = "") -> None:
        self._silent_s, self._seen_by = silent_s, seen_by
        self._watched: dict[tuple[Of, str], _Watched] = {}
        self._open: dict[tuple[Of, str], str] = {}

    def known(self, told: Mapping[tuple[Of, str], str]) -> None:
        """Silences that somebody told before us, with the last sign of each."""
        self._open = dict(told)

    def look(
        self, signs: Sequence[Sign], now: float, wall_s: float
    ) -> Iterator[tuple[Sign, Silence]]:
        """Who is not among the signs any more ended as told: that is no silence."""
        present = {(sign.of, sign.name) for sign in signs}
        self._watched = {who: seen for who, seen in self._watched.items() if who in present}
        for sign in signs:
            event = self._judge(sign, now, wall_s)
            if event is not None:
                yield sign, event

    def pause(self) -> None:
        """We could not look: what was missed meanwhile proves nothing."""
        self._watched.clear()

    def _judge(self, sign: Sign, now: float, wall_s: float) -> Silence | None:
        who = (sign.of, sign.name)
        seen = self._watched.get(who)
        if seen is None:
            before = self._open.get(who)
            self._watched[who] = _Watched(
                sign.mark, now, told=before is not None, told_mark=before or ""
            )
            return None
        if sign.mark != seen.mark:
            told, mark = seen.told, seen.told_mark
            self._watched[who] = _Watched(sign.mark, now)
            self._open.pop(who, None)
            return self._event(sign, 0.0, wall_s, mark=mark, over=True) if told else None
        silent_s = now - seen.moved_at
        if silent_s < self._silent_s + sign.busy_s or now < seen.told_again_at:
            return None
        seen.told, seen.told_again_at, seen.told_mark = True, now + AGAIN_S, sign.mark
        self._open[who] = sign.mark
        return self._event(sign, silent_s, wall_s, mark=sign.mark)

    def _event(
        self, sign: Sign, silent_s: float, wall_s: float, *, mark: str, over: bool = False
    ) -> Silence:
        """`number` follows the wall clock, so that several who watch agree on it."""
        return Silence(
            event_time_ms=int(wall_s * 1000), of=sign.of, name=sign.name, holder=sign.holder,
            silent_s=round(silent_s, 1), over=over, seen_by=self._seen_by, last_sign=mark,
            number=0 if over else int(wall_s // AGAIN_S),
        )  # fmt: skip


@dataclass(slots=True)
class _LogAway:
    """Since when the log does not answer, and whether that was told."""

    since: float | None = None
    told_again_at: float = 0.0
    told: bool = False
    error: str = ""
    targets: tuple[Target, ...] = field(default=())


class Watchdog:
    """Looks in a thread of its own from `with` to its end. It has a connection of its own."""

    def __init__(
        self,
        open_log: Callable[[], Log],
        settings: Settings,
        namespaces: Sequence[str] = (),
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._open_log, self._settings, self._namespaces = open_log, settings, tuple(namespaces)
        self._monotonic, self._wall = monotonic, wall
        self._host = socket.gethostname()
        self._silences = Silences(settings.alert_silence_s, seen_by=self._host)
        self._away = _LogAway()
        self._halted: dict[str, float] = {}
        """Terminals whose group `watch` stands still, and when that was told."""
        self._log: Log | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(self._settings.alert_timeout_s + LOOK_S)
        if self._log is not None:
            self._log.close()

    def turn(self) -> None:
        """One look. Never raises because of the log."""
        now = self._monotonic()
        try:
            if self._log is None:
                self._log = self._open_log()
                self._silences.known(told_before(self._log, self._chosen(self._log)))
            self._look(self._log, now)
        except LogError as error:
            self._silences.pause()
            self._log_away(now, str(error))
        else:
            self._log_back()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.turn()
            except Exception:  # it must go on, whatever one look met
                logger.exception("the watchdog met an error and goes on")
            self._stop.wait(LOOK_S)

    def _chosen(self, log: Log) -> list[str]:
        """What comes by import, replay or backtest has nobody who could be silent."""
        known = (name for name in log.namespaces() if log.origin(name) == LIVE)
        return sorted(name for name in known if not self._namespaces or name in self._namespaces)

    def _look(self, log: Log, now: float) -> None:
        seen = signs(log, self._chosen(log), busy_s=self._settings.alert_timeout_s + DELIVERING_S)
        for sign, event in self._silences.look(seen, now, self._wall()):
            posted = log.post(Slot(sign.namespace, OPERATOR, 0), encode(event))
            if posted is not None and not event.over:
                logger.warning("%s %s is silent for %.0f s", event.of, event.name, event.silent_s)
        self._mind_watch(log, now)

    def _mind_watch(self, log: Log, now: float) -> None:
        """Nobody derives alerts where group `watch` itself stands still."""
        slots = [Slot(name, WATCH, 0) for name in self._chosen(log)]
        for holding in log.tasks.look(slots):
            name = holding.slot.namespace
            told_at = self._halted.get(name)
            if not holding.halted:
                if self._halted.pop(name, None) is not None:
                    self._page(f"group watch of {name} goes on", topic=WATCH, over=True)
            elif told_at is None or now >= told_at + PAST_LOG_AGAIN_S:
                self._halted[name] = now
                self._page(
                    f"group watch of {name} stands still, nobody derives alerts: {holding.halted}",
                    topic=WATCH, cure="`bridgectl dlq list --group watch`, then retry or drop",
                )  # fmt: skip

    def _log_away(self, now: float, error: str) -> None:
        away = self._away
        if away.since is None:
            away.since, away.error = now, error
        silent_s = now - away.since
        if silent_s < self._settings.alert_silence_s or now < away.told_again_at:
            return
        away.told, away.told_again_at = True, now + PAST_LOG_AGAIN_S
        self._page(
            f"the log does not answer for {silent_s:.0f} s: {error}. Nothing is stored, derived or "
            "limited by groups; guards go on by their hard limits",
            cure="does Redis run, and is REDIS_URL right?",
        )

    def _log_back(self) -> None:
        away, self._away = self._away, _LogAway(targets=self._away.targets)
        if away.told:
            self._page("the log answers again", over=True)

    def _page(self, text: str, *, topic: str = "log", cure: str = "", over: bool = False) -> None:
        """Tell the targets directly, past what is missing."""
        (logger.info if over else logger.error)("%s", text)
        if not self._away.targets:
            with suppress(BadTarget):  # told when group `alerts` began
                self._away.targets = targets_of(self._settings)
        alert = Alert(
            event_time_ms=int(self._wall() * 1000), severity="critical", topic=topic,
            subject=self._host, text=text, resolved=over, cure=cure,
        )  # fmt: skip
        for outcome in deliver(alert, self._away.targets, self._settings.alert_timeout_s):
            if not outcome.delivered:
                logger.warning("%s was not told: %s", outcome.target, outcome.detail)


def signs(log: Log, namespaces: Sequence[str], *, busy_s: float = 0.0) -> list[Sign]:
    """What producers and groups show now; those that deliver may be at work on a batch for
    `busy_s`. Raises LogError."""
    found: list[Sign] = []
    groups: dict[str, str] = {}
    for namespace in namespaces:
        slot = Slot(namespace, SOURCE, 0)
        if holder := log.holder(slot):
            mark = str(log.info(slot.stream(Lane.NORMAL)).last_id)
            found.append(Sign("producer", namespace, namespace, mark, holder))
        for readers in log.tasks.readers(namespace).values():
            for reader in readers:
                groups.setdefault(group_of(reader), namespace)
        for writer in log.tasks.writers(namespace):
            groups.setdefault(writer, namespace)
    for group, namespace in sorted(groups.items()):
        if workers := log.tasks.workers(group):
            told = repr(sorted(workers.items())).encode()
            mark = hashlib.blake2b(told, digest_size=8).hexdigest()
            holder = max(workers).partition("/")[0]
            delivers = group.partition(".")[0] == DELIVERS
            found.append(Sign("group", group, namespace, mark, holder, busy_s if delivers else 0.0))
    return found


def told_before(log: Log, namespaces: Sequence[str]) -> dict[tuple[Of, str], str]:
    """Silences that stand in the log and are not over. Raises LogError."""
    found: dict[tuple[Of, str], str] = {}
    for namespace in namespaces:
        stream = Slot(namespace, OPERATOR, 0).stream(Lane.CRITICAL)
        for entry in reversed(log.newest(stream, count_max=POSTED_LOOKED_AT_MAX)):
            with suppress(BadEvent, UnknownEvent):
                event = decode(entry)
                if isinstance(event, Silence) and event.over:
                    found.pop((event.of, event.name), None)
                elif isinstance(event, Silence):
                    found[event.of, event.name] = event.last_sign
    return found
