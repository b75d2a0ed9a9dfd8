"""A paho client that reads and writes many packets with one system call, for the bridge.

For every packet paho waits, reads three times and writes once; for every message paho makes an object and
searches its filters. That took half of the bridge's time. This adapter handles PUBLISH and PUBACK in both
directions; paho still does the rest: connecting, TLS, WebSocket, keep alive, subscribing. The adapter uses
private names of paho 2.2, so `pyproject.toml` bounds the version, and a test compares it with plain paho.
Figures: docs/performance.md.
"""

import struct
import time
from collections.abc import Callable, Container, Iterable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.exception import MalformedPacket

from mqtt_presence.mqtt.framing import Kind, ProtocolError, frames
from mqtt_presence.mqtt.packets import puback_packets, publish_packet, split_publish

_READ = 256 * 1024
_WRITE = 64 * 1024
_PUBLISH = Kind.PUBLISH << 4
_PUBACK = Kind.PUBACK << 4
_KIND = 0xF0
_QOS = 0x06

OnPublish = Callable[[int, bytes, bytes, int], None]
"""Called with the flags (MQTT 3.1.1 §3.3.1), topic, payload and packet id (0 at QoS 0)."""
OnLarge = Callable[[int, bytes, int, int], None]
"""The same, with the remaining length (MQTT 3.1.1 §2.2.3) of the skipped packet instead of the payload."""


