"""Alerts: which events a human should know of, and the groups that find and deliver them."""
