"""Settings: what a user may say about terminals, servers and limits, checked at the door.

`load()` reads the environment, `.env` and `terminals.toml`; anything unknown or malformed stops
the start with one line per problem.
"""

from events.settings.choice import TerminalChoice, chosen_terminals, terminal_options
from events.settings.loading import SettingRow, load, setting_rows
from events.settings.model import Settings
from events.settings.problems import BadSettings
from events.settings.terminals import TerminalKind, TerminalSettings

__all__ = [
    "BadSettings",
    "SettingRow",
    "Settings",
    "TerminalChoice",
    "TerminalKind",
    "TerminalSettings",
    "chosen_terminals",
    "load",
    "setting_rows",
    "terminal_options",
]
