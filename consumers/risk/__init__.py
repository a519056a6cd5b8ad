"""Group `risk`: what an account stands at, derived from every look at it."""

from consumers.risk.handler import RiskHandler

__all__ = ["RiskHandler"]
