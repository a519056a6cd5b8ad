"""Run a script on the simulated terminal: `python -m producers.terminals.stand_in SCRIPT.py`."""

from producers.terminals.stand_in.cli import run_on_simulator

run_on_simulator(prog_name="python -m producers.terminals.stand_in")
