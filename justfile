# What developers and CI run. `just --list` names every recipe; on Windows: `just --set bin .venv/Scripts`.

bin := ".venv/bin"

# Everything a change must pass
default: lint test

# Make the virtual environment and install what development needs
setup:
    python3 -m venv .venv
    {{bin}}/python -m pip install -q -e ".[dev]"

# Style, types, and the floors of the house
lint:
    {{bin}}/ruff check .
    {{bin}}/ruff format --check .
    {{bin}}/mypy
    {{bin}}/lint-imports

# Unit, contract and integration tests, side by side (many of them wait); they start every server they need
test *options:
    {{bin}}/pytest -n 2 --dist worksteal {{options}}

# The long crash, soak and fault runs
test-slow *options:
    {{bin}}/pytest -m slow {{options}}

# Repeat the measured figures
bench name *options:
    {{bin}}/python -m benchmarks.{{name}} {{options}}

# Put code into shape
format:
    {{bin}}/ruff check --fix .
    {{bin}}/ruff format .

# The main job on embedded servers and the simulated terminal
up *options:
    {{bin}}/bridgectl up {{options}}
