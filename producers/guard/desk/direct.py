"""`--direct`: attach to the terminal ourselves and be its guard for as long as it takes.

For when producer, Redis and guard are dead. The terminal's lock keeps two guards apart; it is
passed over only when its holder does not answer on its socket.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager

from events.decisions import Command
from events.latch import Latch
from events.log import LogError
from events.settings import Settings, TerminalSettings
from producers.guard.assembly import GUARDED, keeper_of, log_opener
from producers.guard.desk.sending import NobodyHeard, Outcome, Tell, awaited, watch_flatten
from producers.guard.journal import Journal
from producers.guard.keeper import GuardHeld, GuardKeeper
from producers.guard.options import guard_folder
from producers.guard.ways.asking import GuardLine, NoGuard
from producers.guard.ways.far import FarGuard
from producers.terminals.attach import Attachment
from producers.terminals.client import HostClient, HostLimits, open_client
from producers.terminals.configured import terminal_spec
from producers.terminals.interface import TerminalLost
from producers.terminals.spec import TerminalSpec

logger = logging.getLogger(__name__)

HOLDER_ANSWER_S = 3.0
"""A guard that does not answer for so long is passed over."""
FAR_FILE = "direct.journal"
ACCOUNT_S = 60.0
"""How long the terminal may take to tell its account."""


def send_directly(
    settings: Settings, terminal: TerminalSettings, command: Command, *, wait_s: float, tell: Tell
) -> Outcome:
    """Carry a command out ourselves. Raises NobodyHeard, BadSettings, TerminalLost."""
    spec = terminal_spec(terminal, state_dir=settings.state_dir)
    if spec.kind not in GUARDED:
        raise NobodyHeard(f"nothing can be traded on a {spec.kind} terminal: nothing to stop")
    limits = HostLimits(call_s=settings.worker_timeout)
    if spec.kind == "remote":
        outcome = _send_to_far(settings, terminal, limits, command, wait_s=wait_s, tell=tell)
        if outcome is not None:
            return outcome
    with (
        _attached(spec, limits) as client,
        _keeping(settings, terminal, spec, client, tell=tell) as keeper,
    ):
        tell(f"attached to {terminal.name} directly")
        if not keeper.known.wait(ACCOUNT_S) or keeper.guard is None:
            raise NobodyHeard(
                f"the terminal {terminal.name} did not tell its account within {ACCOUNT_S:g} s: "
                f"{client.state().last_error or 'look at it'}; phone the broker's desk"
            )
        guard = keeper.guard
        if command.verb == "resume":
            guard.latches = _LogAtOnce(settings, terminal)
        row = keeper.newest_row()
        answer = keeper.tell(command)
        tell(answer.text)
        ended = None
        if command.verb == "flatten" and answer.accepted:
            ended = watch_flatten(
                keeper.hear, row, wait_s=wait_s, tell=tell, of=awaited(command, answer)
            )
        _copy_latch(settings, terminal, keeper, tell)
        return Outcome(
            command, terminal.name, "direct", answer.accepted, answer.text, guard.state(), ended
        )


def _send_to_far(
    settings: Settings,
    terminal: TerminalSettings,
    limits: HostLimits,
    command: Command,
    *,
    wait_s: float,
    tell: Tell,
) -> Outcome | None:
    """Tell the guard beside a served terminal, past whoever controls that terminal; None when
    there is none. Raises NobodyHeard."""
    spec = terminal_spec(terminal, observe=True)
    folder = guard_folder(settings.state_dir, terminal.name)
    with open_client(spec, limits=limits) as client, closing(Journal(folder / FAR_FILE)) as journal:
        try:
            client.wait_until_up(ACCOUNT_S)
            if not client.state().facts.get("guard"):
                return None
            far = FarGuard(client, journal)
            tell("by the link, to the guard beside the terminal")
            row = far.newest_row()
            answer = far.tell(command)
            tell(answer.text)
            ended = None
            if command.verb == "flatten" and answer.accepted:
                ended = watch_flatten(
                    far.hear, row, wait_s=wait_s, tell=tell, of=awaited(command, answer)
                )
            return Outcome(
                command, terminal.name, "direct", answer.accepted, answer.text, far.state(), ended
            )
        except (TerminalLost, LogError) as error:
            raise NobodyHeard(f"{error}; phone the broker's desk") from error


@contextmanager
def _attached(spec: TerminalSpec, limits: HostLimits) -> Iterator[HostClient]:
    """Raises NobodyHeard when the terminal may not be used, or does not answer."""
    with open_client(spec, limits=limits, attach=Attachment(spec)) as client:
        try:
            client.wait_until_up(ACCOUNT_S)
        except TerminalLost as error:
            raise NobodyHeard(f"{error}; phone the broker's desk") from error
        yield client


@contextmanager
def _keeping(
    settings: Settings,
    terminal: TerminalSettings,
    spec: TerminalSpec,
    client: HostClient,
    *,
    tell: Tell,
) -> Iterator[GuardKeeper]:
    """Our own guard, unless a living one answers. Raises NobodyHeard."""
    try:
        keeper = keeper_of(settings, terminal, spec, client, follows_log=False)
    except GuardHeld as held:
        if _answers(settings, terminal):
            raise NobodyHeard(f"{held}; it answers: leave --direct out") from held
        tell(f"{held}, but it does not answer: going past it")
        keeper = keeper_of(settings, terminal, spec, client, follows_log=False, locked=False)
    try:
        keeper.start()
        yield keeper
    finally:
        keeper.close()


def _answers(settings: Settings, terminal: TerminalSettings) -> bool:
    folder = guard_folder(settings.state_dir, terminal.name)
    try:
        with GuardLine(folder, answer_s=HOLDER_ANSWER_S) as line:
            line.state()
    except NoGuard:
        return False
    return True


def _copy_latch(
    settings: Settings, terminal: TerminalSettings, keeper: GuardKeeper, tell: Tell
) -> None:
    """The second copy, where the log answers; else the next guard writes it."""
    if keeper.guard is None or keeper.guard.latching.current is None:
        return
    try:
        log = log_opener(settings)()
        try:
            keeper.guard.latching.sync(log.latches(terminal.namespace))
        finally:
            log.close()
    except LogError as error:
        tell(f"the latch is in the guard's file; the log's copy is missing: {error}")


class _LogAtOnce:
    """The log's copy of the latch by a connection for each step. A LatchStore."""

    def __init__(self, settings: Settings, terminal: TerminalSettings) -> None:
        self._open, self._namespace = log_opener(settings), terminal.namespace

    def read(self, login: int) -> Latch | None:
        """Raises LogError."""
        log = self._open()
        try:
            return log.latches(self._namespace).read(login)
        finally:
            log.close()

    def set(self, latch: Latch) -> None:
        """Raises LogError."""
        log = self._open()
        try:
            log.latches(self._namespace).set(latch)
        finally:
            log.close()

    def clear(self, login: int, latch_id: str) -> bool:
        """Raises LogError."""
        log = self._open()
        try:
            return log.latches(self._namespace).clear(login, latch_id)
        finally:
            log.close()
