"""Group `execute`: targets, the book and answers to order intents."""

from consumers.execute.handler import ExecuteHandler

__all__ = ["ExecuteHandler"]
