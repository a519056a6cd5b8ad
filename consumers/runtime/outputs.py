"""What a handler may give back for one entry, and how much of it."""

from __future__ import annotations

import signal
import threading

from consumers.runtime.handler import Handler
from events.candles import CandleBatch
from events.codec import EVENT_TYPES, AnyEvent, encode
from events.event import Event
from events.log import ENTRY_BYTES_MAX, Entry, NewEntry, OversizedEntry
from events.marks import Marks
from events.ticks import TickBatch

OUTPUTS_PER_ENTRY_MAX = 1_000
"""More from one entry is a failure of the handler; a generator without end is one, too."""
OUTPUT_BYTES_PER_ENTRY_MAX = 2 * ENTRY_BYTES_MAX
HANDLER_ERRORS = (Exception, SystemExit, KeyboardInterrupt)
"""What a handler may raise and its process lives on; look at `is_of_a_person` first."""
_PACKED = (TickBatch, CandleBatch, Marks)


class TooMuchDerived(ValueError):
    """One entry led to more events than a commit takes. Names the limit."""


def outputs_of(handler: Handler, event: AnyEvent, cause: Entry) -> list[NewEntry]:
    """What follows from an event, ready for the log.

    Raises whatever the handler raises, and TypeError, TooMuchDerived or OversizedEntry for what
    no commit can take.
    """
    handler.entry = cause
    derived = handler.handle(event)
    if derived is None:
        raise TypeError("handle() gave None: yield events, or return ()")
    found: list[NewEntry] = []
    place, size = "", 0
    for each in derived:
        if len(found) == OUTPUTS_PER_ENTRY_MAX:
            raise TooMuchDerived(f"more than {OUTPUTS_PER_ENTRY_MAX} events from one entry")
        check_derivable(each)
        place = place or cause.place
        entry = encode(each, cause=place)
        size += checked_size(entry)
        if size > OUTPUT_BYTES_PER_ENTRY_MAX:
            raise TooMuchDerived(
                f"more than {OUTPUT_BYTES_PER_ENTRY_MAX} bytes of events from one entry"
            )
        found.append(entry)
    return found


def checked_size(entry: NewEntry) -> int:
    """Bytes of an output. Raises OversizedEntry, and UnicodeEncodeError for a key that is no
    text."""
    if len(entry.data) > ENTRY_BYTES_MAX:
        raise OversizedEntry(f"{entry.type}: {len(entry.data)} bytes, at most {ENTRY_BYTES_MAX}")
    return len(entry.data) + len(entry.key.encode())


def check_derivable(event: object) -> None:
    """Raises TypeError for what no reader of the log would understand."""
    if isinstance(event, Event):
        if EVENT_TYPES.get(event.TYPE) is not type(event):
            raise TypeError(
                f"{type(event).__name__} is no event of the log: its TYPE is not in EVENT_TYPES"
            )
    elif not isinstance(event, _PACKED):
        raise TypeError(f"handle() gave {type(event).__name__}, which is no event")


def is_of_a_person(error: BaseException) -> bool:
    """Whether it is an interrupt from the keyboard; everything else is the handler's doing."""
    return (
        isinstance(error, KeyboardInterrupt)
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
