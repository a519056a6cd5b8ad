"""Closing everything: the machine that brings an account to nothing and keeps it there."""

from producers.guard.flatten.account import Scope
from producers.guard.flatten.course.cause import FlattenOptions
from producers.guard.flatten.decisions import Act, Decision, decide_cancel, decide_close
from producers.guard.flatten.flattener import Flattener, StoppedFlatten, new_flatten_id
from producers.guard.flatten.intents import MemoryJournal
from producers.guard.flatten.reducing import Reduction, ReductionEnded, choose

__all__ = [
    "Act",
    "Decision",
    "FlattenOptions",
    "Flattener",
    "MemoryJournal",
    "Reduction",
    "ReductionEnded",
    "Scope",
    "StoppedFlatten",
    "choose",
    "decide_cancel",
    "decide_close",
    "new_flatten_id",
]
