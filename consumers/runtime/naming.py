"""What a group is called after the class it runs."""

from __future__ import annotations

import re

from events.log import checked_name


def group_name(handler: type) -> str:
    """`EmaCross` is run as group `ema-cross`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", handler.__name__)
    return checked_name(words.lower().strip("_").replace("_", "-")[:48])
