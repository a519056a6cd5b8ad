"""Questions to a terminal whose answers no document settles. All of them only read.

Each question is a function of a started inspection line and returns an Answer. What would stop
the terminal, show a dialog or trade is not asked.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from events.ticks import FLAGS_DOCUMENTED, TickArray
from producers.terminals import constants as mt5
from producers.terminals.interface import Reply, TerminalClient, TerminalLost

COMMENT_CHARS_TRIED = range(20, 41)
LATENCY_CALLS = 50
SAMPLE_TICKS = 20_000
SAMPLE_BACK_S = 3 * 86_400
CALL_WAIT_S = 60.0
UNDER_LOAD_CALLS = 20


@dataclass(frozen=True, slots=True)
class Answer:
    """`answer` is for people; `facts` are figures for programs."""

    question: str
    answer: str
    facts: dict[str, Any]


class Asking:
    """One attached terminal and one of its symbols, with the calls that the questions share."""

    def __init__(
        self,
        client: TerminalClient,
        symbol: str,
        *,
        second: Callable[[], TerminalClient] | None = None,
        monotonic: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.client = client
        self.symbol = symbol
        self.second = second
        """Opens a second client of the same terminal, where it allows one."""
        self._monotonic = monotonic

    def call(self, method: str, *args: Any, **kwargs: Any) -> Reply:
        return self.client.call(method, *args, timeout_s=CALL_WAIT_S, **kwargs)

    def timed_ms(self, method: str, *args: Any, calls: int = LATENCY_CALLS) -> list[float]:
        """What each of so many calls took (ms), sorted."""
        took = []
        for _ in range(calls):
            begun = self._monotonic()
            self.call(method, *args)
            took.append((self._monotonic() - begun) * 1000)
        return sorted(took)

    def newest_server_s(self) -> int | None:
        """Server time of the newest tick in s."""
        tick = self.call("symbol_info_tick", self.symbol).value
        return None if tick is None else int(tick.time)

    def sample(self) -> TickArray | None:
        """Some of the newest ticks."""
        newest = self.newest_server_s()
        if newest is None:
            return None
        for back_s in (600, 3_600, 21_600, SAMPLE_BACK_S):
            rows: TickArray | None = self.call(
                "copy_ticks_range", self.symbol, newest - back_s, newest + 1, mt5.COPY_TICKS_ALL
            ).value
            if rows is not None and (len(rows) >= SAMPLE_TICKS or back_s == SAMPLE_BACK_S):
                return rows[-SAMPLE_TICKS:]
        return None

    def request(self, **fields: Any) -> dict[str, Any]:
        """A small market order, as order_check takes it (nothing is sent)."""
        info = self.call("symbol_info", self.symbol).value
        tick = self.call("symbol_info_tick", self.symbol).value
        return {
            "action": mt5.TRADE_ACTION_DEAL,
            "symbol": self.symbol,
            "volume": info.volume_min if info is not None else 0.01,
            "type": mt5.ORDER_TYPE_BUY,
            "price": tick.ask if tick is not None else 0.0,
            **fields,
        }


def latencies(asking: Asking) -> Answer:
    """What a call costs from here."""
    newest = asking.newest_server_s() or 0
    calls: dict[str, tuple[Any, ...]] = {
        "symbol_info_tick": (asking.symbol,),
        "account_info": (),
        "positions_get": (),
        "copy_ticks_from": (asking.symbol, newest - 60, 100, mt5.COPY_TICKS_ALL),
    }
    facts: dict[str, Any] = {}
    for method, args in calls.items():
        took = asking.timed_ms(method, *args)
        facts[method] = {
            "p50_ms": round(statistics.median(took), 3),
            "p95_ms": round(took[int(len(took) * 0.95) - 1], 3),
            "max_ms": round(took[-1], 3),
        }
    told = ", ".join(f"{name} {figures['p50_ms']:g} ms" for name, figures in facts.items())
    return Answer("What does a call cost (median)?", told, facts)


def tick_vocabulary(asking: Asking) -> Answer:
    """What the broker's ticks look like: shared milliseconds, identical rows, odd flags."""
    rows = asking.sample()
    question = "What do this broker's ticks look like?"
    if rows is None or len(rows) < 2:
        return Answer(question, "no ticks to look at", {})
    identical = np.all(
        [rows[name][1:] == rows[name][:-1] for name in ("time_msc", "bid", "ask", "flags")], axis=0
    )
    facts = {
        "ticks": len(rows),
        "same_ms_share": _share(rows["time_msc"][1:] == rows["time_msc"][:-1]),
        "identical_share": _share(identical),
        "zero_price_share": _share((rows["bid"] == 0) | (rows["ask"] == 0)),
        "zero_time_share": _share(rows["time_msc"] == 0),
        "crossed_share": _share((rows["ask"] < rows["bid"]) & (rows["ask"] > 0)),
        "flag_bits": int(np.bitwise_or.reduce(rows["flags"])) & ~FLAGS_DOCUMENTED,
    }
    told = ", ".join(f"{name} {value:g}" for name, value in facts.items())
    return Answer(question, told, facts)


def range_upper_bound(asking: Asking) -> Answer:
    """Does copy_ticks_range count its upper bound in?"""
    question = "Does copy_ticks_range include ticks at exactly its upper bound?"
    rows = asking.sample()
    exact = [] if rows is None else [int(t) for t in rows["time_msc"] if t > 0 and t % 1000 == 0]
    if not exact:
        return Answer(question, "no tick lies on a whole second; not to be seen now", {})
    second = exact[-1] // 1000
    answer = asking.call(
        "copy_ticks_range", asking.symbol, second - 5, second, mt5.COPY_TICKS_ALL
    ).value
    included = answer is not None and bool((answer["time_msc"] == second * 1000).any())
    beyond = answer is not None and bool((answer["time_msc"] > second * 1000).any())
    return Answer(
        question,
        ("yes" if included else "no") + (", and the rest of that second too" if beyond else ""),
        {"included": included, "whole_second": beyond},
    )


