"""Which MetaTrader 5 terminals are installed on this (Windows) machine.

Every installed terminal keeps a data folder `%APPDATA%\\MetaQuotes\\Terminal\\HASH` whose
`origin.txt` names where it is installed (UTF-16). Portable ones keep their data beside the
program and are found in the usual program folders.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

PROGRAM = "terminal64.exe"
FOLDERS_MAX = 1_000
PROGRAM_FOLDERS = ("ProgramFiles", "ProgramW6432", "ProgramFiles(x86)", "LOCALAPPDATA")


def installed_terminals(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Paths of terminal64.exe, each once; empty where none is installed."""
    found: list[Path] = []
    if appdata := environment.get("APPDATA"):
        found += terminals_of_origins(Path(appdata) / "MetaQuotes" / "Terminal")
    for name in PROGRAM_FOLDERS:
        if folder := environment.get(name):
            found += terminals_in(Path(folder))
    return tuple(dict.fromkeys(found))


def terminals_of_origins(folder: Path) -> list[Path]:
    """Terminals whose data folders lie in `folder`."""
    found = []
    for origin in sorted(_some(folder.glob("*/origin.txt"))):
        program = Path(_origin_text(origin)) / PROGRAM
        if program.is_file():
            found.append(program)
    return found


def terminals_in(folder: Path) -> list[Path]:
    """Terminals in the folders right inside `folder`."""
    return sorted(path for path in _some(folder.glob(f"*/{PROGRAM}")) if path.is_file())


def _origin_text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError:
        return ""
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    return raw.decode(encoding, "replace").strip("\x00\r\n ")


def _some(paths: Iterable[Path]) -> list[Path]:
    found: list[Path] = []
    try:
        for path in paths:
            found.append(path)
            if len(found) >= FOLDERS_MAX:
                break
    except OSError:  # a folder that may not be looked into holds nothing for us
        pass
    return found
