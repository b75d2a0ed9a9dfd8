"""Idle monitor of a client: runs `IdleState` in a thread and reports its changes in server time."""

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
"""Sends whether the user is idle, and the last activity in epoch milliseconds; False if not connected."""


class IdleMonitor:
    """Reports to the bridge when the user becomes idle or active, from the program's calls of `ping`.

    Available as `PresenceClient.monitor`. Its methods may be called from any thread.

    Args:
        send: sends a report.
        clock: the server's clock.
        steady: returns the seconds of a clock that never goes back.

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
        """The last activity in server time, epoch milliseconds.

        Fixed when the activity happens, and never decreased. Otherwise a better estimate of the server time
        could make a new activity look older, and the bridge would drop its report (rule A1).
        """
        self._reported = 0

    @property
    def is_monitoring(self) -> bool:
        """Whether the monitor is running."""
        return self._state.is_monitoring

    @property
    def is_idle(self) -> bool:
        """Whether the monitor is running and the last ping is older than the threshold."""
        return self._state.is_idle

    @property
    def last_activity(self) -> datetime | None:
        """The last activity in server time, as an aware datetime in UTC; None before the first start."""
        millis = self._active_at
        return datetime.fromtimestamp(millis / 1000, UTC) if millis else None

    def start(
        self,
        threshold: float = DEFAULT_THRESHOLD_S,
        interval: float = DEFAULT_INTERVAL_S,
        *,
        timeout: float = 5.0,
    ) -> None:
        """Start monitoring. The start counts as activity and is reported.

        Args:
            threshold: seconds without a ping after which the user is idle.
            interval: seconds between checks, at least 1.
            timeout: seconds to wait for the server time, which the reports need; 0: do not wait.

        Raises:
            ConfigError: `threshold` or `interval` is wrong.
            PresenceError: the monitor is running already, or the server time is unknown after `timeout`,
                e.g. because there is no bridge.

        """
        check_settings(threshold, interval)
        if not self._clock.wait_synced(timeout):
            raise PresenceError(
                f"the server time is not known after {timeout:g} s: the idle monitor needs a bridge"
            )
        with self._lock:
            report = self._state.start(threshold, self._steady())
            self._record_activity()
            self._report(report)
            stopped = self._stopped = threading.Event()
        threading.Thread(
            target=self._check_regularly, args=(interval, stopped), name="mqtt-presence-idle", daemon=True
        ).start()

    def stop(self) -> None:
        """Stop monitoring. An idle user is reported as active now.

        Raises:
            PresenceError: the monitor is not running.

        """
        with self._lock:
            report = self._state.stop(self._steady())
            self._stopped.set()
            if report is not None:
                self._record_activity()
            self._report(report)

    def ping(self) -> None:
        """Record activity, now. Has no effect while the monitor is stopped."""
        self.beat()

    def beat(self) -> int | None:
        """Record activity like `ping`; return its time for a heartbeat, or None while stopped."""
        with self._lock:
            if not self._state.is_monitoring:
                return None
            self._record_activity()
            self._report(self._state.ping(self._steady()))
            return self._active_at

    def renew(self) -> None:
        """Send again after a login: an idle state, which the login does not contain, or an unsent report."""
        with self._lock:
            if self._state.is_monitoring and (self._state.is_idle or self._unsent):
                self._unsent = not self._send(self._state.is_idle, self._reported)

    def close(self) -> None:
        """Stop monitoring without a report, because the connection ends too."""
        with self._lock:
            self._stopped.set()
            if self._state.is_monitoring:
                self._state.stop(self._steady())

    def _record_activity(self) -> None:
        self._active_at = max(self._active_at, self._clock.now())

    def _report(self, report: Report | None) -> None:
        if report is None:
            return
        if not report.idle:
            self._active_at = max(self._active_at, self._reported + 1)
        self._reported = self._active_at
        self._unsent = not self._send(report.idle, self._reported)

    def _check_regularly(self, interval: float, stopped: threading.Event) -> None:
        while not stopped.wait(interval):
            with self._lock:
                if not stopped.is_set():
                    self._report(self._state.check(self._steady()))
