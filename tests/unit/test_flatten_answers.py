"""What follows from each answer, one by one."""

from __future__ import annotations

import pytest

from producers.guard.flatten import Act, decide_cancel, decide_close
from producers.guard.flatten.decisions import CONFUSED_TRIES, IMMEDIATE_TRIES, NAMES
from producers.terminals import constants as mt5

OK = (1, "Success")

TABLE: dict[int, Act] = {
    10004: Act.RETRY, 10006: Act.RETRY, 10007: Act.RETRY, 10008: Act.AWAIT, 10009: Act.CONFIRM,
    10010: Act.CONFIRM, 10011: Act.RECONCILE, 10012: Act.RECONCILE, 10013: Act.REREAD,
    10014: Act.REREAD, 10015: Act.RETRY, 10016: Act.RETRY, 10017: Act.HUMAN, 10018: Act.PARK,
    10019: Act.SMALLER, 10020: Act.RETRY, 10021: Act.RETRY, 10022: Act.REREAD, 10023: Act.REREAD,
    10024: Act.RETRY, 10025: Act.REREAD, 10026: Act.HUMAN, 10027: Act.HUMAN, 10028: Act.REREAD,
    10029: Act.REREAD, 10030: Act.NEXT_FILLING, 10031: Act.RECONNECT, 10032: Act.HUMAN,
    10033: Act.HUMAN, 10034: Act.HUMAN, 10035: Act.HUMAN, 10036: Act.CONFIRM, 10038: Act.REREAD,
    10039: Act.AWAIT, 10040: Act.HUMAN, 10041: Act.REREAD, 10042: Act.HUMAN, 10043: Act.HUMAN,
    10044: Act.HUMAN, 10045: Act.REREAD, 10046: Act.HUMAN,
}  # fmt: skip
"""The MQL5 reference's return codes, for a close that names its position."""

ERRORS: dict[int, Act] = {
    -1: Act.RECONCILE, -2: Act.REREAD, -5: Act.HUMAN, -6: Act.HUMAN, -7: Act.HUMAN, -8: Act.HUMAN,
    -10000: Act.RECONCILE, -10001: Act.RECONCILE, -10002: Act.RECONCILE, -10004: Act.RECONNECT,
    -10005: Act.RECONCILE,
}  # fmt: skip


def test_the_table_names_every_return_code_there_is() -> None:
    assert TABLE.keys() == NAMES.keys()


@pytest.mark.parametrize("code", sorted(TABLE))
def test_a_return_code_of_a_close_leads_to(code: int) -> None:
    assert decide_close(code, OK, 1).act is TABLE[code]


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_no_answer_at_all_leads_to(code: int) -> None:
    assert decide_close(None, (code, "text"), 1).act is ERRORS[code]


@pytest.mark.parametrize("code", [10047, 10999, 0, 1])
def test_an_unknown_code_may_have_done_it_and_a_human_is_told(code: int) -> None:
    decision = decide_close(code, OK, 1)
    assert decision.act is Act.RECONCILE
    assert decision.page


def test_a_refused_comment_is_dropped_and_another_bad_field_is_not() -> None:
    assert decide_close(None, (-2, 'Invalid "comment" argument'), 1).act is Act.DROP_COMMENT
    assert decide_close(None, (-2, 'Invalid "volume" argument'), 1).act is Act.REREAD
    late = decide_close(None, (-2, 'Invalid "volume" argument'), CONFUSED_TRIES + 1)
    assert late.act is Act.HUMAN


def test_requotes_are_answered_at_once_but_not_for_ever() -> None:
    assert decide_close(10004, OK, IMMEDIATE_TRIES).wait_s == 0
    assert decide_close(10004, OK, IMMEDIATE_TRIES + 1).wait_s >= 1


def test_the_rate_limit_is_waited_for_at_least_a_second() -> None:
    assert decide_close(mt5.TRADE_RETCODE_TOO_MANY_REQUESTS, OK, 1).wait_s >= 1


@pytest.mark.parametrize("code", [10006, 10007])
def test_a_dealer_who_refuses_twice_makes_it_a_humans_matter(code: int) -> None:
    assert not decide_close(code, OK, 1).page
    assert decide_close(code, OK, 2).act is Act.HUMAN


@pytest.mark.parametrize("code", sorted(set(TABLE) | {-1, -10000, -10001, -10002, -10005}))
def test_a_cancel_is_never_left_waiting_for_deals(code: int) -> None:
    found = decide_cancel(code, OK, 1) if code > 0 else decide_cancel(None, (code, ""), 1)
    assert found.act not in (Act.RECONCILE, Act.SMALLER, Act.NEXT_FILLING)
