"""Start the bridge when its user logs on: Task Scheduler on Windows, a systemd user unit on Linux.

A terminal needs the desktop session of its user, so the bridge starts at logon, not at boot.
"""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

TASK_NAME = "MT5 Bridge"
UNIT_NAME = "mt5-bridge.service"
TOOL_WAIT_S = 30.0


class AutostartError(RuntimeError):
    """Starting at logon cannot be set up. The message names cause and cure."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be written and run."""

    path: Path | None
    """File that stays; None where the system keeps the text itself."""
    text: str
    commands: tuple[tuple[str, ...], ...]
    """`{file}` stands for a file with the text."""
    remove_commands: tuple[tuple[str, ...], ...]
    hint: str = ""
    cure: str = ""
    """What to do where the commands fail."""


def plan(platform: str, *, folder: Path, arguments: Sequence[str] = ()) -> Plan:
    """How this kind of system starts `bridgectl up` in `folder` at logon.

    Raises AutostartError where nothing is known about the system.
    """
    command = (sys.executable, "-m", "bridgectl", "up", "--plain", *arguments)
    if platform == "win32":
        return _task(command, folder)
    if platform.startswith("linux"):
        return _unit(command, folder)
    raise AutostartError(
        f"no way to start at logon is known for {platform}: let your system run "
        f"{' '.join(command)} in {folder}"
    )


def install(wanted: Plan) -> None:
    """Write and run what the plan says. Raises AutostartError."""
    if wanted.path is not None:
        wanted.path.parent.mkdir(parents=True, exist_ok=True)
        before = wanted.path.read_bytes() if wanted.path.exists() else None
        wanted.path.write_text(wanted.text, encoding="utf-8")
        try:
            _run_all(wanted.commands)
        except AutostartError as error:  # nothing stays that looks installed and is not
            if before is None:
                wanted.path.unlink()
            else:
                wanted.path.write_bytes(before)
            raise AutostartError(f"{error}: {wanted.cure}") from error
        return
    with tempfile.TemporaryDirectory(prefix="bridge-") as folder:
        file = Path(folder) / "task.xml"
        file.write_text(wanted.text, encoding="utf-16")
        _run_all([tuple(word.format(file=file) for word in line) for line in wanted.commands])


def remove(wanted: Plan) -> None:
    """Undo `install`. Raises AutostartError."""
    if wanted.path is not None and not wanted.path.exists():
        raise AutostartError(f"nothing to remove: there is no {wanted.path}")
    _run_all(wanted.remove_commands)
    if wanted.path is not None:
        wanted.path.unlink()


def _unit(command: Sequence[str], folder: Path) -> Plan:
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    text = f"""\
[Unit]
Description=MT5 Bridge
After=network-online.target

[Service]
Type=simple
WorkingDirectory={str(folder).replace("%", "%%")}
ExecStart={" ".join(_systemd(word) for word in command)}
Restart=always
RestartSec=10
KillSignal=SIGTERM
KillMode=mixed
TimeoutStopSec=120

[Install]
WantedBy=default.target
"""
    systemctl = ("systemctl", "--user")
    return Plan(
        path=home / "systemd" / "user" / UNIT_NAME,
        text=text,
        commands=((*systemctl, "daemon-reload"), (*systemctl, "enable", "--now", UNIT_NAME)),
        remove_commands=((*systemctl, "disable", "--now", UNIT_NAME),),
        hint="to go on after you log off: loginctl enable-linger",
        cure=f"this needs systemd and a session of your user; without them let your system run "
        f"{' '.join(command)} in {folder}",
    )


def _task(command: Sequence[str], folder: Path) -> Plan:
    program, *words = command
    quoted = subprocess.list2cmdline(words)
    user = escape(f"{os.environ.get('USERDOMAIN', '.')}\\{getpass.getuser()}")
    text = f"""\
<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo><Description>MT5 Bridge</Description></RegistrationInfo>
  <Triggers>
    <LogonTrigger><Enabled>true</Enabled><UserId>{user}</UserId></LogonTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author">
      <UserId>{user}</UserId>
      <LogonType>InteractiveToken</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <StartWhenAvailable>true</StartWhenAvailable>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <RestartOnFailure><Interval>PT1M</Interval><Count>999</Count></RestartOnFailure>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>{escape(program)}</Command>
      <Arguments>{escape(quoted)}</Arguments>
      <WorkingDirectory>{escape(str(folder))}</WorkingDirectory>
    </Exec>
  </Actions>
</Task>
"""
    return Plan(
        path=None,
        text=text,
        commands=(("schtasks", "/Create", "/TN", TASK_NAME, "/XML", "{file}", "/F"),),
        remove_commands=(("schtasks", "/Delete", "/TN", TASK_NAME, "/F"),),
        hint="the task runs in your logged-on session; `bridgectl doctor` looks at auto-logon",
    )


def _systemd(word: str) -> str:
    """A word of a unit file: quoted where it must be, % and $ kept from being read."""
    safe = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{safe}"' if any(sign in word for sign in " \t\"'\\;") else safe


def _run_all(commands: Sequence[tuple[str, ...]]) -> None:
    for command in commands:
        try:
            done = subprocess.run(  # noqa: S603 - fixed commands of the operating system
                command,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TOOL_WAIT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise AutostartError(f"{' '.join(command)} cannot be run: {error}") from error
        if done.returncode != 0:
            said = " ".join((done.stderr or done.stdout).split()) or f"exit {done.returncode}"
            raise AutostartError(f"{' '.join(command)} failed: {said}")
