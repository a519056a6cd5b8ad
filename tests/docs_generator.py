"""Write docs/SETTINGS.md and docs/COMMANDS.md from the code: `python -m tests.docs_generator`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from pydantic import AliasChoices

import bridgectl
from events.settings import SettingRow, Settings, setting_rows

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / ".env.example"
MADE = "<!-- Made from the code by `python -m tests.docs_generator`: change it there. -->"
VERBATIM = "\b"
_SECTION = re.compile(r"# --- (.*)")
_SETTING = re.compile(r"#?([A-Z][A-Z0-9_]*)=(.*)")

SETTINGS_INTRO = """\
# Settings

Every setting has a default; with none set, `bridgectl up` runs the simulated terminal on embedded
servers. Three places may set one; the first that does wins:

1. an option of the command, such as `--state-dir`;
2. the environment;
3. the file `.env` in the working folder (`bridgectl --env-file FILE ...` names another one). Copy
   [`.env.example`](../.env.example) to begin.

Unknown names and values that are not allowed stop the start, with one line for each: its name,
what was given (never a secret) and what is allowed. Several terminals are described in
`terminals.toml`: see [TERMINALS.md](TERMINALS.md#several-terminals).
"""

COMMANDS_INTRO = """\
# Commands

`bridgectl COMMAND --help` shows the same. Results go to stdout, everything else to stderr; with
`--json` the last line of stdout is one JSON object. An error is one line with its cause and its
cure; `bridgectl -v COMMAND` adds the traceback.

| exit code | means |
|---|---|
| 0 | done |
| 1 | failed |
| 2 | wrong usage or wrong settings: trying again changes nothing |
| 3 | ticks are missing, doubled or altered; a group derives something else |
| 130 | interrupted |
"""


@dataclass(frozen=True, slots=True)
class Command:
    """One command with the words that call it."""

    words: tuple[str, ...]
    command: click.Command

    @property
    def name(self) -> str:
        return " ".join(("bridgectl", *self.words))

    def paragraphs(self) -> list[tuple[bool, str]]:
        """(verbatim?, text) of its help."""
        parts = re.split(r"\n[ \t]*\n", inspect.cleandoc(self.command.help or ""))
        found = []
        for part in parts:
            verbatim = part.startswith(VERBATIM)
            text = part.removeprefix(VERBATIM).strip("\n")
            found.append((verbatim, inspect.cleandoc(text) if verbatim else " ".join(text.split())))
        return [(verbatim, text) for verbatim, text in found if text]

    def examples(self) -> list[str]:
        """Lines of its help that show how to call it."""
        lines = [
            line.strip() for verbatim, text in self.paragraphs() if verbatim
            for line in text.splitlines()
        ]  # fmt: skip
        return [line for line in lines if line.startswith(self.name)]


def commands() -> Iterator[Command]:
    """Every command that does something, in the order of the help page."""
    yield from _commands(bridgectl.cli, ())


def _commands(group: click.Group, words: tuple[str, ...]) -> Iterator[Command]:
    context = click.Context(group, info_name=" ".join(("bridgectl", *words)))
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, f"{name} is listed and cannot be loaded"
        if isinstance(command, click.Group):
            yield from _commands(command, (*words, name))
        elif not command.hidden:
            yield Command((*words, name), command)


def commands_page() -> str:
    parts = [MADE, "", COMMANDS_INTRO]
    found = list(commands())
    for one in found:
        parts.append(f"- [`{one.name}`](#{one.name.replace(' ', '-')})")
    parts += ["", "## bridgectl", "", "Options before the command:", ""]
    parts += [*_options(bridgectl.cli), ""]
    for one in found:
        parts += [f"## {one.name}", "", *_help(one), *_options(one.command), ""]
    return "\n".join(parts).rstrip() + "\n"


def _help(one: Command) -> Iterator[str]:
    usage = [one.name, "[OPTIONS]"]
    usage += [_argument(p) for p in one.command.params if isinstance(p, click.Argument)]
    yield from ("```text", " ".join(usage), "```", "")
    for verbatim, text in one.paragraphs():
        yield from ("```text", text, "```", "") if verbatim else (text, "")


def _argument(argument: click.Argument) -> str:
    if argument.metavar:
        return argument.metavar
    assert argument.name is not None
    name = argument.name.upper() if argument.required else f"[{argument.name.upper()}]"
    return f"{name}..." if argument.nargs == -1 else name


def _options(command: click.Command) -> Iterator[str]:
    shown = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    if not shown:
        return
    yield "| option | means | default |"
    yield "|---|---|---|"
    for option in shown:
        names = ", ".join((*option.opts, *option.secondary_opts))
        value = "" if option.is_flag or option.count else f" {_metavar(option)}"
        default = f"`{option.default}`" if option.show_default and not option.is_flag else ""
        yield _row(f"`{names}{value}`", option.help or "", default)


def _metavar(option: click.Option) -> str:
    kind: Any = option.type
    if option.metavar:
        return option.metavar
    if isinstance(kind, click.Choice):
        return "|".join(map(str, kind.choices))
    if isinstance(kind, click.IntRange | click.FloatRange):
        return f"{kind.min}..{kind.max}"
    return str(kind.name).upper()


def settings_page() -> str:
    rows = {row.name: row for row in setting_rows()}
    parts = [MADE, "", SETTINGS_INTRO]
    for title, names in sections().items():
        head, _, rest = title.partition(". ")
        parts += [f"## {head.rstrip('.')}", ""]
        parts += [_sentence(rest), ""] if rest else []
        parts += ["| name | what it is | default | allowed |", "|---|---|---|---|"]
        parts += [_setting(rows[name]) for name in names]
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def _sentence(text: str) -> str:
    return text.replace("terminals.toml (see docs)", "`terminals.toml`")


def _setting(row: SettingRow) -> str:
    what = row.description
    if former := other_names().get(row.name):
        what += f" Also read as {', '.join(f'`{name}`' for name in former)}."
    if row.secret:
        what += " Secret: never shown."
    return _row(f"`{row.name}`", what, f"`{row.default}`" if row.default else "", row.allowed)


def other_names() -> dict[str, tuple[str, ...]]:
    """Names of the older design that are read too, by the name documented first."""
    found = {}
    for field in Settings.model_fields.values():
        if isinstance(field.validation_alias, AliasChoices):
            first, *others = (str(choice) for choice in field.validation_alias.choices)
            found[first.upper()] = tuple(others)
    return found


def sections() -> dict[str, list[str]]:
    """Settings by section, as `.env.example` has them."""
    found: dict[str, list[str]] = {}
    title = ""
    for line in EXAMPLE.read_text(encoding="utf-8").splitlines():
        if section := _SECTION.match(line):
            title = section.group(1)
        elif setting := _SETTING.fullmatch(line):
            found.setdefault(title, []).append(setting.group(1))
    return found


def _row(*cells: str) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


PAGES = {"docs/SETTINGS.md": settings_page, "docs/COMMANDS.md": commands_page}


def main() -> None:
    for name, page in PAGES.items():
        (ROOT / name).write_text(page(), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
