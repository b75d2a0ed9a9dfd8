"""The senders of all receivers, as a part of the bridge: started with it, and ended with it at once."""

import time
from collections.abc import Iterable, Sequence

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.monitoring.metric import Metric
from mqtt_presence.bridge.notifications.config import NotificationConfig
from mqtt_presence.bridge.notifications.sender import Sender
from mqtt_presence.bridge.notifications.steady_clock import SteadyClock
from mqtt_presence.bridge.part import Part
from mqtt_presence.integrations.notifications.conditions import Condition
from mqtt_presence.integrations.notifications.notification import Notification
from mqtt_presence.store import Transaction

_END_WITHIN_S = 0.3
"""How long an end waits for the threads: most of them end at once, and none of them is needed."""


class Senders(Part):
    """Starts and ends the senders, and wakes those that a notification is for.

    Args:
        config: of notifications.
        steady: the clock of the queue.
        clock: the bridge's.
        conditions: of alarms, by their text.

    """

    is_of_all = False

    def __init__(
        self,
        config: NotificationConfig,
        steady: SteadyClock,
        clock: Clock,
        conditions: dict[str, Condition],
    ) -> None:
        self.senders = [Sender(receiver, config, steady, clock.now) for receiver in config.receivers]
        self._steady = steady
        self._longest_ms = {text: condition.duration_ms for text, condition in conditions.items()}
        self._is_started = False

    def restore(self, tx: Transaction) -> None:
        """Give new receivers their places, and start the senders, which see them once this is committed."""
        tx.set_receivers([sender.receiver.name for sender in self.senders])
        tx.keep_alarms(self._longest_ms, self._steady.now())
        if not self._is_started:
            self._is_started = True
            for sender in self.senders:
                sender.start()

    def queued(self, row: int, notifications: Sequence[Notification]) -> None:
        """See `Wake`."""
        for sender in self.senders:
            count = sum(map(sender.receiver.takes, notifications))
            if count:
                sender.queued(row, count)

    def metrics(self) -> Iterable[Metric]:
        """See `Measured`."""
        if not self.senders:
            return
        yield Metric(
            "notify_pending",
            "Notifications that wait for their receiver, as of its last look at the queue.",
            is_counter=False,
            labels=("name",),
            values={(sender.receiver.name,): sender.pending for sender in self.senders},
        )
        yield Metric(
            "notify_failed",
            "Requests to a receiver that failed. Most of them are repeated.",
            is_counter=True,
            labels=("name",),
            values={(sender.receiver.name,): sender.failed_attempts for sender in self.senders},
        )

    def close(self) -> None:
        """See `Part`."""
        for sender in self.senders:
            sender.stop()
        deadline = time.monotonic() + _END_WITHIN_S
        for sender in self.senders:
            sender.join(max(0.0, deadline - time.monotonic()))
