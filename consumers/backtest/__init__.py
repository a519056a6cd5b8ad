"""Backtests: a strategy over recorded ticks, with a broker model in the place of the broker.

`result` is what comes out of one; `engine` runs it; `sources` give the ticks.
"""
