"""Which groups of alerts can deliver."""

from __future__ import annotations

from collections.abc import Sequence

import click

from consumers.groups.registry import GroupSpec
from events.notify import BadTarget, usable_targets
from events.settings import Settings


def deliverable(specs: Sequence[GroupSpec], settings: Settings) -> list[GroupSpec]:
    """Those whose target can be used; the others are told. Raises BadTarget when none can."""
    targets, problems = usable_targets(settings)
    names = {target.name for target in targets}
    found = [spec for spec in specs if spec.parameters.get("target") in names]
    if not found and problems:
        raise BadTarget("; ".join(problems))
    for problem in problems:
        click.echo(f"bridgectl: alerts are not delivered there: {problem}", err=True)
    return found
