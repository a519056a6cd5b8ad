"""Deriving again what groups derived: to compare it, to try a handler, to see why."""
