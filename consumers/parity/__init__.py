"""What a strategy did live against a backtest of it over the same recorded stream."""
