"""Findings about a Windows machine that runs a terminal around the clock."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from events.health.finding import Finding, ok, warn
from events.health.machine import said_by

_HEX = re.compile(r"0x[0-9a-fA-F]{8}\b")
WINLOGON = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon"


def windows_findings() -> Iterator[Finding]:
    """Nothing on other systems."""
    if sys.platform != "win32":
        return
    yield sleep_finding(said_by("powercfg", "/query", "SCHEME_CURRENT", "SUB_SLEEP", "STANDBYIDLE"))
    yield logon_finding(_auto_logon())
    yield update_finding(Path(os.environ.get("APPDATA", "")) / "MetaQuotes" / "WebInstall")


def sleep_finding(said: str | None) -> Finding:
    """`said` is what `powercfg /query SCHEME_CURRENT SUB_SLEEP STANDBYIDLE` printed: its last two
    hexadecimal numbers are the seconds until sleep on mains and on battery, in any language."""
    values = [int(text, 16) for text in _HEX.findall(said or "")]
    if len(values) < 2:
        return warn("sleep", "powercfg does not tell", "check that this machine never sleeps")
    mains_s = values[-2]
    if mains_s == 0:
        return ok("sleep", "never on mains")
    return warn("sleep", f"after {mains_s // 60} min", "powercfg /change standby-timeout-ac 0")


def logon_finding(value: str | None) -> Finding:
    """`value` is Winlogon's AutoAdminLogon. A terminal needs a desktop session."""
    if value == "1":
        return ok("auto-logon", "on")
    return warn(
        "auto-logon",
        "off: after a restart of Windows nothing runs until somebody logs on",
        "set it up with Sysinternals Autologon, then `bridgectl autostart install`",
    )


def update_finding(folder: Path) -> Finding:
    """LiveUpdate cannot be turned off; what it loaded waits in WebInstall (MetaTrader help,
    Live Update) and is installed with the terminal's next start."""
    waiting = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    if waiting:
        return warn(
            "LiveUpdate",
            f"{len(waiting)} files wait in {folder}",
            "restart the terminal at a quiet hour, then pip install -U MetaTrader5",
        )
    return ok("LiveUpdate", "nothing waits (it may restart the terminal; the bridge reconnects)")


def _auto_logon() -> str | None:
    if sys.platform != "win32":
        return None
    import winreg

    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, WINLOGON) as key:
            return str(winreg.QueryValueEx(key, "AutoAdminLogon")[0])
    except OSError:
        return None
