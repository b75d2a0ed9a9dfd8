"""Reading the retained statuses of the simulated users, and hearing the bridge's announcements."""

import secrets
import time
from collections.abc import Callable, Sequence

from mqtt_presence.client.retained_reader import RetainedQuestion
from mqtt_presence.errors import BrokerError, PayloadError
from mqtt_presence.mqtt.framing import Kind, Packet
from mqtt_presence.mqtt.packets import (
    MQTT_311,
    PINGREQ,
    Connect,
    connect_packet,
    read_codes,
    read_connack,
    split_publish,
    subscribe_packet,
    unsubscribe_packet,
)
from mqtt_presence.mqtt.return_codes import FAILURE, connack_words_311
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.protocol.client_messages import (
    BridgeStateName,
    UserStatus,
    decode_bridge_state,
    decode_status,
)
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.tools.simulate.simulated_devices import KEEP_ALIVE_S
from mqtt_presence.tools.simulate.socket_loop import Loop, SocketConnection, Target

_QUIET_S = 0.2
_CHUNK = 200
_RETRY_S = 1.0


class StatusReader:
    """A connection that looks.

    Args:
        loop: that serves it.
        target: the broker.
        url: as whom.
        topics: under which prefix.
        user_ids: of whom to take note.
        on_announce: told when the bridge asks all to log in again.
        monotonic: tells the time in seconds.

    """

    def __init__(
        self,
        loop: Loop,
        target: Target,
        url: BrokerUrl,
        *,
        topics: Topics,
        user_ids: Sequence[str],
        on_announce: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._topics = topics
        self._url = url
        self._wanted = frozenset(user_ids)
        self._on_announce = on_announce
        self._monotonic = monotonic
        self._packet_id = 0
        self._marker_id = 0
        self._pinged_at = self._heard_at = monotonic()
        self._queue: list[list[str]] = []
        self._question: RetainedQuestion | None = None
        self.is_up = False
        self.away_since: float | None = None
        """When the connection to the broker ended, by `monotonic`; None: it is up, or never was."""
        self.bridge_away_since: float | None = None
        """Since when no bridge has been there, by `monotonic`; None: one is, or the broker is away."""
        self.failure: BrokerError | None = None
        self.seen: dict[str, UserStatus | None] = {}
        """What is retained; None: no status, but something else."""
        self._loop = loop
        self._target = target
        self._retry_at: float | None = None
        self._was_up = False
        self._connect()

    def _connect(self) -> None:
        self._retry_at = None
        self._pinged_at = self._heard_at = self._monotonic()
        password = self._url.password
        hello = Connect(
            MQTT_311,
            keep_alive_s=KEEP_ALIVE_S,
            client_id=f"simulate-{secrets.token_hex(6)}",
            user=self._url.username,
            password=None if password is None else password.encode(),
        )
        try:
            self._connection = SocketConnection(self._loop, self._target, self._on_packet, self._on_lost)
        except OSError as error:
            self._on_lost(str(error))
        else:
            self._connection.send(connect_packet(hello))

    # Looking.

    def look_all(self) -> None:
        """Read all statuses; some may be missing, as a broker drops what is too much at once."""
        self.seen.clear()
        self._begin([[self._topics.statuses]])

    def look(self, user_ids: Sequence[str]) -> None:
        """Read some, each by its topic."""
        for user_id in user_ids:
            self.seen.pop(user_id, None)
        topics = [self._topics.status(user_id) for user_id in user_ids]
        self._begin([topics[start : start + _CHUNK] for start in range(0, len(topics), _CHUNK)])

    @property
    def left(self) -> int:
        """To how many questions answers may still come; to be asked again and again."""
        if self._question is not None and self.is_up and self._question.wait_s(self._monotonic()) <= 0:
            self._next()
        return len(self._queue) + (self._question is not None)

    def tend(self) -> None:
        """Keep the connection, or make a new one; to be called again and again.

        Raises:
            BrokerError: the broker refuses us.

        """
        if self.failure is not None:
            raise self.failure
        if self._retry_at is not None:
            if self._monotonic() >= self._retry_at:
                self._connect()
            return
        if self._monotonic() - self._pinged_at > KEEP_ALIVE_S / 4:
            if self._heard_at < self._pinged_at:
                self._connection.close()
                self._on_lost("it does not answer")
                return
            self._pinged_at = self._monotonic()
            self._connection.send(PINGREQ)

    def _begin(self, chunks: list[list[str]]) -> None:
        self._queue = chunks
        self._next()

    def _next(self) -> None:
        if self._question is not None:
            self._connection.send(unsubscribe_packet(self._question.filters, self._new_id()))
        self._question = None
        if self._queue:
            self._ask(self._queue.pop(0))

    def _ask(self, filters: list[str]) -> None:
        self._question = RetainedQuestion(filters, self._topics.bridge_state, _QUIET_S)
        for subscription in self._question.subscriptions:
            self._marker_id = self._subscribe(subscription)

    def _subscribe(self, topic_filters: list[str]) -> int:
        packet_id = self._new_id()
        self._connection.send(subscribe_packet([(name, 0) for name in topic_filters], packet_id))
        return packet_id

    def _new_id(self) -> int:
        self._packet_id = self._packet_id % 65_535 + 1
        return self._packet_id

    # What comes.

    def _on_packet(self, packet: Packet) -> None:
        self._heard_at = self._monotonic()
        match packet.kind:
            case Kind.PUBLISH:
                topic, _, payload = split_publish(packet.flags, packet.body, 0, len(packet.body), mqtt5=False)
                self._on_message(topic.decode(errors="replace"), payload, bool(packet.flags & 1))
            case Kind.SUBACK:
                packet_id, codes, _ = read_codes(packet.body)
                if packet_id == self._marker_id and self._question is not None:
                    self._question.granted(self._monotonic())
                if self._question is not None and any(code >= FAILURE for code in codes):
                    self.failure = BrokerError(f"{self._url} does not let this user read statuses")
            case Kind.CONNACK:
                self._on_connack(read_connack(packet.body)[1])

    def _on_connack(self, code: int) -> None:
        if code:
            advice = "" if self._url.username else "; --broker must name a user, as in mqtt://me@127.0.0.1"
            self.failure = BrokerError(f"{self._url} refuses us: {connack_words_311(code)}{advice}")
            return
        self.is_up = self._was_up = True
        self.away_since = None
        self.bridge_away_since = self._monotonic()
        self._subscribe([self._topics.bridge_announce, self._topics.bridge_state])
        if self._question is not None:
            self._ask(self._question.filters)

    def _on_message(self, topic: str, payload: bytes, retained: bool) -> None:
        user_id = self._topics.parse_status(topic)
        if user_id is not None:
            if self._question is not None and retained:
                self._question.came(self._monotonic())
            if user_id in self._wanted:
                self._note(user_id, payload)
        elif topic == self._topics.bridge_announce and not retained:
            self._on_announce()
        elif topic == self._topics.bridge_state:
            self._note_bridge(payload)

    def _note(self, user_id: str, payload: bytes) -> None:
        if not payload:
            self.seen.pop(user_id, None)
            return
        try:
            self.seen[user_id] = decode_status(user_id, payload)
        except PayloadError:
            self.seen[user_id] = None

    def _note_bridge(self, payload: bytes) -> None:
        try:
            is_there = decode_bridge_state(payload).state is BridgeStateName.ONLINE
        except PayloadError:
            is_there = False
        if is_there:
            self.bridge_away_since = None
        elif self.bridge_away_since is None:
            self.bridge_away_since = self._monotonic()

    def _on_lost(self, why: str) -> None:
        if self.is_up:
            self.away_since = self._monotonic()
        self.is_up = False
        self.bridge_away_since = None
        self._retry_at = self._monotonic() + _RETRY_S
        if not self._was_up and self.failure is None:  # it may have said why before it hung up
            self.failure = BrokerError(f"{self._url} cannot be reached: {why}")
