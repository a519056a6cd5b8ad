"""Risk figures as pure functions: one concept per file, each with the source of its formula."""
