"""The clients' own messages, ``presence/<user>/<client>/<verb>``: parsed, or refused and counted."""

from collections.abc import Callable

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.counters import Counters
from mqtt_presence.bridge.limits import TOO_FAST, Limiter
from mqtt_presence.errors import PayloadError
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.protocol.incoming import TimeRequest, parse
from mqtt_presence.protocol.outgoing import encode_time_reply
from mqtt_presence.protocol.sizes import TOO_LARGE
from mqtt_presence.protocol.topics import ENDS, Topics
from mqtt_presence.rules.model import ClientId, Message, UserId

NetworkOf = Callable[[UserId, ClientId], tuple[str | None, int | None]]
"""Returns a client's address and the number of its network connection; None where unknown."""


class PresenceMessages:
    """Reads the clients' messages.

    Args:
        topics: the topics under the prefix in use.
        limiter: refuses users that send too much.
        counters: count refusals.
        clock: stamps time replies.
        network_of: finds the network connection of a client.

    """

    def __init__(
        self, topics: Topics, limiter: Limiter, counters: Counters, clock: Clock, network_of: NetworkOf
    ) -> None:
        self._topics = topics
        self._limiter = limiter
        self._counters = counters
        self._clock = clock
        self._network_of = network_of
        self.is_input = topics.is_input

    def read(
        self, message: Incoming, now: int, now_s: float, reply: Callable[[str, bytes], None]
    ) -> Message | None:
        """Return the event of a message; None: a time request, which is answered, or a refused message.

        Args:
            message: under `Topics.presence`.
            now: the time of receipt, epoch milliseconds.
            now_s: the same by the monotonic clock, seconds.
            reply: publishes the answer to a time request: topic and payload.

        """
        try:
            name = self._topics.parse_input(message.topic)
            if message.retain:
                self._counters.refuse("retained", message.topic)
                return None
            # An end is always admitted: a user whose messages are refused must not stay online for ever.
            if name.verb not in ENDS and not self._limiter.admits(name.user_id, now_s):
                self._counters.refuse(TOO_FAST, message.topic)
                return None
            if message.oversize:
                self._counters.refuse(TOO_LARGE, f"{message.topic}: {message.oversize} bytes")
                return None
            event = parse(name, message.payload, now, *self._network_of(*name[:2]))
        except PayloadError as error:
            self._counters.refuse(error.reason, f"{message.topic}: {error.detail}")
            return None
        if isinstance(event, TimeRequest):
            topic = self._topics.reply(event.user_id, event.client_id)
            reply(topic, encode_time_reply(event, self._clock.now()))
            return None
        return event