def fractional_seconds(asking: Asking) -> Answer:
    """Is a fraction of a second in a request cut, kept or refused?"""
    question = "What becomes of a fraction of a second in copy_ticks_from?"
    newest = asking.newest_server_s()
    if newest is None:
        return Answer(question, "no tick to begin at", {})
    arguments = (asking.symbol, newest - 30, 50, mt5.COPY_TICKS_ALL)
    whole = asking.call("copy_ticks_from", *arguments)
    fraction = asking.call("copy_ticks_from", asking.symbol, newest - 30 + 0.5, *arguments[2:])
    if fraction.value is None:
        told = f"refused: {fraction.error[1]}"
    elif whole.value is not None and np.array_equal(whole.value, fraction.value):
        told = "cut: the answer begins at the whole second"
    else:
        told = "kept: the answer begins later than that of the whole second"
    return Answer(question, told, {"outcome": told.partition(":")[0]})


def comment_length(asking: Asking) -> Answer:
    """The longest comment order_check lets through."""
    question = "How long may an order's comment be?"
    longest = None
    for length in COMMENT_CHARS_TRIED:
        reply = asking.call("order_check", asking.request(comment="x" * length))
        if reply.value is None:
            break
        longest = length
    if longest is None:
        return Answer(question, "order_check answers nothing at all", {"comment_chars_max": None})
    return Answer(question, f"{longest} characters", {"comment_chars_max": longest})


def order_check_defaults(asking: Asking) -> Answer:
    """Which filling a request without one gets, and whether a whole number is a volume."""
    question = "What does order_check make of a missing filling and of a whole-number volume?"
    missing = asking.call("order_check", asking.request()).value
    whole = asking.call("order_check", asking.request(volume=1)).value
    filling = missing.request.type_filling if missing is not None else None
    facts = {
        "type_filling_default": filling,
        "volume_int_accepted": whole is not None,
        "retcode": missing.retcode if missing is not None else None,
    }
    return Answer(question, ", ".join(f"{name} {value}" for name, value in facts.items()), facts)


def account_figures(asking: Asking) -> Answer:
    """Margin level without positions; whether the account's profit counts swap in."""
    question = "What is margin_level without positions, and does profit include swap?"
    account = asking.call("account_info").value
    positions = asking.call("positions_get").value
    if account is None or positions is None:
        return Answer(question, "the account does not answer", {})
    facts: dict[str, Any] = {
        "margin_so_mode": account.margin_so_mode,
        "positions": len(positions),
    }
    if not positions:
        facts["margin_level_flat"] = account.margin_level
        return Answer(question, f"{account.margin_level:g} while flat; swap not to be seen", facts)
    profit = sum(one.profit for one in positions)
    swap = sum(one.swap for one in positions)
    facts |= {"account_profit": account.profit, "sum_profit": profit, "sum_swap": swap}
    if abs(swap) < 0.01:
        told = "no position bears swap; not to be seen now"
    else:
        with_swap = abs(account.profit - profit - swap) < abs(account.profit - profit)
        told = "profit includes swap" if with_swap else "profit does not include swap"
        facts["profit_includes_swap"] = with_swap
    return Answer(question, told, facts)


def two_clients(asking: Asking) -> Answer:
    """May two programs use one terminal, and do they slow each other?"""
    question = "May two programs use the terminal at once?"
    if asking.second is None:
        return Answer(question, "not asked of this kind of terminal", {})
    alone = statistics.median(asking.timed_ms("account_info", calls=UNDER_LOAD_CALLS))
    try:
        other = asking.second()
    except TerminalLost as error:
        return Answer(question, f"no: {error}", {"allowed": False})
    try:
        login = asking.call("account_info").value
        theirs = other.call("account_info", timeout_s=CALL_WAIT_S).value
        pending = [other.submit("account_info") for _ in range(UNDER_LOAD_CALLS)]
        beside = statistics.median(asking.timed_ms("account_info", calls=UNDER_LOAD_CALLS))
        for future in pending:
            future.result(CALL_WAIT_S)
    finally:
        other.close()
    same = login is not None and theirs is not None and login.login == theirs.login
    facts = {
        "allowed": theirs is not None,
        "same_account": same,
        "alone_p50_ms": round(alone, 3),
        "beside_p50_ms": round(beside, 3),
    }
    told = "yes" if theirs is not None else "no"
    return Answer(question, f"{told}, {alone:.2f} ms alone, {beside:.2f} ms beside another", facts)


NOT_ASKED = (
    Answer("Which error follows when the terminal is killed?", "not asked: it would stop it", {}),
    Answer(
        "Is positions_get() empty while an account synchronises?",
        "not asked: the terminal would have to start anew",
        {},
    ),
    Answer("How long does a call block behind a dialog?", "not asked: needs a person", {}),
)
QUESTIONS: tuple[Callable[[Asking], Answer], ...] = (
    latencies,
    tick_vocabulary,
    range_upper_bound,
    fractional_seconds,
    comment_length,
    order_check_defaults,
    account_figures,
    two_clients,
)


def answers(asking: Asking) -> Iterator[Answer]:
    """Every question in turn; a lost terminal ends them."""
    for question in QUESTIONS:
        yield question(asking)
    yield from NOT_ASKED


def _share(mask: Any) -> float:
    return round(float(np.mean(mask)), 6)
