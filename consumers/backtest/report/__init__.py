"""What a result of a backtest means: figures, and how they are shown."""
