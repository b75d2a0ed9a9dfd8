"""The jobs that time causes, on APScheduler; they only hand the bridge's loop a word."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from mqtt_presence.bridge.part import Due

CHECK_EVERY_S = 1.0
RETAIN_EVERY_S = 86_400.0

log = logging.getLogger(__name__)

# It would warn of every run that a suspended or busy machine has missed: coalesced, they are one.
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


class Schedule:
    """Asks for what is due, again and again.

    Args:
        request: told what is due, from another thread.
        check_every_s: seconds between looks at what has become idle or silent.
        retain_every_s: seconds between looks at what is too old to be kept; the first is at once.

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
        self._stopping = threading.Event()
        self._guard = threading.Thread(target=self._watch_the_clock, name="clock-guard", daemon=True)

    def start(self) -> None:
        """Begin."""
        for due, every_s in self._every_s.items():
            self._request(due)
            self._scheduler.add_job(self._request, _Every(every_s), args=(due,))
        self._scheduler.start()
        self._guard.start()

    def _watch_the_clock(self) -> None:
        """Have what is due asked for now when the clock was set back.

        APScheduler goes by the wall clock: it would wait until the time it had before has come again.
        """
        every_s = min(self._every_s.values())
        behind = _behind()
        while not self._stopping.wait(every_s):
            before, behind = behind, _behind()
            if behind - before > every_s / 2:
                log.warning("the clock was set back by %.1f s", behind - before)
                for job in self._scheduler.get_jobs():
                    job.modify(next_run_time=datetime.now(UTC))

    def stop(self) -> None:
        """End, and wait for a word that is just being said."""
        self._stopping.set()
        self._guard.join()
        self._scheduler.shutdown()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _behind() -> float:
    """Tell how far the wall clock is behind the one that is never set; only differences mean something."""
    return time.monotonic() - time.time()
