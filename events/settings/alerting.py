"""The settings of alerts: where they are sent to, and which of them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, SecretStr
from pydantic_settings import BaseSettings, NoDecode

from events.settings.fields import OptionalSecret, setting

PART_CHARS_MIN = 12
"""A piece of an address that is this long may be a token: it is masked like a password."""
_BETWEEN = re.compile(r"[\s,]+(?=[a-z][a-z0-9+.-]*://)", re.I)
"""Commas and spaces in front of the next address; those inside one belong to it."""
_PIECES = re.compile(r"[/?&=:@,]+")


def addresses(value: Any) -> Any:
    """A text of several addresses as the secrets they are."""
    if isinstance(value, str):
        value = [SecretStr(part) for part in _BETWEEN.split(value.strip(" \t\r\n,")) if part]
    return tuple(value) if isinstance(value, list) else value


class AlertSettings(BaseSettings):
    """Off until a target is named. `events.settings.Settings` has these among its own."""

    # --- alerts: where they are sent to; see RISK.md
    # What is wrong with an address ends nothing but alerts: `events.notify` checks it.
    alert_webhook: OptionalSecret = setting(
        None, "Address that alerts are posted to as JSON.",
        "an address beginning with https:// or http://",
    )  # fmt: skip
    alert_webhook_secret: OptionalSecret = setting(
        None, "Key that signs what is posted (Standard Webhooks). Empty: not signed.",
        "text, or whsec_ and base64",
    )  # fmt: skip
    alert_urls: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(addresses)] = setting(
        (), "Further targets as Apprise writes them (e-mail, Telegram, Slack, ntfy and others); "
        "needs the extra `alerts`.",
        "addresses such as mailtos://USER:PASSWORD@HOST?to=ME@HOST, with commas between",
    )  # fmt: skip
    alert_min_severity: Literal["info", "warning", "critical"] = setting(
        "warning", "Alerts below it stay in the log alone.", "info, warning, critical"
    )
    alert_timeout_s: float = setting(
        15.0, "How long one delivery may take; it is tried again later.", "seconds, 1 to 60",
        ge=1, le=60,
    )  # fmt: skip
    alert_silence_s: float = setting(
        30.0, "A producer, a group or the log that is silent for this long leads to an alert.",
        "seconds, 5 to 3600", ge=5, le=3600,
    )  # fmt: skip

    @property
    def alerts_configured(self) -> bool:
        """Whether a target is named."""
        return self.alert_webhook is not None or bool(self.alert_urls)

    def alert_secrets(self) -> tuple[str, ...]:
        """The targets' addresses, and whatever in them may be a password or a token."""
        links = [link.get_secret_value() for link in (self.alert_webhook, *self.alert_urls) if link]
        key = self.alert_webhook_secret
        found = [piece for link in links for piece in (link, *secret_pieces(link))]
        return tuple(dict.fromkeys([*found, *([key.get_secret_value()] if key else [])]))


def secret_pieces(link: str) -> tuple[str, ...]:
    """What of an address must not be shown: its password, and long pieces of path and query
    (services carry their tokens there). The host may be shown."""
    pieces: list[str] = []
    try:
        parts = urlsplit(link)
        host, password = parts.hostname or "", parts.password
    except ValueError:  # not ours to read; all of it is secret
        host, password = "", None
    if password:
        pieces += [password, unquote(password)]
    behind = link.partition("://")[2]
    pieces += [
        piece
        for piece in _PIECES.split(behind)
        if len(piece) >= PART_CHARS_MIN and piece.lower() != host
    ]
    return tuple(dict.fromkeys(pieces))
