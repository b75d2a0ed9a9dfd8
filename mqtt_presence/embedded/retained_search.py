"""Retained messages, and their delivery to new subscriptions in fair turns (MQTT 3.1.1 §3.3.1.3, §3.8.4).

A SUBSCRIBE of a few bytes can match the status of every user. Each session therefore has at most one search
for each of its topic filters. A search continues only while the client takes the messages; sessions take
turns.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from mqtt_presence.embedded.deliveries import Delivery, Message
from mqtt_presence.embedded.sessions import Session
from mqtt_presence.mqtt.topic_tree import TopicTree

PORTION = 100
"""Steps of a search in one turn, and so the most retained messages in the queue of one session."""


DEVICES_LIMIT = 100_000
"""Retained messages of devices."""
DEVICES_BYTES_LIMIT = 64 * 1024 * 1024
"""The same in bytes of payload."""


class RetainedMessages:
    """All retained messages of a broker.

    The bridge bounds the number of statuses; that of devices' messages is bounded here.
    """

    def __init__(self) -> None:
        self._messages: TopicTree[Message] = TopicTree()
        self._device_sizes: dict[str, int] = {}
        """Bytes of each retained payload of a device, by topic."""
        self._device_bytes = 0
        self._waiting: dict[Session, None] = {}
        self._is_scheduled = False
        self._is_stopped = False

    def keep(self, message: Message) -> None:
        """Keep a message for later subscriptions; an empty payload deletes the kept one (§3.3.1.3)."""
        self._messages.put(message.levels, message if message.payload else None)

    def keep_of_device(self, message: Message) -> bool:
        """Keep a message of a device; return False if there is no room: then the topic has none."""
        size = len(message.payload)
        self._device_bytes -= self._device_sizes.pop(message.topic, 0)
        has_room = (
            len(self._device_sizes) < DEVICES_LIMIT and self._device_bytes + size <= DEVICES_BYTES_LIMIT
        )
        if not size or not has_room:
            self._messages.put(message.levels, None)
            return not size
        self._device_sizes[message.topic] = size
        self._device_bytes += size
        self.keep(replace(message, receipt=None, sender=None))  # a later delivery acknowledges nothing
        return True

    def stop(self) -> None:
        """End all deliveries."""
        self._is_stopped = True
        self._waiting.clear()

    def deliver(self, session: Session, topic_filter: str, qos: int) -> None:
        """Begin the delivery for a new subscription; a repeated one begins anew.

        The first portion is queued at once, unless the previous one still waits for the client.
        """
        session.replay.begin(topic_filter, qos)
        if not session.queue.retained_count:
            self._queue_portion(session)

    def request_turn(self, session: Session) -> None:
        """Queue the next portion for a session when its turn comes."""
        if self._is_stopped:
            return
        self._waiting[session] = None
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._serve_next)

    def _serve_next(self) -> None:
        """Serve one session; the event loop does all other work before it serves the next."""
        self._is_scheduled = False
        if self._waiting:
            session = next(iter(self._waiting))
            del self._waiting[session]
            self._queue_portion(session)
        self._schedule()

    def _queue_portion(self, session: Session) -> None:
        if session.connection is None or self._is_stopped:
            return
        steps = PORTION
        replay = session.replay
        while steps > 0 and (current := replay.current) is not None:
            topic_filter, qos = current
            search = replay.search
            if search is None:
                search = replay.search = self._messages.matching_topics(topic_filter.split("/"))
            done = self._queue_found(session, search, qos, steps)
            if done < steps:
                replay.cancel(topic_filter)
            steps -= done + 1
        session.pump()

    def _queue_found(self, session: Session, search: Iterator[Message | None], qos: int, steps: int) -> int:
        """Continue a search; return the number of steps, fewer than allowed at its end."""
        done = 0
        for message in islice(search, steps):
            done += 1
            if message is not None and session.rights.may_read(message.levels):
                session.queue.append(Delivery(message, min(message.qos, qos), retain=True))
        return done
