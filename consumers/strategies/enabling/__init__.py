"""Strategies that operators switch on and off while the bridge runs."""

from consumers.strategies.enabling.sets import Enabled, strategy_sets

__all__ = ["Enabled", "strategy_sets"]
