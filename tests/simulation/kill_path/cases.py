"""The fault cases of the path that stops an account."""

from __future__ import annotations

from typing import Any

from producers.guard.flatten.decisions import NAMES
from producers.terminals import constants as mt5
from producers.terminals.interface import Priority
from tests.simulation.kill_path.hosted import Case, HostedAccount
from tests.simulation.kill_path.virtual import LOGIN

LISTS = ["positions_get", "orders_get"]
QUICK_CODES = (10030,)
WORKED = (mt5.TRADE_RETCODE_PLACED, mt5.TRADE_RETCODE_DONE, mt5.TRADE_RETCODE_DONE_PARTIAL)


def _retcode(code: int) -> Case:
    """The first two orders are answered so, and nothing is done; for codes that claim success
    the broker does the work and the claim is what is wrong."""
    kind = "false_answer" if code in WORKED else "retcode"
    return Case(
        f"retcode {code} {NAMES[code]}", ((kind, {"codes": [code] * 4}),),
        injected=(code,), quick=code in QUICK_CODES,
    )  # fmt: skip


def _lost(code: int) -> Case:
    return Case(
        f"order done, answer lost ({code})", (("lost_answer", {"codes": [code] * 4}),),
        quick=code == -10002,
    )  # fmt: skip


def _read_error(code: int) -> Case:
    fault = {"methods": [*LISTS, "account_info"], "code": code, "calls_max": 6}
    return Case(f"reads fail ({code})", (("error", fault),))


def _kill_host_calls(account: HostedAccount) -> None:
    """A human ends the host's process."""
    account.client.restart("a trial")


def _foreign(kind: str, **arguments: Any) -> dict[str, Any]:
    return {"symbols": ["EURUSD"], **arguments}


_SLOW = {"methods": ["copy_ticks_range"], "seconds": 36.0, "calls_max": 1}
_HANG = {"methods": ["copy_ticks_range"], "calls_max": 1}
_COLD_CALL = ("copy_ticks_range", ("EURUSD", 1_790_000_000, 1_790_100_000, -1))

