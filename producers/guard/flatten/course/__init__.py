"""The course of one flatten: why it runs, how it goes on, what it tells."""
