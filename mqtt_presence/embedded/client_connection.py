"""A client's network connection, from its first packet to its end: the effect of each packet.

A connection reads packets one by one and handles each of them completely, so order holds without queues.
`connect_decision` accepts clients, `filter_packets` handles subscriptions, `send_buffer` the bytes to the
client, `keep_alive` its silence, and `end_messages` publishes its will.
"""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Final

from mqtt_presence.access.rate_limited_log import quoted
from mqtt_presence.access.rights import Rights
from mqtt_presence.embedded.connect_decision import reject_connect
from mqtt_presence.embedded.connect_request import (
    ConnectRequest,
    accepting_connack,
    parse_connect,
    rejecting_connack,
)
from mqtt_presence.embedded.deliveries import Receipt, new_message
from mqtt_presence.embedded.end_messages import EndMessages
from mqtt_presence.embedded.fair_turns import BRIDGE_TURN_S, Turn
from mqtt_presence.embedded.filter_packets import FilterPackets
from mqtt_presence.embedded.keep_alive import KeepAlive
from mqtt_presence.embedded.router import Router
from mqtt_presence.embedded.send_buffer import SendBuffer
from mqtt_presence.embedded.sessions import EndCause, Session
from mqtt_presence.embedded.transports import CLOSE_TIMEOUT_S, Transport
from mqtt_presence.mqtt.fields import Cursor
from mqtt_presence.mqtt.framing import Framer, Kind, ProtocolError
from mqtt_presence.mqtt.packets import PINGRESP, PUBACK, PUBCOMP, PUBREC, id_packet
from mqtt_presence.protocol.topics import ENDS

_log = logging.getLogger("mqtt_presence.embedded")

RECEIVED_LIMIT = 1000
"""QoS 2 messages of one session between PUBREC and PUBREL."""


