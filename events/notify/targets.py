"""From settings to the places that alerts are delivered to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from events.notify.services import Service
from events.notify.target import Target
from events.notify.webhook import Webhook
from events.settings import Settings

WEBHOOK = Webhook.name


def target_names(settings: Settings) -> tuple[str, ...]:
    """Each target's name: `webhook`, and the schemes of ALERT_URLS, numbered where several are
    alike (`tgram`, `tgram-2`)."""
    return tuple(_addresses(settings))


def targets_of(settings: Settings, names: Sequence[str] = ()) -> tuple[Target, ...]:
    """The targets, or those of these names. Raises BadTarget; an unknown name is a KeyError."""
    known = _addresses(settings)
    return tuple(_target(name, known[name], settings) for name in names or known)


def _addresses(settings: Settings) -> dict[str, str]:
    found: dict[str, str] = {}
    if settings.alert_webhook is not None:
        found[WEBHOOK] = settings.alert_webhook.get_secret_value()
    seen: Counter[str] = Counter({WEBHOOK: 1})
    for link in settings.alert_urls:
        url = link.get_secret_value()
        scheme = url.partition("://")[0].lower().replace("+", "-")
        seen[scheme] += 1
        found[f"{scheme}-{seen[scheme]}" if seen[scheme] > 1 else scheme] = url
    return found


def _target(name: str, url: str, settings: Settings) -> Target:
    if name != WEBHOOK:
        return Service(name, url)
    key = settings.alert_webhook_secret
    return Webhook(url, key.get_secret_value() if key is not None else "")
