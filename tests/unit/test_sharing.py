"""Sharing tasks out among workers: everything has one owner, little moves, the dead drop out."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from consumers.runtime.sharing import BEAT_S, Members, share, shared_out, worker_name
from events.log import LogFull, Slot
from events.memory_log import MemoryLog

WORKERS = st.sets(st.sampled_from("abcdefgh"), min_size=1)
HELD = st.dictionaries(
    st.builds(Slot, st.sampled_from(("x", "y")), st.just("risk"), st.integers(0, 9)),
    st.sampled_from(("", "gone", *"abcdefgh")),
)


@given(HELD, WORKERS)
def test_every_task_has_one_owner_and_sizes_differ_by_one(
    held: dict[Slot, str], workers: set[str]
) -> None:
    shares = {worker: share(held, workers, worker) for worker in workers}
    assert sorted(slot for one in shares.values() for slot in one) == sorted(held)
    sizes = [len(one) for one in shares.values()]
    assert max(sizes) - min(sizes) <= 1


@given(HELD, WORKERS)
def test_no_task_moves_without_need(held: dict[Slot, str], workers: set[str]) -> None:
    owners = shared_out(held, workers)
    stay = sum(owners[slot] == holder for slot, holder in held.items())
    counts = Counter(holder for holder in held.values() if holder in workers)
    least, larger = divmod(len(held), len(workers))
    most = sum(min(count, least) for count in counts.values())
    most += min(larger, sum(count > least for count in counts.values()))
    assert stay == most
    assert shared_out(owners, workers) == owners, "who has his share keeps it"


@given(HELD, WORKERS, st.permutations("abcdefgh"))
def test_all_see_the_same_whatever_order_they_heard_it_in(
    held: dict[Slot, str], workers: set[str], order: list[str]
) -> None:
    heard = {slot: held[slot] for slot in reversed(held)}
    assert shared_out(held, workers) == shared_out(heard, [w for w in order if w in workers])


def test_without_workers_nobody_has_anything_and_one_has_all() -> None:
    held = {Slot("x", "risk", n): "" for n in range(3)}
    assert shared_out(held, []) == {}
    assert share(held, [], "a") == frozenset(held)


class Watch:
    """Members over one log in memory, on a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log = MemoryLog()

    def member(self, name: str) -> Members:
        return Members(self.log.tasks, "risk", name, silent_s=1.0, monotonic=lambda: self.now)

    def run(self, seconds: float, *members: Members) -> None:
        for _ in range(round(seconds / BEAT_S)):
            self.now += BEAT_S
            for member in members:
                member.tend()


def test_a_worker_that_comes_is_seen_at_once_and_one_that_leaves_too() -> None:
    watch = Watch()
    one, two = watch.member("one"), watch.member("two")
    watch.run(0.4, one)
    two.tend()
    watch.run(0.2, one, two)
    assert one.living == two.living == {"one", "two"}
    two.leave()
    watch.run(0.2, one)
    assert one.living == {"one"}


def test_a_silent_worker_drops_out_and_is_back_when_it_beats_again() -> None:
    watch = Watch()
    one, two = watch.member("one"), watch.member("two")
    watch.run(0.4, one, two)
    watch.run(0.8, one)
    assert "two" in one.living
    watch.run(0.6, one)
    assert one.living == {"one"}
    assert watch.log.tasks.workers("risk").keys() == {"one"}
    watch.run(0.4, one, two)
    assert one.living == two.living == {"one", "two"}


def test_what_a_dead_worker_left_behind_holds_nothing_back() -> None:
    watch = Watch()
    watch.member("dead").tend()
    one = watch.member("one")
    one.tend()
    assert one.living == {"one"}
    watch.run(1.4, one)
    assert watch.log.tasks.workers("risk").keys() == {"one"}


def test_who_was_away_himself_calls_nobody_silent() -> None:
    watch = Watch()
    one, two = watch.member("one"), watch.member("two")
    watch.run(0.4, one, two)
    watch.now += 60
    one.tend()
    assert "two" in one.living
    watch.run(0.4, one, two)
    assert one.living == {"one", "two"}


def test_names_tell_where_and_are_never_the_same() -> None:
    assert worker_name("host:1").startswith("host:1/")
    assert worker_name("host:1") != worker_name("host:1")


def test_a_full_log_is_still_shared() -> None:
    log = MemoryLog()
    members = Members(log.tasks, "risk", "me")

    def full(group: str, worker: str) -> None:
        raise LogFull("no memory left")

    log.tasks.beat_worker = full  # type: ignore[method-assign]
    assert members.tend() is False
    assert members.living == {"me"}
