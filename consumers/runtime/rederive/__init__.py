"""Deriving again what a task derived: from where, in which order, and after an upgrade."""
