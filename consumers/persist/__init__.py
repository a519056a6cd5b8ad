"""Group `persist`: every entry of the log into the database, each row exactly once."""

from consumers.persist.group import GroupProgress, PersistGroup, all_slots, default_holder
from consumers.persist.worker import GROUP, PersistOptions

__all__ = [
    "GROUP",
    "GroupProgress",
    "PersistGroup",
    "PersistOptions",
    "all_slots",
    "default_holder",
]
