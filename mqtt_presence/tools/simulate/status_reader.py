"""Reading the simulated users' retained statuses, and the bridge's state and announcements."""

import time
from collections.abc import Callable, Sequence

from mqtt_presence.client.retained_reader import RetainedQuestion
from mqtt_presence.errors import BrokerError, PayloadError
from mqtt_presence.mqtt.framing import Kind, Packet
from mqtt_presence.mqtt.packets import read_codes, split_publish
from mqtt_presence.mqtt.return_codes import FAILURE
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.protocol.client_messages import (
    BridgeStateName,
    UserStatus,
    decode_announcement,
    decode_bridge_state,
    decode_status,
)
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.tools.simulate.reader_connection import ReaderConnection
from mqtt_presence.tools.simulate.socket_loop import Loop, Target

_QUIET_S = 0.2
_CHUNK = 200


class StatusReader:
    """Reads retained statuses over one connection.

    Args:
        loop: serves the connection.
        target: the broker.
        url: with the user to connect as.
        topics: the topics under the prefix in use.
        user_ids: the users whose statuses are stored.
        on_announce: called with the seconds within which all clients shall log in again.
        monotonic: returns the time in seconds.

    """

    def __init__(
        self,
        loop: Loop,
        target: Target,
        url: BrokerUrl,
        *,
        topics: Topics,
        user_ids: Sequence[str],
        on_announce: Callable[[float], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._topics = topics
        self._wanted = frozenset(user_ids)
        self._on_announce = on_announce
        self._monotonic = monotonic
        self._marker_id = 0
        self._queue: list[list[str]] = []
        self._question: RetainedQuestion | None = None
        self.bridge_away_since: float | None = None
        """When the bridge went away, by `monotonic`; None with a bridge, or without a broker."""
        self.seen: dict[str, UserStatus | None] = {}
        """The retained statuses; None for an unreadable one."""
        self._connection = ReaderConnection(
            loop,
            target,
            url,
            on_connected=self._on_connected,
            on_packet=self._on_packet,
            on_lost=self._on_lost,
            monotonic=monotonic,
        )
        self._connection.connect()

    @property
    def is_up(self) -> bool:
        """Whether the broker has accepted the connection."""
        return self._connection.is_up

    @property
    def away_since(self) -> float | None:
        """When the connection to the broker ended, by `monotonic`; None if it is open, or never was."""
        return self._connection.away_since

    def maintain(self) -> None:
        """Keep the connection alive, or open a new one; call this repeatedly.

        Raises:
            BrokerError: the broker refuses the user.

        """
        self._connection.maintain()

    # Reading.

    def read_all(self) -> None:
        """Read all statuses; some may be missing, as a broker drops messages beyond its queue."""
        self.seen.clear()
        self._begin([[self._topics.statuses]])

    def read(self, user_ids: Sequence[str]) -> None:
        """Read the statuses of some users, each by its topic."""
        for user_id in user_ids:
            self.seen.pop(user_id, None)
        topics = [self._topics.status(user_id) for user_id in user_ids]
        self._begin([topics[start : start + _CHUNK] for start in range(0, len(topics), _CHUNK)])

    @property
    def left(self) -> int:
        """The number of open requests; call this repeatedly, since it sends the next one."""
        if self._question is not None and self.is_up and self._question.wait_s(self._monotonic()) <= 0:
            self._next()
        return len(self._queue) + (self._question is not None)

    def _begin(self, chunks: list[list[str]]) -> None:
        self._queue = chunks
        self._next()

    def _next(self) -> None:
        if self._question is not None:
            self._connection.unsubscribe(self._question.filters)
        self._question = None
        if self._queue:
            self._request(self._queue.pop(0))

    def _request(self, filters: list[str]) -> None:
        self._question = RetainedQuestion(filters, self._topics.bridge_state, _QUIET_S)
        for subscription in self._question.subscriptions:
            self._marker_id = self._connection.subscribe(subscription)

    # Received packets.

    def _on_connected(self) -> None:
        self.bridge_away_since = self._monotonic()
        self._connection.subscribe([self._topics.bridge_announce, self._topics.bridge_state])
        if self._question is not None:
            self._request(self._question.filters)

    def _on_lost(self) -> None:
        self.bridge_away_since = None

    def _on_packet(self, packet: Packet) -> None:
        match packet.kind:
            case Kind.PUBLISH:
                topic, _, payload = split_publish(packet.flags, packet.body, 0, len(packet.body), mqtt5=False)
                self._on_message(topic.decode(errors="replace"), payload, bool(packet.flags & 1))
            case Kind.SUBACK:
                packet_id, codes, _ = read_codes(packet.body)
                if packet_id == self._marker_id and self._question is not None:
                    self._question.granted(self._monotonic())
                if self._question is not None and any(code >= FAILURE for code in codes):
                    self._connection.failure = BrokerError(
                        f"{self._url} does not let this user read statuses"
                    )

    def _on_message(self, topic: str, payload: bytes, retained: bool) -> None:
        user_id = self._topics.parse_status(topic)
        if user_id is not None:
            if self._question is not None and retained:
                self._question.came(self._monotonic())
            if user_id in self._wanted:
                self._store(user_id, payload)
        elif topic == self._topics.bridge_announce and not retained:
            self._on_announce(decode_announcement(payload))
        elif topic == self._topics.bridge_state:
            self._store_bridge_state(payload)

    def _store(self, user_id: str, payload: bytes) -> None:
        if not payload:
            self.seen.pop(user_id, None)
            return
        try:
            self.seen[user_id] = decode_status(user_id, payload)
        except PayloadError:
            self.seen[user_id] = None

    def _store_bridge_state(self, payload: bytes) -> None:
        try:
            is_online = decode_bridge_state(payload).state is BridgeStateName.ONLINE
        except PayloadError:
            is_online = False
        if is_online:
            self.bridge_away_since = None
        elif self.bridge_away_since is None:
            self.bridge_away_since = self._monotonic()
