"""Keeping the addresses of targets, which hold passwords and tokens, out of what is told."""

from __future__ import annotations

from events.settings.alerting import secret_pieces

MASK = "***"


def masked(text: str, url: str) -> str:
    """`text` without the address, its password and its tokens."""
    for piece in sorted((url, *secret_pieces(url)), key=len, reverse=True):
        text = text.replace(piece, MASK)
    return text
