"""A terminal attached for `probe`, with its most suitable symbol selected."""

from __future__ import annotations

from collections.abc import Iterator

from events.settings import BadSettings, TerminalKind, TerminalSettings
from producers.setup.inspection import UP_WAIT_S, Inspected
from producers.setup.questions import Answer, Asking, answers
from producers.terminals.attach import Attachment
from producers.terminals.client import HostClient, open_client
from producers.terminals.configured import terminal_spec

SHARED_KINDS = (TerminalKind.NATIVE, TerminalKind.CLASSIC)
"""Kinds where a second client reaches the same terminal."""


def probed(terminal: TerminalSettings, seen: Inspected) -> Iterator[Answer]:
    """Every answer as it comes. Raises BadSettings without a symbol to ask about, NotSent."""
    if not seen.symbols:
        raise BadSettings(["the broker has none of the symbols: name one with --symbols"])
    first = seen.symbols[0]
    spec = terminal_spec(terminal, observe=True)
    attach = Attachment(spec, symbols=[first], aliases={**terminal.aliases, **seen.aliases})

    def second() -> HostClient:
        other = open_client(spec, attach=attach)
        try:
            other.wait_until_up(UP_WAIT_S)
        except BaseException:
            other.close()
            raise
        return other

    with open_client(spec, attach=attach) as client:
        client.wait_until_up(UP_WAIT_S)
        shared = terminal.kind in SHARED_KINDS
        broker_name = seen.aliases.get(first, first)
        yield from answers(Asking(client, broker_name, second=second if shared else None))
