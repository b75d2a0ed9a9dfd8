"""Reading of all retained messages of some topics, for commands that compare or clear statuses."""

import math
import queue
import threading
import time
from collections.abc import Iterable
from typing import NamedTuple, Self

from mqtt_presence.client.connect_arguments import Endpoint
from mqtt_presence.client.network_connection import Hooks, NetworkConnection
from mqtt_presence.errors import BrokerError


class RetainedQuestion:
    """Decides when all retained messages of some topics have arrived. Independent of the kind of connection.

    A broker does not mark the last retained message, but answers subscriptions in order. So a subscription
    to a marker topic follows the first one. The answer is complete when the broker has answered the marker,
    and no retained message has arrived for a while. Filters with wildcards are read without a marker: after
    very many messages, mosquitto may drop the answer.

    Args:
        filters: topics, or topic filters.
        marker: the topic of the second subscription.
        quiet_s: seconds without a retained message after which the answer is complete.

    """

    def __init__(self, filters: list[str], marker: str, quiet_s: float) -> None:
        self.filters = filters
        self.topics = None if any("+" in name or "#" in name for name in filters) else set(filters)
        """The topics; None if a filter has wildcards."""
        has_marker = self.topics is not None and marker not in self.topics
        self.subscriptions = [filters, [marker]] if has_marker else [filters]
        """The subscriptions, in the order to send them."""
        self._quiet_s = quiet_s
        self._quiet_since = math.inf

    def granted(self, now: float) -> None:
        """Record that the broker has answered the last subscription at `now`, in monotonic seconds."""
        self._quiet_since = now

    def came(self, now: float) -> None:
        """Record that a retained message has arrived at `now`, in monotonic seconds."""
        if not math.isinf(self._quiet_since):
            self._quiet_since = now

    def wait_s(self, now: float) -> float:
        """Return the seconds until the answer is complete without another message; at first infinite."""
        return self._quiet_since + self._quiet_s - now


class _Message(NamedTuple):
    topic: str
    payload: bytes
    is_retained: bool


class RetainedReader:
    """A blocking connection that reads, publishes and clears retained messages.

    Args:
        endpoint: the broker, and the user to connect as.
        marker: a topic that the user may read; see `RetainedQuestion`.
        answer_s: seconds to wait for each answer of the broker.

    Raises:
        BrokerError: (all methods) the broker cannot be reached, refuses the user, or does not answer.

    """

    def __init__(self, endpoint: Endpoint, marker: str, answer_s: float) -> None:
        self._url = endpoint.url
        self._marker = marker
        self._answer_s = answer_s
        self._arrived: queue.SimpleQueue[_Message | None] = queue.SimpleQueue()
        """The messages, and None for each answer to a subscription, in order of arrival."""
        self._went_up = threading.Event()
        self._failure: BrokerError | None = None
        hooks = Hooks(
            will=lambda: None,
            up=lambda _: self._went_up.set(),
            message=lambda *message: self._arrived.put(_Message(*message)),
            tick=lambda: None,
            down=lambda: None,
            subscribed=lambda: self._arrived.put(None),
        )
        self._connection = NetworkConnection(endpoint, hooks, answer_s)
        self._thread = threading.Thread(target=self._serve, name="retained reader", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._went_up.wait(3 * self._answer_s)
        try:
            self._require_up()
        except BrokerError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.disconnect()
        self._thread.join(1.0)

    @property
    def denied(self) -> list[str]:
        """Topic filters to which the broker refused a subscription."""
        return self._connection.denied

    def read(self, filters: list[str], *, quiet_s: float) -> dict[str, bytes]:
        """Return the retained payloads by topic, once every topic has one or the answer is complete.

        Args:
            filters: topics, or topic filters.
            quiet_s: see `RetainedQuestion`.

        """
        question = RetainedQuestion(filters, self._marker, quiet_s)
        for subscription in question.subscriptions:
            self._connection.subscribe([(topic_filter, 0) for topic_filter in subscription])
        grants, topics = len(question.subscriptions), question.topics
        found: dict[str, bytes] = {}
        while grants or topics is None or len(found) < len(topics):
            wait_s = question.wait_s(time.monotonic())
            try:
                message = self._arrived.get(timeout=max(0.0, min(wait_s, self._answer_s)))
            except queue.Empty:
                if not grants:
                    break
                self._require_up()
                raise BrokerError(f"{self._url} does not answer") from None
            if message is None:
                grants -= 1
                if not grants:
                    question.granted(time.monotonic())
            elif message.is_retained and message.payload and (topics is None or message.topic in topics):
                question.came(time.monotonic())
                found[message.topic] = message.payload
        self._connection.unsubscribe(filters)
        self._require_up()
        return found

    def publish(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """Publish retained messages and wait until the broker has acknowledged all of them."""
        receipts = [self._connection.publish(*message, 1, retain=True) for message in messages]
        for receipt in receipts:
            if not receipt.wait(self._answer_s):
                self._require_up()
                raise BrokerError(f"{self._url} did not acknowledge in {self._answer_s:g} s")

    def clear(self, topic: str) -> None:
        """Clear a retained message and wait until the broker has delivered the empty message.

        An acknowledgement would not be enough: in MQTT 3.1.1 brokers also acknowledge forbidden messages.

        Raises:
            BrokerError: also if the user may not publish to the topic.

        """
        self._connection.subscribe([(topic, 1)])
        self.publish([(topic, b"")])
        deadline = time.monotonic() + self._answer_s
        cleared = _Message(topic, b"", is_retained=False)
        while (left := deadline - time.monotonic()) > 0:
            try:
                if self._arrived.get(timeout=left) == cleared:
                    return
            except queue.Empty:
                break
        raise BrokerError(f"{self._url} does not let this user clear {topic}")

    def _serve(self) -> None:
        try:
            self._connection.serve()
        except BrokerError as error:
            self._failure = error
        finally:
            self._went_up.set()

    def _require_up(self) -> None:
        if not self._connection.is_up:
            lost = f"the connection to {self._url} was lost" if self._connection.ended else None
            raise self._failure or BrokerError(lost or f"{self._url} does not answer")
