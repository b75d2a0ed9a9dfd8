"""Reading the retained messages of some topics until all have come: for commands that compare statuses."""

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
    """Decides when all retained messages of some topics have come, whatever the connection.

    A broker marks neither the last retained message nor their absence, but answers in order. So a second
    subscription, to the marker, follows the first. The answer is complete when the broker has granted it and
    no retained message has come for a while. Filters with wildcards have no marker: of very many messages
    mosquitto may drop the answer to it.

    Args:
        filters: topics, or topic filters.
        marker: the topic of the second subscription.
        quiet_s: how long no retained message may have come.

    """

    def __init__(self, filters: list[str], marker: str, quiet_s: float) -> None:
        self.filters = filters
        self.topics = None if any("+" in name or "#" in name for name in filters) else set(filters)
        """The topics, if there are no wildcards."""
        has_marker = self.topics is not None and marker not in self.topics
        self.subscriptions = [filters, [marker]] if has_marker else [filters]
        """To be sent in this order."""
        self._quiet_s = quiet_s
        self._quiet_since = math.inf

    def granted(self, now: float) -> None:
        """Note that the broker has answered the last subscription, at `now` in monotonic seconds."""
        self._quiet_since = now

    def came(self, now: float) -> None:
        """Note that a retained message has come, at `now` in monotonic seconds."""
        if not math.isinf(self._quiet_since):
            self._quiet_since = now

    def wait_s(self, now: float) -> float:
        """Return the seconds until the answer is complete if nothing comes; infinite before the grant."""
        return self._quiet_since + self._quiet_s - now


class _Message(NamedTuple):
    topic: str
    payload: bytes
    is_retained: bool


class RetainedReader:
    """A connection that reads retained messages and publishes them, for a thread that may wait.

    Args:
        endpoint: the broker, and the user to connect as.
        marker: a topic that the user may read, see `RetainedQuestion`.
        answer_s: how long the broker may take for each answer.

    Raises:
        BrokerError: by every method: the broker cannot be reached, refuses the user, or does not answer.

    """

    def __init__(self, endpoint: Endpoint, marker: str, answer_s: float) -> None:
        self._url = endpoint.url
        self._marker = marker
        self._answer_s = answer_s
        self._came: queue.SimpleQueue[_Message | None] = queue.SimpleQueue()
        """The messages, and None for each answer to a subscription."""
        self._went_up = threading.Event()
        self._failure: BrokerError | None = None
        hooks = Hooks(
            will=lambda: None,
            up=lambda _: self._went_up.set(),
            message=lambda *message: self._came.put(_Message(*message)),
            tick=lambda: None,
            down=lambda: None,
            subscribed=lambda: self._came.put(None),
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
        """The topic filters that the broker has not granted."""
        return self._connection.denied

    def read(self, filters: list[str], *, quiet_s: float) -> dict[str, bytes]:
        """Return the retained payloads by topic, once every topic has one or no more come.

        Args:
            filters: topics, or topic filters.
            quiet_s: how long no retained message may have come.

        """
        question = RetainedQuestion(filters, self._marker, quiet_s)
        for subscription in question.subscriptions:
            self._connection.subscribe([(topic_filter, 0) for topic_filter in subscription])
        grants, topics = len(question.subscriptions), question.topics
        found: dict[str, bytes] = {}
        while grants or topics is None or len(found) < len(topics):
            wait_s = question.wait_s(time.monotonic())
            try:
                message = self._came.get(timeout=max(0.0, min(wait_s, self._answer_s)))
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
        """Publish retained messages, and wait until the broker has acknowledged all of them."""
        receipts = [self._connection.publish(*message, 1, retain=True) for message in messages]
        for receipt in receipts:
            if not receipt.wait(self._answer_s):
                self._require_up()
                raise BrokerError(f"{self._url} did not acknowledge in {self._answer_s:g} s")

    def clear(self, topic: str) -> None:
        """Clear a retained message, and wait until the broker has delivered the clearing.

        A broker of MQTT 3.1.1 also acknowledges a message that it does not allow: a subscription shows it.

        Raises:
            BrokerError: also if the user may not publish to the topic.

        """
        self._connection.subscribe([(topic, 1)])
        self.publish([(topic, b"")])
        deadline = time.monotonic() + self._answer_s
        cleared = _Message(topic, b"", is_retained=False)
        while (left := deadline - time.monotonic()) > 0:
            try:
                if self._came.get(timeout=left) == cleared:
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
