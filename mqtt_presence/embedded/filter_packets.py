"""SUBSCRIBE and UNSUBSCRIBE: packets with up to tens of thousands of topic filters, handled in fair turns."""

import logging
from collections.abc import AsyncIterator

from mqtt_presence.access.rate_limited_log import quoted
from mqtt_presence.embedded.fair_turns import Turn
from mqtt_presence.embedded.router import Router
from mqtt_presence.embedded.sessions import AttachedConnection, Session
from mqtt_presence.mqtt.fields import Cursor
from mqtt_presence.mqtt.framing import Kind, ProtocolError
from mqtt_presence.mqtt.packets import SUBSCRIBE_REFUSED, UNSUBACK, id_packet, suback_packet
from mqtt_presence.mqtt.topic_filters import is_filter
from mqtt_presence.protocol.topics import MAX_NAME

FILTER_LENGTH = 4 * (MAX_NAME + 1)
"""Characters of a topic filter after the prefix: no topic of the protocol is longer."""


class FilterPackets:
    """Handles the SUBSCRIBE and UNSUBSCRIBE packets of one network connection.

    Args:
        router: has the subscriptions.
        connection: of the client.
        turn: of the connection.

    """

    __slots__ = ("_connection", "_router", "_turn")

    def __init__(self, router: Router, connection: AttachedConnection, turn: Turn) -> None:
        self._router = router
        self._connection = connection
        self._turn = turn

    async def handle(self, session: Session, kind: int, flags: int, cursor: Cursor) -> None:
        """Handle a packet.

        Args:
            session: of the client.
            kind: SUBSCRIBE or UNSUBSCRIBE.
            flags: of the fixed header.
            cursor: the packet after its fixed header.

        Raises:
            ProtocolError: the packet is malformed.

        """
        if flags != 2:
            raise ProtocolError(f"packet type {kind} with flags {flags}")
        packet_id = cursor.packet_id()
        if not cursor:
            raise ProtocolError("a packet without a filter")
        if kind == Kind.SUBSCRIBE:
            await self._subscribe(session, packet_id, cursor)
            return
        async for _ in self._each_filter(cursor):
            self._router.unsubscribe(session, cursor.text())
        self._connection.send(id_packet(UNSUBACK, packet_id))

    async def _subscribe(self, session: Session, packet_id: int, cursor: Cursor) -> None:
        """Grant the filters that the client may use, at QoS 1 at most, and refuse the others."""
        granted: dict[str, int] = {}
        new = 0
        codes = bytearray()
        async for _ in self._each_filter(cursor):
            topic_filter, qos = cursor.text(), cursor.byte()
            if qos > 2:
                raise ProtocolError(f"SUBSCRIBE at QoS {qos}")
            is_new = topic_filter not in session.subscriptions and topic_filter not in granted
            if not self._may_subscribe(session, topic_filter):
                codes.append(SUBSCRIBE_REFUSED)
                client, name = self._connection, quoted(topic_filter)
                self._router.log("refused to %s: filter=%s", client, name, level=logging.INFO)
            elif is_new and not self._router.has_room_for_filter(session, new + 1):
                codes.append(SUBSCRIBE_REFUSED)
                count = len(session.subscriptions) + new
                self._router.log("%s has %d subscriptions: no more", self._connection, count)
            else:
                new += is_new
                granted[topic_filter] = min(qos, 1)
                codes.append(min(qos, 1))
        if self._connection.is_over:
            return
        for topic_filter, qos in granted.items():
            self._router.subscribe(session, topic_filter, qos)
        self._connection.send(suback_packet(packet_id, bytes(codes)))
        for topic_filter, qos in granted.items():
            self._router.replay(session, topic_filter, qos)

    async def _each_filter(self, cursor: Cursor) -> AsyncIterator[None]:
        """Yield before each filter of a packet, until the end of the packet or of the connection."""
        while cursor and not self._connection.is_over:
            began = self._turn.clock()
            yield
            if self._turn.is_over_after(began):
                await self._turn.pass_on()

    def _may_subscribe(self, session: Session, topic_filter: str) -> bool:
        longest = len(self._router.topics.prefix) + FILTER_LENGTH
        if len(topic_filter) > longest or not is_filter(topic_filter):
            return False
        return session.rights.may_subscribe(topic_filter.split("/"))
