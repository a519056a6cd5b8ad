"""Messages to people: what they say, what becomes of them at targets of every bad kind."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from pydantic import SecretStr

from events.alerts import Alert
from events.notify import BadTarget, Message, Result, Undelivered, deliver, target_names, targets_of
from events.notify.delivery import HANGING_MAX
from events.notify.services import Service
from events.notify.webhook import Webhook, key_bytes, signature
from events.settings import Settings
from tests.endpoint import Endpoint

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")
"""One of Apprise's plugins imports it."""

ALERT = Alert(
    event_time_ms=1_700_000_000_000,
    severity="critical",
    topic="limit_breach",
    subject="7/daily_loss",
    text="daily loss 512.00 reached 500.00: flatten",
    cure="phone the broker's desk",
)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    yield made
    made.close()


class Desk:
    """An SMTP server of a few lines: it keeps the messages."""

    def __init__(self) -> None:
        self.mails: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                with peer, peer.makefile("rwb") as lines:
                    self._talk(lines)

    def _talk(self, lines: Any) -> None:
        def say(text: str) -> None:
            lines.write(text.encode() + b"\r\n")
            lines.flush()

        say("220 desk")
        for line in lines:
            word = line[:4].upper()
            if word == b"DATA":
                say("354 go on")
                mail = []
                for row in lines:
                    if row == b".\r\n":
                        break
                    mail.append(row.decode())
                self.mails.append("".join(mail))
            elif word == b"QUIT":
                say("221 bye")
                return
            say("250 yes")

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


