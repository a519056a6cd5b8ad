"""Commands that are loaded when they are used: a command costs only its own imports."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, ClassVar

import click


class LazyGroup(click.Group):
    """A group whose commands lie in their rooms.

    `lazy` says where: path of words -> (`module:attribute`, what it is in a line). `prefix` are
    the words in front of its own commands, with the blank behind them.
    """

    lazy: ClassVar[Mapping[str, tuple[str, str]]] = {}
    prefix = ""

    def __init__(self, *args: Any, prefix: str = "", **more: Any) -> None:
        super().__init__(*args, **more)
        self.prefix = prefix or self.prefix

    def list_commands(self, ctx: click.Context) -> list[str]:
        mine = [
            name.removeprefix(self.prefix) for name in self.lazy if name.startswith(self.prefix)
        ]
        return [*super().list_commands(ctx), *(name for name in mine if " " not in name)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if self.prefix + cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self.lazy[self.prefix + cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command), f"{module}:{attribute} is no command"
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command under the name it is called by here, whatever its room calls it."""
        name, command, rest = super().resolve_command(ctx, args)
        return (args[0] if command is not None else name), command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without loading one of them."""
        rows = []
        for name in self.list_commands(ctx):
            lazy = self.lazy.get(self.prefix + name)
            own = self.commands.get(name)
            rows.append((name, lazy[1] if lazy else own.get_short_help_str(80) if own else ""))
        with formatter.section("Commands"):
            formatter.write_dl(rows)
