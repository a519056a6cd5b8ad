"""What the guard sees, turn by turn, and what it concludes: breaches, blindness, silence."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from events.decisions import ReferenceSet
from events.guarding import GuardState
from events.latch import Latch
from events.rules import Reading, Rules, Verdict, judge
from producers.guard.watch.blocks import Block
from producers.guard.watch.costs import ClosingCosts
from producers.guard.watch.dead_man import DeadMan
from producers.guard.watch.figures import figures_of
from producers.guard.watch.hard_limits import HardLimits
from producers.guard.watch.looking import Look, ends, look_at
from producers.guard.watch.minding import Owner, Windows, mind_references
from producers.guard.watch.money import balance_at_reset, operations_since
from producers.guard.watch.seen import LatelySeen
from producers.guard.watch.symbols import SymbolFacts
from producers.terminals import constants as mt5
from producers.terminals.interface import Priority, TerminalClient

ESCALATE_S = 1.5
"""Unknown for so long with something at stake, the account is read as an emergency."""
EMERGENCY_LOOK_S = 1.0
REREADS_MAX = 3
CLOSING_PAUSE_S = 1.0
BLIND_S = 3.0
DEALS_EVERY_S = 15.0
SILENT_S = 3.0
"""The log is called silent after so long."""
ONLY_MAX = 64


def _only(blocks: Sequence[Block]) -> tuple[str, ...]:
    return tuple(sorted({name for block in blocks for name in block.only}))[:ONLY_MAX]


class Watch:
    """One account as its guard sees it. `turn` runs in the guard's thread alone."""

    def __init__(
        self,
        client: TerminalClient,
        hard: HardLimits,
        *,
        login: int,
        terminal: str,
        heartbeat_file: Path | None = None,
        look_within_s: float = 2.0,
        poll_s: float = 0.25,
        idle_s: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.hard, self.login, self.terminal = hard, login, terminal
        self._client = client
        self._look_within_s, self._poll_s, self._idle_s = look_within_s, poll_s, idle_s
        self._monotonic, self._wall = monotonic, wall
        self._heartbeat_file, self._heartbeat_ns = heartbeat_file, 0
        self._owner: Owner | None = None
        self._costs = ClosingCosts(client)
        now = monotonic()
        self.dead_man = DeadMan(now)
        self._known_at = self._started_at = now
        self._last = Look(None, None, None, False, 0)
        """The newest look that was sound."""
        self.lately, self.windows = LatelySeen(), Windows()
        self.symbols = SymbolFacts(client)
        self._figures: dict[str, float | None] = {}
        """Of the newest sound look."""
        self._trouble = "no look yet"
        self._wrong_account = False
        self._balance: float | None = None
        self._deals_asked_at = now - DEALS_EVERY_S
        self._doubt_at: float | None = None
        """Since when a hard limit is seen reached and not confirmed."""
        self._acting: set[str] = set()
        self.pause_s = poll_s

    def bind(self, owner: Owner) -> None:
        """Tell conclusions to `owner`. Once, before the first turn."""
        self._owner = owner

    @property
    def owner(self) -> Owner:
        assert self._owner is not None, "bind first"
        return self._owner

    @property
    def newest_ms(self) -> int:
        """The host's clock at the newest sound look; 0 before."""
        return self._last.utc_ms

    def sound_s(self) -> float:
        """For how long the account could be read at every look. From any thread."""
        return self.lately.sound_s(self._monotonic())

    @property
    def rules(self) -> Rules:
        return self.hard.rules

    def turn(self, *, closing: bool, latched: bool) -> None:
        """One look, and what follows from it."""
        now = self._monotonic()
        look = self._look(now, closing=closing)
        if self._sound(look):
            self._keep(look)
        else:
            self.lately.lost()
        if not self._wrong_account:
            self._follow(look, judge=not closing, latched=latched)
        self._mind_blindness()
        self._mind_silence()
        mind_references(self.owner, self.hard.alone(), self.hard.references, self.terminal)
        self._mind_windows(look.utc_ms or int(self._wall() * 1000))
        at_stake = latched or not self._flat
        self.pause_s = self._poll_s if at_stake else self._idle_s
        if closing:
            self.pause_s = CLOSING_PAUSE_S

    def _mind_windows(self, now_ms: int) -> None:
        """Needs the symbols' currencies where a calendar names some."""
        last = self._last
        known = last.positions is not None and last.orders is not None
        held = {row.symbol for row in (*(last.positions or ()), *(last.orders or ()))}
        self.windows.mind(self.owner, self.rules, held if known else None, now_ms)
        self.symbols.learn()

    @property
    def _flat(self) -> bool:
        return self._last.positions == () and self._last.orders == ()

    def _look(self, now: float, *, closing: bool) -> Look:
        at_stake = not self._flat and self.hard.floor is not None and not closing
        urgent = at_stake and now - self._known_at > ESCALATE_S
        return look_at(
            self._client,
            priority=Priority.EMERGENCY if urgent else Priority.ACCOUNT,
            within_s=self._look_within_s,
            timeout_s=self._look_within_s if urgent else 10.0,
        )

    def _sound(self, look: Look) -> bool:
        """Whether a look is of the right account, and of numbers an account can have."""
        if look.account is not None:
            self._wrong_account = look.login != self.login
        if look.account is not None and self._wrong_account:
            self._trouble = f"the terminal is logged in to {look.login}, not to {self.login}"
            return False
        if look.account is None or look.positions is None:
            self._trouble = look.trouble or "the account is unknown"
            return False
        reading = self.hard.reading_of(look, cost_of_closing=0.0, operations={}, counts=False)
        if not reading.usable:
            self._trouble = "equity or balance is no number, or the broker is not connected"
        return reading.usable

    def _follow(self, look: Look, *, judge: bool, latched: bool) -> None:
        """References are moved on and hard limits judged; where these doubt what they see, the
        account is read once more at once, and a read that says nothing is repeated."""
        for left in range(REREADS_MAX, -1, -1):
            cost = self._costs.of(look.positions or (), self.rules.costs)
            reading = self._reading(look, cost)
            now, now_ms = self._monotonic(), look.utc_ms or int(self._wall() * 1000)
            figures = figures_of(look, cost_of_closing=cost)
            if reading.usable:
                self._figures = figures
            if not judge:
                self.hard.take(reading, now=now)
                return
            found = self.hard.judge(reading, figures, now_ms=now_ms, now=now)
            if not latched and reading.usable:
                self._acting &= found.reached
            for verdict in found.acting:
                self._act(verdict, now)
            if not found.reread:
                self._doubt_at = None
                return
            self._doubt_at = now if self._doubt_at is None else self._doubt_at
            if left:
                look = self._look_again()
                if self._wrong_account:
                    return
        self._known_at = min(self._known_at, now - ESCALATE_S)  # the next turn is urgent

    def _keep(self, look: Look) -> None:
        self._known_at = self._monotonic()
        self._last, self._trouble = look, ""
        self.lately.take(look, self._known_at)

    def _look_again(self) -> Look:
        look = look_at(
            self._client,
            priority=Priority.EMERGENCY,
            within_s=EMERGENCY_LOOK_S,
            timeout_s=EMERGENCY_LOOK_S,
        )
        if self._sound(look):
            self._keep(look)
        return look

    def _act(self, verdict: Verdict, now: float) -> None:
        if verdict.limit in self._acting:
            return
        self._acting.add(verdict.limit)
        delay_ms = int((now - (now if self._doubt_at is None else self._doubt_at)) * 1000)
        self.hard.keep()
        since_ms = int(self._wall() * 1000) - delay_ms
        self.owner.breached(verdict, since_ms=since_ms, delay_ms=delay_ms)

    def _reading(self, look: Look, cost: float) -> Reading:
        """A look in the words of the rules."""
        operations = {} if look.account is None else self._operations(look)
        return self.hard.reading_of(
            look, cost_of_closing=cost, operations=operations,
            reset_balance=self._reset_balance(look),
        )  # fmt: skip

    def _reset_balance(self, look: Look) -> float | None:
        """From deals, where nobody saw the reset; asked for now and then."""
        now, begin = self._monotonic(), self.hard.references is None
        if look.account is None or not self.hard.misses_reset(look.utc_ms):
            return None
        if not begin and now - self._deals_asked_at < DEALS_EVERY_S:
            return None
        self._deals_asked_at = now
        return balance_at_reset(
            self._client, balance=float(look.account.balance),
            reset_ms=self.hard.reset_ms(look.utc_ms), utc_ms=look.utc_ms,
            within_s=self._look_within_s,
        )  # fmt: skip

    def _operations(self, look: Look) -> Mapping[int, float]:
        """Deposits and the like, asked for when the balance moved, and as long as nothing explains
        why it did: what looks like a loss may be a withdrawal."""
        balance = float(look.account.balance)
        references = self.hard.references
        held = references is not None and references.held_since_ms is not None
        if balance == self._balance and not held:
            return {}
        known = set(references.tickets) if references else set()
        found = operations_since(
            self._client, known, since_ms=references.time_ms if references else look.utc_ms,
            utc_ms=look.utc_ms, within_s=self._look_within_s,
        )  # fmt: skip
        if found is None:
            return {}
        self._balance = balance
        return dict(found)

    def _mind_blindness(self) -> None:
        """Unknown for too long with positions open: nothing new, and a page."""
        blind_s = self._monotonic() - self._known_at
        owner, cause = self.owner, "blind"
        if self._wrong_account:
            owner.block(Block("wrong_account", self._trouble, "guard"))
            owner.voice.alert("critical", "wrong_account", self._trouble,
                        cure="log the terminal in to the right account")  # fmt: skip
        elif not self._trouble:
            if owner.unblock("wrong_account"):
                owner.voice.resolve("wrong_account", "the right account is back")
            if owner.unblock(cause):
                owner.voice.resolve("blind", "the account can be read again")
            return
        if blind_s < self.rules.guard.unknown_equity_s:
            return
        text = f"equity unknown for {self.rules.guard.unknown_equity_s:g} s: {self._trouble}"
        owner.block(Block(cause, text, "guard"))
        if self._last.positions != ():
            owner.voice.alert("critical", "blind", f"{text}; positions are open",
                        cure="look at the terminal; phone the broker's desk")  # fmt: skip

    def _mind_silence(self) -> None:
        rules = self.rules.guard
        if rules.heartbeat_s is not None:
            self._look_at_heartbeat()
        silence = self.dead_man.look(
            self._monotonic(), dead_man_s=rules.dead_man_s, heartbeat_s=rules.heartbeat_s
        )
        if silence.tripped:
            self.owner.dead_man_tripped(silence.reason, flatten=rules.dead_man_flattens)
        elif self.owner.unblock("dead_man"):
            self.owner.voice.resolve("dead_man", "signs of life are back")

    def _look_at_heartbeat(self) -> None:
        """Whoever touches the file lives; what it says of times before us does not count."""
        if self._heartbeat_file is None:
            return
        try:
            changed_ns = self._heartbeat_file.stat().st_mtime_ns
        except OSError:
            return
        if self._heartbeat_ns and changed_ns != self._heartbeat_ns:
            self.heard_beat()
        self._heartbeat_ns = changed_ns

    # --- what the guard asks

    def heard_log(self) -> None:
        """The log answered just now."""
        self.dead_man.heard_log(self._monotonic())

    def heard_beat(self) -> None:
        """The user's heartbeat came just now."""
        self.dead_man.heard_beat(self._monotonic())

    def log_silent_s(self) -> float:
        """Since when the log does not answer."""
        return self.dead_man.log_silent_s(self._monotonic())

    def describe(
        self, latch: Latch | None, blocks: Sequence[Block], *, closing: bool, event_time_ms: int
    ) -> GuardState:
        """How everything stands."""
        now = self._monotonic()
        silence = self.dead_man.look(
            now,
            dead_man_s=self.rules.guard.dead_man_s,
            heartbeat_s=self.rules.guard.heartbeat_s,
        )
        blind = bool(self._trouble) and now - max(self._known_at, self._started_at) > BLIND_S
        state = "watching"
        for name, holds in (
            ("blocked", any(block.whole for block in blocks)), ("halted", latch is not None),
            ("blind", blind), ("flattening", closing),
        ):  # fmt: skip
            state = name if holds else state
        log_silent_s = self.dead_man.log_silent_s(now)
        held = blocks[0] if blocks else None
        return GuardState.model_validate(
            {
                "event_time_ms": event_time_ms, "login": self.login, "terminal": self.terminal,
                "state": state,
                "latched": latch is not None,
                "latch_id": latch.latch_id if latch else "",
                "reason": latch.reason if latch else held.reason if held else self._trouble,
                "by": latch.by if latch else held.by if held else "",
                "blocked_until_ms": held.until_ms if held else None,
                "blocked_only": () if held is None or held.whole else _only(blocks),
                "positions": None if blind or self._last.positions is None
                else len(self._last.positions),
                "equity": None if blind or self._last.account is None
                else float(self._last.account.equity),
                "hard_floor": self.hard.floor,
                "log_silent_s": round(log_silent_s, 1) if log_silent_s > SILENT_S else None,
                "dead_man_s": None if silence.left_s is None else round(silence.left_s, 1),
            }
        )  # fmt: skip

    def ends_a_position(self, request: Mapping[str, Any]) -> bool:
        """Whether a request is plainly the end, or a part of it, of a position that was seen. More
        than its volume would turn a netting position around."""
        if request.get("action") != mt5.TRADE_ACTION_DEAL:
            return True
        for row in self._last.positions or ():
            if row.ticket == request.get("position"):
                return ends(request, row)
        return False

    def state_reference(self, stated: ReferenceSet) -> bool:
        """Take over what a human stated; False when it is not for this account, or too early."""
        return self.hard.state(stated)

    def scope_of(self, verdict: Verdict) -> str:
        """What a limit's flatten is about."""
        limit = self.rules.limit(verdict.limit)
        if limit.scope == "magic" and limit.magic is not None:
            return f"magic={limit.magic}"
        subject = verdict.key.partition(":")[2] or limit.symbol
        return f"symbol={subject}" if limit.scope == "symbol" and subject else "account"

    def reached(self) -> tuple[Verdict, ...]:
        """Limits by which everything would be closed again now, as far as the guard knows their
        figures."""
        known = self.hard.references
        if known is None or not self._figures:
            return ()
        now_ms = self._last.utc_ms or int(self._wall() * 1000)
        verdicts = judge(self.rules, known, self._figures, now_ms=now_ms)
        return tuple(one for one in verdicts if one.level == "act" and one.action == "flatten")

    def forget_breaches(self) -> None:
        """A human resumed, or a lock ended: limits act anew."""
        self._acting.clear()
        self.windows.forget()
        self.hard.forget()
