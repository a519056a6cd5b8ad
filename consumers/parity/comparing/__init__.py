"""Signals and fills of two runs side by side, and why they differ. Pure."""