CASES: tuple[Case, ...] = (
    Case("nothing goes wrong"),
    *(_retcode(code) for code in sorted(NAMES)),
    *(_lost(code) for code in (-1, -10000, -10001, -10002, -10005)),
    *(_read_error(code) for code in (-1, -3, -10000, -10005)),
    Case("the module loses its terminal (-10001, -10004)", (("ipc_lost", {}),)),
    Case("it loses it between two closes", at_request=(3, "ipc_lost", {})),
    Case("orders never leave (-10001)", (("never_sent", {"calls_max": 3}),)),
    Case("orders give None (-1)", (("none", {"methods": ["order_send"], "calls_max": 3}),)),
    Case("external trading is forbidden (-8) for 3 s", (("api_off", {"for_s": 3.0}),),
         pages="external programs"),
    Case("Algo Trading is off for 3 s", (("algo_off", {"for_s": 3.0}),), pages="Algo Trading"),
    Case("Algo Trading stays off", (("algo_off", {}),), expect="FLAT_EXCEPT",
         clear=("algo_off",), pages="Algo Trading"),
    Case("the broker bans programs for 3 s", (("expert_off", {"for_s": 3.0}),), pages="programs"),
    Case("investor password for 3 s", (("investor", {"for_s": 3.0}),), pages="may not trade"),
    Case("a 36 s cold history call", (("slow", _SLOW),), busy=(*_COLD_CALL, Priority.HISTORY),
         within_s=15.0, quick=True),
    Case("a history call that never returns", (("hang", _HANG),),
         busy=(*_COLD_CALL, Priority.HISTORY), within_s=15.0),
    Case("a tick call that never returns", (("hang", _HANG),),
         busy=(*_COLD_CALL, Priority.TICKS), within_s=15.0),
    Case("an order that never returns",
         (("hang", {"methods": ["order_send"], "calls_max": 1}),), within_s=20.0),
    Case("our own read never returns",
         (("hang", {"methods": ["positions_get"], "calls_max": 1}),), within_s=20.0),
    Case("an answer comes 5 s late, past its deadline",
         (("late_answer", {"seconds": 5.0, "calls_max": 1}),), within_s=25.0),
    Case("the host's process ends after an order, unanswered",
         (("exit_after", {"calls_max": 1}),), quick=True),
    Case("the host's process ends between two closes", at_request=(4, "exit", {})),
    Case("the host is restarted when it begins", hold=_kill_host_calls),
    Case("the terminal is restarted and synchronises",
         at_request=(3, "empty_account", {"for_s": 3.0})),
    Case("an empty book is shown for 3 s", (("empty_account", {"for_s": 3.0}),)),
    Case("half of the positions are shown",
         (("partial", {"methods": LISTS, "calls_max": 6}),)),
    Case("the broker is away for 3 s", (("disconnect", {"for_s": 3.0, "seconds": 1.0}),)),
    Case("the broker is lost between two closes",
         at_request=(3, "disconnect", {"for_s": 3.0, "seconds": 1.0})),
    Case("another account is logged in", (("account_switched", {"login": 9_000_009}),),
         expect="UNKNOWN", options={"blind_s": 2.0}, pages="9000009",
         then=(("account_switched", {"login": LOGIN}),)),
    Case("everything is filled in parts", (("liquidity", {"lots": 0.1}),)),
    Case("executions take 800 ms", terminal={"execution_ms": 800.0}),
    Case("answers name neither deal nor order", (("bare_answer", {"calls_max": 5}),)),
    Case("lists are 2 s old", (("stale_book", {"seconds": 2.0}),)),
    Case("lists are 3 s old and answers are lost",
         (("stale_book", {"seconds": 3.0}), ("lost_answer", {"calls_max": 3}))),
    Case("the history is 2 s late", (("late_history", {"seconds": 2.0}),)),
    Case("gold's market is closed", (("market_closed", {"symbols": ["XAUUSD"]}),),
         expect="FLAT_EXCEPT", clear=("market_closed",), pages="XAUUSD"),
    Case("every market is closed", (("market_closed", {}),), expect="FLAT_EXCEPT",
         clear=("market_closed",)),
    Case("the comment is rejected", terminal={"comment_chars_max": 0}),
    Case("the broker writes another comment", (("comment_rewritten", {"text": "so: 50%"}),)),
    Case("symbols are gone from Market Watch",
         (("deselected", {"symbols": ["XAUUSD", "EURUSD"]}),)),
    Case("symbols are close-only", (("trade_mode", {"code": 3}),)),
    Case("two requests a second are allowed", account={"requests_per_s_max": 2}),
    Case("first in, first out", account={"fifo_close": True}),
    Case("a netting account", account={"margin_mode": 0}),
    Case("a position appears during the flatten", opened_by_others=True,
         at_request=(2, "foreign_position", _foreign("p", lots=0.3, count=2)), quick=True),
    Case("a pending order appears during the flatten",
         at_request=(2, "foreign_order", _foreign("o", points=5000.0))),
    Case("someone else closes meanwhile", closed_by_others=True,
         at_request=(2, "foreign_close", _foreign("c"))),
    Case("prices fall by three percent meanwhile",
         at_request=(2, "price_jump", {"symbols": ["EURUSD"], "percent": -3.0}),
         closed_by_others=True),
    Case("prices rise and the broker stops out", closed_by_others=True,
         faults=(("slow", {"methods": ["order_send"], "seconds": 0.7}),),
         account={"balance": 4_000.0},
         at_request=(1, "price_jump", {"symbols": ["XAUUSD"], "percent": 1.4})),
    Case("a deposit arrives meanwhile", at_request=(2, "balance", {"amount": 1000.0})),
    Case("a far link, sixteen orders at once", options={"parallel_max": 16},
         terminal={"latency_ms": 20.0}),
)  # fmt: skip
