"""Cursor and clock together over the night a server's clock is put back, and forward: every tick
once, each with its true UTC time."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pytest

from events.clock_rules import ClockRule
from events.ticks import FLAGS_DOCUMENTED, TICK_DTYPE, OffsetSource, TickArray
from producers.clock.broker_clock import BrokerClock
from producers.terminals.simulated import SimulatedOptions, SimulatedTerminal
from producers.terminals.simulated.faults import Fault
from producers.terminals.simulated.options import TickOptions
from producers.ticks.cursor import TickCursor
from producers.ticks.state import CursorLimits

RULE = ClockRule.parse("America/New_York+7h")
BACK_MS = int(datetime(2026, 11, 1, 6, tzinfo=UTC).timestamp()) * 1000
FORWARD_MS = int(datetime(2026, 3, 8, 7, tzinfo=UTC).timestamp()) * 1000
HOUR_MS = 3_600_000


class Night:
    """Ticks of a 24/7 symbol around a switch; each bid is the tick's number."""

    def __init__(self, switch_ms: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        gaps = rng.choice((0, 5, 400, 2_500, 9_000), 6_000)
        self.utc_ms = switch_ms - 2 * HOUR_MS + np.cumsum(gaps)
        server_ms = self.utc_ms + RULE.offsets_s(self.utc_ms) * 1000
        self.rows = np.zeros(len(gaps), TICK_DTYPE)
        self.rows["time_msc"], self.rows["time"] = server_ms, server_ms // 1000
        self.rows["bid"] = np.arange(1, len(gaps) + 1)
        self.rows["ask"] = self.rows["bid"] + 0.5

    def copy(self, now_ms: int, from_s: int, count: int, hole: tuple[int, int]) -> TickArray:
        held = (self.utc_ms <= now_ms) & (self.rows["time"] >= from_s)
        if now_ms < hole[1] + 20_000:
            held &= (self.utc_ms < hole[0]) | (self.utc_ms >= hole[1])
        return self.rows[np.flatnonzero(held)[:count]]


class Reader:
    def __init__(self, night: Night, limits: CursorLimits) -> None:
        self.night, self.clock = night, BrokerClock(RULE)
        self.cursor = TickCursor(
            int(night.rows["time"][0]), limits=limits, twice_since_s=self.clock.twice_since_s
        )
        self.found: dict[int, list[int]] = {}
        self.after_ms: int | None = None

    def take(self, rows: TickArray, host_ms: int) -> bool:
        taken = self.cursor.take(rows)
        if len(taken):
            segments = self.clock.offset_for(
                taken.new["time_msc"], host_utc_ms=host_ms, after_utc_ms=self.after_ms
            )
            for part, offset_s, source in segments:
                assert source is not OffsetSource.UNKNOWN
                utc_ms = taken.new["time_msc"][part] - offset_s * 1000
                self.after_ms = max(self.after_ms or 0, int(utc_ms.max()))
                for number, time_ms in zip(taken.new["bid"][part], utc_ms, strict=True):
                    self.found.setdefault(int(number), []).append(int(time_ms))
            self.cursor.commit()
        return taken.more or taken.warming

    def check(self) -> None:
        truth = {n: [int(t)] for n, t in enumerate(self.night.utc_ms, start=1)}
        wrong = [n for n in truth if self.found.get(n) != truth[n]]
        assert not wrong, f"{len(wrong)} ticks lost, doubled or at a wrong time, first {wrong[:3]}"
        assert len(self.found) == len(truth)


@pytest.mark.parametrize("switch_ms", [BACK_MS, FORWARD_MS], ids=["back", "forward"])
def test_polled_live_every_tick_keeps_its_time(switch_ms: int) -> None:
    night, rng = Night(switch_ms, seed=4), random.Random(4)
    reader = Reader(night, CursorLimits())
    now = int(night.utc_ms[0])
    hole = (now + HOUR_MS // 2, now + HOUR_MS // 2 + 300_000)  # filled in later
    while now < night.utc_ms[-1] + 900_000:
        now += rng.choice((2_000, 8_000, 20_000))
        seen = night.copy(now, 0, 10**9, hole)
        if len(seen):
            reader.clock.observe("BTCUSD", int(seen["time_msc"][-1]), now)
            reader.cursor.quote_seen(int(seen["time_msc"][-1]))
        more = True
        while more:
            from_s, count = reader.cursor.request()
            more = reader.take(night.copy(now, from_s, count, hole), now)
    reader.check()
    assert reader.clock.state.offset_source is OffsetSource.LIVE
    assert reader.cursor.stats.altered == reader.cursor.stats.vanished == 0


@pytest.mark.parametrize("page", [50, 700, 5_000])
@pytest.mark.parametrize("switch_ms", [BACK_MS, FORWARD_MS], ids=["back", "forward"])
def test_played_page_after_page_every_tick_keeps_its_time(switch_ms: int, page: int) -> None:
    night = Night(switch_ms, seed=5)
    reader = Reader(night, CursorLimits(page=page))
    none = (0, 0)
    for _ in range(400):
        from_s, count = reader.cursor.request()
        rows = night.copy(int(night.utc_ms[-1]), from_s, count, none)
        # A terminal that plays as fast as it is read: its clock stands at the newest tick shown.
        shown = int(night.utc_ms[int(rows["bid"][-1]) - 1])
        if not reader.take(rows, shown):
            break
    reader.check()


def test_a_simulated_terminal_with_every_oddity_is_followed_through_the_night() -> None:
    begin_ms = BACK_MS - 70 * 60_000
    terminal = SimulatedTerminal(
        SimulatedOptions(
            seed=8,
            symbols=("BTCUSD",),
            selected=("BTCUSD",),
            start_utc_ms=begin_ms,
            speed=0,
            first_answer="partial",
            ticks=TickOptions(
                rate=0.1, flag_bits=0x400, flag_bits_live=0x80, zero_price_share=0.003,
                late_share=0.03, same_ms_share=0.1, identical_share=0.03, bursts_per_hour=4,
            ),
            faults=(Fault(kind="disconnect", at_s=3_000, for_s=900, seconds=45),),
        )
    )  # fmt: skip
    terminal.initialize()
    rng, clock, got = random.Random(8), BrokerClock(RULE), Counter[bytes]()
    begin_s = (begin_ms + 3 * HOUR_MS) // 1000
    cursor = TickCursor(begin_s, twice_since_s=clock.twice_since_s)
    utc_ms: list[int] = []
    for _ in range(1_200):
        terminal.advance(rng.choice((1_000, 4_000, 20_000)))
        newest, now = terminal.symbol_info_tick("BTCUSD"), terminal.utc_now_ms()
        if newest is not None:
            clock.observe("BTCUSD", newest.time_msc, now)
            cursor.quote_seen(newest.time_msc)
        more = True
        while more:
            from_s, count = cursor.request()
            taken = cursor.take(terminal.copy_ticks_from("BTCUSD", from_s, count, -1))
            more = taken.more or taken.warming
            for part, offset_s, _ in clock.offset_for(
                taken.new["time_msc"], host_utc_ms=now, after_utc_ms=max(utc_ms, default=None)
            ):
                utc_ms += (taken.new["time_msc"][part] - offset_s * 1000).tolist()
            rows = taken.new.copy()
            rows["flags"] &= FLAGS_DOCUMENTED
            got.update(row.tobytes() for row in rows)
            cursor.commit()
    now = terminal.utc_now_ms()
    truth = terminal.truth("BTCUSD", begin_s * 1000, now + 3 * HOUR_MS)
    truth["flags"] &= FLAGS_DOCUMENTED
    wanted = Counter(row.tobytes() for row in truth)
    assert sum((wanted - got).values()) == 0
    assert sum((got - wanted).values()) == 0
    assert now > BACK_MS + HOUR_MS
    market = terminal.feed.market.ticks("BTCUSD", begin_ms, now + 1)
    assert sorted(utc_ms) == sorted(market["time_msc"].tolist())
