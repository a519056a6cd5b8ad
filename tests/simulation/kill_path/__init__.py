"""Fault cases of the path that stops an account, on the simulated terminal."""