class ClientConnection:
    """One client's network connection.

    Args:
        router: of the broker.
        transport: carries the bytes.

    """

    __slots__ = (
        "_buffer", "_end_messages", "_filter_packets", "_has_logged_publish", "_keep_alive", "_network_id",
        "_router", "_transport", "_turn", "_unacknowledged", "has_room", "is_over", "send", "session",
    )  # fmt: skip

    def __init__(self, router: Router, transport: Transport) -> None:
        self._router = router
        self._transport = transport
        self._buffer = SendBuffer(transport, self._resume_session)
        self._turn = Turn()
        self._filter_packets = FilterPackets(router, self, self._turn)
        self._keep_alive = KeepAlive(partial(self.end, EndCause.KEEP_ALIVE))
        self._end_messages = EndMessages(router, None)
        self._unacknowledged: set[int] = set()
        """Packet ids of messages from the client that wait for the bridge."""
        self._has_logged_publish = False
        self._network_id = 0
        self.session: Session | None = None
        self.is_over = False
        self.send: Final[Callable[[bytes], None]] = self._buffer.add
        self.has_room: Final[Callable[[], bool]] = self._buffer.has_room

    async def run(self) -> None:
        """Serve the client until its network connection ends."""
        router = self._router
        router.connections.add(self)
        router.admission.add_pending(self._transport, self._transport.address)
        packets = self._packets()
        try:
            async with asyncio.timeout(router.config.connect_timeout_s):
                kind, _, body = await anext(packets)
            router.admission.remove_pending(self._transport)
            if kind == Kind.CONNECT and await self._accept(body):
                async for kind, flags, body in packets:
                    session = self._session_of_packet()
                    if kind in {Kind.SUBSCRIBE, Kind.UNSUBSCRIBE}:
                        await self._filter_packets.handle(session, kind, flags, Cursor(body))
                    else:
                        self._handle(session, kind, flags, Cursor(body))
        except ProtocolError as error:
            router.log("closing %s: %s", self, error, level=logging.INFO)
        except (OSError, StopAsyncIteration):
            pass  # lost, or no CONNECT in time
        finally:
            self.end(EndCause.LOST)
            router.admission.remove_pending(self._transport)
            router.connections.discard(self)
            await self.close()

    def __str__(self) -> str:
        session = self.session
        name = "" if session is None else f" user={session.user!r} client={session.client_id!r}"
        return f"address={self._transport.address}{name}"

    async def _packets(self) -> AsyncIterator[tuple[int, int, bytes]]:
        """Yield packets until the end; while the broker shuts down, read and ignore them."""
        framer, turn, buffer = Framer(self._router.config.max_packet_size), self._turn, self._buffer
        while chunk := await self._transport.receive():
            if self.is_over and not self._router.is_closing:
                return
            for packet in () if self.is_over else framer.feed(chunk):
                began = turn.clock()
                yield packet
                is_turn_over = turn.is_over_after(began)
                if buffer.is_overfull:  # answers have no other limit
                    await buffer.wait_until_sent()
                if is_turn_over:
                    await turn.pass_on()
                if self.is_over:
                    break

    async def _accept(self, body: bytes) -> bool:
        """Answer the CONNECT; return whether the client is accepted (§3.1.4)."""
        request = parse_connect(body)
        client_id = request.client_id or (f"auto-{uuid.uuid4().hex}" if request.clean else "")
        rights = self._router.rights_of(request.user, client_id)
        address = self._transport.address
        rejection = await reject_connect(self._router, request, client_id, address, rights)
        if rejection is None:
            self._begin(request, client_id, rights)
            return True
        client = (self, quoted(request.user), quoted(request.client_id))
        self._router.admission.log_rejection("%s user=%s client=%s", *client, rejection=rejection)
        self.send(rejecting_connack(request, rejection))
        return False

    def _begin(self, request: ConnectRequest, client_id: str, rights: Rights) -> None:
        session, existed = self._router.open(request.user, client_id, rights, clean=request.clean)
        self._end_messages = EndMessages(self._router, request.will)
        self.session = session
        if session.bridge:
            self._turn.limit_s = BRIDGE_TURN_S
        self._router.admission.count_client(session.user, 1)
        self._router.remember_address(request.user, client_id, self._transport.address)
        self.send(accepting_connack(session_present=existed))
        session.attach(self)
        self._network_id = self._router.reports.connected(session, self._transport.address)
        self._keep_alive.start(request.keep_alive_s)

    # Packets after the CONNECT.

    def _session_of_packet(self) -> Session:
        """Return the client's session, and record that a packet came."""
        if self.session is None:
            raise ProtocolError("no session")
        self._keep_alive.last_packet_at = self._turn.clock()
        return self.session

    def _handle(self, session: Session, kind: int, flags: int, cursor: Cursor) -> None:
        if kind == Kind.PUBLISH:
            self._handle_publish(session, flags, cursor)
        elif kind == Kind.PUBACK:
            session.acknowledged(cursor.packet_id())
        elif kind == Kind.PINGREQ:
            self.send(PINGRESP)
        elif kind == Kind.DISCONNECT:
            self.end(EndCause.DISCONNECT)
        elif kind == Kind.PUBREL and flags == 2:
            packet_id = cursor.packet_id()
            session.received.discard(packet_id)
            self.send(id_packet(PUBCOMP, packet_id))
        else:
            raise ProtocolError(f"packet type {kind} with flags {flags}")

    def _handle_publish(self, session: Session, flags: int, cursor: Cursor) -> None:
        """Route a message; a forbidden one is acknowledged and dropped (§3.3.5)."""
        qos = flags >> 1 & 3
        if qos == 3:
            raise ProtocolError("PUBLISH at QoS 3")
        topic, packet_id = cursor.text(), cursor.packet_id() if qos else 0
        message = new_message(topic, cursor.rest(), qos, retain=bool(flags & 1))
        if packet_id in self._unacknowledged:
            return  # sent again: the message is in the bridge's queue already
        if qos == 2 and packet_id in session.received:
            self.send(id_packet(PUBREC, packet_id))
        elif qos == 2 and len(session.received) >= RECEIVED_LIMIT:
            raise ProtocolError(f"{RECEIVED_LIMIT} QoS 2 messages without a PUBREL")
        elif not session.rights.may_publish(message.levels):
            self._log_forbidden(topic)
            self.acknowledge(qos, packet_id)
        elif session.bridge:
            if message.retain:
                self._router.retained.keep(message)
            self._router.route(message)
            self.acknowledge(qos, packet_id)
        else:
            if message.topic.startswith(self._router.topics.presence):
                self._end_messages.note(message)
            elif message.retain:
                self._router.keep_of_device(message)
            if message.levels[-1] not in ENDS:
                message.sender = session.user
            if packet_id:
                self._unacknowledged.add(packet_id)
                message.receipt = Receipt(self, qos, packet_id)
            if not self._router.route(message):
                self._unacknowledged.discard(packet_id)

    def acknowledge(self, qos: int, packet_id: int) -> None:
        """Acknowledge a message of the client."""
        self._unacknowledged.discard(packet_id)
        if qos == 1:
            self.send(id_packet(PUBACK, packet_id))
        elif qos == 2 and self.session is not None:
            self.session.received.add(packet_id)
            self.send(id_packet(PUBREC, packet_id))

    def _log_forbidden(self, topic: str) -> None:
        """Log the first forbidden message of a connection."""
        if not self._has_logged_publish:
            self._has_logged_publish = True
            self._router.log("%s may not publish to topic=%s, and perhaps to others", self, quoted(topic))

    def _resume_session(self) -> None:
        if self.session is not None and self.session.connection is self:
            self.session.pump()

    # The end.

    def end(self, cause: EndCause) -> None:
        """End the connection for all other clients, at once; `close` closes the transport."""
        if self.is_over:
            return
        self.is_over = True
        self._keep_alive.stop()
        session = self.session
        if session is not None:
            if cause is EndCause.SLOW:
                self._router.log("end of %s: %s", self, cause.value)
            else:
                _log.debug("end of %s: %s", self, cause.value)
            self._router.admission.count_client(session.user, -1)
            self._end_messages.publish(session, is_lost=cause is not EndCause.DISCONNECT)
            self._router.reports.ended(self._network_id, cause)
            if cause is not EndCause.SHUTDOWN:
                self._router.release(session)
        if cause in (EndCause.KEEP_ALIVE, EndCause.TAKEOVER, EndCause.SLOW):
            self._transport.abort()

    async def close(self) -> None:
        """Close the transport; the client has a second to read the remaining data."""
        with contextlib.suppress(OSError):  # TimeoutError is one too
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._buffer.wait_until_sent()
                await self._transport.close()
        self._transport.abort()
        if self.session is not None and self.session.connection is self:
            self._router.release(self.session)
