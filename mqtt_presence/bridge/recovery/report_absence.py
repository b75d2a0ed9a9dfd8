"""Absence: for how long the bridge has not read the broker's reports, also over a restart.

mosquitto drops a line of its log that has waited for 20 seconds in a queue, whatever the session. So after a
longer absence, or a longer pause of the bridge, reports are missing.
"""

from mqtt_presence.bridge.recovery.kept_values import KeptValue
from mqtt_presence.store import Transaction

_STEP_MS = 5_000
"""How often the time is stored."""
_CLOCK_MS = 1_000


class ReportAbsence:
    """Remembers until when all reports were read."""

    def __init__(self) -> None:
        self._until: int | None = None
        """Epoch milliseconds; None: unknown."""
        self._until_s: float | None = None
        """The same by the monotonic clock; None: not in this run."""
        self.kept = KeptValue("source_until", self._rounded)

    def _rounded(self) -> str | None:
        return None if self._until is None else str(self._until // _STEP_MS * _STEP_MS)

    def restore(self, tx: Transaction) -> None:
        """Read the time of the last run."""
        stored = self.kept.restore(tx)
        self._until = None if stored is None else int(stored)

    def finish(self, tx: Transaction) -> None:
        """Store the exact time, at a clean stop."""
        if self._until is not None and self._until_s is not None:
            tx.write_value(self.kept.name, str(self._until))

    def is_longer(self, than_s: float, now: int, now_s: float) -> bool:
        """Return whether reports were not read for longer than a time.

        Args:
            than_s: the time, seconds.
            now: epoch milliseconds.
            now_s: the same by the monotonic clock, seconds.

        """
        if self._until_s is not None:
            return now_s - self._until_s > than_s
        if self._until is None:
            return False
        return now - self._until > than_s * 1000 or now < self._until - _CLOCK_MS

    def read_until(self, until: int, until_s: float) -> None:
        """Record that all reports are read, by both clocks."""
        self._until, self._until_s = until, until_s
