"""The persist group: several workers sharing the partitions, and what people see of them."""

from __future__ import annotations

import dataclasses
import os
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from consumers.persist.worker import PersistOptions, PersistWorker, Progress
from consumers.runtime.sharing import worker_name
from events.log import Log, Slot

WORKERS_MAX = 16
JOIN_S = 60.0
"""Longest wait for a worker to finish its commit when told to stop."""


@dataclass(frozen=True, slots=True)
class GroupProgress:
    """All workers together."""

    entries: int
    ticks: int
    rows: int
    commits: int
    dead: int
    held: tuple[Slot, ...]
    halted: dict[Slot, str]
    waiting: str
    refused: str

    def as_json(self) -> dict[str, object]:
        return {
            "entries": self.entries,
            "ticks": self.ticks,
            "rows": self.rows,
            "commits": self.commits,
            "dead_entries": self.dead,
            "slots": [str(slot) for slot in self.held],
            "halted": {str(slot): why for slot, why in self.halted.items()},
            "waiting": self.waiting,
            "refused": self.refused,
        }


def all_slots(namespaces: Sequence[str] = ()) -> Callable[[Log], Sequence[Slot]]:
    """Lists what to store: every slot of every writer of these namespaces (all when none are
    given): producers, operators, and the groups that derive."""

    def slots(log: Log) -> Sequence[Slot]:
        known = log.namespaces()
        chosen = [name for name in sorted(namespaces or known) if name in known]
        return [
            Slot(name, writer, partition)
            for name in chosen
            for writer, count in log.tasks.writers(name).items()
            for partition in range(count)
        ]

    return slots


def default_holder() -> str:
    """Host and process, for people who look who stores."""
    return f"{socket.gethostname()}:{os.getpid()}"


class PersistGroup:
    """`workers` threads that share the slots with each other and with those of other processes,
    on this machine or another one. `options.holder` tells people where they run."""

    def __init__(self, options: PersistOptions, *, workers: int = 1) -> None:
        if not 1 <= workers <= WORKERS_MAX:
            raise ValueError(f"{workers} workers: allowed are 1 to {WORKERS_MAX}")
        self._stop = threading.Event()
        halted: dict[Slot, str] = {}
        self._workers = [
            PersistWorker(
                dataclasses.replace(
                    options, holder=worker_name(options.holder, options.namespaces)
                ),
                self._stop,
                halted,
            )
            for _ in range(workers)
        ]
        self._threads = [
            threading.Thread(target=worker.run, name=f"persist-{index}", daemon=True)
            for index, worker in enumerate(self._workers)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ask every worker to finish its commit and end."""
        self._stop.set()

    def join(self, timeout_s: float = JOIN_S) -> bool:
        """Wait for the workers; True when all have ended."""
        for thread in self._threads:
            thread.join(timeout_s)
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def running(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def progress(self) -> GroupProgress:
        each: list[Progress] = [worker.progress for worker in self._workers]
        return GroupProgress(
            entries=sum(one.entries for one in each),
            ticks=sum(one.ticks for one in each),
            rows=sum(one.rows for one in each),
            commits=sum(one.commits for one in each),
            dead=sum(one.dead for one in each),
            held=tuple(slot for one in each for slot in one.held),
            halted=dict(each[0].halted),  # one for all workers
            waiting=next((one.waiting for one in each if one.waiting), ""),
            refused=next((one.refused for one in each if one.refused), ""),
        )
