"""Groups as processes against real servers, under faults of every kind."""
