"""Group `trades`: deals and the book reconciled into trades."""

from consumers.trades.handler import TradesHandler

__all__ = ["TradesHandler"]
