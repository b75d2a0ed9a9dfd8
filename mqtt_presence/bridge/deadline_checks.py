"""Deadline checks: connections whose deadline has passed (rules B1 and B2, the end of a grace)."""

from mqtt_presence.bridge.committer import CHUNK, Committer
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import OnCheck
from mqtt_presence.bridge.recovery.clock_steps import ClockSteps
from mqtt_presence.bridge.recovery.progress import Progress
from mqtt_presence.rules.events import CheckDeadlines


class DeadlineChecks(OnCheck):
    """Checks the users that are due, a chunk at a time.

    Args:
        committer: decides and commits.
        progress: silence is judged up to the time that it knows.
        clock_steps: no deadline is checked while stored times are being shifted.

    """

    is_of_all = False

    def __init__(self, committer: Committer, progress: Progress, clock_steps: ClockSteps) -> None:
        super().__init__()
        self._committer = committer
        self._progress = progress
        self._clock_steps = clock_steps

    def check(self, link: Link) -> bool:
        """See `OnCheck`."""
        if self._clock_steps.is_moving_forward:
            return False  # many connections would look silent
        until = self._progress.until
        due = self._committer.run(
            link, lambda tx: {u: (CheckDeadlines(user_id=u, now=until),) for u in tx.due_users(until, CHUNK)}
        )
        return due == 0
