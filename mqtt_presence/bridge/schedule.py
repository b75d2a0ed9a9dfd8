"""The schedule: jobs at fixed intervals, on APScheduler; a run only requests its job from the loop."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from mqtt_presence.bridge.part import Due, Part
from mqtt_presence.store import Transaction

CHECK_EVERY_S = 1.0
RETAIN_EVERY_S = 86_400.0

# A suspended or busy machine misses runs, and APScheduler would warn of each. Coalesced, they are one run.
logging.getLogger("apscheduler").setLevel(logging.ERROR)


class _Every(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """Schedules the next run from now, so that the size of a clock step does not matter.

    APScheduler's interval trigger goes from run to run, and a coalesced job computes every run that was
    missed: after a step of five years, 158 million of them for a job of each second.

    Args:
        seconds: from now to the next run.

    """

    def __init__(self, seconds: float) -> None:
        self._interval = timedelta(seconds=seconds)

    def get_next_fire_time(self, _previous: datetime | None, now: datetime) -> datetime:
        """Return the time of the run after `now`."""
        return now + self._interval


class Schedule(Part):
    """Requests jobs at fixed intervals.

    APScheduler uses the wall clock: after a step back it would wait until the old time has come again. As a
    part of the bridge (`Bridge.add`) the schedule learns of such a step and runs its jobs at once.

    Args:
        request: called with each job, in another thread.
        check_every_s: seconds between checks of deadlines.
        retain_every_s: seconds between deletions of old records; the first one is at once.

    """

    def __init__(
        self,
        request: Callable[[Due], None],
        *,
        check_every_s: float = CHECK_EVERY_S,
        retain_every_s: float = RETAIN_EVERY_S,
    ) -> None:
        self._request = request
        self._every_s = {Due.CHECK: check_every_s, Due.RETENTION: retain_every_s}
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(1)},
            # A late run is as good as one in time, one as good as several: checks compare stored times.
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone="UTC",
        )

    def start(self) -> None:
        """Request each job, and begin the intervals."""
        for due, every_s in self._every_s.items():
            self._request(due)
            self._scheduler.add_job(self._request, _Every(every_s), args=(due,))
        self._scheduler.start()

    def stop(self) -> None:
        """Stop, and wait for a request that is being made."""
        self._scheduler.shutdown()

    def restore(self, tx: Transaction) -> None:
        """Run each job at once: the clock may have been set since `start`, before the loop watched it."""
        del tx
        self._run_now()

    def clock_stepped(self, by_ms: int, now: int) -> None:
        """Run each job at once after a step back."""
        del now
        if by_ms < 0:
            self._run_now()

    def _run_now(self) -> None:
        if self._scheduler.running:
            for job in self._scheduler.get_jobs():
                job.modify(next_run_time=datetime.now(UTC))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