class BatchClient(mqtt.Client):
    """Reads and writes PUBLISH and PUBACK in bulk; paho handles all other packets.

    Args:
        receive_publish: called for every PUBLISH; the caller acknowledges it with `queue_acks`.
        receive_puback: called with packet id and reason code (0 in MQTT 3.1.1) of every PUBACK.
        receive_large: called instead of `receive_publish` when a PUBLISH was larger than `max_packet`, after
            its last byte; the caller acknowledges it, too.
        max_packet: the largest remaining length of a packet that is kept in memory, bytes.
        in_flight: the packet ids of the publications that the broker has not acknowledged.
        options: paho's.

    """

    def __init__(
        self,
        *,
        receive_publish: OnPublish,
        receive_puback: Callable[[int, int], None],
        receive_large: OnLarge,
        max_packet: int,
        in_flight: Container[int] = (),
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._receive_publish = receive_publish
        self._receive_puback = receive_puback
        self._receive_large = receive_large
        self._max_packet = max_packet
        self._ids_in_flight = in_flight
        self.bytes_read = 0
        """The number of bytes received; the caller may reset it."""
        self._rest = bytearray()
        self._needed = 0
        self._large = (0, b"", 0, 0)
        self._to_skip = 0
        self._queued: list[bytes] = []
        self._is_v5 = self._protocol == mqtt.MQTTv5
        self._no_properties = b"" if self._is_v5 else None

    # Writing.

    def _mid_generate(self) -> int:
        # A publication may stay in flight while all other packet ids are used; its id stays taken (§2.2.1).
        mid = super()._mid_generate()
        while mid in self._ids_in_flight:
            mid = super()._mid_generate()
        return mid

    def queue_publish(self, topic: str, payload: bytes, *, retain: bool) -> int:
        """Queue a QoS 1 message for the next `flush`; return its packet id."""
        mid = self._mid_generate()
        packet = publish_packet(topic, payload, mid, retain=retain, properties=self._no_properties)
        self._queued.append(packet)
        return mid

    def queue_acks(self, mids: Iterable[int]) -> None:
        """Queue PUBACKs for the next `flush`."""
        packets = puback_packets(mids)
        if packets:
            self._queued.append(packets)

    def flush(self) -> None:
        """Write the queued packets, as far as the operating system accepts them."""
        chunk: list[bytes] = []
        size = 0
        for packet in self._queued:
            chunk.append(packet)
            size += len(packet)
            if size >= _WRITE:
                self._queue_bytes(b"".join(chunk))
                chunk, size = [], 0
        if chunk:
            self._queue_bytes(b"".join(chunk))
        self._queued.clear()
        if self._sock is not None and self.want_write():
            self.loop_write()

    def _queue_bytes(self, packets: bytes) -> None:
        # For paho the bytes are one packet; its kind matters only for DISCONNECT and QoS 0.
        self._packet_queue(_PUBACK, packets, 0, 1)

    def _sock_close(self) -> None:
        super()._sock_close()
        self._rest.clear()
        self._needed = 0
        self._to_skip = 0
        self._queued.clear()

    def drop_connection(self) -> None:
        """End the connection without a DISCONNECT, so that the broker publishes the will."""
        self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_CONN_LOST)

    def loop_misc(self) -> MQTTErrorCode:
        """Keep the connection alive; the next `flush` sends the ping.

        paho sends a ping at the end of the keep alive. That is late (MQTT 3.1.1 §3.1.2.10), and the bridge
        may be later still, after a wait for the database: so this adapter pings at half of the keep alive.
        As in paho, the broker has one keep alive to answer, counted from the ping.
        """
        due = self._last_msg_out + self._keepalive / 2
        if self._keepalive and not self._ping_t and self.is_connected() and time.monotonic() >= due:
            self._send_pingreq()
            self._last_msg_out = self._last_bytes_received = self._ping_t
        return super().loop_misc()

    # Reading.

    def excuse_silence(self) -> None:
        """Stop waiting for the answer to a ping: the bridge has not read everything that the broker sent."""
        self._ping_t = 0.0

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Read once and handle every complete packet."""
        del max_packets
        if self._sock is None:
            return MQTTErrorCode.MQTT_ERR_NO_CONN
        try:
            data = self._sock_recv(_READ)
        except BlockingIOError:
            return MQTTErrorCode.MQTT_ERR_AGAIN
        except OSError:
            data = b""
        if not data:
            return self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_CONN_LOST)
        self._last_bytes_received = time.monotonic()
        self.excuse_silence()  # the answer to a ping may be far behind the messages that wait
        self.bytes_read += len(data)
        if self._to_skip:
            data = data[self._skip(data, 0) :]
        elif self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return MQTTErrorCode.MQTT_ERR_SUCCESS
            data = bytes(self._rest)
            self._rest.clear()
        return self._handle(data)

    def _handle(self, data: bytes) -> MQTTErrorCode:
        try:
            rc = self._handle_all(data)
        except ProtocolError:
            rc = MQTTErrorCode.MQTT_ERR_PROTOCOL
        return self._loop_rc_handle(rc) if rc else rc

    def _handle_all(self, data: bytes) -> MQTTErrorCode:
        handled, end, largest, is_v5 = 0, len(data), self._max_packet, self._is_v5
        receive_publish, receive_puback = self._receive_publish, self._receive_puback
        self._needed = 0
        for at, body, after in frames(data):
            first, length = data[at], after - body
            kind = first & _KIND
            if length > largest:
                handled = self._begin_large(data, at, body, length)
                if handled < after:
                    break
            elif after > end:
                self._needed = after - at
                break
            elif kind == _PUBLISH:
                topic, mid, payload = split_publish(first, data, body, after, mqtt5=is_v5)
                receive_publish(first & 0x0F, topic, payload, mid)
            elif kind == _PUBACK and length >= 2:
                receive_puback(data[body] << 8 | data[body + 1], data[body + 2] if length > 2 else 0)
            else:
                rc = self._handle_by_paho(first, data[body:after])
                if rc:
                    return rc
            handled = after
        self._rest += data[handled:]
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _begin_large(self, data: bytes, at: int, body: int, length: int) -> int:
        """Begin to skip a packet that is larger than `max_packet`; its topic and packet id are kept.

        Args:
            data: the bytes that were read.
            at: the index of the packet.
            body: the index after its fixed header.
            length: its remaining length.

        Returns:
            The index up to which the data is handled: the end of the packet, of the data, or `at`.

        Raises:
            ProtocolError: the packet cannot be a PUBLISH.

        """
        command, end = data[at], len(data)
        id_length = 2 if command & _QOS else 0
        head = body + 2  # the head is the topic with its length, and the packet id
        if head <= end:
            head += (data[body] << 8 | data[body + 1]) + id_length
        if command & _KIND != _PUBLISH or head > body + length:
            raise ProtocolError("a large packet other than PUBLISH")
        if head > end:
            self._needed = head - at
            return at
        topic, mid = data[body + 2 : head - id_length], data[head - id_length : head]
        self._large = (command & 0x0F, topic, length, int.from_bytes(mid, "big"))
        self._to_skip = body + length - head
        return self._skip(data, head)

    def _skip(self, data: bytes, at: int) -> int:
        """Skip the bytes of a large packet; return the index of the next byte."""
        past = min(self._to_skip, len(data) - at)
        self._to_skip -= past
        if not self._to_skip:
            self._receive_large(*self._large)
        return at + past

    def _handle_by_paho(self, command: int, packet: bytes) -> MQTTErrorCode:
        self._in_packet["command"] = command
        self._in_packet["packet"] = bytearray(packet)
        self._in_packet["remaining_length"] = len(packet)
        self._in_packet["pos"] = 0
        try:
            return self._packet_handle()
        except (MalformedPacket, struct.error, IndexError):
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
