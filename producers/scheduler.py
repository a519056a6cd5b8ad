"""When pollers run: interval and cron triggers over a bounded pool of workers (APScheduler 3)."""

from __future__ import annotations

import logging
from collections.abc import Callable

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from producers.report import Report

logger = logging.getLogger(__name__)

WORKERS_DEFAULT = 10
INTERVAL_MIN_S = 0.01
ZONE = "UTC"


class Scheduler:
    """Runs named jobs. A job never overlaps itself, missed turns are not made up for, and at
    most `workers` jobs run at once. An exception in a job is reported and the job goes on."""

    def __init__(self, report: Report, *, workers: int = WORKERS_DEFAULT) -> None:
        if workers < 1:
            raise ValueError(f"{workers} workers: MAX_WORKERS must be at least 1")
        # It speaks of every turn that is skipped, which is what should happen under load.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        self._report = report
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(workers)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone=ZONE,
        )

    def every(
        self, name: str, interval_s: float, work: Callable[[], None], *, alone: bool = False
    ) -> None:
        """Run at a fixed interval, the first time after one interval.

        A job that runs `alone` has a thread of its own and waits for no worker. Raises
        ValueError for an interval below INTERVAL_MIN_S.
        """
        if interval_s < INTERVAL_MIN_S:
            raise ValueError(
                f"{name}: an interval of {interval_s} s is shorter than {INTERVAL_MIN_S} s"
            )
        trigger = IntervalTrigger(seconds=interval_s, timezone=ZONE)
        executor = name if alone else "default"
        if alone:
            self._scheduler.add_executor(ThreadPoolExecutor(1), name)
        self._scheduler.add_job(self._guarded(name, work), trigger, id=name, executor=executor)

    def cron(self, name: str, expression: str, work: Callable[[], None]) -> None:
        """Run by a crontab line of five fields, in UTC. Raises ValueError for a malformed one."""
        try:
            trigger = CronTrigger.from_crontab(expression, timezone=ZONE)
        except ValueError as error:
            raise ValueError(
                f"{name}: {expression!r} is no crontab line ({error}); "
                "allowed: minute hour day month weekday, such as '5 */4 * * *'"
            ) from error
        self._scheduler.add_job(self._guarded(name, work), trigger, id=name)

    def _guarded(self, name: str, work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except Exception as error:
                if self._report.incident(name, f"{type(error).__name__}: {error}"):
                    logger.exception("%s failed", name)
            else:
                self._report.recovered(name)

        return run

    def start(self) -> None:
        """Begin to run jobs."""
        self._scheduler.start()

    def stop(self) -> None:
        """Run no further job, and wait for those that run."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=True)
