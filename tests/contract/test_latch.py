"""What every copy of a latch promises, run against memory, Redis, Valkey and the stand-in."""

from __future__ import annotations

from events.latch import Latch, new_latch_id
from events.log import Log

LOGIN = 2**63 + 11


def latch(reason: str = "daily loss", login: int = LOGIN) -> Latch:
    return Latch(
        login=login, latch_id=new_latch_id(), reason=reason, by="risk", since_ms=1_700_000_000_000,
        command_id="c-1", lock="until_reset", until_ms=1_700_000_900_000,
    )  # fmt: skip


def test_an_account_has_no_latch_until_one_is_set(log: Log) -> None:
    latches = log.latches("demo")
    assert latches.read(LOGIN) is None
    assert latches.clear(LOGIN, "whatever")


def test_a_latch_is_read_as_it_was_set(log: Log) -> None:
    set_here = latch("daily loss: Verlust über 5 %")
    log.latches("demo").set(set_here)
    assert log.latches("demo").read(LOGIN) == set_here


def test_accounts_and_namespaces_have_latches_of_their_own(log: Log) -> None:
    log.latches("demo").set(latch())
    assert log.latches("demo").read(12) is None
    assert log.latches("other").read(LOGIN) is None
    log.latches("demo").set(latch(login=12))
    assert log.latches("demo").clear(LOGIN, "wrong") is False
    found = log.latches("demo").read(12)
    assert found is not None
    assert log.latches("demo").clear(12, found.latch_id)
    assert log.latches("demo").read(LOGIN) is not None


def test_a_latch_is_cleared_by_its_id_only(log: Log) -> None:
    latches, first, second = log.latches("demo"), latch("first"), latch("second")
    latches.set(first)
    latches.set(second)
    assert latches.clear(LOGIN, first.latch_id) is False, "another one was set since"
    assert latches.read(LOGIN) == second
    assert latches.clear(LOGIN, second.latch_id) is True
    assert latches.read(LOGIN) is None
    assert latches.clear(LOGIN, second.latch_id) is True, "clearing twice changes nothing"


def test_setting_the_same_latch_twice_changes_nothing(log: Log) -> None:
    latches, one = log.latches("demo"), latch()
    latches.set(one)
    latches.set(one)
    assert latches.read(LOGIN) == one
