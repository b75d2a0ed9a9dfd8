"""Retained messages, and their delivery to new subscriptions in fair turns (MQTT 3.1.1 §3.3.1.3, §3.8.4).

A SUBSCRIBE of a few bytes can match the status of every user. Each session therefore has at most one search
for each of its topic filters. A search goes on only while the client takes the messages; sessions take turns.
"""

import asyncio
from collections.abc import Iterator
from itertools import islice

from mqtt_presence.embedded.deliveries import Delivery, Message
from mqtt_presence.embedded.sessions import Session
from mqtt_presence.mqtt.topic_tree import TopicTree

PORTION = 100
"""Steps of one turn, and so the most retained messages in the queue of one session."""


class RetainedMessages:
    """All retained messages of a broker."""

    def __init__(self) -> None:
        self._messages: TopicTree[Message] = TopicTree()
        self._waiting: dict[Session, None] = {}
        self._is_scheduled = False
        self._is_stopped = False

    def keep(self, message: Message) -> None:
        """Keep the message for later subscribers; an empty one forgets (§3.3.1.3)."""
        self._messages.put(message.levels, message if message.payload else None)

    def stop(self) -> None:
        """Deliver nothing more."""
        self._is_stopped = True
        self._waiting.clear()

    def deliver(self, session: Session, topic_filter: str, qos: int) -> None:
        """Begin to deliver what a new subscription matches; a repeated one begins anew.

        The first portion is queued at once, unless the last one still waits for the client.
        """
        session.catch_up.begin(topic_filter, qos)
        if not session.catch_up.queued:
            self._queue_portion(session)

    def give_turn(self, session: Session) -> None:
        """Queue the next portion for a session when its turn comes."""
        if self._is_stopped:
            return
        self._waiting[session] = None
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        """Serve one session; then everything else that the loop has to do comes first."""
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
        while steps > 0 and (current := session.catch_up.current) is not None:
            topic_filter, qos = current
            search = session.catch_up.search
            if search is None:
                search = session.catch_up.search = self._messages.matching_topics(topic_filter.split("/"))
            taken = self._queue_found(session, search, qos, steps)
            if taken < steps:
                session.catch_up.cancel(topic_filter)
            steps -= taken + 1
        session.pump()

    def _queue_found(self, session: Session, search: Iterator[Message | None], qos: int, steps: int) -> int:
        """Go on with a search; return the number of steps, less than allowed at its end."""
        taken = 0
        for message in islice(search, steps):
            taken += 1
            if message is not None and session.grant.may_read(message.levels):
                session.append(Delivery(message, min(message.qos, qos), retain=True))
        return taken
