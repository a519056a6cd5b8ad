"""Many backtests of one strategy: grids of parameters over all cores, and walk-forward runs."""
