"""A model of a terminal's tick store, and of readers that poll it. Everything from one seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from events.log import EntryId
from events.ticks import FLAGS_DOCUMENTED, TICK_DTYPE, TickArray
from producers.ticks.cursor import TickCursor
from producers.ticks.state import CursorLimits

START_MS = 1_793_505_600_000
UNDOCUMENTED = np.array((0, 0x80, 0x400, 0x480), np.uint32)


@dataclass(slots=True)
class Row:
    """A tick of the model: `known_at_ms` is when the terminal's answers hold it (UTC)."""

    server_ms: int
    known_at_ms: int
    bid: float
    ask: float
    flags: int


class TerminalModel:
    """Answers `copy_ticks_from` as a terminal does: in the order of its store, from a second of
    the server's clock on, at most `count` rows, undocumented flag bits as it likes."""

    def __init__(self, seed: int, rows: list[Row], *, by_label: bool) -> None:
        if by_label:  # else by arrival, so that a clock put back shows in the store
            rows = sorted(rows, key=lambda row: row.server_ms)
        self._rng = np.random.default_rng(seed)
        self.known_at_ms = np.array([row.known_at_ms for row in rows])
        self.truth = np.array(
            [(r.server_ms // 1000, r.bid, r.ask, 0.0, 0, r.server_ms, r.flags, 0.0) for r in rows],
            TICK_DTYPE,
        )

    def copy(self, now_ms: int, from_s: int, count: int) -> TickArray:
        held = (self.known_at_ms <= now_ms) & (self.truth["time"] >= from_s)
        answer = self.truth[np.flatnonzero(held)[:count]]
        answer["flags"] |= self._rng.choice(UNDOCUMENTED, len(answer))
        return answer

    def newest(self, now_ms: int) -> int | None:
        """Time of the tick that arrived last."""
        known = np.flatnonzero(self.known_at_ms <= now_ms)
        if not len(known):
            return None
        return int(self.truth["time_msc"][known[np.argmax(self.known_at_ms[known])]])


@dataclass
class Feed:
    """Dense ticks: bursts in one millisecond, identical rows, quiet spells, an outage."""

    seed: int
    seconds: int = 240
    outage: bool = True
    step_back_s: int = 0
    """The server's clock is put back by so much half-way."""
    step_forward_s: int = 0
    by_label: bool = False
    rows: list[Row] = field(default_factory=list)

    def model(self) -> TerminalModel:
        rng = random.Random(self.seed)
        begin = rng.randrange(self.seconds // 4, self.seconds // 2) * 1000
        length = rng.randrange(5, 40) * 1000 if self.outage else 0
        back_at = begin + length + rng.randrange(500, 30_000)
        now, price = 0, 1.1
        while now < self.seconds * 1000:
            now += rng.choice((0, 0, 1, 3, 40, 300, 900, rng.randrange(1, 4_000)))
            row = self._row(rng, now, price)
            price = row.bid
            out = begin <= now < begin + length
            if out:
                row.known_at_ms = START_MS + back_at + rng.randrange(3) * 1500
            else:
                row.known_at_ms += rng.choice((0, 0, 0, 150, 1_900))
            self.rows += [row] * rng.choice((1, 1, 1, 1, 2, 3))
        return TerminalModel(self.seed, self.rows, by_label=self.by_label)

    def _row(self, rng: random.Random, now: int, price: float) -> Row:
        half = self.seconds * 500
        shift_s = (self.step_forward_s - self.step_back_s) if now >= half else 0
        bid = round(price + rng.choice((-1, 0, 0, 1)) * 1e-5, 5)
        server_ms = START_MS + now + shift_s * 1000
        return Row(server_ms, START_MS + now, bid, bid + 1e-5, rng.choice((2, 4, 6)))

    @property
    def end_ms(self) -> int:
        return START_MS + self.seconds * 1000


@dataclass
class Kept:
    """What a reader has handed on."""

    rows: list[bytes] = field(default_factory=list)

    def add(self, rows: TickArray) -> None:
        copy = rows.copy()
        copy["flags"] &= FLAGS_DOCUMENTED
        self.rows += [row.tobytes() for row in copy]


@dataclass
class Verdict:
    lost: int
    doubled: int
    total: int

    @property
    def share(self) -> float:
        return 1 - self.lost / self.total


def verdict(model: TerminalModel, kept: Kept) -> Verdict:
    """Hold what was kept against everything the terminal ever had, as multisets."""
    truth = Counter(row.tobytes() for row in model.truth)
    have = Counter(kept.rows)
    return Verdict(sum((truth - have).values()), sum((have - truth).values()), len(model.truth))


class LogModel:
    """The log of one symbol: entries and the cursor's text, stored in one step."""

    def __init__(self) -> None:
        self.entries: list[tuple[EntryId, TickArray]] = []
        self.text = ""

    def append(self, rows: TickArray, text: str, parts: int) -> list[EntryId]:
        ids = []
        for part in np.array_split(rows, min(parts, len(rows))):
            entry_id = EntryId(1_000 + len(self.entries), 0)
            self.entries.append((entry_id, part))
            ids.append(entry_id)
        self.text = f"{text}@{ids[-1]}"
        return ids

    def resume(self, limits: CursorLimits) -> TickCursor:
        first = TickCursor.parse(self.text).window_from
        window = [(entry_id, rows) for entry_id, rows in self.entries if entry_id >= first]
        return TickCursor.resume(self.text, window, limits=limits)


@dataclass
class CursorReader:
    """Polls with the cursor. Appends fail, processes die, answers are lost, as the seed says."""

    model: TerminalModel
    rng: random.Random
    limits: CursorLimits
    restarts: bool = True
    hints: bool = True
    log: LogModel = field(default_factory=LogModel)
    restarted: int = 0
    late: int = 0

    def run(self, end_ms: int) -> TickCursor:
        cursor = TickCursor(START_MS // 1000 - 60, limits=self.limits)
        now = START_MS
        while now < end_ms:
            now += self.rng.choice((100, 250, 1_000, self.rng.randrange(1, 5_000)))
            if self.restarts and self.rng.random() < 0.02 and self.log.text:
                cursor = self.log.resume(self.limits)
                now += self.rng.choice((0, 3_000, 20_000))
                self.restarted += 1
            self.poll(cursor, min(now, end_ms))
        for _ in range(80):  # quiet at the end: what is still to come is fetched
            now += 10_000
            self.poll(cursor, now)
        return cursor

    def poll(self, cursor: TickCursor, now: int) -> None:
        newest = self.model.newest(now)
        if self.hints and newest is not None:
            cursor.quote_seen(newest)
        for _ in range(200):
            from_s, count = cursor.request()
            taken = cursor.take(self.model.copy(now, from_s, count))
            if len(taken) and not self._append(cursor, taken.new):
                return
            self.late += int(np.count_nonzero(taken.late))
            if not taken.more and not taken.warming:
                return
        raise AssertionError("the cursor asks for ever")

    def _append(self, cursor: TickCursor, rows: TickArray) -> bool:
        text, fate = cursor.cursor_text(), self.rng.random()
        if self.restarts and fate < 0.05:
            cursor.abandon()  # the append failed
            return False
        ids = self.log.append(rows, text, self.rng.choice((1, 1, 3)))
        cursor.commit()
        for entry_id in ids if fate < 0.5 else ids[-1:]:
            cursor.appended(entry_id)
        return True

    @property
    def kept(self) -> Kept:
        kept = Kept()
        for _, rows in self.log.entries:
            kept.add(rows)
        return kept


Poll = Callable[[TerminalModel, int, Kept, dict[str, int]], None]


def run_rival(model: TerminalModel, poll: Poll, end_ms: int, seed: int) -> Kept:
    """Poll with a reader that keeps less than it should."""
    rng, kept, memory = random.Random(seed), Kept(), {"last": START_MS - 60_000}
    now = START_MS
    while now < end_ms + 60_000:
        now += rng.choice((100, 250, 1_000, rng.randrange(1, 5_000)))
        poll(model, now, kept, memory)
    return kept


def newer_millisecond(model: TerminalModel, now: int, kept: Kept, memory: dict[str, int]) -> None:
    """`time_msc > last`, the key of many packages."""
    rows = model.copy(now, memory["last"] // 1000, 100_000)
    rows = rows[rows["time_msc"] > memory["last"]]
    kept.add(rows)
    memory["last"] = max([memory["last"], *rows["time_msc"].tolist()])


def newer_second(model: TerminalModel, now: int, kept: Kept, memory: dict[str, int]) -> None:
    """`time > last`."""
    rows = model.copy(now, memory["last"] // 1000 + 1, 100_000)
    kept.add(rows)
    memory["last"] = max([memory["last"], *(rows["time"] * 1000).tolist()])


class UniqueRows:
    """Drops rows it has seen, identical ticks with them."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def __call__(self, model: TerminalModel, now: int, kept: Kept, memory: dict[str, int]) -> None:
        rows = model.copy(now, memory["last"] // 1000 - 15, 100_000)
        copy = rows.copy()
        copy["flags"] &= FLAGS_DOCUMENTED
        for place, row in enumerate(copy):
            if row.tobytes() not in self._seen:
                self._seen.add(row.tobytes())
                kept.add(rows[place : place + 1])
        memory["last"] = max([memory["last"], *rows["time_msc"].tolist()])


def latest_tick(model: TerminalModel, now: int, kept: Kept, memory: dict[str, int]) -> None:
    """`symbol_info_tick` at each poll."""
    rows = model.copy(now, 0, 10**9)[-1:]
    if len(rows) and int(rows["time_msc"][0]) != memory["last"]:
        kept.add(rows)
        memory["last"] = int(rows["time_msc"][0])
