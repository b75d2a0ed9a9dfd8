"""Intake: hands each message that arrived to the reader, adapter or part that its topic belongs to."""

from collections.abc import Sequence

from mqtt_presence.adapters.port import Adapter, Fleets
from mqtt_presence.bridge.adapter_messages import AdapterMessages, Reports
from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.counters import OTHER, Counters
from mqtt_presence.bridge.link.arrivals import Arrivals
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import Part, Parts
from mqtt_presence.bridge.pending_messages import PendingMessages
from mqtt_presence.bridge.presence_messages import PresenceMessages
from mqtt_presence.bridge.redeliveries import Redeliveries
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.mqtt.topic_tree import TopicTree

OVERLOADED = "overloaded"


class Intake(Part):
    """Hands each message over once. The readers put its events among the pending messages.

    Args:
        presence: reads the clients' own messages.
        reports: the adapter of the broker's own reports; it subscribes by itself.
        adapters: read other topics; each filter is subscribed to at every connect.
        fleets: read the topics of devices; they are subscribed to by `DeviceSubscriptions`.
        own_topics: the beginnings of the topics that no adapter may read.
        redeliveries: recognise a committed message that the broker sends again.
        counters: count refusals.
        clock: stamps the messages.
        pending: the messages that wait.

    """

    def __init__(
        self,
        presence: PresenceMessages,
        reports: Reports,
        adapters: Sequence[Adapter],
        fleets: Sequence[Fleets],
        own_topics: tuple[str, ...],
        redeliveries: Redeliveries,
        counters: Counters,
        clock: Clock,
        pending: PendingMessages,
    ) -> None:
        self.pending = pending
        self._presence = presence
        self._adapter_messages = AdapterMessages(reports, redeliveries, counters, pending)
        self._own_topics = own_topics
        self._subscriptions = [topic_filter for adapter in adapters for topic_filter in adapter.filters]
        self._adapters: TopicTree[Adapter] = TopicTree()
        for adapter in (*fleets, *adapters, reports):
            for topic_filter in adapter.filters:
                self._adapters.put(topic_filter.split("/"), adapter)
        self._redeliveries = redeliveries
        self._counters = counters
        self._clock = clock

    def connected(self, link: Link, *, session_present: bool, contested: bool) -> None:
        """Subscribe."""
        del session_present, contested
        for topic_filter in self._subscriptions:
            link.subscribe(topic_filter)

    def receive(self, link: Link, arrivals: Arrivals, parts: Parts) -> None:
        """Hand messages over.

        Args:
            link: answers time requests; acknowledges messages that need no commit.
            arrivals: the messages.
            parts: process messages that no adapter reads.

        """
        now, now_s = self._clock.now(), self._clock.monotonic()
        is_blocked = self.pending.is_blocked(link)
        for unsent in arrivals.unsent:
            self._counters.refuse("bad_name", unsent.topic)
        self._counters.received += len(arrivals.messages)
        forget_packet_id, is_input = self._redeliveries.forget_packet_id, self._presence.is_input
        read, read_adapter, reply = self._presence.read, self._adapter_messages.read, link.send_now
        for message in arrivals.messages:
            if not is_input(message.topic):
                adapter = self._adapter_of(message.topic)
                if adapter is not None:
                    if not (is_blocked and self._is_refused(message)):
                        read_adapter(adapter, message, now)
                    continue
                if _is_handled(link, message, parts):
                    forget_packet_id(message)
                    link.ack((message,))
                    continue
            forget_packet_id(message)
            if not (is_blocked and self._is_refused(message)):
                read(message, now, now_s, reply)

    def _is_refused(self, message: Incoming) -> bool:
        """Return whether a message is one too many; a message with a packet id is bounded by the window."""
        is_refused = not message.qos and self.pending.is_full
        if is_refused:
            self._counters.refuse(OVERLOADED, message.topic, kind=OTHER)
        return is_refused

    def _adapter_of(self, topic: str) -> Adapter | None:
        """Return the adapter that reads a topic; None: a part may process the message."""
        if topic.startswith(self._own_topics):
            return None
        return next(self._adapters.matching_filters(topic.split("/")), None)


def _is_handled(link: Link, message: Incoming, parts: Parts) -> bool:
    """Return whether a part has processed the message; most parts process none."""
    handlers = (part for part in parts if type(part).handle is not Part.handle)
    return any(part.handle(link, message) for part in handlers)
