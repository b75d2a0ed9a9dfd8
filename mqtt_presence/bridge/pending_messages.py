"""The messages that are read and not committed yet, in the order of their arrival."""

from collections import deque
from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from mqtt_presence.bridge.config import Tuning
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import Part
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.rules.events import Event


class Pending(Struct, gc=False):
    """A message that is not committed yet, and the events that it stands for."""

    message: Incoming
    events: tuple[Event, ...]
    is_nameless: bool = False
    """Whether only the packet id tells the message from an equal one."""
    is_report: bool = False
    """Whether the message is a report of the broker about a network connection."""


class PendingMessages(Part):
    """Keeps messages between intake and batch.

    Args:
        tuning: how many messages and publications may wait.

    """

    def __init__(self, tuning: Tuning) -> None:
        self._max_messages = tuning.max_batch
        self._max_backlog = tuning.max_backlog
        self.messages: deque[Pending] = deque()
        """The oldest first. The deque stays the same object, so that readers may bind its `append`."""

    def __len__(self) -> int:
        return len(self.messages)

    @property
    def is_full(self) -> bool:
        """Whether no more messages may wait."""
        return len(self.messages) >= self._max_messages

    def is_blocked(self, link: Link) -> bool:
        """Return whether too many publications await the broker's acknowledgement to commit more.

        Reading goes on, because those acknowledgements arrive between clients' messages. The receive window
        bounds messages of QoS 1; messages of QoS 0 beyond one batch are refused.
        """
        return link.backlog > self._max_backlog

    def room(self, link: Link) -> int:
        """Return how many messages may be read now."""
        return (
            self._max_messages if self.is_blocked(link) else max(0, self._max_messages - len(self.messages))
        )

    def add_settled(self, message: Incoming) -> None:
        """Keep only the acknowledgement of a message, in its order, without its bytes."""
        if message.qos:
            self.messages.append(Pending(replace(message, topic="", payload=b""), ()))

    def remove(self, batch: Iterable[Incoming]) -> None:
        """Remove committed messages, unless a reconnect has removed them already."""
        messages = self.messages
        for message in batch:
            if messages and messages[0].message is message:
                messages.popleft()

    def connected(self, link: Link, *, session_present: bool, contested: bool) -> None:
        """Drop unacknowledged messages if the broker has the session: it sends them again."""
        del link, contested
        if session_present:
            self._replace([entry for entry in self.messages if not entry.message.qos])

    def clock_stepped(self, by_ms: int, now: int) -> None:
        """Restamp the events, so that none lies in the future and none is older than before."""
        by_ms = max(0, by_ms)
        self._replace(
            [
                replace(entry, events=tuple(replace(e, now=min(e.now + by_ms, now)) for e in entry.events))
                for entry in self.messages
            ]
        )

    def _replace(self, entries: Iterable[Pending]) -> None:
        self.messages.clear()
        self.messages.extend(entries)
