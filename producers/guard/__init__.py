"""The guard of one account: it stops trading, whatever else is dead."""
