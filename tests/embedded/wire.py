"""A bare MQTT 3.1.1 client over a socket: it acknowledges only what a test tells it to, and keeps what it got."""

import select
import socket
import struct
import time
from dataclasses import dataclass

DEADLINE_S = 5.0
QUIET_S = 0.25  # how long "nothing more comes" is watched; PINGs make it exact where order allows


@dataclass(frozen=True, slots=True)
class Packet:
    kind: int
    flags: int
    body: bytes

    @property
    def topic(self) -> str:
        return self.body[2 : 2 + int.from_bytes(self.body[:2])].decode()

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
        at = 2 + int.from_bytes(self.body[:2]) if self.kind == 3 else 0
        return int.from_bytes(self.body[at : at + 2])

    @property
    def payload(self) -> bytes:
        return self.body[2 + int.from_bytes(self.body[:2]) + (2 if self.qos else 0) :]


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("!H", len(data)) + data


def packet(head: int, body: bytes) -> bytes:
    length, size = bytearray(), len(body)
    while True:
        length.append(size & 0x7F | (0x80 if size > 0x7F else 0))
        size >>= 7
        if not size:
            return bytes((head,)) + bytes(length) + body


def connect_packet(user, client_id, *, password=None, clean=True, keep_alive=60, will=None, level=4) -> bytes:
    flags = (2 if clean else 0) | (0x80 if user is not None else 0) | (0x40 if password is not None else 0)
    tail = text(client_id)
    if will is not None:
        topic, payload, qos, retain = (*will, *(1, False)[len(will) - 2 :])
        flags |= 4 | qos << 3 | (0x20 if retain else 0)
        tail += text(topic) + text(payload)
    if user is not None:
        tail += text(user)
    if password is not None:
        tail += text(password)
    properties = b"\0" if level == 5 else b""
    return packet(
        0x10, text("MQTT") + bytes((level, flags)) + struct.pack("!H", keep_alive) + properties + tail
    )


class Wire:
    """One connection; every read has a deadline."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.seen: list[Packet] = []
        self.next_id = 0

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def connect(self, user, client_id, **how) -> int:
        """Send CONNECT, return the CONNACK's code; `session_present` is kept."""
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
        head = 0x30 | qos << 1 | (1 if retain else 0) | (8 if dup else 0)
        self.send(packet(head, text(topic) + (struct.pack("!H", packet_id) if qos else b"") + data))
        return packet_id

    def subscribe(self, *filters, qos=1) -> list[int]:
        packet_id = self.new_id()
        self.send(
            packet(0x82, struct.pack("!H", packet_id) + b"".join(text(f) + bytes((qos,)) for f in filters))
        )
        return list(self.until(9).body[2:])

    def ack(self, message: Packet) -> None:
        if message.qos:
            self.send(struct.pack("!BBH", 0x40, 2, message.packet_id))

    def disconnect(self) -> None:
        self.send(b"\xe0\x00")
        self.sock.close()

    def kill(self) -> None:
        """Be gone without a word."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def ready(self, wait_s: float) -> bool:
        """Say whether something arrives in time (poll: select takes no descriptor above 1023)."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(wait_s * 1000))

    def read(self, wait_s: float = DEADLINE_S) -> Packet:
        """Return the next packet; EOFError when the connection is closed, TimeoutError when none comes."""
        deadline = time.monotonic() + wait_s
        while (found := self._cut()) is None:
            left = deadline - time.monotonic()
            if left <= 0 or not self.ready(left):
                raise TimeoutError(f"nothing within {wait_s} s; so far: {self.seen}")
            try:
                chunk = self.sock.recv(1 << 16)
            except OSError as error:
                raise EOFError(str(error)) from error
            if not chunk:
                raise EOFError("closed by the broker")
            self.buffer += chunk
        self.seen.append(found)
        return found

    def _cut(self) -> Packet | None:
        length, at = 0, 1
        while at < len(self.buffer):
            byte = self.buffer[at]
            length |= (byte & 0x7F) << 7 * (at - 1)
            at += 1
            if not byte & 0x80:
                if len(self.buffer) < at + length:
                    return None
                found = Packet(self.buffer[0] >> 4, self.buffer[0] & 15, self.buffer[at : at + length])
                self.buffer = self.buffer[at + length :]
                return found
        return None

    def until(self, kind: int, wait_s: float = DEADLINE_S) -> Packet:
        """Return the next packet of this kind; the others stay in `seen`."""
        deadline = time.monotonic() + wait_s
        while (found := self.read(max(0.0, deadline - time.monotonic()))).kind != kind:
            pass
        return found

    def message(self, wait_s: float = DEADLINE_S, *, ack: bool = True) -> Packet:
        """Return the next PUBLISH, acknowledged unless told otherwise."""
        found = self.until(3, wait_s)
        if ack:
            self.ack(found)
        return found

    def messages(self, wait_s: float = QUIET_S, *, ack: bool = True) -> list[Packet]:
        """Return every PUBLISH until nothing comes for a while, or the connection is closed."""
        found = []
        try:
            while True:
                found.append(self.message(wait_s, ack=ack))
        except (TimeoutError, EOFError):
            return found

    def ping(self) -> list[Packet]:
        """Send a PING, return what came before its answer: all that the broker had sent by then."""
        self.send(b"\xc0\x00")
        start = len(self.seen)
        self.until(13)
        return self.seen[start:-1]

    def closed(self, wait_s: float = DEADLINE_S) -> bool:
        """Say whether the broker closes the connection within this time."""
        deadline = time.monotonic() + wait_s
        try:
            while True:
                self.read(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            return False
        except EOFError:
            return True
