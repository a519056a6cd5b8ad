"""Posting alerts as JSON, signed as the Standard Webhooks specification says.

Headers `webhook-id` (the alert's place in the log: the same for a delivery that is repeated),
`webhook-timestamp` (seconds) and `webhook-signature`: `v1,` and the base64 of the HMAC-SHA256 over
`ID.TIMESTAMP.BODY` (https://www.standardwebhooks.com).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import urlsplit

from events.notify.masking import masked
from events.notify.message import Message
from events.notify.target import Refused, Undelivered

NEVER = frozenset({400, 413, 422})
"""Answers that say that this message will never do."""
ANSWER_BYTES_MAX = 300
"""Of an answer that refuses, what is shown."""
_KEY_PREFIX = "whsec_"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A POST that is redirected would become a GET, perhaps to somebody else."""

    def redirect_request(self, *_: object) -> None:
        return None


class Webhook:
    """One address. `key` signs what is posted; "" posts without a signature."""

    name = "webhook"
    gathers = False
    pause_s = 0.0

    def __init__(self, url: str, key: str = "", *, wall: Callable[[], float] = time.time) -> None:
        self._url, self._wall = url, wall
        self._key = key_bytes(key)
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if _is_loopback(url):  # whatever proxy the environment names
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def send(self, message: Message, *, timeout_s: float) -> None:
        """Raises Undelivered, Refused."""
        body = json.dumps(message.as_json(), ensure_ascii=False).encode()
        request = urllib.request.Request(  # noqa: S310 - settings allow http and https alone
            self._url, body, self._headers(message, body), method="POST"
        )
        try:
            with self._opener.open(request, timeout=timeout_s) as answer:
                answer.read(1)
        except urllib.error.HTTPError as error:
            with error:
                raise _said_no(error, self._url) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            told = masked(f"no answer: {type(reason).__name__}: {reason}", self._url)
            raise Undelivered(told) from None

    def _headers(self, message: Message, body: bytes) -> dict[str, str]:
        identity, seconds = message.place or "none", str(int(self._wall()))
        headers = {
            "content-type": "application/json",
            "user-agent": "mt5-stream-bridge",
            "webhook-id": identity,
            "webhook-timestamp": seconds,
        }
        if self._key:
            headers["webhook-signature"] = signature(self._key, identity, seconds, body)
        return headers


def signature(key: bytes, identity: str, seconds: str, body: bytes) -> str:
    """`v1,` and the base64 of the HMAC-SHA256 of `ID.TIMESTAMP.BODY`."""
    signed = b".".join([identity.encode(), seconds.encode(), body])
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def key_bytes(text: str) -> bytes:
    """`whsec_` and base64, as services give keys out, or any text as it is."""
    if text.startswith(_KEY_PREFIX):
        try:
            return base64.b64decode(text.removeprefix(_KEY_PREFIX), validate=True)
        except binascii.Error:
            pass
    return text.encode()


def _said_no(error: urllib.error.HTTPError, url: str) -> Undelivered:
    if 300 <= error.code < 400:
        return Undelivered(
            f"it answers {error.code} and sends elsewhere: set ALERT_WEBHOOK to the address it "
            "leads to"
        )
    said = error.read(ANSWER_BYTES_MAX).decode("utf-8", "replace")
    text = masked(" ".join(f"it answers {error.code} {said}".split()), url)
    return Refused(text) if error.code in NEVER else Undelivered(text)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
