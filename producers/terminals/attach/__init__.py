"""Attaching to a terminal: the right program, the right account, the right symbols."""

from producers.terminals.attach.account import (
    Attached,
    AttachFailed,
    Attachment,
    LoginRefused,
    WrongAccount,
    check_account,
)
from producers.terminals.attach.symbols import SymbolsRefused, candidates

__all__ = [
    "AttachFailed",
    "Attached",
    "Attachment",
    "LoginRefused",
    "SymbolsRefused",
    "WrongAccount",
    "candidates",
    "check_account",
]
