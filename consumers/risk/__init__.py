"""Group `risk`: figures of an account, its limits, and what the guard is asked to do."""

from consumers.risk.handler import RiskHandler

__all__ = ["RiskHandler"]
