"""The terminal host: the process that calls a terminal, and the frames it speaks."""
