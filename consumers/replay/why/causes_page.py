"""The chain of causes as a tree for people: what, when, and how long after its cause."""

from __future__ import annotations

from rich.text import Text
from rich.tree import Tree

from consumers.replay.why.causes import Link, Why
from events.views import lines
from events.views.moments import utc_text
from events.views.tables import BAD, DIM


def tree(found: Why) -> Tree:
    """Origin first; the entry that was asked for is bold, what followed hangs on it."""
    origin, *others = found.chain
    root = at = Tree(_label(origin, None, asked=not others))
    before = origin
    for link in others:
        at = at.add(_label(link, before, asked=link is found.chain[-1]))
        before = link
    _hang(at, found.chain[-1])
    if found.cut:
        at.add(Text(found.cut, style=DIM))
    return root


def _hang(node: Tree, link: Link) -> None:
    for effect in link.effects:
        _hang(node.add(_label(effect, link, asked=False)), effect)


def _label(link: Link, cause: Link | None, *, asked: bool) -> Text:
    if link.entry is None:
        return Text.assemble((link.place, BAD), f"  {link.lost}")
    entry = link.entry
    head = Text.assemble(
        (f"{entry.type} {entry.key}".rstrip(), "bold" if asked else ""),
        (f"  {link.place}", DIM),
        ("  (from the database)" if link.archived else "", DIM),
    )
    return Text("\n").join([head, Text(lines.summary(entry)), Text(_times(link, cause), DIM)])


def _times(link: Link, cause: Link | None) -> str:
    """When it happened, was received and appended, with what lies between."""
    parts = []
    event_ms, recv_ms, appended_ms = link.event_time_ms, link.recv_time_ms, link.appended_ms
    if event_ms is not None:
        parts.append(f"happened {utc_text(event_ms)}")
    if recv_ms is not None:
        parts.append(f"received {_later(event_ms, recv_ms)}")
    if appended_ms is not None:
        parts.append(
            f"appended {_later(recv_ms if recv_ms is not None else event_ms, appended_ms)}"
        )
    if cause is not None and cause.event_time_ms is not None and event_ms is not None:
        parts.append(f"{event_ms - cause.event_time_ms:+d} ms after its cause")
    return ", ".join(parts)


def _later(before_ms: int | None, then_ms: int) -> str:
    return utc_text(then_ms) if before_ms is None else f"{then_ms - before_ms:+d} ms"
