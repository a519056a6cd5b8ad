"""From the names people use to the broker's: EURUSD may be EURUSD.m, EURUSDm or EURUSD.raw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from producers.terminals.client.life import AttachLine
from producers.terminals.interface import AttachRefused
from producers.terminals.structs import StructSequence

NOT_FOUND = -4
TRADE_MODE_FULL = 4
PAIR_CHARS = 6
CANDIDATES_SHOWN_MAX = 10


class SymbolsRefused(AttachRefused):
    """Symbols that the broker does not have, or that could mean several of its own."""


def resolve(line: AttachLine, wanted: Sequence[str], aliases: Mapping[str, str]) -> dict[str, str]:
    """The broker's name of each wanted symbol. Raises SymbolsRefused naming every problem."""
    resolved: dict[str, str] = {}
    problems: list[str] = []
    everything: tuple[StructSequence, ...] | None = None
    for name in wanted:
        asked = aliases.get(name, name)
        if _exists(line, asked):
            resolved[name] = asked
            continue
        if name in aliases:
            problems.append(f"{name}: the broker has no {asked}, correct the alias")
            continue
        if everything is None:
            everything = _all_symbols(line)
        found = candidates(name, everything)
        if len(found) == 1:
            resolved[name] = found[0]
        else:
            problems.append(_problem(name, found))
    if problems:
        raise SymbolsRefused("; ".join(problems))
    return resolved


def candidates(wanted: str, symbols: Iterable[StructSequence]) -> list[str]:
    """The broker's names that could be meant, fully tradable ones alone if there are any.

    An exact name is the only candidate. Else names that add a suffix (letters or signs, not
    digits: US30 is not US300) or leading signs; else those with the same two currencies.
    """
    known = list(symbols)
    if any(symbol.name == wanted for symbol in known):
        return [wanted]
    found = [symbol for symbol in known if _extends(symbol.name, wanted)]
    if not found and len(wanted) == PAIR_CHARS:
        pair = (wanted[:3].upper(), wanted[3:].upper())
        found = [s for s in known if (s.currency_base, s.currency_profit) == pair]
    tradable = [symbol for symbol in found if symbol.trade_mode == TRADE_MODE_FULL]
    return sorted(symbol.name for symbol in tradable or found)


def select(line: AttachLine, resolved: Mapping[str, str]) -> None:
    """Put the symbols into Market Watch. Raises SymbolsRefused."""
    problems = []
    for name, broker_name in resolved.items():
        reply = line.call("symbol_select", broker_name, True)
        if reply.value is not True:
            code, text = reply.error
            problems.append(f"{name} ({broker_name}) cannot be selected ({code}, {text})")
    if problems:
        raise SymbolsRefused("; ".join(problems))


def _exists(line: AttachLine, name: str) -> bool:
    reply = line.call("symbol_info", name)
    if reply.value is None and reply.error[0] != NOT_FOUND:
        code, text = reply.error
        raise AttachRefused(f"symbol_info({name}) is unknown for now ({code}, {text})")
    return reply.value is not None


def _all_symbols(line: AttachLine) -> tuple[StructSequence, ...]:
    reply = line.call("symbols_get")
    if reply.value is None:
        code, text = reply.error
        raise AttachRefused(f"symbols_get is unknown for now ({code}, {text})")
    symbols: tuple[StructSequence, ...] = reply.value
    return symbols


def _extends(name: str, wanted: str) -> bool:
    bare = name.lstrip("#.!_-").upper()
    if not bare.startswith(wanted.upper()):
        return False
    rest = bare[len(wanted) :]
    return not rest[:1].isdigit()


def _problem(name: str, found: Sequence[str]) -> str:
    if not found:
        return f"{name}: the broker has no such symbol; correct it or set an alias"
    shown = ", ".join(found[:CANDIDATES_SHOWN_MAX])
    more = len(found) - CANDIDATES_SHOWN_MAX
    return f"{name} could be {shown}{f' and {more} more' if more > 0 else ''}: set an alias"
