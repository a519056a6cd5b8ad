"""Chains of causes and effects, and trying a handler on the log."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, ClassVar

import pytest
from rich.console import Console

from consumers.replay.places import UnknownPlace, newest_of_type, read_place
from consumers.replay.trial import try_task
from consumers.replay.why.causes import CAUSES_MAX, EFFECTS_MAX, why
from consumers.replay.why.causes_page import tree
from consumers.replay.why.ticket import evidence
from consumers.runtime.group import Group
from consumers.runtime.handler import Inputs
from events.codec import encode
from events.decisions import Command, LimitBreach
from events.guarding import FlattenEnded, FlattenStep, LatchChanged
from events.log import Entry, EntryId, Lane, NewEntry, Slot, Stream
from events.memory_log import MemoryLog
from events.operations import ClockTick
from tests.unit.test_replay import Chain, World, clock, gap, mixed

SOURCE, CHAIN, ECHO = Slot("demo", "source", 0), Slot("demo", "chain", 0), Slot("demo", "echo", 0)


class Echo(Chain):
    """Follows what chain derives."""

    inputs: ClassVar[Inputs] = Inputs(writers=("chain",))

    def handle(self, event: object) -> object:  # type: ignore[override]  # test: returns a list
        command = Command(
            event_time_ms=getattr(event, "event_time_ms", 0) + 5, command_id="c", verb="flatten",
            issued_by="echo",
        )  # fmt: skip
        return [command, command]


def chained() -> World:
    """clock -> signal -> two commands."""
    world = World()
    world.append([clock(100), clock(200)])
    world.log.tasks.open_group("demo", "chain", 1)
    world.run()
    world.log.tasks.open_group("demo", "echo", 1)
    world.group = Group("echo", Echo)
    world.run()
    return world


def test_a_place_reads_with_and_without_braces() -> None:
    place = (Slot("demo", "risk", 3).stream(Lane.HIGH), EntryId(7, 9))
    assert read_place("{demo:risk:3}:high@7-9") == place
    assert read_place(" demo:risk:3:high@7-9") == place
    for text in ("", "x", "demo:risk:3@7-9", "demo:risk:3:high@7", "demo:risk:3:top@7-9"):
        with pytest.raises(UnknownPlace, match="last:TYPE"):
            read_place(text)


def test_the_newest_of_a_type_is_found_in_whatever_stream_it_lies() -> None:
    world = chained()
    assert newest_of_type(world.log, "trade_signal").stream.slot == CHAIN
    assert newest_of_type(world.log, "command.1", ("demo",)).stream.slot == ECHO
    with pytest.raises(UnknownPlace, match="no 'deal' among"):
        newest_of_type(world.log, "deal")


def test_an_effect_leads_back_to_its_origin() -> None:
    world = chained()
    stream = ECHO.stream(Lane.CRITICAL)
    asked = world.log.between(stream, count_max=9)[1]
    found = why(world.log, stream, asked.id)
    types = [link.entry.type for link in found.chain if link.entry]
    assert types == ["clock.1", "trade_signal.1", "command.1"]
    origin, signal, _ = found.chain
    assert (origin.event_time_ms, origin.appended_ms) == (100, 1_000)
    assert signal.appended_ms is None, "ids of derived entries tell no time"
    assert json.loads(json.dumps(found.as_json()))["chain"][1]["entry"]["type"] == "trade_signal.1"


def test_an_origin_leads_on_to_all_that_followed() -> None:
    world = chained()
    stream = SOURCE.stream(Lane.NORMAL)
    found = why(world.log, stream, world.log.between(stream, count_max=1)[0].id)
    [origin] = found.chain
    [signal] = origin.effects
    assert [effect.entry.type for effect in signal.effects if effect.entry] == ["command.1"] * 2
    assert "+5 ms after its cause" in _text(found)
    assert "{demo:echo:0}:critical@1000-1" in _text(found)


def _text(found: object) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(tree(found))  # type: ignore[arg-type]  # a Why
    return captured.get()


def test_causes_that_left_the_log_are_looked_up_elsewhere_or_told() -> None:
    world = chained()
    cause = world.log.between(SOURCE.stream(Lane.NORMAL), count_max=1)[0]
    world.log.retained.trim(SOURCE.stream(Lane.NORMAL), EntryId(1_000, 1), ())
    signal = world.log.between(CHAIN.stream(Lane.NORMAL), count_max=1)[0]
    lost = why(world.log, signal.stream, signal.id).chain[0]
    assert (lost.entry, lost.lost) == (None, "trimmed")

    def archive(stream: Stream, id_: EntryId) -> Entry | None:
        return cause if (stream, id_) == (cause.stream, cause.id) else None

    found = why(world.log, signal.stream, signal.id, archive=archive)
    assert (found.chain[0].entry, found.chain[0].archived) == (cause, True)
    assert "from the database" in _text(found)


def add(world: World, id_: EntryId, cause: str) -> Entry:
    stream = CHAIN.stream(Lane.LOW)
    new = encode(ClockTick(event_time_ms=1), cause=cause)
    world.log.add(stream, id_, NewEntry(Lane.LOW, new.type, new.key, new.data, cause))
    return world.log.newest(stream)[0]


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        ("{demo:chain:0}:low@5000-1", "back to itself"),
        ("nonsense", "no place"),
        ("{demo:chain:0}:low@9000-1", "no such entry"),
    ],
)
def test_causes_that_make_no_sense_are_told(cause: str, told: str) -> None:
    world = chained()
    entry = add(world, EntryId(5_000, 1), cause)
    found = why(world.log, entry.stream, entry.id)
    assert told in found.chain[0].lost
    assert told in _text(found)


def test_chains_and_effects_without_end_are_cut() -> None:
    world = chained()
    entry = add(world, EntryId(5_000, 1), "")
    first = entry
    for number in range(2, EFFECTS_MAX + 50):
        entry = add(world, EntryId(5_000, number), entry.place)
    back = why(world.log, entry.stream, entry.id)
    assert len(back.chain) == CAUSES_MAX + 1
    assert "too long" in back.chain[0].lost
    assert f"more than {EFFECTS_MAX}" in why(world.log, first.stream, first.id).cut


def test_entries_nobody_can_read_stand_in_the_chain_as_they_are() -> None:
    world = chained()
    stream = SOURCE.stream(Lane.NORMAL)
    world.append([NewEntry(Lane.NORMAL, "later.7", "k", b"\xff")])
    newest = world.log.newest(stream)[0]
    found = why(world.log, stream, newest.id)
    assert found.chain[0].event_time_ms is None
    assert "cannot be read" in _text(found)
    assert found.as_json()["chain"][0]["entry"]["data_hex"] == "ff"


def test_a_handler_is_tried_without_writing() -> None:
    world = World()
    world.append(mixed(60, poison=20))
    derived: list[Entry] = []
    found = try_task(world.log, world.group, world.spec, emit=derived.append)
    assert (found.entries, found.failed) == (60, 3)
    assert found.outputs == {"trade_signal.1": 57, "handler_failed.1": 3}
    assert world.outputs() == []
    world.run()
    assert derived == world.outputs(), "as it would be when run"


def test_a_trial_follows_the_pace_of_the_entries() -> None:
    world = World()
    pauses: list[float] = []
    moments = iter([1_000, 3_000, 3_000])
    world.log._now_ms = lambda: next(moments)  # the log's clock
    world.append([clock(1)])
    world.append([gap(2)])
    try_task(world.log, world.group, world.spec, speed=4.0, sleep=pauses.append)
    assert pauses == [0.5]


# --- what a guard did, by ids


def stopped(log: MemoryLog, *, soft: bool) -> None:
    """A breach seen by group risk (or by the guard itself), and what came of it."""
    log.open_namespace("demo")
    log.tasks.open_group("demo", "risk", 1)
    source = Slot("demo", "source", 0)
    risk = Slot("demo", "risk", 0).stream(Lane.CRITICAL)
    log.add_now(source, [encode(ClockTick(event_time_ms=1))])
    look = log.newest(source.stream(ClockTick.LANE))[0]
    breach_id = "risk/7/daily/x" if soft else "guard/7/daily/5"
    figures: dict[str, Any] = {"login": 7, "level": "act", "action": "flatten", "figures": {}}
    breach = LimitBreach(event_time_ms=2, limit="daily", breach_id=breach_id, **figures)
    command_id = "risk/7/flatten/x" if soft else ""
    latch = LatchChanged(
        event_time_ms=4, login=7, terminal="demo", latched=True, latch_id="l2", reason="r", by="b",
        command_id=command_id, breach_id="" if soft else breach_id,
    )  # fmt: skip
    older = latch.model_copy(update={"latch_id": "l1", "command_id": "other", "breach_id": "o"})
    said: dict[str, Any] = {"login": 7, "terminal": "demo", "flatten_id": "f", "latch_id": "l2",
                            "command_id": command_id}  # fmt: skip
    steps = [FlattenStep(event_time_ms=5 + n, number=n + 1, step="close", ticket=9 + n, **said)
             for n in range(2)]  # fmt: skip
    ended = FlattenEnded(event_time_ms=9, state="FLAT", **said)
    log.add_now(source, [encode(older)])
    if soft:
        asked = Command(
            event_time_ms=2, command_id=command_id, verb="flatten", issued_by="risk",
            arguments={"breach": "daily", "breach_id": breach_id},
        )  # fmt: skip
        for number, event in enumerate((breach, asked), 1):
            new = encode(event, cause=look.place)
            log.add(risk, EntryId(look.id.ms, number), new)
    for event in (latch, *([] if soft else [breach]), *steps, ended):
        log.add_now(source, [encode(event)])


def types_of(links: Iterable[Any]) -> list[str]:
    return [link.entry.type.partition(".")[0] for link in links if link.entry]


@pytest.mark.parametrize("soft", [True, False], ids=["by group risk", "by the guard"])
def test_a_breach_leads_to_its_command_its_latch_its_steps_and_their_end_in_one_chain(
    soft: bool,
) -> None:
    log = MemoryLog()
    stopped(log, soft=soft)
    newest = newest_of_type(log, "limit_breach")
    found = why(log, newest.stream, newest.id)
    assert types_of(found.chain) == (["clock", "limit_breach"] if soft else ["limit_breach"])
    at, told = found.chain[-1], []
    while at.effects:
        told += types_of(at.effects)
        at = at.effects[-1]
    middle = ["command"] if soft else []
    assert told == [*middle, "latch", "flatten_step", "flatten_step", "flatten_ended"]
    newest = newest_of_type(log, "flatten_ended")
    back = why(log, newest.stream, newest.id)
    begin = ["clock", "limit_breach", "command"] if soft else ["limit_breach"]
    assert types_of(back.chain) == [*begin, "latch", "flatten_step", "flatten_ended"]


@pytest.mark.parametrize("soft", [True, False], ids=["by group risk", "by the guard"])
def test_the_story_of_a_ticket_names_what_its_close_followed_from(soft: bool) -> None:
    log = MemoryLog()
    stopped(log, soft=soft)
    found = evidence(log, "demo", 10)
    assert found is not None
    told = [seen.entry.type.partition(".")[0] for seen in found.causes]
    assert told == ["limit_breach", *(["command"] if soft else []), "latch"]
    assert [getattr(seen.event, "latch_id", "l2") for seen in found.causes][-1] == "l2"
