"""The same strategy in other backtesters, each run by its own interpreter."""
