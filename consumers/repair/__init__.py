"""Repair: offsets that lead nowhere, because the log lost its tail or was begun anew, are set back
to the last entry that both sides share, and what was made of the lost entries is taken away."""

from consumers.repair.plan import Plan
from consumers.repair.run import Repair

__all__ = ["Plan", "Repair"]
