"""How strategies run: ticks as columns, the objects of a task, what they remember, loading."""
