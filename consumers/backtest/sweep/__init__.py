"""Many backtests of one strategy: grids over all cores, walk-forward runs, its input cut."""
