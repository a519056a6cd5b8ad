"""From settings to the places that alerts are delivered to."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from events.notify.services import Service
from events.notify.target import BadTarget, Target
from events.notify.webhook import Webhook
from events.settings import Settings

WEBHOOK = Webhook.name
UNREADABLE = "unreadable"
TARGETS_MAX = 16
"""Of ALERT_URLS."""
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,30}://\S", re.I)


def target_names(settings: Settings) -> tuple[str, ...]:
    """Each target's name: `webhook`, and the schemes of ALERT_URLS, numbered where several are
    alike (`tgram`, `tgram-2`)."""
    return tuple(_addresses(settings))


def targets_of(settings: Settings, names: Sequence[str] = ()) -> tuple[Target, ...]:
    """The targets, or those of these names. Raises BadTarget; an unknown name is a KeyError."""
    known = _addresses(settings)
    return tuple(_target(name, known[name], settings) for name in names or known)


def usable_targets(settings: Settings) -> tuple[tuple[Target, ...], tuple[str, ...]]:
    """The targets that can be used, and what is wrong with each other one, a line each."""
    usable: list[Target] = []
    problems: list[str] = []
    for name, url in _addresses(settings).items():
        try:
            usable.append(_target(name, url, settings))
        except BadTarget as error:
            problems.append(str(error))
    return tuple(usable), tuple(problems)


def can_deliver(settings: Settings, *, tell: Callable[[str], None]) -> bool:
    """Whether alerts can be delivered anywhere; `tell` hears of each target that cannot be used:
    that ends nothing but the alerts there."""
    usable, problems = usable_targets(settings)
    for problem in problems:
        tell(f"alerts are not delivered there: {problem}")
    return bool(usable)


def _addresses(settings: Settings) -> dict[str, str]:
    found: dict[str, str] = {}
    if settings.alert_webhook is not None:
        found[WEBHOOK] = settings.alert_webhook.get_secret_value()
    seen: Counter[str] = Counter({WEBHOOK: 1})
    for link in settings.alert_urls[:TARGETS_MAX]:
        url = link.get_secret_value()
        scheme = UNREADABLE
        if _SCHEME.match(url):  # what is no address may be a password
            scheme = url.partition("://")[0].lower().replace("+", "-")
        seen[scheme] += 1
        found[f"{scheme}-{seen[scheme]}" if seen[scheme] > 1 else scheme] = url
    return found


def _target(name: str, url: str, settings: Settings) -> Target:
    if name == WEBHOOK:
        return _webhook(url, settings)
    if not _SCHEME.match(url):
        raise BadTarget(
            "ALERT_URLS holds something that is no address (it is not shown): write addresses such "
            "as mailtos://USER:PASSWORD@HOST?to=ME@HOST, with commas between"
        )
    return Service(name, url)


def _webhook(url: str, settings: Settings) -> Webhook:
    if urlsplit(url).scheme.lower() not in ("http", "https"):
        raise BadTarget(
            "ALERT_WEBHOOK is a value that is not shown: it must be an address beginning with "
            "https:// or http://"
        )
    key = settings.alert_webhook_secret
    return Webhook(url, key.get_secret_value() if key is not None else "")
