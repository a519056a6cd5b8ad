"""References out of a real database, posted to the log of an account that began anew."""

from __future__ import annotations

from consumers.references.rebuilding import RISK, beginnings, rebuild
from events.codec import decode, encode
from events.decisions import ReferenceSet, RiskMetrics
from events.log import OPERATOR, SOURCE, Lane, Slot
from events.memory_log import MemoryLog
from tests.integration.persisting import drain
from tests.unit.risk_desk import SECOND_MS, Desk
from tests.unit.test_references_rebuilt import anew, lived


def told(desk: Desk) -> MemoryLog:
    """A log that holds nothing but what group risk told."""
    log = MemoryLog()
    log.open_namespace("demo", 1)
    log.tasks.open_group("demo", RISK, 1)
    slot = Slot("demo", RISK, 0)
    found = [encode(one) for one in desk.said if isinstance(one, RiskMetrics)]
    log.append(log.claim(slot, "test", alive_within_s=0.0), found)
    return log


def test_an_account_that_began_anew_hears_what_the_database_knows(postgres_url: str) -> None:
    old = lived()
    archived = told(old)
    drain(archived, postgres_url)
    new = anew(old, after_ms=5 * SECOND_MS)
    new.look()
    log = told(new)
    [account] = beginnings(log, "demo")
    assert (account.login, account.since_ms) == (7, new.now_ms)
    found = rebuild(log, postgres_url, account)
    assert found.stated is not None, found.why
    stream = Slot("demo", OPERATOR, 0).stream(ReferenceSet.LANE)
    [posted] = [decode(entry) for entry in log.between(stream, count_max=9)]
    assert isinstance(posted, ReferenceSet)
    assert posted.kept["high_water"] == 13_000.0
    rebuild(log, postgres_url, account)
    assert len(log.between(stream, count_max=9)) == 1, "once for each beginning"
    [first] = beginnings(archived, "demo")
    assert rebuild(archived, postgres_url, first).why == "the archive holds no earlier figures"
    assert log.info(Slot("demo", SOURCE, 0).stream(Lane.HIGH)).length == 0
