"""The jobs that time causes, on APScheduler; they only hand the bridge's loop a word."""

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Self

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from mqtt_presence.bridge import Due

CHECK_EVERY_S = 1.0
RETAIN_EVERY_S = 86_400.0

# It would warn of every run that a suspended or busy machine has missed: coalesced, they are one.
logging.getLogger("apscheduler").setLevel(logging.ERROR)


class Clock:
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

    def start(self) -> None:
        """Begin."""
        for due, every_s in self._every_s.items():
            self._request(due)
            self._scheduler.add_job(self._request, "interval", seconds=every_s, args=(due,))
        self._scheduler.start()

    def stop(self) -> None:
        """End, and wait for a word that is just being said."""
        self._scheduler.shutdown()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
