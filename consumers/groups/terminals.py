"""Which terminals a group is to run for: the names that `--terminal` was given."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence

from events.log import Log, LogUnavailable
from events.settings import Settings

logger = logging.getLogger(__name__)


class UnknownTerminal(ValueError):
    """There is no such terminal, and none is to come. The message names those there are."""


def namespaces_of(names: Sequence[str], settings: Settings) -> tuple[str, ...]:
    """The namespaces of terminals, by their names in the settings; others are taken as they are.
    Raises BadSettings."""
    if not names:
        return ()
    configured = {one.name: one.namespace for one in settings.terminals()}
    return tuple(dict.fromkeys(configured.get(name, name) for name in names))


def check_namespaces(
    open_log: Callable[[], Log],
    namespaces: Sequence[str],
    settings: Settings,
    *,
    until_idle: bool,
) -> None:
    """Refuse to run to the end of what is not there; say so where it may still come.

    A log that does not answer is waited for by whoever runs the group. Raises UnknownTerminal.
    """
    if not namespaces:
        return
    try:
        log = open_log()
    except LogUnavailable:
        return
    try:
        there = log.namespaces()
    except LogUnavailable:
        return
    finally:
        log.close()
    missing = [name for name in namespaces if name not in there]
    if not missing:
        return
    what = f"the log holds no terminal called {', '.join(map(repr, missing))}"
    known = f"there is {', '.join(sorted(there)) or 'none yet: start `bridgectl up`'}"
    if until_idle:
        raise UnknownTerminal(f"{what}: {known}")
    configured = {one.namespace for one in settings.terminals()}
    if sys.stderr.isatty() and not configured.issuperset(missing):  # a person may have mistyped it
        logger.warning("%s, and it is waited for: %s", what, known)
