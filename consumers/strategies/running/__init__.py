"""How strategies run: ticks as columns, the objects of a task, what they remember, loading."""

from consumers.strategies.running.instances import Casting, Instances
from consumers.strategies.running.tick_run import TickRun
from consumers.strategies.running.walking import StrategyFailed

__all__ = ["Casting", "Instances", "StrategyFailed", "TickRun"]
