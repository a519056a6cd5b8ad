"""Ticks and bars as a broker reads them: what is usable, what is newest, what a level meets."""
