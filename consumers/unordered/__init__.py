"""Groups without an order: any number of consumers, each entry handled at least once."""

from consumers.unordered.consumer import SILENT_S, Consumer
from consumers.unordered.effect import KeepsState

__all__ = ["SILENT_S", "Consumer", "KeepsState"]
