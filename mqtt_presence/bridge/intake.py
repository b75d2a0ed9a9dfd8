"""Intake: turns the messages that arrived into events, and keeps them in order until a batch commits them."""

import logging
import zlib
from collections import deque
from collections.abc import Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from mqtt_presence.adapters.port import Adapter, Fleets
from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.config import Tuning
from mqtt_presence.bridge.counters import Counters
from mqtt_presence.bridge.link.arrivals import Arrivals
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import Part, Parts
from mqtt_presence.bridge.presence_messages import PresenceMessages
from mqtt_presence.bridge.redeliveries import Redeliveries
from mqtt_presence.errors import PayloadError
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.mqtt.topic_tree import TopicTree
from mqtt_presence.rules.model import Event

log = logging.getLogger(__name__)

OVERLOADED = "overloaded"
_SHORT = 64
"""Bytes of a device's payload that wait for the commit; of a longer one only a checksum does."""


class Pending(Struct, gc=False):
    """A message that is not committed yet, and the events that it stands for."""

    message: Incoming
    events: tuple[Event, ...]
    is_nameless: bool = False
    """Whether only the packet id tells the message from an equal one."""


class Intake(Part):
    """Reads each arriving message once, by the adapter or part that its topic belongs to.

    Args:
        presence: reads the clients' own messages.
        reports: the adapter of the broker's own reports; it subscribes by itself.
        adapters: read other topics; each filter is subscribed to at every connect.
        fleets: read the topics of devices; they are subscribed to by `DeviceSubscriptions`.
        own_topics: the beginnings of the topics that no adapter may read.
        redeliveries: recognise a committed message that the broker sends again.
        counters: count refusals.
        clock: stamps the messages.
        tuning: how many messages and publications may wait.

    """

    def __init__(
        self,
        presence: PresenceMessages,
        reports: Adapter,
        adapters: Sequence[Adapter],
        fleets: Sequence[Fleets],
        own_topics: tuple[str, ...],
        redeliveries: Redeliveries,
        counters: Counters,
        clock: Clock,
        tuning: Tuning,
    ) -> None:
        self._presence = presence
        self._reports = reports
        self._own_topics = own_topics
        self._subscriptions = [topic_filter for adapter in adapters for topic_filter in adapter.filters]
        self._adapters: TopicTree[Adapter] = TopicTree()
        for adapter in (*fleets, *adapters, reports):
            for topic_filter in adapter.filters:
                self._adapters.put(topic_filter.split("/"), adapter)
        self._redeliveries = redeliveries
        self._counters = counters
        self._clock = clock
        self._max_pending = tuning.max_batch
        self._max_backlog = tuning.max_backlog
        self.pending: deque[Pending] = deque()

    def is_blocked(self, link: Link) -> bool:
        """Return whether too many publications await the broker's acknowledgement to commit more.

        Reading goes on, because those acknowledgements arrive between clients' messages. The receive window
        bounds messages of QoS 1; messages of QoS 0 beyond one batch are refused.
        """
        return link.backlog > self._max_backlog

    def room(self, link: Link) -> int:
        """Return how many messages may be read now."""
        return self._max_pending if self.is_blocked(link) else max(0, self._max_pending - len(self.pending))

    def connected(self, link: Link, *, session_present: bool, contested: bool) -> None:
        """Subscribe; drop unacknowledged messages if the broker has the session: it sends them again."""
        del contested
        for topic_filter in self._subscriptions:
            link.subscribe(topic_filter)
        if session_present:
            self.pending = deque(entry for entry in self.pending if not entry.message.qos)

    def clock_stepped(self, by_ms: int, now: int) -> None:
        """Restamp the waiting events, so that none lies in the future and none is older than before."""
        by_ms = max(0, by_ms)
        self.pending = deque(
            replace(entry, events=tuple(replace(e, now=min(e.now + by_ms, now)) for e in entry.events))
            for entry in self.pending
        )

    def receive(self, link: Link, arrivals: Arrivals, parts: Parts) -> None:
        """Read messages.

        Args:
            link: answers time requests; acknowledges messages that need no commit.
            arrivals: the messages.
            parts: process messages that no adapter reads.

        """
        now, now_s = self._clock.now(), self._clock.monotonic()
        is_blocked = self.is_blocked(link)
        for unsent in arrivals.unsent:
            self._counters.refuse("bad_name", unsent.topic)
        self._counters.received += len(arrivals.messages)
        forget_packet_id, is_input = self._redeliveries.forget_packet_id, self._presence.is_input
        read, reply = self._presence.read, link.send_now
        for message in arrivals.messages:
            forget_packet_id(message)
            if not is_input(message.topic):
                adapter = self._adapter_of(message.topic)
                if adapter is not None:
                    self._read(adapter, message, now, is_blocked=is_blocked)
                    continue
                if any(part.handle(link, message) for part in parts):
                    link.ack((message,))
                    continue
            if is_blocked and not message.qos and len(self.pending) >= self._max_pending:
                self._counters.refuse(OVERLOADED, message.topic)
            else:
                event = read(message, now, now_s, reply)
                if event is not None:
                    self.pending.append(Pending(message, (event,)))
                elif message.qos:  # only its acknowledgement waits, without its bytes
                    self.pending.append(Pending(replace(message, topic="", payload=b""), ()))

    def _adapter_of(self, topic: str) -> Adapter | None:
        """Return the adapter that reads a topic; None: a part may process the message."""
        if topic.startswith(self._own_topics):
            return None
        return next(self._adapters.matching_filters(topic.split("/")), None)

    def _read(self, adapter: Adapter, message: Incoming, now: int, *, is_blocked: bool) -> None:
        """Have an adapter read a message; keep it until its acknowledgement if it has one."""
        if is_blocked and not message.qos and len(self.pending) >= self._max_pending:
            self._counters.refuse(OVERLOADED, message.topic)
            return
        kept = message if adapter is self._reports else _shortened(message)
        events: tuple[Event, ...] = ()
        try:
            if not self._redeliveries.is_repeated(kept):
                events = tuple(adapter.read(message, now))
        except PayloadError as error:
            self._counters.refuse(error.reason, error.detail)
        except Exception:  # one message of a stranger must not end the bridge
            log.exception("a message cannot be processed")
            self._counters.refuse("unprocessable", message.topic)
        if adapter is self._reports:
            self.pending.append(Pending(message, events))
        elif events or message.qos:
            self.pending.append(Pending(kept, events, is_nameless=bool(events and message.qos)))

    def remove(self, batch: Iterable[Incoming]) -> None:
        """Remove committed messages, unless a reconnect has removed them already."""
        for message in batch:
            if self.pending and self.pending[0].message is message:
                self.pending.popleft()


def _shortened(message: Incoming) -> Incoming:
    """Return the message with a checksum for a long payload: enough to recognise a repetition."""
    if len(message.payload) <= _SHORT:
        return message
    return replace(message, payload=zlib.crc32(message.payload).to_bytes(4, "big"))
