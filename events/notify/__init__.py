"""Delivering alerts to people: a webhook, and whatever Apprise reaches (e-mail, Telegram, ...)."""

from events.notify.delivery import Outcome, Result, deliver
from events.notify.message import Message
from events.notify.target import BadTarget, Refused, Target, Undelivered
from events.notify.targets import WEBHOOK, can_deliver, target_names, targets_of, usable_targets

__all__ = [
    "WEBHOOK",
    "BadTarget",
    "Message",
    "Outcome",
    "Refused",
    "Result",
    "Target",
    "Undelivered",
    "can_deliver",
    "deliver",
    "target_names",
    "targets_of",
    "usable_targets",
]
