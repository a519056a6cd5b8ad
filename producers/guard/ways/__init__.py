"""The ways to a guard and from it: its socket, the log, the link of a far terminal, files."""
