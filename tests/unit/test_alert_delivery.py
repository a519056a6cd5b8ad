"""Group `alerts`: each alert to each target, at least once, however the target behaves."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import bridgectl
from consumers.alerts import AlertDelivery, delivery
from consumers.alerts.delivery import GATHERED_FROM
from consumers.groups.registry import UnknownGroup, group_specs
from consumers.sinks import SinkGroup
from consumers.unordered import Consumer
from consumers.workers.taking import WorkerOptions
from events.alerts import Alert
from events.codec import decode, encode
from events.log import Claim, Lane, Slot
from events.memory_log import MemoryLog
from events.notify import Message, Refused, Undelivered, usable_targets
from events.operations import HandlerFailed
from events.settings import load
from producers.guard.assembly import pager
from tests.endpoint import Endpoint

WATCH = Slot("demo", "watch", 0)
NOW_S = 1_700_000_000.0


class Target:
    """Takes, refuses or fails as told."""

    name, pause_s = "tgram", 0.0

    def __init__(self) -> None:
        self.gathers = True
        self.told: list[list[str]] = []
        self.down_for: set[str] = set()
        self.never: set[str] = set()

    def send(self, message: Message, *, timeout_s: float) -> None:
        texts = [one.text for one in message.alerts]
        if self.never & set(texts):
            raise Refused("it answers 422")
        if self.down_for & set(texts):
            raise Undelivered("no route")
        self.told.append(texts)


class World:
    """Alerts of `watch` in a log, and the group that delivers them to one target."""

    def __init__(self) -> None:
        self.target, self.now = Target(), 0.0
        self.log = MemoryLog(now_ms=lambda: 1_000, monotonic=lambda: self.now)
        self.log.open_namespace("demo", 1)
        self.log.tasks.open_group("demo", "watch", 1)
        self.claim: Claim = self.log.claim(WATCH, "w", alive_within_s=0)
        self.count = 0
        self.consumer = self.begun()

    def begun(self) -> Consumer:
        group = SinkGroup("alerts.tgram", AlertDelivery, {
            "wall": lambda: NOW_S, "monotonic": lambda: self.now, "sleep": self._sleep,
        })  # fmt: skip
        options = WorkerOptions(holder="h", entries_max=20)
        return Consumer(self.log, group, options, monotonic=lambda: self.now, sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def alert(self, count: int = 1, *, severity: Any = "warning", late_s: float = 0.0) -> None:
        for _ in range(count):
            self.count += 1
            event = Alert(
                event_time_ms=int((NOW_S - late_s) * 1000), severity=severity, topic="t",
                subject=str(self.count), text=str(self.count),
            )  # fmt: skip
            self.log.append(self.claim, [encode(event)])

    def run(self, turns: int = 30) -> list[list[str]]:
        for _ in range(turns):
            self.consumer.turn()
            self.now += 1
        return self.target.told


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(delivery, "targets_of", lambda settings, names: (made.target,))
    delivery._delivered.clear()
    return made


def test_alerts_from_the_least_severity_on_are_told_one_by_one(world: World) -> None:
    world.alert(1, severity="info")
    world.alert(2)
    world.alert(1, severity="critical")
    assert world.run() == [["2"], ["3"], ["4"]]
    assert world.log.groups(WATCH.stream(Lane.HIGH))["alerts.tgram.0"].pending == 0


def test_a_target_that_is_down_for_hours_gets_all_of_it_and_nothing_twice(world: World) -> None:
    world.alert(4)
    world.target.down_for = {"3"}
    assert world.run() == [["1"], ["2"]]
    world.alert(2)
    world.now += 7_200
    assert world.run() == [["1"], ["2"]], "in order: what is down is down for what follows too"
    world.target.down_for = set()
    assert world.run() == [["1"], ["2"], ["3"], ["4"], ["5"], ["6"]]


def test_many_late_ones_are_one_message_and_new_ones_are_not_hidden_in_it(world: World) -> None:
    world.alert(GATHERED_FROM + 2, late_s=7_200)
    world.alert(1)
    told = world.run()
    assert told == [[str(n) for n in range(1, GATHERED_FROM + 3)], [str(GATHERED_FROM + 3)]]


def test_a_service_gets_the_pauses_it_asks_for(world: World) -> None:
    world.target.pause_s = 3.0
    world.alert(4)
    begun = world.now
    assert world.run(1) == [["1"], ["2"], ["3"], ["4"]]
    assert world.now - begun >= 3 * 3.0


def test_a_batch_that_takes_too_long_is_given_back_and_goes_on_where_it_was(
    world: World,
) -> None:
    world.target.pause_s = 9.0
    world.alert(15)
    assert world.run(1) != [[str(n)] for n in range(1, 16)], "no longer than a lease"
    assert world.run() == [[str(n)] for n in range(1, 16)]


def test_programs_are_told_each_alone_however_late(world: World) -> None:
    world.target.gathers = False
    world.alert(9, late_s=7_200)
    assert world.run() == [[str(n)] for n in range(1, 10)]


def test_what_a_target_will_never_take_becomes_a_dead_letter_and_holds_up_nothing(
    world: World,
) -> None:
    world.alert(3)
    world.target.never = {"2"}
    assert world.run() == [["1"], ["3"]]
    stream = Slot("demo", "alerts.tgram", 0).stream(Lane.CRITICAL)
    (letter,) = [decode(entry) for entry in world.log.between(stream, count_max=9)]
    assert isinstance(letter, HandlerFailed)
    assert "it answers 422" in letter.error


def test_one_bad_alert_among_many_late_ones_is_found(world: World) -> None:
    world.alert(8, late_s=7_200)
    world.target.never = {"5"}
    assert sorted(text for part in world.run() for text in part) == [*"1234678"]


def test_what_a_consumer_died_with_is_told_again_by_the_next(world: World) -> None:
    world.alert(2)
    world.target.down_for = {"2"}
    assert world.run() == [["1"]]
    for _ in range(9):  # the bridge is started again and again meanwhile
        delivery._delivered.clear()
        world.consumer = world.begun()
        world.target.down_for = {"1", "2"}
        world.now += 60
        world.run(30)
    world.target.down_for = set()
    assert world.run(60) == [["1"], ["1"], ["2"]], "at least once, and none given up"


def test_each_target_is_a_group_of_its_own() -> None:
    specs = group_specs("alerts", targets=("webhook", "tgram"))
    assert [(one.name, one.parameters) for one in specs] == [
        ("alerts.webhook", {"target": "webhook"}), ("alerts.tgram", {"target": "tgram"}),
    ]  # fmt: skip
    assert [one.name for one in group_specs("alerts.tgram", targets=("webhook", "tgram"))] == [
        "alerts.tgram"
    ]
    assert isinstance(specs[0].group(), SinkGroup)
    with pytest.raises(UnknownGroup, match="ALERT_WEBHOOK or ALERT_URLS"):
        group_specs("alerts")
    with pytest.raises(UnknownGroup, match=r"alerts\.webhook"):
        group_specs("alerts.mail", targets=("webhook",))


def test_without_a_target_commands_say_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BRIDGE_STATE_DIR", str(tmp_path))
    for words in (["alerts", "test"], ["consume", "--group", "alerts"]):
        done = CliRunner().invoke(bridgectl.cli, words)
        assert done.exit_code == 2
        assert "set ALERT_WEBHOOK or ALERT_URLS" in done.output
    monkeypatch.setenv("ALERT_WEBHOOK", "ftp://user:s3cret@host")
    done = CliRunner().invoke(bridgectl.cli, ["alerts", "test"])
    assert done.exit_code != 0
    assert "ALERT_WEBHOOK is a value that is not shown" in done.output
    assert "s3cret" not in done.output


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")
def test_one_bad_address_keeps_no_other_from_being_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BRIDGE_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("ALERT_URLS", "s3cret-token, nonsense://user:s3cretpassword@host")
    settings = load()
    targets, problems = usable_targets(settings)
    assert (targets, len(problems)) == ((), 2)
    assert "s3cret" not in "".join(problems)
    assert pager(settings) is None, "a guard guards all the same"
    done = CliRunner().invoke(bridgectl.cli, ["consume", "--group", "alerts"])
    assert (done.exit_code, "no address" in done.output) == (2, True)
    monkeypatch.setenv("ALERT_WEBHOOK", "http://127.0.0.1:9/x")
    targets, problems = usable_targets(load())
    assert ([target.name for target in targets], len(problems)) == (["webhook"], 2)
    assert pager(load()) is not None


def test_a_test_alert_tells_of_each_target_how_it_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BRIDGE_STATE_DIR", str(tmp_path))
    with closing(Endpoint()) as endpoint:
        monkeypatch.setenv("ALERT_WEBHOOK", endpoint.url)
        done = CliRunner().invoke(bridgectl.cli, ["alerts", "test"])
        assert done.exit_code == 0
        assert "webhook delivered in" in done.output
        assert "alerts arrive here" in endpoint.texts[0]
        endpoint.status = 500
        done = CliRunner().invoke(bridgectl.cli, ["alerts", "test", "--json"])
        assert done.exit_code == 1
        (row,) = json.loads(done.output)["targets"]
        assert (row["target"], row["result"]) == ("webhook", "failed")
        assert "500" in row["detail"]
        done = CliRunner().invoke(bridgectl.cli, ["alerts", "test", "--target", "mail"])
        assert "there is webhook" in done.output
