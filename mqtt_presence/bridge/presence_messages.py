"""The clients' own messages, ``presence/<user>/<client>/<verb>``: parsed, or refused and counted."""

from collections.abc import Callable

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.counters import OTHER, Counters
from mqtt_presence.bridge.message_rates import TOO_FAST, MessageRates
from mqtt_presence.bridge.pending_messages import Pending, PendingMessages
from mqtt_presence.errors import PayloadError
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.protocol.incoming import TimeRequest, parse
from mqtt_presence.protocol.outgoing import encode_time_reply
from mqtt_presence.protocol.sizes import TOO_LARGE
from mqtt_presence.protocol.topics import ENDS, Topics
from mqtt_presence.rules.events import Event, Message
from mqtt_presence.rules.model import ClientId, UserId

NetworkOf = Callable[[UserId, ClientId], tuple[str | None, int | None]]
"""Returns a client's address and the number of its network connection; None where unknown."""


class PresenceMessages:
    """Reads the clients' messages.

    Args:
        topics: the topics under the prefix in use.
        rates: refuse users that send too much.
        counters: count refusals.
        clock: stamps time replies.
        network_of: finds the network connection of a client.
        pending: gets the events.
        claim: returns the event of a message that concerns another user's implicit record (rule I1); None:
            there are no such records.

    """

    def __init__(
        self,
        topics: Topics,
        rates: MessageRates,
        counters: Counters,
        clock: Clock,
        network_of: NetworkOf,
        pending: PendingMessages,
        claim: Callable[[Message], Event | None] | None = None,
    ) -> None:
        self._topics = topics
        self._rates = rates
        self._counters = counters
        self._accepted = counters.accepted
        self._clock = clock
        self._network_of = network_of
        self._pending = pending
        self._claim = claim
        self._append = pending.messages.append
        self.is_input = topics.is_input

    def read(self, message: Incoming, now: int, now_s: float, reply: Callable[[str, bytes], None]) -> None:
        """Put the event of a message among the pending messages; answer a time request; refuse the rest.

        Args:
            message: under `Topics.presence`.
            now: the time of receipt, epoch milliseconds.
            now_s: the same by the monotonic clock, seconds.
            reply: publishes the answer to a time request: topic and payload.

        """
        verb = OTHER
        try:
            name = self._topics.parse_input(message.topic)
            verb = name.verb
            if message.retain:
                self._refuse(message, verb, "retained", message.topic)
                return
            # An end is always admitted: a user whose messages are refused must not stay online for ever.
            if verb not in ENDS and not self._rates.admits(name.user_id, now_s):
                self._refuse(message, verb, TOO_FAST, message.topic)
                return
            if message.oversize:
                self._refuse(message, verb, TOO_LARGE, f"{message.topic}: {message.oversize} bytes")
                return
            event = parse(name, message.payload, now, *self._network_of(*name[:2]))
        except PayloadError as error:
            self._refuse(message, verb, error.reason, f"{message.topic}: {error.detail}")
            return
        self._accepted[verb] += 1
        if isinstance(event, TimeRequest):
            self._pending.add_settled(message)
            topic = self._topics.reply(event.user_id, event.client_id)
            reply(topic, encode_time_reply(event, self._clock.now()))
            return
        also = None if self._claim is None else self._claim(event)
        self._append(Pending(message, (event,) if also is None else (event, also)))

    def _refuse(self, message: Incoming, verb: str, reason: str, detail: str) -> None:
        self._counters.refuse(reason, detail, kind=verb)
        self._pending.add_settled(message)
