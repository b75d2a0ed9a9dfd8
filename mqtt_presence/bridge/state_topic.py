"""The state topic: publishes the bridge's own state on `bridge/state`, each time with a greater version."""

from collections.abc import Callable

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import Part
from mqtt_presence.bridge.recovery.other_seats import OtherSeats
from mqtt_presence.mqtt.messages import Outgoing
from mqtt_presence.protocol.outgoing import LossOut, encode_bridge_state
from mqtt_presence.protocol.times import to_iso
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.store import DatabaseLoss, Transaction

_NAME = "state_version"
_CHANGES = 1000
"""Versions kept for changes of the seats during one connection; later changes are not published."""


class StateTopic(Part):
    """Counts the versions of `bridge/state` and writes its three messages.

    Versions follow the clock, so they also exceed those of another bridge that ran meanwhile.

    Args:
        topics: the topics under the prefix in use.
        clock: the bridge's.
        others: know how many seats there are, and how many are held.
        loss: returns the last loss of the database, if it is to be shown.

    """

    is_of_all = False

    def __init__(
        self,
        topics: Topics,
        clock: Clock,
        others: OtherSeats,
        loss: Callable[[], DatabaseLoss | None],
    ) -> None:
        self._loss = loss
        self._topics = topics
        self._clock = clock
        self._others = others
        self._online_version = 0
        self._gap = 1
        self._published: tuple[int, int] | None = None
        """The number of seats, and of held ones, on this connection; None: there is no connection."""
        self._started_at = 0
        self._version = 0

    def restore(self, tx: Transaction) -> None:
        """Continue after the version that the last run published."""
        self._started_at = self._clock.now()
        self._version = max(int(tx.read_value(_NAME) or 0), self._started_at)

    def save(self, tx: Transaction) -> None:
        """Store the version that was published last."""
        tx.write_value(_NAME, str(self._version))

    finish = save

    def connected(self, link: Link, *, session_present: bool, contested: bool) -> None:
        """Publish the online message ahead of the backlog: `RetainedStatuses` waits for its retained copy."""
        del session_present, contested
        self._online_version = self._version - self._gap
        link.publish_ahead(self._online())

    def disconnected(self) -> None:
        """See `Part`."""
        self._published = None

    def turned(self, link: Link) -> None:
        """Publish a change of the seats."""
        is_changed = self._published not in (None, (self._others.staying, self._others.held))
        if link.is_connected and is_changed and self._online_version < self._version - 2:
            self._online_version += 1
            link.publish([self._online()])

    def _online(self) -> Outgoing:
        self._published = (self._others.staying, self._others.held)
        payload = self._encode("online", self._online_version, *self._published)
        return Outgoing(self._topics.bridge_state, payload, retain=True, this_connection_only=True)

    def will(self) -> tuple[str, bytes]:
        """Return topic and payload of the next will; the online messages have the versions before it."""
        self._gap = 1 if self._others.count == 1 else _CHANGES
        self._version = max(self._version + 2, self._clock.now()) + self._gap - 1
        return self._topics.bridge_state, self._encode("offline", self._version)

    def leaving(self, link: Link) -> None:
        """Publish the offline message; it equals the will, which may be published after it."""
        payload = self._encode("offline", self._version)
        link.publish([Outgoing(self._topics.bridge_state, payload, retain=True)])

    def _encode(
        self, state: str, version: int, seats: int | None = None, seats_held: int | None = None
    ) -> bytes:
        return encode_bridge_state(state, version, self._started_at, seats, seats_held, self._loss_out())

    def _loss_out(self) -> LossOut | None:
        loss = self._loss()
        if loss is None:
            return None
        after, until = (None if at is None else to_iso(at) for at in (loss.after, loss.until))
        return LossOut(to_iso(loss.noticed_at), after, until, loss.transactions)
