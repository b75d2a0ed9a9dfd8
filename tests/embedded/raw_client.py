"""A bare MQTT 3.1.1 client over a socket, which acknowledges on demand only and keeps all packets."""

import select
import socket
import struct
import time
from collections import deque
from dataclasses import dataclass

from mqtt_presence.mqtt import packets
from mqtt_presence.mqtt.framing import Framer, Kind
from mqtt_presence.mqtt.packets import read_id, split_publish

DEADLINE_S = 5.0
QUIET_S = 0.25  # how long "nothing more comes" is watched; PINGs make it exact where order allows


@dataclass(frozen=True, slots=True)
class Packet:
    kind: int
    flags: int
    body: bytes

    @property
    def topic(self) -> str:
        return self._split()[0].decode()

    @property
    def qos(self) -> int:
        return self.flags >> 1 & 3

    @property
    def dup(self) -> bool:
        return bool(self.flags & 8)

    @property
    def retain(self) -> bool:
        return bool(self.flags & 1)

    @property
    def packet_id(self) -> int:
        return self._split()[1] if self.kind == Kind.PUBLISH else read_id(self.body)[0]

    @property
    def payload(self) -> bytes:
        return self._split()[2]

    def _split(self) -> tuple[bytes, int, bytes]:
        return split_publish(self.flags, self.body, 0, len(self.body), mqtt5=False)


def connect_packet(user, client_id, *, password=None, clean=True, keep_alive=60, will=None, level=4) -> bytes:
    """Write a CONNECT; the will has topic, payload and perhaps QoS and retain."""
    properties = b"" if level == packets.MQTT_5 else None
    password = password.encode() if isinstance(password, str) else password
    if will is not None:
        topic, payload, *more = will
        payload = payload.encode() if isinstance(payload, str) else payload
        will = packets.Will(topic, payload, *more, properties=properties)
    return packets.connect_packet(
        packets.Connect(level, clean, keep_alive, client_id, will, user, password, properties)
    )


class RawClient:
    """One network connection; each read has a deadline."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.framer = Framer()
        self.arrived: deque[Packet] = deque()
        self.seen: list[Packet] = []
        self.next_id = 0

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def connect(self, user, client_id, **how) -> int:
        """Send a CONNECT; return the code of the CONNACK, and set `session_present`."""
        self.send(connect_packet(user, client_id, **how))
        ack = self.read()
        assert ack.kind == 2, ack
        self.session_present = bool(ack.body[0])
        return ack.body[1]

    def new_id(self) -> int:
        self.next_id += 1
        return self.next_id

    def publish(self, topic, payload=b"", *, qos=1, retain=False, packet_id=None, dup=False) -> int:
        packet_id = (packet_id or self.new_id()) if qos else 0
        data = payload.encode() if isinstance(payload, str) else payload
        self.send(packets.publish_packet(topic, data, packet_id, qos=qos, retain=retain, dup=dup))
        return packet_id

    def subscribe(self, *filters, qos=1) -> list[int]:
        packet_id = self.new_id()
        self.send(packets.subscribe_packet([(topic_filter, qos) for topic_filter in filters], packet_id))
        return list(self.until(9).body[2:])

    def ack(self, message: Packet) -> None:
        if message.qos:
            self.send(packets.id_packet(packets.PUBACK, message.packet_id))

    def disconnect(self) -> None:
        self.send(packets.DISCONNECT)
        self.sock.close()

    def kill(self) -> None:
        """Close the connection by a TCP reset, without a DISCONNECT."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def ready(self, wait_s: float) -> bool:
        """Return whether data arrives in time (poll, since select takes no descriptor above 1023)."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(wait_s * 1000))

    def read(self, wait_s: float = DEADLINE_S) -> Packet:
        """Return the next packet; EOFError when the connection is closed, TimeoutError when none comes."""
        deadline = time.monotonic() + wait_s
        while not self.arrived:
            left = deadline - time.monotonic()
            if left <= 0 or not self.ready(left):
                raise TimeoutError(f"nothing within {wait_s} s; so far: {self.seen}")
            try:
                chunk = self.sock.recv(1 << 16)
            except OSError as error:
                raise EOFError(str(error)) from error
            if not chunk:
                raise EOFError("closed by the broker")
            self.arrived.extend(Packet(*packet) for packet in self.framer.feed(chunk))
        found = self.arrived.popleft()
        self.seen.append(found)
        return found

    def until(self, kind: int, wait_s: float = DEADLINE_S) -> Packet:
        """Return the next packet of this kind; the others stay in `seen`."""
        deadline = time.monotonic() + wait_s
        while (found := self.read(max(0.0, deadline - time.monotonic()))).kind != kind:
            pass
        return found

    def message(self, wait_s: float = DEADLINE_S, *, ack: bool = True) -> Packet:
        """Return the next PUBLISH, acknowledged by default."""
        found = self.until(3, wait_s)
        if ack:
            self.ack(found)
        return found

    def messages(self, wait_s: float = QUIET_S, *, ack: bool = True) -> list[Packet]:
        """Return each PUBLISH until a pause, or until the connection is closed."""
        found = []
        try:
            while True:
                found.append(self.message(wait_s, ack=ack))
        except (TimeoutError, EOFError):
            return found

    def ping(self) -> list[Packet]:
        """Send a PING; return the packets before its answer, which are all that the broker had sent."""
        self.send(packets.PINGREQ)
        start = len(self.seen)
        self.until(13)
        return self.seen[start:-1]

    def closed(self, wait_s: float = DEADLINE_S) -> bool:
        """Return whether the broker closes the connection within this time."""
        deadline = time.monotonic() + wait_s
        try:
            while True:
                self.read(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            return False
        except EOFError:
            return True
