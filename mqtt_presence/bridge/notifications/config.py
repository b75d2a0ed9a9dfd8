"""The configuration of notifications: values only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mqtt_presence.integrations.notifications.receivers import Receiver
from mqtt_presence.integrations.notifications.retry_schedule import DELAYS_S
from mqtt_presence.integrations.notifications.sending import Sending


def _no_sending(receiver: Receiver) -> Sending:
    raise NotImplementedError(receiver.name)


@dataclass(frozen=True, slots=True)
class NotificationConfig:
    """The receivers of notifications.

    Args:
        receivers: of the settings file.
        database: the URL of the database, for the senders' own connections.
        make_sending: makes the way to send to a receiver.
        keep_ms: how long notifications are kept, milliseconds (setting `notify_keep`).
        delays_s: the schedule of retries; only tests change it.
        look_every_s: how often a waiting sender looks for a moved clock and for `notify replay`, seconds.

    """

    receivers: Sequence[Receiver] = ()
    database: str = ""
    make_sending: Callable[[Receiver], Sending] = _no_sending
    keep_ms: int = 0
    delays_s: tuple[float, ...] = DELAYS_S
    look_every_s: float = 2.0
