"""Consumer groups over a log in memory, and one on a server, under faults at every call."""
