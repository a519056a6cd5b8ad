"""Alerts: which events a human should know of, and the groups that find and deliver them."""

from consumers.alerts.delivery import AlertDelivery
from consumers.alerts.watch import WatchHandler

__all__ = ["AlertDelivery", "WatchHandler"]
