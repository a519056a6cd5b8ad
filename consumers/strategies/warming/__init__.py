"""How far a strategy reads back before its first signal, so that its indicators are warm."""

from consumers.strategies.warming.looking import looks_back
from consumers.strategies.warming.need import Need, made_up_facts, need_of, rehearsed

__all__ = ["Need", "looks_back", "made_up_facts", "need_of", "rehearsed"]
