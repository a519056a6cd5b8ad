"""Strategies that operators enabled, as groups to run."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Sequence

from consumers.groups.registry import STRATEGY, GroupSpec, group_specs
from events.log import Log, LogUnavailable

logger = logging.getLogger(__name__)


def enabled_specs(log: Log, namespaces: Collection[str] = ()) -> list[GroupSpec]:
    """One group per strategy and terminal, for these terminals, or all. Raises LogUnavailable."""
    from consumers.strategies.enabling import strategy_sets  # few commands run strategies
    from consumers.strategies.running.loading import file_of

    return [
        GroupSpec(
            one.group,
            one.told.code,
            one.texts,
            namespaces=(one.namespace,),
            checksum=one.told.checksum if file_of(one.told.code) else "",
        )
        for one in strategy_sets(log, namespaces)
        if one.told.enabled
    ]


class StrategiesWanted:
    """Those of the settings, and those that are enabled now; for `strategy.NAME` those called so.

    One of the settings goes before an enabled one of its name.
    """

    def __init__(
        self, group: str, configured: Sequence[str], namespaces: tuple[str, ...] = ()
    ) -> None:
        self._group, self._namespaces = group, namespaces
        self._fixed = _configured(configured)
        self._taken = {spec.name for spec in self._fixed}

    def __call__(self, log: Log) -> list[GroupSpec]:
        """What is to run now. Raises LogUnavailable."""
        enabled = [o for o in enabled_specs(log, self._namespaces) if o.name not in self._taken]
        return [one for one in (*self._fixed, *enabled) if self._group in (STRATEGY, one.name)]

    def check(self, open_log: Callable[[], Log], *, until_idle: bool) -> None:
        """What is named, or is to end by itself, has to be there. Raises UnknownGroup."""
        if self._group == STRATEGY and not until_idle:
            return
        try:
            log = open_log()
        except LogUnavailable:  # whoever runs it waits for the log
            return
        try:
            if not self(log):
                group_specs(self._group)  # tells what there is
        except LogUnavailable:
            return
        finally:
            log.close()


def _configured(entries: Sequence[str]) -> list[GroupSpec]:
    """Those of the settings. One that cannot be loaded is a group that will stand still."""
    found: dict[str, GroupSpec] = {}
    for entry in entries:
        try:
            [spec] = group_specs(STRATEGY, strategies=[entry])
        except ValueError:  # told when it is started
            name, _, path = entry.rpartition("=")
            spec = GroupSpec(f"{STRATEGY}.{name or _guessed(path)}", path)
        if spec.name in found:
            logger.error("STRATEGIES has %s twice: name one NAME=module:Class", spec.name)
        else:
            found[spec.name] = spec
    return list(found.values())


def _guessed(path: str) -> str:
    """What a class that cannot be loaded would be called."""
    word = path.rpartition(":")[2] or "strategy"
    return re.sub(r"[^a-z0-9_.-]", "-", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", word).lower())
