"""Deep history: what a terminal still has of times before it was followed."""
