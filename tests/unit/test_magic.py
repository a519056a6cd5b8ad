"""The magic number: whose an order is, and which intent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.trades.strategies import strategy_of
from events.magic import (
    COMMENT_CHARS_MAX,
    NUMBER_MAX,
    OWNER_MAX,
    NoMagic,
    comment_of,
    magic_of,
    number_after,
    owner_of,
    parts_of,
)

NOW_MS = 1_790_000_000_000
OURS = magic_of(owner_of("ema-cross", "EURUSD"), 1)


@given(st.integers(0, OWNER_MAX), st.integers(1, NUMBER_MAX))
def test_owner_and_number_come_out_as_they_went_in(owner: int, number: int) -> None:
    magic = magic_of(owner, number)
    assert parts_of(magic) == (owner, number)
    assert 0 < magic < 2**63


@given(st.integers(0, 2**56 - 1))
def test_what_people_choose_is_none_of_ours(magic: int) -> None:
    assert parts_of(magic) is None


def test_an_owner_is_the_same_everywhere_and_tells_apart_what_texts_would_join() -> None:
    assert owner_of("ema", "EURUSD") == 39_334_948
    assert owner_of("a", "bc") != owner_of("ab", "c")
    assert owner_of("a", "b", "c") != owner_of("a", "b")


def test_a_number_is_above_those_that_were_given_out_before_memory_was_lost() -> None:
    first = number_after(0, NOW_MS)
    assert number_after(first, NOW_MS) == first + 1
    assert number_after(0, NOW_MS + 4_000 * 10) > first + 9


@pytest.mark.parametrize(("owner", "number"), [(0, 0), (-1, 1), (OWNER_MAX + 1, 1), (0, 2**28)])
def test_numbers_that_do_not_fit_are_refused(owner: int, number: int) -> None:
    with pytest.raises(NoMagic, match="28 bits"):
        magic_of(owner, number)


def test_numbers_that_are_used_up_are_told() -> None:
    with pytest.raises(NoMagic, match="more than 28 bits"):
        number_after(NUMBER_MAX, NOW_MS)


@given(st.text(max_size=60), st.text(max_size=10))
def test_a_comment_is_one_that_terminals_take(strategy: str, leg: str) -> None:
    comment = comment_of(strategy, leg)
    assert len(comment) <= COMMENT_CHARS_MAX
    assert comment.isascii()


@pytest.mark.parametrize(
    ("magic", "comment", "name"),
    [
        (OURS, "ema-cross", "ema-cross"),
        (OURS, "ema-cross leg1", "ema-cross"),
        (OURS, "[sl 1.0950]", f"target-{owner_of('ema-cross', 'EURUSD'):07x}"),
        (OURS, "", f"target-{owner_of('ema-cross', 'EURUSD'):07x}"),
        (1001, "ema-cross", "1001"),
    ],
    ids=["comment", "leg", "rewritten", "none", "stranger"],
)
def test_trades_show_the_name_of_the_strategy(magic: int, comment: str, name: str) -> None:
    assert strategy_of(magic, comment) == name
    known = {f"target:{owner_of('ema-cross', 'EURUSD')}": "Ema Cross"}
    assert strategy_of(OURS, comment, known) == "Ema Cross"
