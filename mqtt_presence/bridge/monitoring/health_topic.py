"""The health topic: once a minute, figures of the bridge, retained on ``bridge/health``."""

from collections.abc import Callable

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.counters import Counters
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.monitoring.census import Census
from mqtt_presence.bridge.monitoring.vitals import Vitals
from mqtt_presence.bridge.part import Part
from mqtt_presence.mqtt.messages import Outgoing
from mqtt_presence.protocol.outgoing import HealthOut, encode_health
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.rules.model import State
from mqtt_presence.store import DatabasePlace, Transaction

EVERY_S = 60.0
_NAME = "health_version"


class HealthTopic(Part):
    """Publishes the figures after each connect and then once a minute, and ``offline`` at a clean stop.

    Args:
        topics: the topics under the prefix in use.
        clock: the bridge's.
        census: counts users and connections.
        vitals: know the outbox and the progress.
        counters: count refusals.
        place: returns the last change of the database; None: it is unknown.

    """

    is_of_all = False

    def __init__(
        self,
        topics: Topics,
        clock: Clock,
        census: Census,
        vitals: Vitals,
        counters: Counters,
        place: Callable[[], DatabasePlace | None],
    ) -> None:
        self._place = place
        self._topics = topics
        self._clock = clock
        self._census = census
        self._vitals = vitals
        self._counters = counters
        self._version = 0
        self._due_s = 0.0

    def restore(self, tx: Transaction) -> None:
        """Continue after the version that the last run stored."""
        self._version = int(tx.read_value(_NAME) or 0)

    def finish(self, tx: Transaction) -> None:
        """See `Part`."""
        tx.write_value(_NAME, str(self._version))

    def connected(self, link: Link, *, session_present: bool, contested: bool) -> None:
        """Publish soon: the broker may have lost the last message."""
        del link, session_present, contested
        self._due_s = 0.0

    def turned(self, link: Link) -> None:
        """Publish if it is time. Without a connection the message would be old when it is sent."""
        now_s = self._clock.monotonic()
        if link.is_connected and now_s >= self._due_s:
            self._due_s = now_s + EVERY_S
            link.publish([self._message("online")])

    def leaving(self, link: Link) -> None:
        """See `Part`."""
        link.publish([self._message("offline")])

    def _message(self, state: str) -> Outgoing:
        self._version = max(self._version + 1, self._clock.now())
        users = self._census.users()
        place = self._place()
        health = HealthOut(
            state=state,
            version=self._version,
            users=users[State.ONLINE] + users[State.IDLE],
            connections=self._census.live_connections,
            outbox=self._vitals.outbox,
            behind_ms=self._vitals.behind_ms(),
            refused=self._counters.refused.total(),
            changes=0 if place is None else place.changes,
            change_log="" if place is None else place.log,
        )
        return Outgoing(
            self._topics.bridge_health, encode_health(health), retain=True, this_connection_only=True
        )
