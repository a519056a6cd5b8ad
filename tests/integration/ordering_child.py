"""A producer with its sender in a process of its own, which dies at a given step, for tests.

python -m tests.integration.ordering_child FOLDER REDIS_URL STEP [forgetful]
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from events.redis import open_log
from producers.ordering.carrying.carrier import Carrying
from producers.ordering.journal import OrderJournal
from producers.terminals.client import HostClient
from tests.integration.ordering import sending

STEPS = ("taken", "written", "submitted", "answered", "settled", "spooled")
"""Where it dies: before an intent is written down, after that, after it was handed over, when the
answer came, when that was written down, when it was in the spool."""


def die(*_args: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def _at(owner: type, method: str, *, before: bool, only: Callable[..., bool] = bool) -> None:
    """Die before or after the first call of a method that `only` means."""
    real = getattr(owner, method)

    def dying(*args: Any, **kwargs: Any) -> Any:
        meant = only is bool or only(*args, **kwargs)
        if meant and before:
            die()
        result = real(*args, **kwargs)
        if meant:
            die()
        return result

    setattr(owner, method, dying)


def forget(self: OrderJournal, *_args: Any, **_named: Any) -> None:
    """In the place of OrderJournal.send: nothing is written down before an order leaves."""


def prepare(step: str, *, forgetful: bool = False) -> None:
    """Let this process die at a step. `forgetful`: without the safeguard."""
    if forgetful:
        OrderJournal.send = forget  # type: ignore[method-assign]  # that is the point
    if step == "taken":
        _at(OrderJournal, "send", before=True)
    elif step == "written":
        _at(OrderJournal, "send", before=False)
    elif step == "submitted":
        _at(HostClient, "submit_call", before=False,
            only=lambda _self, method, *_args, **_more: method == "order_send")  # fmt: skip
    elif step == "answered":
        _at(Carrying, "answered", before=True)
    elif step == "settled":
        _at(OrderJournal, "settle", before=False)
    elif step == "spooled":
        _at(OrderJournal, "heard", before=True)


def main(folder: str, redis_url: str, step: str, forgetful: str = "") -> None:
    """Run until killed."""
    prepare(step, forgetful=bool(forgetful))
    log = open_log(redis_url)
    with sending(Path(folder), log, open_log=lambda: open_log(redis_url), mode="paper"):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            time.sleep(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
