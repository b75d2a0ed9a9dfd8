"""Alarm checks: raises alarms when they are due, judged up to the last processed message."""

from mqtt_presence.bridge.commit_result import Recorded
from mqtt_presence.bridge.committer import CHUNK, Committer
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.notifications.outages import Outages
from mqtt_presence.bridge.notifications.recorder import NotificationRecorder
from mqtt_presence.bridge.notifications.steady_clock import SteadyClock
from mqtt_presence.bridge.part import OnCheck
from mqtt_presence.bridge.recovery.progress import Progress
from mqtt_presence.store import Transaction


class AlarmChecks(OnCheck):
    """Checks the outages whose time has come, a chunk at a time.

    Args:
        committer: commits and publishes.
        recorder: queues the alarms.
        outages: know when the next one is due.
        progress: waiting messages may end an outage, so it is judged up to the time that this knows.
        steady: the clock of deadlines.

    """

    is_of_all = False

    def __init__(
        self,
        committer: Committer,
        recorder: NotificationRecorder,
        outages: Outages,
        progress: Progress,
        steady: SteadyClock,
    ) -> None:
        super().__init__()
        self._committer = committer
        self._recorder = recorder
        self._outages = outages
        self._progress = progress
        self._steady = steady

    def check(self, link: Link) -> bool:
        """See `OnCheck`."""
        until = self._steady.of(self._progress.until)
        if not self._progress.until or not self._has_due(until):
            return True

        def make(tx: Transaction) -> Recorded:
            return self._recorder.check(tx, until, CHUNK)

        self._committer.publish(link, make)
        return not self._has_due(until)

    def _has_due(self, until: int) -> bool:
        return self._outages.next_due is not None and self._outages.next_due <= until
