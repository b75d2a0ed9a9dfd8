"""Idle state of a user, as a function of pings and checks.

Pure: `now` is an argument, in seconds of any clock that never goes back.

One report is made at the start, and one for each change. The user is idle when the last activity is more than
the threshold ago; exactly the threshold is still active. `idle-state.js` has the same rules for the browser.
"""

from typing import NamedTuple

from mqtt_presence.errors import ConfigError, PresenceError

DEFAULT_THRESHOLD_S = 60.0
DEFAULT_INTERVAL_S = 1.0
MIN_INTERVAL_S = 1.0


class Report(NamedTuple):
    """A report for the bridge."""

    idle: bool
    last_activity: float


def check_settings(threshold: float, interval: float) -> None:
    """Check the threshold and the interval of a monitor, both in seconds.

    Raises:
        ConfigError: the threshold is not positive, or the interval is less than 1.

    """
    if not 0 < threshold < float("inf"):
        raise ConfigError(f"threshold={threshold} must be seconds above 0")
    if not MIN_INTERVAL_S <= interval < float("inf"):
        raise ConfigError(f"interval={interval} must be at least {MIN_INTERVAL_S:g} second")


class IdleState:
    """The state of a monitor, stopped at first. Every method returns the report to send, or None."""

    def __init__(self) -> None:
        self.is_monitoring = False
        self.is_idle = False
        self.last_activity: float | None = None
        """The last ping; None before the first start."""
        self._threshold = DEFAULT_THRESHOLD_S

    def start(self, threshold: float, now: float) -> Report:
        """Start. The start counts as activity.

        Raises:
            PresenceError: the monitor is running already.

        """
        if self.is_monitoring:
            raise PresenceError("the idle monitor is already running: stop it first")
        self._threshold = threshold
        self.is_monitoring = True
        self.is_idle = False
        self.last_activity = now
        return Report(False, now)

    def stop(self, now: float) -> Report | None:
        """Stop. An idle user counts as active from now on.

        Raises:
            PresenceError: the monitor is not running.

        """
        if not self.is_monitoring:
            raise PresenceError("the idle monitor is not running: start it first")
        self.is_monitoring = False
        if not self.is_idle:
            return None
        self.is_idle = False
        self.last_activity = now
        return Report(False, now)

    def ping(self, now: float) -> Report | None:
        """Record activity. Has no effect while stopped."""
        if not self.is_monitoring:
            return None
        self.last_activity = now
        return self.check(now)

    def check(self, now: float) -> Report | None:
        """Check whether the state has changed, and return the report if so."""
        if not self.is_monitoring or self.last_activity is None:
            return None
        idle = now - self.last_activity > self._threshold
        if idle == self.is_idle:
            return None
        self.is_idle = idle
        return Report(idle, self.last_activity)
