"""Groups by name: what `consume --group` knows, and handlers that users write."""

from consumers.groups.loading import UnknownHandler, load_handler, with_parameters
from consumers.groups.registry import (
    ALERTS,
    PERSIST,
    STRATEGY,
    GroupSpec,
    UnknownGroup,
    described,
    group_specs,
)

__all__ = [
    "ALERTS",
    "PERSIST",
    "STRATEGY",
    "GroupSpec",
    "UnknownGroup",
    "UnknownHandler",
    "described",
    "group_specs",
    "load_handler",
    "with_parameters",
]
