"""When a user is idle, as a function of pings and checks. Pure: `now` comes as an argument, in seconds of any
clock that only grows.

The rules are those of the contract's ancestors: one report at the start and one for each transition; idle
when the last activity lies more than the threshold back, not when it lies exactly that far back.
"""

from typing import NamedTuple

from mqtt_presence.errors import ConfigError, PresenceError

DEFAULT_THRESHOLD_S = 60.0
DEFAULT_INTERVAL_S = 1.0
MIN_INTERVAL_S = 1.0


class Report(NamedTuple):
    """What to tell the bridge."""

    idle: bool
    last_activity: float


def check_settings(threshold: float, interval: float) -> None:
    """Check the settings of a monitor, both in seconds.

    Raises:
        ConfigError: the threshold is not above 0, or the interval below 1.

    """
    if not 0 < threshold < float("inf"):
        raise ConfigError(f"threshold={threshold} must be seconds above 0")
    if not MIN_INTERVAL_S <= interval < float("inf"):
        raise ConfigError(f"interval={interval} must be at least {MIN_INTERVAL_S:g} second")


class IdleState:
    """A monitor that is stopped at first. Every method returns the report to send, or None."""

    def __init__(self) -> None:
        self.is_monitoring = False
        self.is_idle = False
        self.last_activity: float | None = None
        """The last ping; None before the first start."""
        self._threshold = DEFAULT_THRESHOLD_S

    def start(self, threshold: float, now: float) -> Report:
        """Begin; starting counts as activity.

        Raises:
            PresenceError: it has begun.

        """
        if self.is_monitoring:
            raise PresenceError("the idle monitor is already running: stop it first")
        self._threshold = threshold
        self.is_monitoring = True
        self.is_idle = False
        self.last_activity = now
        return Report(False, now)

    def stop(self, now: float) -> Report | None:
        """End; whoever was idle counts as active from now on.

        Raises:
            PresenceError: it is not running.

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
        """There was activity. Without effect while stopped."""
        if not self.is_monitoring:
            return None
        self.last_activity = now
        return self.check(now)

    def check(self, now: float) -> Report | None:
        """See whether the state has changed."""
        if not self.is_monitoring or self.last_activity is None:
            return None
        idle = now - self.last_activity > self._threshold
        if idle == self.is_idle:
            return None
        self.is_idle = idle
        return Report(idle, self.last_activity)
