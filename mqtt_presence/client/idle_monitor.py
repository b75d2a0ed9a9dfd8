"""The client's own idle monitor: `IdleState` with a thread, and reports in server time."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime

from mqtt_presence.client import clocks
from mqtt_presence.client.idle_state import (
    DEFAULT_INTERVAL_S,
    DEFAULT_THRESHOLD_S,
    IdleState,
    Report,
    check_settings,
)
from mqtt_presence.client.server_clock import Clock, ServerClock
from mqtt_presence.errors import PresenceError

SendReport = Callable[[bool, int], bool]
"""Sends idle or active, and the last activity in epoch milliseconds; False: there is no connection."""


class IdleMonitor:
    """Tells the bridge whether anybody is there, from the `ping` calls of the program.

    Get it as `PresenceClient.monitor`. Its methods may be called from any thread.

    Args:
        send: sends a report.
        clock: server time.
        steady: seconds that only grow.

    """

    def __init__(self, send: SendReport, clock: ServerClock, *, steady: Clock = clocks.steady) -> None:
        self._send = send
        self._clock = clock
        self._steady = steady
        self._state = IdleState()
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._unsent = False
        self._active_at = 0
        """The last activity in server time, epoch milliseconds, fixed when it happens and never going back:
        the bridge drops a report whose activity is older than one it has (contract A1), be it by the
        millisecond that a better estimate of the server time has taken off."""
        self._reported = 0

    @property
    def is_monitoring(self) -> bool:
        """It runs."""
        return self._state.is_monitoring

    @property
    def is_idle(self) -> bool:
        """It runs, and nothing was pinged for longer than the threshold."""
        return self._state.is_idle

    @property
    def last_activity(self) -> datetime | None:
        """The last activity in server time, aware and in UTC; None before the first start."""
        millis = self._active_at
        return datetime.fromtimestamp(millis / 1000, UTC) if millis else None

    def start(
        self,
        threshold: float = DEFAULT_THRESHOLD_S,
        interval: float = DEFAULT_INTERVAL_S,
        *,
        timeout: float = 5.0,
    ) -> None:
        """Begin to monitor. The start counts as activity and is reported.

        Args:
            threshold: idle when the last ping lies more than so many seconds back.
            interval: how often to look, seconds, at least 1.
            timeout: how long to wait for the server time, which the reports need, seconds; 0: not at all.

        Raises:
            ConfigError: `threshold` or `interval` is wrong.
            PresenceError: it runs, or the server time is not known in time (is the bridge there?).

        """
        check_settings(threshold, interval)
        if not self._clock.wait_synced(timeout):
            raise PresenceError(
                f"the server time is not known after {timeout:g} s: the idle monitor needs a bridge"
            )
        with self._lock:
            report = self._state.start(threshold, self._steady())
            self._mark()
            self._report(report)
            stopped = self._stopped = threading.Event()
        threading.Thread(
            target=self._watch, args=(interval, stopped), name="mqtt-presence-idle", daemon=True
        ).start()

    def stop(self) -> None:
        """End the monitoring; whoever was idle is reported active, as of now.

        Raises:
            PresenceError: it does not run.

        """
        with self._lock:
            report = self._state.stop(self._steady())
            self._stopped.set()
            if report is not None:
                self._mark()
            self._report(report)

    def ping(self) -> None:
        """Say that there is activity, now. Without effect while the monitor is stopped."""
        self.beat()

    def beat(self) -> int | None:
        """Do as `ping`, and return the moment, for a heartbeat to tell; None while the monitor is stopped."""
        with self._lock:
            if not self._state.is_monitoring:
                return None
            self._mark()
            self._report(self._state.ping(self._steady()))
            return self._active_at

    def renew(self) -> None:
        """Say again after a login what it does not tell: that the user is idle, or a report not sent."""
        with self._lock:
            if self._state.is_monitoring and (self._state.is_idle or self._unsent):
                self._unsent = not self._send(self._state.is_idle, self._reported)

    def close(self) -> None:
        """End the monitoring without a report: the connection ends as well."""
        with self._lock:
            self._stopped.set()
            if self._state.is_monitoring:
                self._state.stop(self._steady())

    def _mark(self) -> None:
        self._active_at = max(self._active_at, self._clock.now())

    def _report(self, report: Report | None) -> None:
        if report is None:
            return
        if not report.idle:
            self._active_at = max(self._active_at, self._reported + 1)
        self._reported = self._active_at
        self._unsent = not self._send(report.idle, self._reported)

    def _watch(self, interval: float, stopped: threading.Event) -> None:
        while not stopped.wait(interval):
            with self._lock:
                if not stopped.is_set():
                    self._report(self._state.check(self._steady()))