def test_a_webhook_gets_the_alert_as_json_signed_as_the_specification_says(
    endpoint: Endpoint,
) -> None:
    key = base64.b64encode(b"k" * 24).decode()
    target = Webhook(endpoint.url, f"whsec_{key}", wall=lambda: 1_700_000_060.9)
    message = Message((ALERT,), "ftmo", "{ftmo:watch:0}:high@1-2")
    (outcome,) = deliver(message, [target], 5)
    assert outcome.delivered, outcome
    ((headers, body),) = endpoint.seen
    said = json.loads(body)
    assert said["type"] == "alert"
    assert said["timestamp"] == "2023-11-14T22:13:20+00:00"
    assert said["data"]["terminal"] == "ftmo"
    assert said["data"]["text"] == ALERT.text
    assert headers["webhook-id"] == "{ftmo:watch:0}:high@1-2"
    assert headers["webhook-timestamp"] == "1700000060"
    signed = b"{ftmo:watch:0}:high@1-2.1700000060." + body
    digest = hmac.new(b"k" * 24, signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"


def test_the_signature_is_that_of_the_specifications_own_example() -> None:
    """The example on standardwebhooks.com and in the libraries' tests."""
    key = key_bytes("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    made = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body)
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("status", "result"),
    [(200, Result.DELIVERED), (204, Result.DELIVERED), (302, Result.FAILED),
     (400, Result.REFUSED), (401, Result.FAILED), (413, Result.REFUSED), (429, Result.FAILED),
     (500, Result.FAILED), (503, Result.FAILED)],
)  # fmt: skip
def test_what_an_answer_means(endpoint: Endpoint, status: int, result: Result) -> None:
    endpoint.status = status
    endpoint.location = f"{endpoint.url}/elsewhere" if status == 302 else ""
    (outcome,) = deliver(ALERT, [Webhook(endpoint.url)], 5)
    assert outcome.result is result, outcome
    assert len(endpoint.seen) == 1, "a redirect is not followed, and nothing is repeated"
    assert result is Result.DELIVERED or str(status) in outcome.detail


def test_nobody_at_the_address_is_a_failure_that_is_tried_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (outcome,) = deliver(ALERT, [Webhook(f"http://127.0.0.1:{port}/secret-token-0815")], 5)
    assert outcome.result is Result.FAILED
    assert "refused" in outcome.detail.lower()
    assert "0815" not in outcome.detail


class Fixed:
    """A target that does one thing."""

    gathers, pause_s = False, 0.0

    def __init__(self, name: str, send: Callable[[], None]) -> None:
        self.name, self._send = name, send

    def send(self, message: Message, *, timeout_s: float) -> None:
        self._send()


def test_one_target_that_hangs_holds_up_nobody_and_is_left_alone_after_a_while(
    endpoint: Endpoint,
) -> None:
    release = threading.Event()
    hanging = Fixed("hanging", lambda: (release.wait(30), None)[1])
    fine = Webhook(endpoint.url)
    for _ in range(HANGING_MAX):
        begun = time.monotonic()
        stuck, told = deliver(ALERT, [hanging, fine], 0.3)
        assert stuck.result is Result.UNKNOWN
        assert told.delivered
        assert time.monotonic() - begun < 5
    stuck, told = deliver(ALERT, [hanging, fine], 0.3)
    assert stuck.result is Result.FAILED, "no third thread is spent on it"
    assert told.delivered
    release.set()
    deadline = time.monotonic() + 10
    while not deliver(ALERT, [hanging], 5)[0].delivered:
        assert time.monotonic() < deadline, "it is asked again once the others ended"


def test_a_server_that_sends_its_answer_drop_by_drop_is_not_waited_for(endpoint: Endpoint) -> None:
    endpoint.wait_s = 30
    (outcome,) = deliver(ALERT, [Webhook(endpoint.url)], 0.3)
    assert outcome.result in (Result.UNKNOWN, Result.FAILED)
    assert outcome.took_ms < 5_000


def test_whatever_a_target_raises_is_an_outcome() -> None:
    def broken() -> None:
        raise ZeroDivisionError("oh")

    def away() -> None:
        raise Undelivered("not now")

    first, second = deliver(ALERT, [Fixed("a", broken), Fixed("b", away)], 5)
    assert (first.result, first.detail) == (Result.FAILED, "ZeroDivisionError: oh")
    assert (second.result, second.detail) == (Result.FAILED, "not now")


def test_a_mail_reaches_a_mail_server() -> None:
    desk = Desk()
    try:
        url = f"mailto://127.0.0.1:{desk.port}?from=bridge@here.org&to=me@there.org&mode=insecure"
        (outcome,) = deliver(Message((ALERT,), "ftmo"), [Service("mailto", url)], 10)
        assert outcome.delivered, outcome
        (mail,) = desk.mails
        assert "To: me@there.org" in mail
        assert "ftmo" in mail
    finally:
        desk.close()


def test_a_service_that_does_not_answer_says_so_without_its_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    target = Service("json", f"json://user:s3cretpassword@127.0.0.1:{port}/token-of-mine-1234")
    (outcome,) = deliver(ALERT, [target], 5)
    assert outcome.result is Result.FAILED
    assert "s3cret" not in outcome.detail
    assert "token" not in outcome.detail


def test_an_address_that_apprise_does_not_know_is_refused_without_showing_it() -> None:
    with pytest.raises(BadTarget, match="ALERT_URLS") as caught:
        Service("nonsense", "nonsense://user:s3cretpassword@host")
    assert "s3cret" not in str(caught.value)


def settings_with(**fields: Any) -> Settings:
    return Settings(_env_file=None, **fields)


def test_targets_are_named_after_their_kind_so_that_a_new_password_is_no_new_target() -> None:
    urls = tuple(map(SecretStr, ["json://a@localhost", "json://b@localhost", "xml://localhost"]))
    settings = settings_with(alert_webhook=SecretStr("https://h/x"), alert_urls=urls)
    assert target_names(settings) == ("webhook", "json", "json-2", "xml")
    assert [target.name for target in targets_of(settings)] == ["webhook", "json", "json-2", "xml"]
    assert [target.name for target in targets_of(settings, ["json-2"])] == ["json-2"]


def test_one_alert_says_what_to_do_and_how_late_it_is() -> None:
    late = Message((ALERT,), "ftmo", now_ms=ALERT.event_time_ms + 720_000)
    assert late.title == "[CRITICAL] ftmo limit breach 7/daily loss"
    assert "What to do: phone the broker's desk" in late.body
    assert "2023-11-14 22:13:20 UTC, told 12 min later" in late.body
    over = Message((ALERT.model_copy(update={"resolved": True}),), "ftmo")
    assert over.title.startswith("[over] ftmo")
    assert "What to do" not in over.body
    assert over.severity == "info"


def test_many_late_alerts_are_one_bounded_message() -> None:
    many = [ALERT.model_copy(update={"subject": str(n), "text": "x" * 90}) for n in range(500)]
    message = Message(many, "ftmo")
    assert message.title == "[CRITICAL] ftmo 500 alerts"
    assert "460 older ones: bridgectl alerts list" in message.body
    assert len(message.body) <= 3_500
