"""Group `analytics`: what trading brought and cost by hour, symbol and strategy; spreads."""

from consumers.analytics.handler import AnalyticsHandler

__all__ = ["AnalyticsHandler"]
