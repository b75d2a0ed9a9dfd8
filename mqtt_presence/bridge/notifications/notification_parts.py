"""The parts of notifications, in the order in which the loop calls them."""

from collections.abc import Collection, Sequence

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.committer import Committer
from mqtt_presence.bridge.notifications.alarm_checks import AlarmChecks
from mqtt_presence.bridge.notifications.config import NotificationConfig
from mqtt_presence.bridge.notifications.outages import Outages
from mqtt_presence.bridge.notifications.queue_retention import QueueRetention
from mqtt_presence.bridge.notifications.recorder import NotificationRecorder
from mqtt_presence.bridge.notifications.routing import Routing
from mqtt_presence.bridge.notifications.senders import Senders
from mqtt_presence.bridge.notifications.steady_clock import SteadyClock
from mqtt_presence.bridge.part import Part
from mqtt_presence.bridge.recovery.progress import Progress
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.rules.model import UserId
from mqtt_presence.store import Store, Transaction


class NotificationParts:
    """Everything that notifications need; without receivers, only what removes those of the last run.

    Args:
        config: of notifications.
        store: the database.
        topics: the topics under the prefix in use.
        clock: the bridge's.

    """

    def __init__(self, config: NotificationConfig, store: Store, topics: Topics, clock: Clock) -> None:
        self.steady = SteadyClock(store, clock)
        routing = Routing(config.receivers)
        self._has_conditions = bool(routing.conditions)
        self.senders = Senders(config, self.steady, clock, routing.conditions)
        self.outages = Outages(routing, self.steady)
        self._retention = QueueRetention(store, self.senders, self.steady, clock, config.keep_ms)
        self.recorder: NotificationRecorder | None = None
        """Fills the queue; None without receivers."""
        if config.receivers:
            self.recorder = NotificationRecorder(
                routing, self.outages, topics, self.steady, clock, self.senders
            )

    def parts(self, committer: Committer, progress: Progress) -> Sequence[Part]:
        """Return the parts of the bridge."""
        parts: list[Part] = [self.steady, self.senders, self._retention]
        if self.recorder is not None and self._has_conditions:
            parts.append(AlarmChecks(committer, self.recorder, self.outages, progress, self.steady))
        return parts

    def forget(self, tx: Transaction, user_ids: Collection[UserId]) -> None:
        """Forget the outages of users that were forgotten."""
        if self.recorder is not None:
            self.recorder.forget(tx, user_ids)
